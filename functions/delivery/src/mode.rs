//! What a channel does with its messages, as its variables say.

use std::time::Duration;

use millrace_worker::{Failure, Misconfiguration, Policy, Readiness};

use crate::provider::Provider;

/// How long jobs wait when the variables turn out wrong in the middle of a run; the next run claims nothing.
const WRONG: Duration = Duration::from_secs(60);

/// What becomes of messages of the type `M`.
pub enum Mode<M> {
    /// Nothing: jobs wait, for workers of the application's own.
    Off,
    /// They are kept, to be looked at.
    Preview,
    /// They go through this provider. The policy says what becomes of one of which nobody knows whether it went, where the provider can't be
    /// asked again without sending it twice.
    Send(Box<dyn Provider<M>>, Policy),
}

/// Whether a channel can be run whose variable `provider` says this.
pub fn readiness<M>(provider: &str, mode: Result<Mode<M>, Misconfiguration>) -> Readiness {
    match mode {
        Ok(Mode::Off) => Readiness::Idle(format!("{provider} is off")),
        Ok(Mode::Preview) => Readiness::Ready("preview".to_owned()),
        Ok(Mode::Send(provider, _)) => Readiness::Ready(provider.name().to_owned()),
        Err(mistake) => Readiness::Misconfigured(mistake),
    }
}

/// The channel was switched off after the run began.
pub(crate) fn switched_off() -> Failure {
    Failure::postpone(WRONG, "switched_off", "the channel is switched off")
}

/// The variables changed after the run began.
pub fn misconfigured(mistake: &Misconfiguration) -> Failure {
    let message = format!("the variable {} {}", mistake.variable, mistake.reason);
    Failure::postpone(WRONG, "misconfigured", message)
}
