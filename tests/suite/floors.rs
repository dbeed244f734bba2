//! What keeps floors safe: no job, and no lease, may ever lie below one unseen. Each rule has a witness, a test that
//! breaks the rule in its own database and shows that a job is lost there.

use std::time::Instant;

use millrace_tests::database::Database;
use millrace_tests::deadline::PATIENCE;
use millrace_tests::queue::{self, Outcome, Want};
use serde_json::json;
use tokio_postgres::Client;

/// A database whose queue `q` is tended at every claim, so that floors move as early as they may.
async fn fresh() -> Database {
    let database = Database::fresh().await;
    database
        .rewrite_function(
            "millrace.tend(int)",
            "interval := '1 second'",
            "interval := '0'",
        )
        .await;
    // Queue and lane are there before any of the tests' transactions begins.
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    claim_and_finish(&database, 1).await;
    database
}

/// The rule as it was once designed: the note is a snapshot's xmax, not an id assigned after the clock was read.
async fn note_xmax(database: &Database) {
    let (from, to) = (
        "v_noted_xid := pg_current_xact_id()",
        "v_noted_xid := pg_snapshot_xmax(pg_current_snapshot())",
    );
    database
        .rewrite_function("millrace.tend(int)", from, to)
        .await;
}

/// Claims and finishes whatever is there; asserts how many that were.
async fn claim_and_finish(database: &Database, expected: usize) {
    assert_eq!(claimed(database).await, expected);
}

async fn claimed(database: &Database) -> usize {
    let claimed = queue::claim(database.client(), "q", "ann", 100).await;
    for lease in &claimed {
        queue::report(database.client(), lease, Outcome::Succeeded)
            .await
            .expect("a report");
    }
    claimed.len()
}

/// A few claims that find nothing: each tends the queue.
async fn tend(database: &Database) {
    for _ in 0..4 {
        claim_and_finish(database, 0).await;
    }
}

/// Tends until every floor is past `instant`. Writers of any database of the server hold floors up, so other tests do.
async fn tend_past(database: &Database, instant: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !floor_is_past(database, instant).await {
        assert!(Instant::now() < deadline, "no floor has passed {instant}");
        tend(database).await;
    }
}

/// A transaction that has enqueued a job and stays open.
async fn writer(database: &Database) -> Client {
    let client = database.connect().await;
    client.batch_execute("begin").await.expect("a transaction");
    queue::enqueue(&client, json!({ "queue": "q", "type": "t" })).await;
    client
}

async fn end(client: &Client, how: &str) {
    client
        .batch_execute(how)
        .await
        .expect("the end of a transaction");
}

async fn floor_is_past(database: &Database, instant: &str) -> bool {
    database
        .one(
            "select bool_and(floor > $1::text::timestamptz) from millrace.lane",
            &[&instant],
        )
        .await
        .get(0)
}

async fn now(database: &Database) -> String {
    database
        .one("select millrace.clock()::text", &[])
        .await
        .get(0)
}

#[tokio::test]
async fn floors_wait_for_every_open_writer() {
    let database = fresh().await;
    let begun = now(&database).await;
    let writers = [
        writer(&database).await,
        writer(&database).await,
        writer(&database).await,
    ];
    for (at, how) in [(1, "commit"), (2, "rollback"), (0, "commit")] {
        tend(&database).await;
        assert!(
            !floor_is_past(&database, &begun).await,
            "a floor passed an open writer"
        );
        end(&writers[at], how).await;
        claim_and_finish(&database, usize::from(how == "commit")).await;
    }
    tend_past(&database, &begun).await;
}

/// The witness: with the other note the floors pass an open writer, and what it commits is never claimed. That takes a
/// note taken before any later transaction of the server ends, so it is tried until it comes out that way.
#[tokio::test]
async fn a_note_of_a_snapshots_xmax_would_lose_jobs() {
    let database = fresh().await;
    note_xmax(&database).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let begun = now(&database).await;
        let open = writer(&database).await;
        tend(&database).await;
        let passed = floor_is_past(&database, &begun).await;
        end(&open, "commit").await;
        if passed {
            break;
        }
        claimed(&database).await;
        assert!(
            Instant::now() < deadline,
            "the broken rule never let a floor pass an open writer"
        );
    }
    tend(&database).await;
    let lost: i64 = database
        .one(
            "select count(*) from millrace.ready where run_at <= millrace.clock()",
            &[],
        )
        .await
        .get(0);
    assert_eq!(lost, 1, "a due job that no claim finds");
}

/// Many writers begin, enqueue, commit and roll back in a mixed order, with claims in between.
#[tokio::test]
async fn every_committed_job_is_claimed_however_writers_overlap() {
    let database = fresh().await;
    let mut open: Vec<Client> = Vec::new();
    let (mut committed, mut total, mut state) = (0, 0, 0x2545_f491_4f6c_dd1d_u64);
    for step in 0..300 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 8 {
            0..=2 if open.len() < 8 => open.push(writer(&database).await),
            3 | 4 if !open.is_empty() => {
                let client =
                    open.swap_remove(usize::try_from(state >> 32).expect("64 bits") % open.len());
                let how = if state & 0x100 == 0 {
                    "commit"
                } else {
                    "rollback"
                };
                end(&client, how).await;
                committed += usize::from(how == "commit");
            }
            _ => {
                assert_eq!(
                    claimed(&database).await,
                    committed,
                    "step {step}: a committed job was not found"
                );
                total += committed;
                committed = 0;
            }
        }
    }
    println!("floors: 300 steps of overlapping writers, {total} jobs claimed");
    assert!(total > 20);
}

