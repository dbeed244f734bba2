//! Queue settings, pausing, limits on what runs at once, and concurrency keys.

use futures::future::join_all;
use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Outcome, claim_one};
use serde_json::json;

const WORKERS: usize = 12;

#[tokio::test]
async fn a_paused_queue_takes_in_and_gives_none_out() {
    let database = Database::fresh().await;
    database
        .run("select millrace.enqueue('q', 't'); select millrace.enqueue('q', 't')")
        .await;
    let running = claim_one(database.client(), "q", "w").await;
    database.run("select millrace.pause('q'); select millrace.pause('q'); select millrace.enqueue('q', 't')").await;
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await, []);
    queue::report(database.client(), &running, Outcome::Succeeded)
        .await
        .expect("what runs goes on");
    database
        .run("select millrace.resume('q'); select millrace.resume('q')")
        .await;
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await.len(), 2);

    database
        .run("select millrace.pause('made by its pause')")
        .await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "made by its pause", "type": "t" }),
    )
    .await;
    assert_eq!(
        queue::claim(database.client(), "made by its pause", "w", 1).await,
        []
    );
    assert_eq!(
        queue::claim(database.client(), "never heard of", "w", 1).await,
        [],
        "a queue that does not exist has nothing to give"
    );
}

#[tokio::test]
async fn leases_of_a_paused_queue_still_expire() {
    let database = Database::fresh().await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    claim_one(database.client(), "q", "w").await;
    database.run("select millrace.pause('q')").await;
    database.set_clock_ahead(120.0).await;
    assert_eq!(queue::claim(database.client(), "q", "w", 1).await, []);
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("queued")
    );
}

#[tokio::test]
async fn settings_out_of_range_are_refused_and_change_nothing() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', max_attempts => 4, concurrency_limit => 2)")
        .await;
    let all = "select string_agg(q::text, '' order by q.id) from millrace.queue q";
    let before: String = database.one(all, &[]).await.get(0);
    let wrong = [
        "'q', max_attempts => 0",
        "'q', max_attempts => 1001",
        "'q', backoff => 'random'",
        "'q', backoff_base => '-1 second'",
        "'q', backoff_cap => '366 days'",
        "'q', lease => '0.9 seconds'",
        "'q', lease => '1 day 1 second'",
        "'q', concurrency_limit => -1",
        "'q', max_attempts => 5, lease => '2 days'",
        "''",
        "'  '",
        "null",
        "repeat('x', 201)",
    ];
    for arguments in wrong {
        let error = database
            .client()
            .batch_execute(&format!("select millrace.configure_queue({arguments})"))
            .await
            .expect_err(arguments);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_request".to_owned()),
            "{arguments}"
        );
    }
    let after: String = database.one(all, &[]).await.get(0);
    assert_eq!(after, before);
    database
        .run("select millrace.configure_queue('q', concurrency_limit => 0)")
        .await;
    let limit: Option<i32> = database
        .one(
            "select concurrency_limit from millrace.queue where name = 'q'",
            &[],
        )
        .await
        .get(0);
    assert_eq!(limit, None, "0 lifts the limit");
    println!("queues: {} settings refused", wrong.len());
}

/// One worker of a crowd: claims and reports until all jobs have ended; returns the most that it saw running at once.
async fn work(database: &Database, worker: usize, jobs: i64) -> i64 {
    let client = database.connect().await;
    let mut most = 0;
    loop {
        let claimed = queue::claim(
            &client,
            "q",
            &format!("w{worker}"),
            1 + i32::try_from(worker % 4).expect("few"),
        )
        .await;
        let row = client
            .query_one("select (select count(*) from millrace.lease), (select count(*) from millrace.finished)", &[])
            .await
            .expect("counts");
        most = most.max(row.get::<_, i64>(0));
        for lease in &claimed {
            queue::report(&client, lease, Outcome::Succeeded)
                .await
                .expect("a report");
        }
        if claimed.is_empty() && row.get::<_, i64>(1) == jobs {
            return most;
        }
    }
}

