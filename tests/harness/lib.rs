//! The test harness: a private Postgres for the whole run, a fresh database for each test, and the application
//! served over HTTP by the project's own host in this process, or by whatever answers at `MILLRACE_AGAINST`.

pub mod api;
pub mod app;
pub mod channel;
pub mod channel_manifest;
pub mod database;
pub mod deadline;
pub mod document;
pub mod double;
pub mod gateway;
pub mod graphql;
pub mod issuer;
pub mod keys;
pub mod local_store;
pub mod program;
pub mod provider;
pub mod providers;
pub mod queue;
pub mod routes;
pub mod scope;
pub mod scratch;
pub mod sse;
pub mod statements;
pub mod up;
mod wire;
