//! What a drain does: the requests that it answers, and a run.
//!
//! A run looks whether the handler is ready, then keeps up to `concurrency` calls of it in flight: it claims a batch whenever there are places
//! free, reports outcomes as they come, and extends the leases of what takes longer. It claims nothing in its last `job_seconds`, so
//! whatever the handler does, all that it has in hand is over by `run_seconds`.
//!
//! **A call that hangs.** At its deadline an attempt fails and its place is free. The call itself is set aside, not cancelled: cancelling
//! blocks this whole instance until the callee has reacted, and one that is not written in Rust may never. It is cancelled when the run is over and
//! everything is reported.
//!
//! **A call that traps** ends the instance, and with it everything that it had in hand. Those leases run out, and each of those jobs is claimed
//! alone next: a claim that says `alone` waits here until nothing else is in hand or unreported.
//!
//! **One run in an instance.** A second would be lost with the first. So a request that comes meanwhile leaves a note, which the run
//! finds after its claim, if one is on its way, and makes another: who enqueued before the request finds his job claimed.

mod batch;
mod calls;
mod config;
mod engine;
mod guard;
mod requests;
mod statements;

use millrace_worker::{Failure, Job, Readiness, Receipt};

pub use requests::serve;

/// What a run calls: a handler, however it is linked.
pub trait Handle {
    /// Looks at the configuration.
    fn check() -> impl Future<Output = Readiness> + 'static;

    /// Runs one attempt.
    fn handle(job: Job) -> impl Future<Output = Result<Receipt, Failure>> + 'static;
}