#[tokio::test]
async fn a_long_reader_holds_no_floor_back() {
    let database = fresh().await;
    let reader = database.connect().await;
    end(
        &reader,
        "begin isolation level repeatable read; select count(*) from millrace.job",
    )
    .await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    claim_and_finish(&database, 1).await;
    let after = now(&database).await;
    tend_past(&database, &after).await;
    end(&reader, "commit").await;
}

/// A database whose clock is ahead by what the session says, so that moving it ends no transaction. It tends once a second
/// as it should: a claim that tends keeps others from it until it ends.
async fn clock_of_the_session() -> Database {
    let database = fresh().await;
    database
        .rewrite_function(
            "millrace.tend(int)",
            "interval := '0'",
            "interval := '1 second'",
        )
        .await;
    database
        .run(
            "create or replace function millrace.clock() returns timestamptz language sql volatile parallel safe
               as 'select clock_timestamp() + current_setting(''test.ahead'')::interval'",
        )
        .await;
    database
}

async fn ahead(client: &Client, seconds: u32) {
    client
        .batch_execute(&format!("set test.ahead = '{seconds} seconds'"))
        .await
        .expect("a setting");
}

/// A claim that is still open holds a lease that nobody sees, and meanwhile its end comes and goes. Returns whether the
/// lease is found, expired, and its job claimed again.
async fn late_lease_is_found(database: &Database, begin: u32) -> bool {
    let worker = database.connect().await;
    ahead(&worker, begin).await;
    ahead(database.client(), begin).await;
    queue::enqueue(
        &worker,
        json!({ "queue": "q", "type": "t", "lease_seconds": 1 }),
    )
    .await;
    let want = Want {
        job_type: Some("none"),
        ..Want::any("q", "ann", 1)
    };
    queue::try_claim(database.client(), want)
        .await
        .expect("a claim that only tends");
    end(&worker, "begin").await;
    assert_eq!(queue::claim(&worker, "q", "bob", 1).await.len(), 1);
    for later in [10, 20, 30] {
        ahead(database.client(), begin + later).await;
        claim_and_finish(database, 0).await;
    }
    end(&worker, "commit").await;
    for later in [40, 1000] {
        ahead(database.client(), begin + later).await; // at last past its retry's delay
        if claimed(database).await == 1 {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn the_floor_of_leases_waits_for_open_claims() {
    let database = clock_of_the_session().await;
    for round in 1..=20 {
        assert!(
            late_lease_is_found(&database, round * 2000).await,
            "round {round}"
        );
    }
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_note_of_a_snapshots_xmax_would_lose_leases() {
    let database = clock_of_the_session().await;
    database
        .rewrite_function("millrace.sweep_floors(int)", "begin", "begin return;")
        .await; // it would heal this
    note_xmax(&database).await;
    let deadline = Instant::now() + PATIENCE;
    let mut begin = 2000;
    while late_lease_is_found(&database, begin).await {
        assert!(
            Instant::now() < deadline,
            "the broken rule never let a floor pass an open claim"
        );
        begin += 2000;
    }
    let lost: i64 = database
        .one(
            "select count(*) from millrace.lease where expires_at < millrace.clock()",
            &[],
        )
        .await
        .get(0);
    assert_eq!(lost, 1, "a lease that never expires");
}

#[tokio::test]
async fn a_clock_that_steps_back_hides_nothing_for_long() {
    let database = fresh().await;
    database.set_clock_ahead(3600.0).await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    let before = now(&database).await;
    claim_and_finish(&database, 1).await;
    tend_past(&database, &before).await;
    database.set_clock_ahead(0.0).await;

    // The lane is empty, and its floor is most of an hour ahead of everything that comes now.
    for round in 0..3 {
        queue::enqueue(
            database.client(),
            json!({ "queue": "q", "type": "t", "lease_seconds": 1 }),
        )
        .await;
        let found = claimed(&database).await + claimed(&database).await;
        assert_eq!(
            found, 1,
            "round {round}: a job enqueued after the step back"
        );
    }
    queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "t", "lease_seconds": 5, "max_attempts": 1 }),
    )
    .await;
    assert_eq!(
        queue::claim(database.client(), "q", "dies", 1).await.len(),
        1
    );
    database.set_clock_ahead(10.0).await;
    tend(&database).await;
    let dead: i64 = database
        .one("select count(*) from millrace.dead_letter", &[])
        .await
        .get(0);
    assert_eq!(dead, 1, "a lease taken after the step back expires");
}

/// What lies below a floor, however it came there, is found by the sweep within minutes.
#[tokio::test]
async fn the_sweep_heals_what_lies_below_a_floor() {
    let database = fresh().await;
    let begun = now(&database).await;
    tend_past(&database, &begun).await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    database
        .run("update millrace.ready set run_at = run_at - interval '1 hour'")
        .await;
    tend(&database).await;
    database.set_clock_ahead(301.0).await;
    assert_eq!(claimed(&database).await, 1);
}
