//! Limits, in the core and so on every face: running jobs and starts in an interval, per queue and per key; holds; what an
//! attempt that was lost, or was never tried, leads to.

mod crowd;
mod holds;
mod isolation;
mod keys;
mod places;
mod plans;
mod postponed;
mod rates;
