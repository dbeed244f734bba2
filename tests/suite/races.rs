//! Two sessions at the same job at the same moment: one of them wins, the other is told so, and neither deadlocks.

use std::collections::BTreeMap;

use millrace_tests::database::{Database, explain, refusal};
use millrace_tests::queue::{self, Claimed, Outcome, claim_one};
use serde_json::json;
use tokio_postgres::{Client, Error};

const ROUNDS: usize = 150;

/// A word about one job.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    Report(Outcome),
    Cancel,
    Extend,
    Expire,
    Retry,
    Replay,
}

async fn say(client: &Client, word: Word, lease: &Claimed) -> Result<(), Error> {
    match word {
        Word::Report(outcome) => queue::report(client, lease, outcome).await,
        Word::Cancel => client
            .execute("select millrace.cancel($1)", &[&lease.job_id])
            .await
            .map(drop),
        Word::Extend => {
            let sql = "select millrace.extend_lease($1, $2, $3)";
            client
                .execute(sql, &[&lease.job_id, &lease.lease_id, &lease.worker])
                .await
                .map(drop)
        }
        Word::Expire => client
            .execute("select millrace.housekeep()", &[])
            .await
            .map(drop),
        Word::Retry => client
            .execute("select millrace.retry($1)", &[&lease.job_id])
            .await
            .map(drop),
        Word::Replay => {
            let sql = "select millrace.replay(id) from millrace.dead_letter where job_id = $1";
            client.query(sql, &[&lease.job_id]).await.map(drop)
        }
    }
}

/// Runs two words at once on job after job, each the holder of a concurrency key that another job waits for; counts how
/// each pair of answers came out. `dead` says that the jobs are dead before, and not running.
async fn race(one: Word, other: Word, dead: bool) -> BTreeMap<(String, String), usize> {
    let database = Database::fresh().await;
    let (left, right) = (database.connect().await, database.connect().await);
    let mut outcomes = BTreeMap::new();
    for round in 0..ROUNDS {
        let request = json!({ "queue": format!("q{round}"), "type": "t", "concurrency_key": "c" });
        queue::enqueue_many(database.client(), &json!([request, request]))
            .await
            .expect("an enqueue");
        let lease = claim_one(database.client(), &format!("q{round}"), "ann").await;
        if dead {
            queue::report(database.client(), &lease, Outcome::Permanent)
                .await
                .expect("a report");
        }
        let (first, second) = tokio::join!(say(&left, one, &lease), say(&right, other, &lease));
        *outcomes.entry((answer(first), answer(second))).or_insert(0) += 1;
    }
    database.assert_no_job_misplaced().await;
    assert_keys_are_held(&database).await;
    println!("race of {one:?} and {other:?}, {ROUNDS} rounds: {outcomes:?}");
    outcomes
}

/// `ok`, or the code of the refusal; anything else than a refusal, a deadlock for one, is the test's end.
fn answer(said: Result<(), Error>) -> String {
    let Err(error) = said else {
        return "ok".to_owned();
    };
    let (status, code) = refusal(&error);
    assert!(
        status.starts_with("PT"),
        "not a refusal: {}",
        explain(&error)
    );
    code
}

/// A key is held by a queued or running job of its own, and where it is not held nobody waits for it.
async fn assert_keys_are_held(database: &Database) {
    let wrong = database
        .all(
            "select s.key, h.job_id from millrace.concurrency_slot s cross join lateral unnest(s.holders) as h (job_id)
              where not exists (select from millrace.ready r where r.job_id = h.job_id)
                and not exists (select from millrace.lease e where e.job_id = h.job_id)
             union all
             select p.key, p.job_id from millrace.parked p
              where not exists (select from millrace.concurrency_slot s where s.queue_id = p.queue_id and s.key = p.key)",
            &[],
        )
        .await;
    assert!(wrong.is_empty(), "{} keys are stuck", wrong.len());
}

fn assert_one_wins(outcomes: &BTreeMap<(String, String), usize>) {
    for (first, second) in outcomes.keys() {
        assert!(
            (first == "ok") != (second == "ok"),
            "both or neither won: {first}, {second}"
        );
    }
}

#[tokio::test]
async fn of_two_reports_one_counts() {
    assert_one_wins(
        &race(
            Word::Report(Outcome::Succeeded),
            Word::Report(Outcome::Permanent),
            false,
        )
        .await,
    );
}

#[tokio::test]
async fn of_a_report_and_a_cancel_one_counts_and_neither_deadlocks() {
    assert_one_wins(&race(Word::Report(Outcome::Succeeded), Word::Cancel, false).await);
}

#[tokio::test]
async fn of_two_cancels_one_counts() {
    assert_one_wins(&race(Word::Cancel, Word::Cancel, false).await);
}

#[tokio::test]
async fn a_report_beside_an_extension_counts_or_is_told_to_try_again() {
    for (report, extension) in race(Word::Report(Outcome::Succeeded), Word::Extend, false)
        .await
        .keys()
    {
        assert!(
            matches!(
                (report.as_str(), extension.as_str()),
                ("ok", "ok" | "already_attempted" | "try_again") | ("try_again", "ok")
            ),
            "{report}, {extension}"
        );
    }
}

#[tokio::test]
async fn of_two_retries_one_counts() {
    assert_one_wins(&race(Word::Retry, Word::Retry, true).await);
}

#[tokio::test]
async fn of_a_retry_and_a_replay_one_counts() {
    for (retry, replay) in race(Word::Retry, Word::Replay, true).await.keys() {
        // A replay that sees no dead letter any more does nothing, and says so by answering no row.
        assert!(
            matches!(
                (retry.as_str(), replay.as_str()),
                ("ok", "ok" | "dead_letter_not_found") | ("not_retryable", "ok")
            ),
            "{retry}, {replay}"
        );
    }
}

#[tokio::test]
async fn of_two_replays_one_makes_a_job() {
    assert_one_wins(&race(Word::Replay, Word::Replay, true).await);
}

#[tokio::test]
async fn housekeeping_beside_a_cancel_and_beside_itself_does_no_harm() {
    race(Word::Expire, Word::Cancel, false).await;
    race(Word::Expire, Word::Expire, false).await;
}
