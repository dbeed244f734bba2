//! The OpenAPI 3.1 document of everything that the application serves over HTTP, made from the types that the functions
//! parse their requests into (`millrace-contract`) and a table of operations ([`operations`]). Native: the component `docs`
//! serves the finished text, `functions/docs/openapi.json`, which a test compares with what this makes.
//!
//! The document is strict: objects have no other fields than those that it names, and refusals no other codes, so that
//! holding an answer against it means something.

mod document;
mod operation;
pub mod operations;
mod refusal;
mod rpc;
mod schemas;

pub use document::{document, text};
pub use operation::{Operation, Scope};
