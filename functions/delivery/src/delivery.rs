//! The delivery of one message: from the job to what becomes of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_kit::auth::Caller;
use millrace_kit::log;
use millrace_kit::outbound::{Bounds, ask};
use millrace_kit::{Problem, database};
use millrace_worker::{Failure, Job, Policy, Receipt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mode::{Mode, switched_off};
use crate::provider::Provider;
use crate::ruling::{Outcome, Ruling};

/// How much of its time a job keeps back, so that what came of it is reported before the drain gives it up.
const MARGIN: Duration = Duration::from_millis(500);
/// How long an answer may be, in bytes. Those of all providers are a few hundred.
const LENGTH: usize = 64 * 1024;

/// What is to be delivered, and how.
pub struct Delivery<'a> {
    pub job: &'a Job,
    /// `email` or `sms`.
    pub channel: &'static str,
    /// Whom the message is for, as suppressions know him.
    pub address: &'a str,
}

/// What would have been sent.
#[derive(Serialize, Default)]
pub struct Preview<'a> {
    pub to: String,
    pub subject: Option<&'a str>,
    pub html: Option<&'a str>,
    pub text: Option<&'a str>,
    /// What else a provider would have been told.
    pub request: Option<Value>,
}

/// The argument of `millrace_api.keep_preview`.
#[derive(Serialize)]
struct Kept<'a> {
    channel: &'a str,
    job_id: &'a str,
    #[serde(flatten)]
    preview: Preview<'a>,
}

#[derive(Deserialize)]
struct KeptAs {
    id: i64,
}

/// The argument of `millrace_api.suppress_address`.
#[derive(Serialize)]
struct Suppressed<'a> {
    channel: &'a str,
    address: &'a str,
    reason: &'a str,
    provider: &'a str,
}

impl Delivery<'_> {
    /// Does with the message what the mode says.
    ///
    /// # Errors
    /// Why it was not sent, or isn't known to be, or not kept, and what is to become of the job.
    pub async fn by<'p, M>(
        &self,
        mode: &Mode<M>,
        message: &'p M,
        preview: impl FnOnce(&'p M) -> Preview<'p>,
    ) -> Result<Receipt, Failure> {
        match mode {
            Mode::Off => Err(switched_off()),
            Mode::Preview => self.keep(preview(message)).await,
            // One that is idempotent can always be asked again.
            Mode::Send(provider, _) if provider.is_idempotent() => {
                self.send(provider.as_ref(), Policy::Retry, message).await
            }
            Mode::Send(provider, policy) => self.send(provider.as_ref(), *policy, message).await,
        }
    }

    async fn send<M>(
        &self,
        provider: &dyn Provider<M>,
        policy: Policy,
        message: &M,
    ) -> Result<Receipt, Failure> {
        if self.job.resumed && policy == Policy::Dead {
            let message = "an earlier attempt was lost, and may have sent it";
            return Err(policy.ambiguous(Failure::retry("attempt_lost", message)));
        }
        let ruling = self.exchange(provider, policy, message).await?;
        if let Outcome::Inactive { reason } = ruling.outcome {
            self.suppress(provider.name(), reason).await;
        }
        settle(provider.name(), policy, ruling)
    }

    /// Asks the provider, and hears what it says.
    async fn exchange<M>(
        &self,
        provider: &dyn Provider<M>,
        policy: Policy,
        message: &M,
    ) -> Result<Ruling, Failure> {
        let request = provider.request(message, &self.job.id).map_err(|_| {
            Failure::dead(
                "message_impossible",
                "the message cannot be put as a request",
            )
        })?;
        let time = time_left(self.job.deadline)
            .ok_or_else(|| Failure::retry("out_of_time", "there was no time left to send it"))?;
        let bounds = Bounds {
            time,
            length: LENGTH,
        };
        match ask(request, bounds).await {
            Ok(answer) => Ok(provider.ruling(&answer)),
            Err(broken) => Err(policy.unanswered(provider.name(), broken)),
        }
    }

    /// Remembers that this address is not to be written to. Where that fails it is not the job's matter, and the provider will say so
    /// again about the next message.
    async fn suppress(&self, provider: &str, reason: &str) {
        let suppressed = Suppressed {
            channel: self.channel,
            address: self.address,
            reason,
            provider,
        };
        if let Err(problem) =
            database::call_text(&Caller::anyone(), "suppress_address", &suppressed).await
        {
            log::line(format_args!(
                "{}: an inactive address was not remembered ({})",
                self.channel,
                problem.code()
            ));
        }
    }

    /// Keeps what would have been sent, and that is all.
    async fn keep(&self, preview: Preview<'_>) -> Result<Receipt, Failure> {
        let kept = Kept {
            channel: self.channel,
            job_id: &self.job.id,
            preview,
        };
        let lost = |why: &str| {
            Failure::retry(
                "preview_not_kept",
                format!("the preview was not kept: {why}"),
            )
        };
        let answer = database::call_text(&Caller::anyone(), "keep_preview", &kept).await;
        let answer = answer.map_err(|problem: Problem| lost(problem.code()))?;
        let KeptAs { id } = serde_json::from_str(&answer).map_err(|_| lost("no id"))?;
        Ok(Receipt::of(format!("preview:{id}")))
    }
}

/// What becomes of the job after such an answer of the provider `name`.
fn settle(
    name: &str,
    policy: Policy,
    Ruling { outcome, said }: Ruling,
) -> Result<Receipt, Failure> {
    Err(match outcome {
        Outcome::Sent(Some(id)) => return Ok(Receipt::of(id)),
        Outcome::Sent(None) => return Ok(Receipt::done()),
        Outcome::Retry { code, after } => {
            Failure::retry(code, format!("{name} did not take it: {said}")).after(after)
        }
        Outcome::Blocked { code, after } => {
            let message = format!("{name} takes nothing from this account: {said}");
            Failure::postpone(after, code, message)
        }
        Outcome::Dead { code } => Failure::dead(code, format!("{name} refused it: {said}")),
        Outcome::Inactive { reason } => {
            let message = format!("{name} does not send to this address any more: {reason}");
            Failure::dead("recipient_inactive", message)
        }
        Outcome::Ambiguous { after } => {
            let message = format!("nobody knows whether {name} sent it: {said}");
            policy.ambiguous(Failure::retry("provider_failed", message).after(after))
        }
    })
}

/// How long an exchange may take for a job with this deadline (milliseconds since 1970); `None` where it is over.
fn time_left(deadline: u64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let left = Duration::from_millis(deadline).checked_sub(now)?;
    left.checked_sub(MARGIN).filter(|left| !left.is_zero())
}
