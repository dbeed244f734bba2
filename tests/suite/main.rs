//! The whole suite, one module per function or behaviour. `black_box` assumes nothing but a URL, a database URL and
//! keys; the others use the project's own host and databases of their own.
mod model;
mod host;
mod black_box;
mod assign;
mod claim;
mod result;
mod workers;
mod health;
mod authentication;
mod database_gone;
mod program;
mod denied;
mod secrets;
