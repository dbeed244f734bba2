//! TEMPORARY: the SQL modules alone, while the rest of the suite is being written. Not to be committed.
mod claim_concurrency;
mod fencing;
mod floors;
mod leases;
mod model;
mod permissions;
mod plans;
mod races;
