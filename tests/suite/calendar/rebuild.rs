//! REBUILD_ALL: every event deleted and made again, in batches, whatever breaks off in the middle.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_tests::provider::{Fault, Seen};

use super::{Syncing, rebuild_all};

fn is_batch(request: &Seen) -> bool {
    request.path() == "/batch/calendar/v3"
}

impl Syncing {
    /// So many sources with an event each.
    async fn with_events(count: u32) -> Self {
        let syncing = Self::start_with(&[("calendar_sync_batch_size", "20")]).await;
        for source in 0..count {
            syncing.upsert(source, &format!("event {source:03}")).await;
        }
        syncing.run().await;
        assert_eq!(syncing.titles().len(), count as usize);
        syncing
    }

    fn live_ids(&self) -> BTreeSet<String> {
        self.google
            .service(|google| google.live().iter().map(|event| event.id.clone()).collect())
    }

    /// Runs until the job has ended, two minutes passing between the runs.
    async fn finish(&self, job: i64) -> usize {
        for runs in 1..=30 {
            let summary = self.run().await;
            let status = self.status(job).await;
            if status == "COMPLETED" || status == "DEAD_LETTER" {
                return runs;
            }
            println!("{status}: {summary} {:?}", self.fate(job).await);
            let ahead =
                "select extract(epoch from millrace.clock() - clock_timestamp())::float8 + 120";
            let ahead: f64 = self.app.database.one(ahead, &[]).await.get(0);
            self.app.database.set_clock_ahead(ahead).await;
        }
        panic!("not over after 30 runs: {:?}", self.fate(job).await);
    }
}

