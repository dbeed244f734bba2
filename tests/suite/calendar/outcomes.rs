//! What becomes of an item by each answer of Google's.

use std::time::Duration;

use millrace_tests::provider::{Fault, Nobody, Provider, RetryAfter};
use millrace_tests::providers::google::Google;

use super::{Syncing, is_call};

/// Status of the item, error code, seconds until it is tried again, attempts that counted, whether the connection is still valid.
type Outcome = (&'static str, &'static str, Option<u32>, i16, bool);

const DONE: Outcome = ("COMPLETED", "", None, 1, true);
/// Google's fault: not held against the item.
const fn excused(code: &'static str) -> Outcome {
    ("PENDING", code, Some(1), 0, true)
}

async fn check(number: u32, what: &str, syncing: &Syncing, job: i64, expected: Outcome) {
    let fate = syncing.fate(job).await;
    let status = syncing.status(job).await;
    let delay = fate.delay.map(|delay| delay.round() as u32);
    let valid = syncing.is_valid().await;
    let found = (
        status.as_str(),
        fate.code.as_str(),
        delay,
        fate.attempts,
        valid,
    );
    assert_eq!(found, expected, "{number}: {what}: {fate:?}");
}

/// While the clock stands still, what is due in a second stays so, and a run waits for it until its time is up.
const SHORT: [(&str, &str); 2] = [("channel_run_seconds", "3"), ("channel_job_seconds", "2")];

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_to_an_insert_has_its_outcome() {
    let cases: &[(Fault, Outcome)] = &[
        (
            Fault::Told("403 rateLimitExceeded"),
            ("FAILED", "rate_limited", Some(1), 1, true),
        ),
        (
            Fault::Told("403 userRateLimitExceeded"),
            ("FAILED", "rate_limited", Some(1), 1, true),
        ),
        (
            Fault::Told("403 quotaExceeded"),
            ("FAILED", "rate_limited", Some(1), 1, true),
        ),
        (
            Fault::Told("403 forbidden"),
            ("FAILED", "google_403", Some(1), 1, true),
        ),
        (
            Fault::Told("403 invalid_grant"),
            ("DEAD_LETTER", "connection_invalid", None, 1, false),
        ),
        (
            Fault::Told("400 invalid"),
            ("FAILED", "google_400", Some(1), 1, true),
        ),
        (
            Fault::Told("412 conditionNotMet"),
            ("FAILED", "google_412", Some(1), 1, true),
        ),
        (
            Fault::Told("404 notFound"),
            ("DEAD_LETTER", "not_found", None, 1, true),
        ),
        (
            Fault::Told("410 deleted"),
            ("DEAD_LETTER", "not_found", None, 1, true),
        ),
        (
            Fault::TooMany(RetryAfter::Unsaid),
            ("FAILED", "rate_limited", Some(1), 1, true),
        ),
        (
            Fault::TooMany(RetryAfter::Seconds(7)),
            ("FAILED", "rate_limited", Some(7), 1, true),
        ),
        (
            Fault::TooMany(RetryAfter::Seconds(86_400)),
            ("FAILED", "rate_limited", Some(3600), 1, true),
        ),
        (Fault::ErrorBeforeActing(500), excused("google_failed")),
        (Fault::ErrorAfterActing(503), excused("google_failed")),
        (Fault::ResetBeforeActing, excused("connection_lost")),
        (Fault::ResetAfterActing, excused("connection_lost")),
        (Fault::HalfAnswer, excused("connection_lost")),
        (Fault::NotHttp, excused("connection_lost")),
        (Fault::Garbage, DONE),
    ];
    for (number, (fault, expected)) in cases.iter().enumerate() {
        let syncing = Syncing::start_with(&SHORT).await;
        // One attempt, however soon the next is due.
        syncing
            .app
            .database
            .stop_clock_at("2026-11-22 12:00:00Z")
            .await;
        syncing.google.plan_for(is_call, [*fault]);
        let job = syncing.upsert(1, "first").await;
        syncing.run().await;
        check(number as u32, fault.kind(), &syncing, job, *expected).await;
        if *expected != DONE && syncing.is_valid().await {
            syncing
                .app
                .database
                .stop_clock_at("2026-11-22 14:00:00Z")
                .await;
            syncing.run().await;
            let dead = expected.0 == "DEAD_LETTER";
            assert_eq!(syncing.titles().len(), usize::from(!dead), "{fault:?}");
        }
    }
    println!(
        "{} answers to an insert, each with its outcome",
        cases.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_a_dead_letter_for_an_update_and_success_for_a_deletion() {
    let cases = [
        (
            true,
            "404 notFound",
            ("DEAD_LETTER", "not_found", None, 1, true),
        ),
        (
            true,
            "410 deleted",
            ("DEAD_LETTER", "not_found", None, 1, true),
        ),
        (false, "404 notFound", DONE),
        (false, "410 deleted", DONE),
        (
            false,
            "403 forbidden",
            ("FAILED", "google_403", Some(1), 1, true),
        ),
    ];
    for (number, (update, answer, expected)) in cases.into_iter().enumerate() {
        let syncing = Syncing::start_with(&SHORT).await;
        syncing
            .app
            .database
            .stop_clock_at("2026-11-22 12:00:00Z")
            .await;
        syncing.bound(1).await;
        syncing.google.plan_for(is_call, [Fault::Told(answer)]);
        let job = match update {
            true => syncing.upsert(1, "second").await,
            false => syncing.cancel(1).await,
        };
        syncing.run().await;
        check(number as u32, answer, &syncing, job, expected).await;
    }
    println!("{} answers to an update or a deletion", cases.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_of_what_is_not_bound_is_done_without_asking_google() {
    let syncing = Syncing::start().await;
    let job = syncing.cancel(1).await;
    syncing.run().await;
    assert_eq!(syncing.status(job).await, "COMPLETED");
    assert!(syncing.google.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_after_an_upsert_that_never_got_to_google_is_done_too() {
    let syncing = Syncing::start().await;
    let unconnected = "00000000-0000-4000-9000-000000000001";
    let mut upsert = super::upsert(1, "first");
    upsert["workspaceId"] = unconnected.into();
    let first = syncing.insert(&upsert).await;
    syncing.run().await;
    assert_eq!(syncing.fate(first).await.code, "not_connected");
    upsert["operation"] = "CANCEL_EVENT".into();
    for field in ["event", "eventType"] {
        upsert.as_object_mut().expect("a payload").remove(field);
    }
    let second = syncing.insert(&upsert).await;
    syncing.run().await;
    assert_eq!(syncing.status(second).await, "COMPLETED");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_wait_twice_as_long_each_time_and_end_in_the_dead_letters() {
    let syncing = Syncing::start_with(&[("calendar_sync_max_retries", "6")]).await;
    let database = &syncing.app.database;
    syncing
        .google
        .plan_for(is_call, [Fault::Told("400 invalid"); 6]);
    database.stop_clock_at("2026-11-22 12:00:00Z").await;
    let job = syncing.upsert(1, "first").await;
    let mut delays = Vec::new();
    for attempt in 1..=6 {
        database
            .stop_clock_at(&format!("2026-11-22 12:{attempt:02}:00Z"))
            .await;
        syncing.run().await;
        let fate = syncing.fate(job).await;
        assert_eq!(fate.attempts, attempt);
        delays.extend(fate.delay.map(|delay| delay.round() as u32));
    }
    assert_eq!(delays, [1, 2, 4, 8, 16]);
    assert_eq!(syncing.status(job).await, "DEAD_LETTER");
    println!("retried after {delays:?} s, then a dead letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_google_that_is_out_of_reach_costs_no_attempt() {
    let nobody = Nobody::new();
    let google = Provider::start(Google::default()).await;
    let syncing = Syncing::reaching(google, &nobody.url, &[]).await;
    syncing.connect(super::WORKSPACE).await;
    syncing
        .app
        .database
        .stop_clock_at("2026-11-22 12:00:00Z")
        .await;
    let job = syncing.upsert(1, "first").await;
    syncing.run().await;
    check(0, "unreachable", &syncing, job, excused("unreachable")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_google_ends_with_our_patience() {
    let syncing = Syncing::start_with(&[("channel_job_seconds", "2")]).await;
    syncing
        .app
        .database
        .stop_clock_at("2026-11-22 12:00:00Z")
        .await;
    let slow = Fault::SlowAnswer(Duration::from_secs(20));
    syncing.google.plan_for(is_call, [slow]);
    let job = syncing.upsert(1, "first").await;
    syncing.run().await;
    check(0, "slow", &syncing, job, excused("timeout")).await;
    syncing
        .app
        .database
        .stop_clock_at("2026-11-22 12:01:00Z")
        .await;
    syncing.run().await;
    assert_eq!(syncing.status(job).await, "COMPLETED");
    assert_eq!(syncing.google.service(|google| google.events.len()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_configured_leaves_items_waiting_and_half_a_configuration_is_named() {
    let none = [
        ("google_client_id", ""),
        ("google_client_secret", ""),
        ("calendar_token_key", ""),
    ];
    let syncing = Syncing::start_with(&none).await;
    let job = syncing.upsert(1, "first").await;
    syncing.run().await;
    assert_eq!(syncing.status(job).await, "PENDING");
    let check = syncing.app.api.get("/channels/calendar").await;
    assert_eq!(check.ok()["state"], "idle");
    for (variable, value) in [
        ("google_client_secret", ""),
        ("calendar_token_key", "k1:c2hvcnQ="),
        ("google_calendar_url", "www.googleapis.com"),
        ("google_calendar_host", "https://www.googleapis.com"),
        ("google_batch_url", "https://www.example.com/batch"),
        ("google_token_url", "http://www.example.com/token"),
        ("google_token_host", "https://oauth2.googleapis.com"),
        ("calendar_sync_max_retries", "many"),
        ("calendar_sync_poll_interval_ms", "0"),
    ] {
        let syncing = Syncing::start_with(&[(variable, value)]).await;
        let check = syncing.app.api.get("/channels/calendar").await;
        check.assert_refused(500, "misconfigured");
        assert!(check.text.contains(variable), "{check:?}");
    }
}
