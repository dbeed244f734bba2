//! The handler of the queue `webhook`: a job becomes one POST, signed as Standard Webhooks has it (specification 1.0).
//!
//! The job's id is the message's id, for every attempt, so a receiver knows a second copy; whatever is not a success and may pass is
//! tried again. Where nothing is configured, messages are kept as previews and nobody is called.

mod address;
mod config;
mod delivery;
mod message;
mod outcome;

use std::time::Duration;

use millrace_worker::{Failure, Handler, Job, Readiness, Receipt};

use config::{Mode, Settings};
use delivery::Delivery;
use message::Message;

/// How long a job waits, without having lost an attempt, for what is no matter of its own: the variables, the database.
const SOON: Duration = Duration::from_secs(60);

struct Channel;

impl Handler for Channel {
    async fn check() -> Readiness {
        match Settings::read().await {
            Ok(settings) => Readiness::Ready(settings.mode.in_words().to_owned()),
            Err(wrong) => Readiness::Misconfigured(wrong),
        }
    }

    async fn handle(job: Job) -> Result<Receipt, Failure> {
        let settings = Settings::read().await.map_err(|wrong| {
            // They were right when the run began; the next one claims nothing.
            Failure::postpone(
                SOON,
                "misconfigured",
                format!("the variable {} {}", wrong.variable, wrong.reason),
            )
        })?;
        let message = Message::parse(&job.payload)?;
        let delivery = Delivery::look_up(&job, message).await?;
        match settings.mode {
            Mode::Preview => delivery.keep(&settings).await,
            Mode::Send => delivery.send(&settings).await,
        }
    }
}

millrace_worker::export!(Channel);
