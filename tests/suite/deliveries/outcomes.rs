//! Each documented answer of each provider, and what it means for the job.

use std::collections::BTreeMap;

use millrace_tests::channel::Fate;
use millrace_tests::provider::Fault;
use millrace_tests::providers::{
    mailgun, messagebird, postmark, resend, sendgrid, ses, twilio, vonage,
};

use super::Delivering;
use super::known::Known;

/// What an answer is to mean.
#[derive(Clone, Copy, Debug)]
enum Means {
    /// Tried again after the queue's backoff.
    Retry(&'static str),
    /// Tried again after so many seconds.
    RetryIn(&'static str, f64),
    /// Not counted as an attempt, and due in so many seconds.
    Wait(&'static str, f64),
    Dead(&'static str),
    /// Dead, and nothing is sent to the address any more.
    Inactive,
    /// By the policy, which is `retry`.
    Unknown,
}

use Means::{Dead, Inactive, Retry, RetryIn, Unknown, Wait};

const ACCOUNT: Means = Wait("credentials_refused", 900.0);
const QUOTA: Means = Wait("quota_exceeded", 3600.0);
const NOWHERE: Means = Wait("no_such_resource", 900.0);
const REFUSED: Means = Dead("message_refused");

impl Means {
    fn is(self, fate: &Fate) -> bool {
        let is_in = |seconds: f64| {
            fate.delay
                .is_some_and(|delay| (delay - seconds).abs() < 1.0)
        };
        let (state, outcome, code) = match self {
            Retry(code) | RetryIn(code, _) => ("queued", "failed", code),
            Wait(code, _) => ("queued", "postponed", code),
            Dead(code) => ("dead", "failed", code),
            Inactive => ("dead", "failed", "recipient_inactive"),
            Unknown => ("queued", "failed", "provider_failed"),
        };
        let delay = match self {
            Retry(_) | Unknown => Some(100.0),
            RetryIn(_, seconds) | Wait(_, seconds) => Some(seconds),
            Dead(_) | Inactive => None,
        };
        let attempts = i16::from(!matches!(self, Wait(..)));
        (
            fate.state.as_str(),
            fate.outcome.as_str(),
            fate.code.as_str(),
        ) == (state, outcome, code)
            && delay.map_or(fate.delay.is_none(), is_in)
            && fate.attempts == attempts
    }
}

/// Sends a message for each documented answer, and one that meets none; then looks what became of them.
async fn each_means<P: Known>(table: &[(&'static str, Means)]) {
    let expected: BTreeMap<_, _> = table.iter().copied().collect();
    let documented: Vec<_> = P::ANSWERS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        expected.len(),
        documented.len(),
        "each answer has its meaning"
    );
    let delivering = Delivering::<P>::start().await;
    let well = delivering.send().await;
    let mut sendings = Vec::new();
    for name in documented {
        let sending = delivering.send().await;
        let mark = sending.mark.clone();
        let concerns = move |seen: &millrace_tests::provider::Seen| seen.body.contains(&mark);
        delivering.provider.plan_for(concerns, [Fault::Told(name)]);
        sendings.push((name, sending));
    }
    delivering.run().await;

    let fate = delivering.fate(&well).await;
    assert_eq!(
        (fate.state.as_str(), fate.attempts),
        ("succeeded", 1),
        "{fate:?}"
    );
    assert!(
        fate.result["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{fate:?}"
    );
    let mut suppressed = 0;
    for (name, sending) in &sendings {
        let means = expected
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no meaning"));
        let fate = delivering.fate(sending).await;
        assert!(
            means.is(&fate),
            "{}: {name} is to be {means:?}, not {fate:?}",
            P::NAME
        );
        assert!(!fate.message.contains(&sending.mark), "{}", fate.message);
        suppressed += i64::from(matches!(means, Inactive));
    }
    let sql = "select count(*) from comms.suppression where channel = $1 and provider is not null";
    let known: i64 = delivering
        .app
        .database
        .one(sql, &[&P::CHANNEL])
        .await
        .get(0);
    assert_eq!(known, suppressed);
    let effects = delivering.provider.effects();
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].key, delivering.key(&well).await);
    println!(
        "deliveries: {}: {} documented answers and a success",
        P::NAME,
        table.len()
    );
}

#[tokio::test]
async fn resend() {
    each_means::<resend::Resend>(&[
        ("invalid_idempotency_key", REFUSED),
        ("validation_error", REFUSED),
        ("missing_api_key", ACCOUNT),
        ("restricted_api_key", ACCOUNT),
        ("invalid_api_key", ACCOUNT),
        ("domain not verified", Dead("sender_refused")),
        ("not_found", NOWHERE),
        ("method_not_allowed", NOWHERE),
        ("invalid_idempotent_request", Dead("idempotency_conflict")),
        ("concurrent_idempotent_requests", Retry("in_progress")),
        ("invalid_from_address", REFUSED),
        ("invalid_parameter", REFUSED),
        ("missing_required_field", REFUSED),
        ("daily_quota_exceeded", QUOTA),
        ("monthly_quota_exceeded", QUOTA),
        ("rate_limit_exceeded", RetryIn("rate_limited", 7.0)),
        (
            "rate limit by its own header",
            RetryIn("rate_limited", 11.0),
        ),
        ("security_error", REFUSED),
        ("application_error", Unknown),
    ])
    .await;
}

#[tokio::test]
async fn postmark() {
    each_means::<postmark::Postmark>(&[
        ("10 bad token", ACCOUNT),
        ("100 maintenance", Retry("provider_down")),
        ("300 invalid email request", REFUSED),
        ("400 sender signature not found", Dead("sender_refused")),
        ("401 sender signature not confirmed", Dead("sender_refused")),
        ("402 invalid JSON", REFUSED),
        ("403 incompatible JSON", REFUSED),
        ("405 not allowed to send", QUOTA),
        ("406 inactive recipient", Inactive),
        ("409 JSON required", REFUSED),
        ("412 account is pending", ACCOUNT),
        ("413 account may not send", ACCOUNT),
        ("413 payload too large", Dead("message_too_long")),
        ("415 media type", REFUSED),
        ("429 rate limit", RetryIn("rate_limited", 9.0)),
        ("403 of the network", ACCOUNT),
        ("500", Unknown),
        ("503", Unknown),
    ])
    .await;
}

#[tokio::test]
async fn sendgrid() {
    each_means::<sendgrid::SendGrid>(&[
        ("400 bad request", REFUSED),
        ("401 unauthorized", ACCOUNT),
        ("403 forbidden", ACCOUNT),
        ("404 not found", NOWHERE),
        ("405 method not allowed", NOWHERE),
        ("406 missing accept header", REFUSED),
        ("413 payload too large", Dead("message_too_long")),
        ("429 until a second long gone", Retry("rate_limited")),
        ("429 with a delay", RetryIn("rate_limited", 13.0)),
        ("451 data residency", ACCOUNT),
        ("500 server error", Unknown),
        ("503 service not available", Unknown),
    ])
    .await;
}

#[tokio::test]
async fn mailgun() {
    each_means::<mailgun::Mailgun>(&[
        ("400 bad request", REFUSED),
        ("401 unauthorized", ACCOUNT),
        ("402 request failed", QUOTA),
        ("403 forbidden", ACCOUNT),
        ("404 not found", NOWHERE),
        ("413 too large", Dead("message_too_long")),
        ("429 with a delay", RetryIn("rate_limited", 17.0)),
        ("500 internal error", Unknown),
    ])
    .await;
}

#[tokio::test]
async fn ses() {
    each_means::<ses::Ses>(&[
        ("AccountSuspendedException", ACCOUNT),
        ("BadRequestException", REFUSED),
        ("LimitExceededException", QUOTA),
        ("MailFromDomainNotVerifiedException", Dead("sender_refused")),
        ("MessageRejected", REFUSED),
        ("NotFoundException", ACCOUNT),
        ("SendingPausedException", ACCOUNT),
        ("TooManyRequestsException", Retry("rate_limited")),
        (
            "TooManyRequestsException in the body",
            Retry("rate_limited"),
        ),
        ("ThrottlingException", Retry("rate_limited")),
        ("AccessDeniedException", ACCOUNT),
        ("ExpiredTokenException", ACCOUNT),
        ("IncompleteSignature", ACCOUNT),
        ("InvalidClientTokenId", ACCOUNT),
        ("InvalidSignatureException", ACCOUNT),
        ("OptInRequired", ACCOUNT),
        ("RequestExpired", ACCOUNT),
        ("UnrecognizedClientException", ACCOUNT),
        ("ValidationException", REFUSED),
        ("InternalFailure", Unknown),
        ("ServiceUnavailable", Unknown),
    ])
    .await;
}

#[tokio::test]
async fn twilio() {
    let sender = Wait("sender_refused", 900.0);
    let recipient = Dead("recipient_refused");
    each_means::<twilio::Twilio>(&[
        ("20003 authentication", ACCOUNT),
        ("20404 not found", NOWHERE),
        ("20429 too many requests", Retry("rate_limited")),
        ("21211 invalid to", recipient),
        ("21212 invalid from", sender),
        ("21408 region", recipient),
        ("21602 no body", REFUSED),
        ("21603 no from", sender),
        ("21604 no to", recipient),
        ("21606 from can't send", sender),
        ("21608 trial", recipient),
        ("21610 unsubscribed", Inactive),
        ("21611 queue full", Retry("rate_limited")),
        ("21612 no route", recipient),
        ("21614 no mobile number", recipient),
        ("21617 too long", Dead("message_too_long")),
        ("63038 daily limit", QUOTA),
        ("429 with a delay", RetryIn("rate_limited", 19.0)),
        ("500", Unknown),
        ("503", Unknown),
    ])
    .await;
}

#[tokio::test]
async fn vonage() {
    let recipient = Dead("recipient_refused");
    each_means::<vonage::Vonage>(&[
        ("1 throttled", Retry("rate_limited")),
        ("2 missing parameters", REFUSED),
        ("3 invalid parameters", REFUSED),
        ("4 invalid credentials", ACCOUNT),
        ("5 internal error", Unknown),
        ("6 invalid message", recipient),
        ("7 number barred", Inactive),
        ("8 account barred", ACCOUNT),
        ("9 quota violation", QUOTA),
        ("10 too many binds", Retry("rate_limited")),
        ("11 not for HTTP", ACCOUNT),
        ("12 too long", Dead("message_too_long")),
        ("14 invalid signature", ACCOUNT),
        ("15 invalid sender", Wait("sender_refused", 900.0)),
        ("22 network code", recipient),
        ("23 callback", REFUSED),
        ("29 not whitelisted", recipient),
        ("32 signature and secret", ACCOUNT),
        ("33 deactivated", Inactive),
        ("one part of two refused", Unknown),
        ("both parts refused", Dead("message_too_long")),
        ("429 with a delay", RetryIn("rate_limited", 23.0)),
        ("500", Unknown),
    ])
    .await;
}

#[tokio::test]
async fn messagebird() {
    let recipient = Dead("recipient_refused");
    each_means::<messagebird::MessageBird>(&[
        ("2 not allowed", ACCOUNT),
        ("9 missing body", REFUSED),
        ("9 no recipients", recipient),
        ("10 invalid recipient", recipient),
        ("10 invalid originator", Wait("sender_refused", 900.0)),
        ("20 not found", NOWHERE),
        ("21 bad request", REFUSED),
        ("25 no balance", QUOTA),
        ("98 API not found", NOWHERE),
        ("99 internal error", Unknown),
        ("429 with a delay", RetryIn("rate_limited", 29.0)),
        ("502", Unknown),
    ])
    .await;
}
