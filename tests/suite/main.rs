//! The whole suite, one module per function or behaviour. `black_box` assumes nothing but a URL, a database URL and
//! keys; the others use the project's own host and databases of their own.

mod assign;
mod authentication;
mod backoff;
mod black_box;
mod bounds;
mod claim;
mod claim_concurrency;
mod database_gone;
mod denied;
mod enqueue;
mod fencing;
mod floors;
mod health;
mod host;
mod housekeeping;
mod leases;
mod lifecycle;
mod model;
mod permissions;
mod plans;
mod program;
mod queues;
mod races;
mod result;
mod schema;
mod secrets;
mod selection;
mod workers;