#[tokio::test]
async fn never_more_run_at_once_than_the_queues_limit() {
    let _crowd = queue::crowd(WORKERS as u32).await;
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', concurrency_limit => 5)")
        .await;
    let jobs: Vec<_> = (0..400)
        .map(|n| json!({ "queue": "q", "type": "t", "priority": n % 3 }))
        .collect();
    queue::enqueue_many(database.client(), &json!(jobs))
        .await
        .expect("an enqueue");
    let most = join_all((0..WORKERS).map(|worker| work(&database, worker, 400)))
        .await
        .into_iter()
        .max();
    assert!(
        most.is_some_and(|most| most <= 5),
        "{most:?} were running at once"
    );
    database.assert_no_job_misplaced().await;
    println!(
        "queues: 400 jobs by {WORKERS} workers under a limit of 5, at most {} seen running",
        most.unwrap_or(0)
    );
}

#[tokio::test]
async fn a_limit_counts_what_runs_and_frees_what_ended() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', concurrency_limit => 2, max_attempts => 1)")
        .await;
    let jobs: Vec<_> = (0..6)
        .map(|_| json!({ "queue": "q", "type": "t" }))
        .collect();
    queue::enqueue_many(database.client(), &json!(jobs))
        .await
        .expect("an enqueue");
    let first = queue::claim(database.client(), "q", "w", 10).await;
    assert_eq!(first.len(), 2);
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await, []);
    queue::report(database.client(), &first[0], Outcome::Failed)
        .await
        .expect("a report");
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await.len(), 1);
    database.set_clock_ahead(120.0).await;
    assert_eq!(
        queue::claim(database.client(), "q", "w", 10).await.len(),
        2,
        "expired leases free their places"
    );
    database
        .run("select millrace.configure_queue('q', concurrency_limit => 1)")
        .await;
    assert_eq!(
        queue::claim(database.client(), "q", "w", 10).await,
        [],
        "a lower limit lets running ones run"
    );
}

#[tokio::test]
async fn of_a_concurrency_key_one_runs_at_a_time_the_oldest_first() {
    let _crowd = queue::crowd(WORKERS as u32).await;
    let database = Database::fresh().await;
    let request = |n: usize| json!({ "queue": "q", "type": "t", "concurrency_key": format!("key {}", n % 6) });
    let before: Vec<_> = (0..200).map(request).collect();
    queue::enqueue_many(database.client(), &json!(before))
        .await
        .expect("an enqueue");
    let meanwhile = async {
        for n in 0..200 {
            queue::enqueue(database.client(), request(n / 2)).await;
        }
    };
    tokio::join!(
        meanwhile,
        join_all((0..WORKERS).map(|worker| work(&database, worker, 400)))
    );
    let overlapping: i64 = database
        .one(
            "select count(*) from (
               select a.job_id, a.started_at, lag(a.job_id) over w as job_before, lag(a.finished_at) over w as ended_before
                 from millrace.attempt a join millrace.job j on j.id = a.job_id window w as (partition by j.concurrency_key order by a.started_at, a.job_id)) as run
              where run.started_at < run.ended_before or run.job_id < run.job_before",
            &[],
        )
        .await
        .get(0);
    assert_eq!(
        overlapping, 0,
        "jobs of one key ran at once, or out of order"
    );
    let left: i64 = database
        .one("select count(*) from millrace.concurrency_slot", &[])
        .await
        .get(0);
    assert_eq!(left, 0, "every key is free in the end");
    database.assert_no_job_misplaced().await;
    println!("queues: 400 jobs of 6 concurrency keys by {WORKERS} workers, none of a key at once");
}

/// Three jobs of one key: the first holds it, the others are parked behind it.
async fn three_of_a_key(database: &Database) -> [i64; 3] {
    let request = json!({ "queue": "q", "type": "t", "concurrency_key": "c", "max_attempts": 2 });
    let jobs = queue::enqueue_many(database.client(), &json!([request, request, request]))
        .await
        .expect("an enqueue");
    [jobs[0].0, jobs[1].0, jobs[2].0]
}

async fn assert_claimable(database: &Database, job: Option<i64>, why: &str) {
    let claimed: Vec<_> = queue::claim(database.client(), "q", "w", 10)
        .await
        .iter()
        .map(|c| c.job_id)
        .collect();
    assert_eq!(claimed, job.into_iter().collect::<Vec<_>>(), "{why}");
}

