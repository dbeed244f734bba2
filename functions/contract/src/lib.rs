//! The collab face in types, a module for each subject: what its requests may say, and what its answers hold.
//!
//! Functions parse their requests into these types, so a value of one exists only if it was checked. Answers come from the
//! database as JSON and are passed on unread: their types are what the OpenAPI document is made of (feature `schema`), and the
//! tests hold every answer against that document.
//!
//! In requests JSON `null` counts as an absent field, unless the type says that it is refused; in answers a field that is absent is never `null`, unless its type says so.

pub mod artifact;
pub mod channel;
pub mod claim;
pub mod dead_letter;
pub mod event;
pub mod gateway_job;
pub mod gateway_task;
// For the document alone: the component reads its requests with its GraphQL library.
#[cfg(feature = "schema")]
pub mod graphql;
pub mod health;
pub mod job;
pub mod metrics;
pub mod outcome;
pub mod preview;
pub mod problem;
pub mod round;
pub mod signing;
pub mod task;
pub mod worker;
