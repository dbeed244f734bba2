//! The channel `sms`: one text message through the provider that `sms_provider` names, or a preview of it where it names none.

mod gsm;
mod message;
mod messagebird;
mod number;
mod sender;
mod twilio;
mod vonage;

use millrace_delivery::configuration::{base_url, text, wrong};
use millrace_delivery::{Delivery, Mode, Preview, Provider, misconfigured, readiness};
use millrace_worker::{Failure, Handler, Job, Misconfiguration, Policy, Readiness, Receipt};

use crate::message::Message;

/// Sends text messages.
pub struct Channel;

#[cfg(target_family = "wasm")]
millrace_worker::export!(Channel);

impl Handler for Channel {
    async fn check() -> Readiness {
        readiness("sms_provider", mode().await)
    }

    async fn handle(job: Job) -> Result<Receipt, Failure> {
        let mode = mode().await.map_err(|mistake| misconfigured(&mistake))?;
        let message = Message::parse(&job.payload)?;
        let delivery = Delivery {
            job: &job,
            channel: "sms",
            address: message.to.as_str(),
        };
        delivery.by(&mode, &message, preview).await
    }
}

fn preview(message: &Message) -> Preview<'_> {
    Preview {
        to: message.to.as_str().to_owned(),
        text: Some(&message.body),
        ..Preview::default()
    }
}

/// What the variables say.
async fn mode() -> Result<Mode<Message>, Misconfiguration> {
    let provider: Box<dyn Provider<Message>> = match text("sms_provider").await?.as_str() {
        "" | "preview" => return Ok(Mode::Preview),
        "off" => return Ok(Mode::Off),
        "twilio" => Box::new(twilio::Twilio::configured().await?),
        "vonage" => Box::new(vonage::Vonage::configured().await?),
        "messagebird" => Box::new(messagebird::MessageBird::configured().await?),
        _ => {
            let known = "is none of off, preview, twilio, vonage and messagebird";
            return Err(wrong("sms_provider", known));
        }
    };
    Ok(Mode::Send(provider, Policy::of("sms_ambiguous").await?))
}

/// Where the provider's API is.
async fn provider_url(known: &str) -> Result<String, Misconfiguration> {
    base_url("sms_url", "sms_host", known).await
}