#[tokio::test]
async fn a_key_passes_on_when_its_holder_ends_and_not_before() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', backoff_base => '0')")
        .await;
    let [first, second, third] = three_of_a_key(&database).await;
    let lease = claim_one(database.client(), "q", "w").await;
    assert_eq!(lease.job_id, first);
    assert_claimable(&database, None, "one at a time").await;
    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("a report");
    let lease = claim_one(database.client(), "q", "w").await;
    assert_eq!(
        (lease.job_id, lease.attempt),
        (first, 2),
        "a retry keeps the key"
    );
    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("a report");
    assert_claimable(&database, Some(second), "death passes the key on").await;
    database.set_clock_ahead(120.0).await;
    assert_claimable(
        &database,
        Some(second),
        "an expired lease that is retried keeps it",
    )
    .await;
    database.set_clock_ahead(240.0).await;
    assert_claimable(
        &database,
        Some(third),
        "an expired lease that ends in death passes it on",
    )
    .await;

    database
        .client()
        .execute("select millrace.retry($1)", &[&first])
        .await
        .expect("a retry of the dead");
    assert_claimable(&database, None, "the one that came back waits for its turn").await;
    database
        .client()
        .execute("select millrace.cancel($1)", &[&third])
        .await
        .expect("a cancel of the running");
    assert_claimable(&database, Some(first), "a cancelled holder passes it on").await;
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn cancelling_works_wherever_in_a_keys_line_a_job_stands() {
    for cancelled in 0..3 {
        let database = Database::fresh().await;
        let mut jobs = three_of_a_key(&database).await.to_vec();
        let out = jobs.remove(cancelled);
        database
            .client()
            .execute("select millrace.cancel($1)", &[&out])
            .await
            .expect("a cancel");
        for job in jobs {
            let lease = claim_one(database.client(), "q", "w").await;
            assert_eq!(lease.job_id, job, "after the cancel of number {cancelled}");
            queue::report(database.client(), &lease, Outcome::Succeeded)
                .await
                .expect("a report");
        }
        let left: i64 = database
            .one("select count(*) from millrace.concurrency_slot", &[])
            .await
            .get(0);
        assert_eq!(left, 0);
        database.assert_no_job_misplaced().await;
    }
}

#[tokio::test]
async fn a_parked_job_keeps_its_own_due_time_and_keys_are_per_queue() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    let later = json!({ "queue": "q", "type": "t", "concurrency_key": "c", "delay_seconds": 300 });
    let jobs = queue::enqueue_many(
        database.client(),
        &json!([{ "queue": "q", "type": "t", "concurrency_key": "c" }, later]),
    )
    .await
    .expect("an enqueue");
    queue::enqueue(
        database.client(),
        json!({ "queue": "other", "type": "t", "concurrency_key": "c" }),
    )
    .await;
    claim_one(database.client(), "other", "w").await;
    let lease = claim_one(database.client(), "q", "w").await;
    queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    database.stop_clock_at("2030-01-07 12:04:59+00").await;
    assert_claimable(&database, None, "not due yet").await;
    database.stop_clock_at("2030-01-07 12:05:00+00").await;
    assert_claimable(&database, Some(jobs[1].0), "due").await;
}

#[tokio::test]
async fn a_heartbeat_is_seen_for_twenty_seconds_and_extends_no_lease() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    database.run("select millrace.enqueue('q', 't')").await;
    claim_one(database.client(), "q", "ann").await;
    database.run("select millrace.heartbeat('ann', 'q', 'idle'); select millrace.heartbeat('ann', 'q', 'busy', 1, 4, '1.0')").await;
    let active = async || -> Vec<String> {
        let sql = "select (w ->> 'agent_id') || ' ' || (w ->> 'status') from jsonb_array_elements(millrace_api.collab_workers_active('{}') -> 'items') as w";
        database
            .all(sql, &[])
            .await
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    assert_eq!(
        active().await,
        ["ann busy"],
        "one row a worker, the last word of it"
    );
    database.stop_clock_at("2030-01-07 12:00:20+00").await;
    assert_eq!(active().await, [""; 0]);
    database.stop_clock_at("2030-01-07 12:00:59+00").await;
    database
        .run("select millrace.heartbeat('ann', 'q', 'busy')")
        .await;
    database.stop_clock_at("2030-01-07 12:01:00+00").await;
    let expired: i32 = database
        .one(
            "select (millrace.housekeep() ->> 'leases_expired')::int",
            &[],
        )
        .await
        .get(0);
    assert_eq!(expired, 1);
}
