//! Runs components: the engine and what is compiled, the state of an instance, and the workers that keep
//! instances for several requests.

pub mod bindings;
pub mod component;
pub mod engine;
pub mod guest_output;
pub mod instance;
pub mod outbound_http;
pub mod public_http;
pub mod worker;
