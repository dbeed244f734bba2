//! What every function does the same way: who is asking ([`auth`]), what is asked ([`request`],
//! [`parse`], [`field`], [`json`]), one statement ([`database`]), and the answer ([`answer`]).
//!
//! A function reads top to bottom in that order and holds nothing of one request in a global, since
//! its instance serves many requests at once. Nothing here panics on input: a trap would end every
//! other request on the same instance.

pub mod answer;
pub mod auth;
mod caller;
pub mod cors;
pub mod database;
pub mod field;
pub mod gateway;
pub mod json;
mod jwks;
mod key_set;
pub mod link;
pub mod log;
pub mod outbound;
pub mod parse;
mod query;
pub mod request;
#[cfg(feature = "schema")]
mod schema;
mod signature;
pub mod token;
pub mod trace;
pub mod variable;
pub mod wake;
pub mod webhook;

pub use answer::{Answer, Problem, Reply, reply};
