//! A crowd of workers on one queue: nothing is claimed twice, nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use millrace_tests::database::Database;
use millrace_tests::queue::{self, Claimed, Outcome};
use serde_json::{Value, json};

const WORKERS: usize = 64;
const JOBS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// What a crowd works on.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    types: usize,
    priorities: usize,
    /// Of a hundred attempts, how many fail.
    failing: u64,
    /// Whether the jobs are enqueued while the crowd is at work, instead of before.
    meanwhile: bool,
}

/// What each worker did, put together.
#[derive(Default)]
struct Done {
    claimed: Vec<Claimed>,
    operations: usize,
}

fn request(work: Work, n: usize) -> Value {
    json!({ "queue": "q", "type": format!("t{}", n % work.types), "priority": 5 + n / 7 % work.priorities, "payload": { "n": n } })
}

/// Whether this attempt is one that fails: no randomness, so that a failure can be repeated.
fn fails(work: Work, claimed: &Claimed) -> bool {
    let mixed = (claimed.job_id.unsigned_abs() << 8 | u64::from(claimed.attempt.unsigned_abs()))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 33) % 100 < work.failing
}

/// Enqueues every `step`th batch of a hundred, from the `first`, each in a transaction of its own.
async fn produce(database: &Database, work: Work, first: usize, step: usize) {
    let client = database.connect().await;
    for batch in (first..JOBS / 100).step_by(step) {
        let requests: Vec<_> = (batch * 100..batch * 100 + 100)
            .map(|n| request(work, n))
            .collect();
        queue::enqueue_many(&client, &json!(requests))
            .await
            .expect("an enqueue");
    }
}

/// Claims and reports until all jobs have ended.
async fn consume(database: &Database, work: Work, worker: usize, ended: Arc<AtomicUsize>) -> Done {
    let client = database.connect().await;
    let name = format!("worker-{worker}");
    let begun = Instant::now();
    let mut done = Done::default();
    while ended.load(Ordering::Relaxed) < JOBS {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}: only {} of {JOBS} jobs ended",
            work.name,
            ended.load(Ordering::Relaxed)
        );
        let size = [1, 3, 10, 25][(worker + done.operations) % 4];
        let claimed = queue::claim(&client, "q", &name, size).await;
        done.operations += 1;
        if claimed.is_empty() {
            continue;
        }
        let reports: Vec<_> = claimed
            .iter()
            .map(|c| {
                (if fails(work, c) {
                    Outcome::Failed
                } else {
                    Outcome::Succeeded
                })
                .report(c.job_id, c.lease_id, &c.worker)
            })
            .collect();
        let codes = queue::report_many(&client, &json!(reports))
            .await
            .expect("a report");
        assert!(
            codes.iter().all(Option::is_none),
            "{}: a report was refused: {codes:?}",
            work.name
        );
        done.operations += 1;
        let over = claimed
            .iter()
            .filter(|c| !fails(work, c) || c.attempt == c.max_attempts)
            .count();
        ended.fetch_add(over, Ordering::Relaxed);
        done.claimed.extend(claimed);
    }
    done
}

async fn run(work: Work) {
    let _crowd = queue::crowd(WORKERS as u32 + 4).await;
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', max_attempts => 3, backoff_base => '0')")
        .await;
    // Tended at every claim, so that floors move all the time and not once a second.
    database
        .rewrite_function(
            "millrace.tend(int)",
            "interval := '1 second'",
            "interval := '0'",
        )
        .await;

    let ended = Arc::new(AtomicUsize::new(0));
    let producers = async {
        if work.meanwhile {
            join_all((0..4).map(|first| produce(&database, work, first, 4))).await;
        }
    };
    if !work.meanwhile {
        produce(&database, work, 0, 1).await;
    }
    let consumers =
        join_all((0..WORKERS).map(|worker| consume(&database, work, worker, Arc::clone(&ended))));
    let ((), done) = tokio::join!(producers, consumers);

    let operations: usize = done.iter().map(|d| d.operations).sum();
    let claimed: Vec<_> = done.into_iter().flat_map(|d| d.claimed).collect();
    check(&database, work, &claimed).await;
    println!(
        "claims of {WORKERS} workers, {}: {JOBS} jobs, {} claimed, {operations} operations",
        work.name,
        claimed.len()
    );
}

/// Every attempt was claimed once, and every job ended as its attempts say.
async fn check(database: &Database, work: Work, claimed: &[Claimed]) {
    let leases: BTreeSet<_> = claimed.iter().map(|c| c.lease_id).collect();
    assert_eq!(
        leases.len(),
        claimed.len(),
        "{}: a lease was given twice",
        work.name
    );
    let attempts: BTreeSet<_> = claimed.iter().map(|c| (c.job_id, c.attempt)).collect();
    assert_eq!(
        attempts.len(),
        claimed.len(),
        "{}: an attempt was claimed twice",
        work.name
    );

    let mut expected: BTreeMap<i64, (&str, i16)> = BTreeMap::new();
    for attempt in claimed {
        let number = i16::try_from(attempt.attempt).expect("a few attempts");
        let last = expected.entry(attempt.job_id).or_insert(("", 0));
        if number > last.1 {
            *last = (
                if fails(work, attempt) {
                    "dead"
                } else {
                    "succeeded"
                },
                number,
            );
        }
    }
    assert_eq!(expected.len(), JOBS, "{}: jobs were lost", work.name);
    let rows = database
        .all(
            "select job_id, outcome, attempts from millrace.finished union all select job_id, 'dead', attempts from millrace.dead_letter",
            &[],
        )
        .await;
    let ended: BTreeMap<i64, (String, i16)> = rows
        .iter()
        .map(|r| (r.get(0), (r.get(1), r.get(2))))
        .collect();
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|(id, (outcome, attempts))| (id, (outcome.to_owned(), attempts)))
        .collect();
    assert!(
        ended == expected,
        "{}: a job did not end as its attempts say",
        work.name
    );

    let started: i64 = database
        .one(
            "select count(*) from millrace.job_events where event_type = 'started'",
            &[],
        )
        .await
        .get(0);
    assert_eq!(
        started,
        i64::try_from(claimed.len()).expect("a count"),
        "{}: started events",
        work.name
    );
    let written: i64 = database
        .one("select count(*) from millrace.attempt", &[])
        .await
        .get(0);
    assert_eq!(written, started, "{}: attempts", work.name);
    database.assert_no_job_misplaced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lane_is_claimed_exactly_once() {
    run(Work {
        name: "one lane",
        types: 1,
        priorities: 1,
        failing: 0,
        meanwhile: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lanes_are_claimed_exactly_once() {
    run(Work {
        name: "twelve lanes",
        types: 4,
        priorities: 3,
        failing: 0,
        meanwhile: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failing_job_ends_succeeded_or_dead() {
    run(Work {
        name: "six lanes, 30 % failing",
        types: 3,
        priorities: 2,
        failing: 30,
        meanwhile: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_enqueued_meanwhile_are_not_lost_below_a_floor() {
    run(Work {
        name: "six lanes filled meanwhile",
        types: 3,
        priorities: 2,
        failing: 10,
        meanwhile: true,
    })
    .await;
}
