//! Exchanges that go wrong at each of their points, with each provider and each policy: which messages are sent once, which may be sent
//! twice, and which may be lost.

use std::time::Duration;

use millrace_tests::provider::{Fault, Nobody, Provider, RetryAfter, Seen, by_key};
use millrace_tests::providers::{
    mailgun, messagebird, postmark, resend, sendgrid, ses, twilio, vonage,
};

use super::known::Known;
use super::{Delivering, Sending};

/// After these the provider may have acted; the second says whether it has.
const UNKNOWN: [(Fault, bool); 10] = [
    (Fault::ResetBeforeActing, false),
    (Fault::ResetAfterActing, true),
    (Fault::HalfAnswer, true),
    (Fault::SlowAnswer(Duration::from_secs(30)), true),
    (Fault::ErrorBeforeActing(500), false),
    (Fault::ErrorBeforeActing(503), false),
    (Fault::ErrorAfterActing(502), true),
    (Fault::Garbage, true),
    (Fault::NotHttp, true),
    (Fault::Oversized(200_000), true),
];

/// After these it has not.
const REFUSED: [(Fault, f64); 3] = [
    (Fault::TooMany(RetryAfter::Unsaid), 100.0),
    (Fault::TooMany(RetryAfter::Seconds(41)), 41.0),
    (Fault::TooMany(RetryAfter::Date(43)), 43.0),
];

/// One message for each fault, each meeting its own once.
async fn plan<P: Known>(delivering: &Delivering<P>, faults: &[Fault]) -> Vec<Sending> {
    let mut sendings = Vec::new();
    for fault in faults {
        let sending = delivering.send().await;
        let mark = sending.mark.clone();
        let concerns = move |seen: &Seen| seen.body.contains(&mark);
        delivering.provider.plan_for(concerns, [*fault]);
        sendings.push(sending);
    }
    sendings
}

/// How often each message was sent.
async fn sent<P: Known>(delivering: &Delivering<P>, sendings: &[Sending]) -> Vec<usize> {
    let effects = delivering.provider.effects();
    let counts = by_key(&effects);
    let mut sent = Vec::new();
    for sending in sendings {
        let key = delivering.key(sending).await;
        sent.push(counts.get(key.as_str()).copied().unwrap_or_default());
    }
    sent
}

async fn again_by_policy<P: Known>(policy: &'static str) {
    let name = format!("{}_ambiguous", P::CHANNEL);
    let more = [(name.as_str(), policy), ("channel_job_seconds", "2")];
    let delivering = Delivering::<P>::start_with(&more).await;
    let faults = UNKNOWN.map(|(fault, _)| fault);
    let sendings = plan(&delivering, &faults).await;
    delivering.run().await;
    let is_tried_again = policy == "retry" || P::IS_IDEMPOTENT;
    for (fault, sending) in faults.iter().zip(&sendings) {
        let fate = delivering.fate(sending).await;
        let expected = match is_tried_again {
            true => "queued",
            false => "dead",
        };
        assert_eq!(
            fate.state,
            expected,
            "{} {policy} {fault:?}: {fate:?}",
            P::NAME
        );
        assert_eq!(fate.code == "ambiguous", !is_tried_again, "{fate:?}");
    }

    delivering.app.database.set_clock_ahead(200.0).await;
    delivering.run().await;
    let sent = sent(&delivering, &sendings).await;
    for (((fault, acted), times), sending) in UNKNOWN.iter().zip(&sent).zip(&sendings) {
        let expected = match (is_tried_again, P::IS_IDEMPOTENT) {
            (_, true) => 1,
            (true, false) => 1 + usize::from(*acted),
            (false, false) => usize::from(*acted),
        };
        assert_eq!(*times, expected, "{} {policy} {fault:?}", P::NAME);
        if is_tried_again {
            assert_eq!(
                delivering.fate(sending).await.state,
                "succeeded",
                "{fault:?}"
            );
        }
    }
    println!(
        "deliveries: {} with {policy}: {} faults, messages sent never, once and twice: {:?}",
        P::NAME,
        faults.len(),
        [0, 1, 2].map(|times| sent.iter().filter(|it| **it == times).count())
    );
}

/// What was refused, or never left, is tried again whatever the policy.
async fn again_in_any_case<P: Known>() {
    let name = format!("{}_ambiguous", P::CHANNEL);
    let delivering = Delivering::<P>::start_with(&[(&name, "dead")]).await;
    let sendings = plan(&delivering, &REFUSED.map(|(fault, _)| fault)).await;
    delivering.run().await;
    for ((fault, seconds), sending) in REFUSED.iter().zip(&sendings) {
        let fate = delivering.fate(sending).await;
        assert_eq!(
            (fate.state.as_str(), fate.code.as_str()),
            ("queued", "rate_limited"),
            "{fate:?}"
        );
        let delay = fate.delay.expect("a delay");
        assert!((delay - seconds).abs() < 2.0, "{fault:?}: {delay}");
    }
    delivering.app.database.set_clock_ahead(200.0).await;
    delivering.run().await;
    assert_eq!(sent(&delivering, &sendings).await, [1, 1, 1]);

    let nobody = Nobody::new();
    let provider = Provider::start(P::default()).await;
    let delivering = Delivering::<P>::reaching(provider, &nobody.url, &[(&name, "dead")]).await;
    let sending = delivering.send().await;
    delivering.run().await;
    let fate = delivering.fate(&sending).await;
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str()),
        ("queued", "unreachable"),
        "{fate:?}"
    );
}

/// An attempt that was lost may have sent its message.
async fn lost<P: Known>(policy: &'static str) {
    let name = format!("{}_ambiguous", P::CHANNEL);
    let delivering = Delivering::<P>::start_with(&[(&name, policy)]).await;
    let sending = delivering.send().await;
    let sql = format!(
        "select from millrace.claim(queue => '{}', worker => 'gone')",
        P::CHANNEL
    );
    delivering.app.database.run(&sql).await;
    delivering.app.database.set_clock_ahead(1000.0).await;
    delivering
        .app
        .database
        .run("select millrace.housekeep()")
        .await;
    delivering.app.database.set_clock_ahead(2000.0).await;
    delivering.run().await;
    let fate = delivering.fate(&sending).await;
    let is_sent = policy == "retry" || P::IS_IDEMPOTENT;
    let expected = match is_sent {
        true => ("succeeded", ""),
        false => ("dead", "ambiguous"),
    };
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str()),
        expected,
        "{fate:?}"
    );
    assert_eq!(delivering.provider.effects().len(), usize::from(is_sent));
}

async fn all<P: Known>() {
    again_by_policy::<P>("retry").await;
    again_by_policy::<P>("dead").await;
    again_in_any_case::<P>().await;
    lost::<P>("retry").await;
    lost::<P>("dead").await;
}

#[tokio::test]
async fn resend() {
    all::<resend::Resend>().await;
}

#[tokio::test]
async fn postmark() {
    all::<postmark::Postmark>().await;
}

#[tokio::test]
async fn sendgrid() {
    all::<sendgrid::SendGrid>().await;
}

#[tokio::test]
async fn mailgun() {
    all::<mailgun::Mailgun>().await;
}

#[tokio::test]
async fn ses() {
    all::<ses::Ses>().await;
}

#[tokio::test]
async fn twilio() {
    all::<twilio::Twilio>().await;
}

#[tokio::test]
async fn vonage() {
    all::<vonage::Vonage>().await;
}

#[tokio::test]
async fn messagebird() {
    all::<messagebird::MessageBird>().await;
}
