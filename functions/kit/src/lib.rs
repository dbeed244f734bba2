//! What every function does the same way: who is asking ([`auth`]), what is asked ([`request`],
//! [`parse`], [`field`], [`json`]), one statement ([`database`]), and the answer ([`answer`]).
//!
//! A function reads top to bottom in that order and holds nothing of one request in a global, since
//! its instance serves many requests at once. Nothing here panics on input: a trap would end every
//! other request on the same instance.

pub mod answer;
pub mod auth;
pub mod database;
pub mod field;
mod hs256;
pub mod json;
mod log;
pub mod parse;
pub mod request;
pub mod token;
pub mod variable;

pub use answer::{Answer, Problem, Reply, reply};
