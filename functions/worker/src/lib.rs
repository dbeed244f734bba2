//! A handler in Rust: implement [`Handler`] on a type of your own, and [`export!`] that.
//!
//! ```ignore
//! use millrace_worker::{Failure, Handler, Job, Readiness, Receipt};
//!
//! struct Channel;
//!
//! impl Handler for Channel {
//!     async fn check() -> Readiness {
//!         Readiness::Ready("greets".to_owned())
//!     }
//!
//!     async fn handle(job: Job) -> Result<Receipt, Failure> {
//!         println!("hello, {}", job.payload);
//!         Ok(Receipt::done())
//!     }
//! }
//!
//! millrace_worker::export!(Channel);
//! ```
//!
//! The types are those of `wit/millrace-worker@0.1.0/worker.wit`, whose comments say what a handler is promised and what it owes.

pub mod ambiguity;
mod failure;
mod retry_after;

// The exporting macro's code names the runtime by this crate, wherever it is used.
extern crate self as millrace_worker;

/// The runtime of the generated code.
#[doc(hidden)]
pub use spin_sdk::wit_bindgen;

/// The generated code.
#[doc(hidden)]
#[allow(missing_docs)]
pub mod bindings {
    use spin_sdk::wit_bindgen;

    wit_bindgen::generate!({
        path: "../../wit/millrace-worker@0.1.0",
        world: "worker",
        runtime_path: "millrace_worker::wit_bindgen::rt",
        default_bindings_module: "millrace_worker::bindings",
        export_macro_name: "export",
        pub_export_macro: true,
    });
}

pub use ambiguity::Policy;
pub use bindings::exports::millrace::worker::handler::{
    Failure, Guest as Handler, Job, Misconfiguration, Readiness, Receipt, Verdict,
};
pub use retry_after::{LONGEST as LONGEST_RETRY_AFTER, retry_after};

/// Exports a type that implements [`Handler`] as this component's handler.
///
/// Native builds, such as those of unit tests, check the type and export nothing: a native linker refuses names like these.
#[macro_export]
macro_rules! export {
    ($handler:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::export!($handler with_types_in $crate::bindings);
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn is_handler<H: $crate::Handler>() {}
            is_handler::<$handler>();
        };
    };
}