fn titles(count: u32) -> BTreeSet<String> {
    (0..count)
        .map(|source| format!("event {source:03}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_deleted_and_made_again_in_batches() {
    let syncing = Syncing::with_events(120).await;
    let before = syncing.live_ids();
    let calls = syncing.google.requests().len();
    let job = syncing.insert(&rebuild_all()).await;
    let runs = syncing.finish(job).await;
    assert_eq!(syncing.status(job).await, "COMPLETED");
    let after = syncing.live_ids();
    assert!(
        before.is_disjoint(&after),
        "each was deleted and another made"
    );
    assert_eq!(
        syncing.titles().into_iter().collect::<BTreeSet<_>>(),
        titles(120)
    );
    assert_eq!(after.len(), 120);
    let batches = syncing.calls(is_batch);
    assert_eq!(
        syncing.google.requests().len() - calls,
        batches,
        "nothing was asked outside of batches"
    );
    assert_eq!(batches, 6, "three parts, two batches each");
    println!("120 events rebuilt by {batches} requests in {runs} runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilding_that_breaks_off_anywhere_is_simply_run_again() {
    for (broken, fault) in [
        (0, Fault::ResetAfterActing),
        (1, Fault::ResetAfterActing),
        (2, Fault::HalfAnswer),
        (3, Fault::HalfAnswer),
        (3, Fault::ErrorAfterActing(500)),
        (4, Fault::ErrorBeforeActing(503)),
        (1, Fault::Garbage),
    ] {
        let syncing = Syncing::with_events(70).await;
        let plan = (0..=broken).map(|batch| (batch == broken).then_some(fault));
        syncing.google.plan_for(is_batch, plan);
        let job = syncing.insert(&rebuild_all()).await;
        let runs = syncing.finish(job).await;
        assert_eq!(syncing.status(job).await, "COMPLETED");
        let live = syncing.titles();
        assert_eq!(live.len(), 70, "batch {broken}: {fault:?}");
        assert_eq!(live.into_iter().collect::<BTreeSet<_>>(), titles(70));
        println!(
            "{} in batch {broken} of a rebuilding of 70 events: 70 events, {runs} runs",
            fault.kind()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_batch_fail_by_themselves() {
    let syncing = Syncing::with_events(30).await;
    let limited = [
        None,
        Some((429, "rateLimitExceeded")),
        None,
        Some((500, "backendError")),
    ];
    syncing
        .google
        .service(|google| google.parts.extend(limited));
    let job = syncing.insert(&rebuild_all()).await;
    syncing.finish(job).await;
    assert_eq!(
        syncing.titles().into_iter().collect::<BTreeSet<_>>(),
        titles(30)
    );

    // The deletions go well, two of the events can't be made.
    let refused = (0..30)
        .map(|_| None)
        .chain([Some((400, "invalid")), Some((403, "forbidden"))]);
    syncing
        .google
        .service(|google| google.parts.extend(refused));
    let job = syncing.insert(&rebuild_all()).await;
    syncing.finish(job).await;
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str()),
        ("dead", "rebuild_incomplete")
    );
    assert!(fate.message.starts_with("2 events"), "{}", fate.message);
    assert_eq!(syncing.titles().len(), 28);
    // Queued again, it makes what it could not make.
    let again = format!("update sync_outbox set status = 'PENDING' where job_id = {job}");
    syncing.app.database.run(&again).await;
    syncing.finish(job).await;
    assert_eq!(syncing.titles().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilding_and_items_of_the_same_workspace_get_along() {
    let syncing = Syncing::with_events(40).await;
    let mut jobs = vec![syncing.insert(&rebuild_all()).await];
    for source in 0..20 {
        jobs.push(
            syncing
                .upsert(source, &format!("event {source:03}, later"))
                .await,
        );
    }
    for source in 30..40 {
        jobs.push(syncing.cancel(source).await);
    }
    for job in jobs {
        syncing.finish(job).await;
        assert_eq!(syncing.status(job).await, "COMPLETED");
    }
    let expected = (0..30).map(|source| match source {
        0..20 => format!("event {source:03}, later"),
        _ => format!("event {source:03}"),
    });
    let live = syncing.titles();
    assert_eq!(live.len(), 30);
    assert_eq!(
        live.into_iter().collect::<BTreeSet<_>>(),
        expected.collect()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_makes_a_rebuilding_slower_and_costs_no_attempt() {
    let syncing = Syncing::with_events(180).await;
    let database = &syncing.app.database;
    syncing
        .google
        .service(|google| google.batches_a_minute = Some(1));
    let job = syncing.insert(&rebuild_all()).await;
    let mut minutes = 0_u32;
    while syncing.status(job).await != "COMPLETED" {
        syncing.run().await;
        if minutes == 0 {
            let fate = syncing.fate(job).await;
            assert_eq!(
                (
                    fate.code.as_str(),
                    fate.attempts,
                    fate.delay.map(f64::round)
                ),
                ("rate_limited", 0, Some(60.0))
            );
        }
        minutes += 1;
        assert!(minutes < 20, "{:?}", syncing.fate(job).await);
        database.set_clock_ahead(f64::from(minutes) * 61.0).await;
        syncing.google.advance(Duration::from_secs(61));
    }
    assert_eq!(
        syncing.titles().into_iter().collect::<BTreeSet<_>>(),
        titles(180)
    );
    assert_eq!(syncing.fate(job).await.attempts, 1);
    println!("180 events rebuilt at one batch a minute in {minutes} runs, one attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_taken_for_a_part_is_renewed_once() {
    let syncing = Syncing::with_events(20).await;
    let tokens = || syncing.calls(|request| request.path() == "/token");
    let not_taken = Some((401, "authError"));
    let before = tokens();
    syncing
        .google
        .service(|google| google.parts.extend([None, not_taken, not_taken]));
    let job = syncing.insert(&rebuild_all()).await;
    syncing.run().await;
    let fate = syncing.fate(job).await;
    assert_eq!((fate.state.as_str(), fate.attempts), ("succeeded", 1));
    assert_eq!(tokens(), before + 1);
    assert_eq!(syncing.titles().len(), 20);

    // Nor is the new one taken for that part.
    let mut parts = vec![not_taken];
    parts.extend([None; 19]);
    parts.push(not_taken);
    syncing.google.service(|google| google.parts.extend(parts));
    let job = syncing.insert(&rebuild_all()).await;
    syncing.run().await;
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str()),
        ("dead", "connection_invalid")
    );
    assert!(!syncing.is_valid().await);
    assert_eq!(tokens(), before + 2);
}
