//! The host that Millrace brings: it serves `spin.toml` on wasmtime as Spin would, keeps a private Postgres for a
//! developer's machine, and migrates the database.
//!
//! Serving: [`manifest`] and [`variables`] say what, [`compose`] puts components and their dependencies together, [`routes`] and [`server`] take requests in
//! ([`local_pass`] for development),
//! [`runtime`] runs the components, [`postgres`] and [`outbound`] are what they reach, [`cron`] is the clock. [`serve`] puts these together.
//! The application on a developer's machine: [`up`], over [`cluster`], [`database`] and [`migrate`]; [`doctor`] looks it over,
//! [`keys`] makes and revokes the API keys that it knows, [`secrets`] keeps the tokens of others.
//! [`channels`] has the components with a handler checked and woken. [`watch`] is a client of a running one. [`new_handler`] writes the beginning of a handler into a checkout.

pub mod channels;
pub mod cluster;
pub mod compose;
pub mod cron;
pub mod database;
pub mod doctor;
pub mod keys;
pub mod local_pass;
pub mod manifest;
pub mod migrate;
pub mod new_handler;
pub mod outbound;
pub mod postgres;
pub mod postgres_programs;
pub mod routes;
pub mod runtime;
pub mod secrets;
pub mod serve;
pub mod server;
pub mod up;
pub mod variables;
pub mod watch;
