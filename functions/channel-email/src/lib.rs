//! The channel `email`: one email through the provider that `email_provider` names, or a preview of it where it names none.

mod mailbox;
mod mailgun;
mod message;
mod postmark;
mod resend;
mod sendgrid;
mod ses;

use millrace_delivery::configuration::{base_url, text, wrong};
use millrace_delivery::{Delivery, Mode, Preview, Provider, misconfigured, readiness};
use millrace_worker::{Failure, Handler, Job, Misconfiguration, Policy, Readiness, Receipt};
use serde_json::json;

use crate::message::Message;

/// Sends emails.
pub struct Channel;

#[cfg(target_family = "wasm")]
millrace_worker::export!(Channel);

impl Handler for Channel {
    async fn check() -> Readiness {
        readiness("email_provider", mode().await)
    }

    async fn handle(job: Job) -> Result<Receipt, Failure> {
        let mode = mode().await.map_err(|mistake| misconfigured(&mistake))?;
        let message = Message::parse(&job.payload)?;
        let delivery = Delivery {
            job: &job,
            channel: "email",
            address: message.to.address(),
        };
        delivery.by(&mode, &message, preview).await
    }
}

fn preview(message: &Message) -> Preview<'_> {
    Preview {
        to: message.to.header(),
        subject: Some(&message.subject),
        html: Some(&message.html),
        text: message.text.as_deref(),
        request: Some(json!({
            "from": message.from.header(),
            "reply_to": message.reply_to.as_ref().map(|it| it.header()),
        })),
    }
}

/// What the variables say.
async fn mode() -> Result<Mode<Message>, Misconfiguration> {
    let provider: Box<dyn Provider<Message>> = match text("email_provider").await?.as_str() {
        "" | "preview" => return Ok(Mode::Preview),
        "off" => return Ok(Mode::Off),
        "resend" => Box::new(resend::Resend::configured().await?),
        "postmark" => Box::new(postmark::Postmark::configured().await?),
        "sendgrid" => Box::new(sendgrid::SendGrid::configured().await?),
        "mailgun" => Box::new(mailgun::Mailgun::configured().await?),
        "ses" => Box::new(ses::Ses::configured().await?),
        _ => {
            let known = "is none of off, preview, resend, postmark, sendgrid, mailgun and ses";
            return Err(wrong("email_provider", known));
        }
    };
    Ok(Mode::Send(provider, Policy::of("email_ambiguous").await?))
}

/// Where the provider's API is.
async fn provider_url(known: &str) -> Result<String, Misconfiguration> {
    base_url("email_url", "email_host", known).await
}
