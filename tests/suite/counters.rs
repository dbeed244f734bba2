//! Counters: true at every instant whoever works at the queue, cheap to read at any size, and exact at the bounds of
//! the histograms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use millrace_tests::database::{Database, explain};
use millrace_tests::queue::{
    self, Outcome, claim, claim_one, crowd, transactions_beside_folds, untrue_counts,
};
use serde_json::json;
use tokio_postgres::Client;

const WORKERS: usize = 12;
const ROUNDS: usize = 60;

/// One worker's round: something of everything that moves jobs. Refusals are part of it, since others are at the same jobs.
async fn round(client: &Client, worker: &str, number: usize) {
    let queue = format!("q{}", number % 3);
    let requests: Vec<_> = (0..5)
        .map(|n| match n {
            0 => json!({ "queue": queue, "type": "t", "concurrency_key": format!("c{}", number % 7) }),
            _ => json!({ "queue": queue, "type": "t", "max_attempts": 2 }),
        })
        .collect();
    queue::enqueue_many(client, &json!(requests))
        .await
        .expect("an enqueue");
    for (place, lease) in claim(client, &queue, worker, 4).await.iter().enumerate() {
        let outcome = [
            Outcome::Succeeded,
            Outcome::Permanent,
            Outcome::RetryAfter(0.0),
            Outcome::Succeeded,
        ][place];
        // Another worker may have cancelled it.
        _ = queue::report(client, lease, outcome).await;
    }
    let words = [
        "select millrace.cancel(job_id) from (select job_id from millrace.ready order by random() limit 1) r",
        "select millrace.cancel(job_id) from (select job_id from millrace.lease order by random() limit 1) r",
        "select millrace.retry(job_id) from (select job_id from millrace.finished where outcome = 'cancelled' order by random() limit 1) f",
        "select millrace.retry(job_id) from (select job_id from millrace.dead_letter where retried_at is null order by random() limit 1) d",
        "select millrace.replay(id) from (select id from millrace.dead_letter where retried_at is null order by random() limit 1) d",
        "select millrace.fold(id, '0') from millrace.queue order by id",
    ];
    if let Err(error) = client.query(words[number % words.len()], &[]).await {
        let status = error.as_db_error().map(|e| e.code().code().to_owned());
        assert!(
            status.is_some_and(|status| status.starts_with("PT") || status == "40P01"),
            "{}",
            explain(&error)
        );
    }
}

#[tokio::test]
async fn counts_are_true_at_every_instant() {
    let database = Database::fresh().await;
    let _permit = crowd(WORKERS as u32 + 1).await;
    let done = Arc::new(AtomicBool::new(false));
    let looks = Arc::new(AtomicUsize::new(0));
    let onlooker = {
        let (client, done, looks) = (database.connect().await, done.clone(), looks.clone());
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(untrue_counts(&client).await, Vec::<String>::new());
                looks.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let workers = (0..WORKERS).map(|number| {
        let database = &database;
        async move {
            let client = database.connect().await;
            let worker = format!("w{number}");
            for n in 0..ROUNDS {
                round(&client, &worker, number + n).await;
            }
        }
    });
    join_all(workers).await;
    done.store(true, Ordering::Relaxed);
    onlooker.await.expect("the counts are true all along");
    assert_eq!(untrue_counts(database.client()).await, Vec::<String>::new());
    database.assert_no_job_misplaced().await;
    let jobs: i64 = database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0);
    println!(
        "counters: {WORKERS} workers, {jobs} jobs, true at {} looks",
        looks.load(Ordering::Relaxed)
    );
}

#[tokio::test]
async fn what_a_rolled_back_transaction_did_is_not_counted() {
    let database = Database::fresh().await;
    let request = "select millrace.enqueue('q', 't')";
    database.run(request).await;
    database
        .run(&format!(
            "begin; {request}; select count(*) from millrace.claim('q', 'w', 10); rollback"
        ))
        .await;
    // A claim folds before it adds to the tally itself: what it adds after must be found again by the next fold.
    for _ in 0..3 {
        database.run(request).await;
        claim_one(database.client(), "q", "w").await;
        database
            .run("select millrace.fold(id, '0') from millrace.queue")
            .await;
        assert_eq!(untrue_counts(database.client()).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn jobs_that_are_forgotten_are_no_longer_counted() {
    let database = Database::fresh().await;
    database.stop_clock_at("2031-03-05 12:00:00+00").await;
    database.run("select millrace.make_partitions()").await;
    for outcome in [Outcome::Succeeded, Outcome::Permanent, Outcome::Permanent] {
        queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
        let lease = claim_one(database.client(), "q", "w").await;
        queue::report(database.client(), &lease, outcome)
            .await
            .expect("a report");
    }
    database
        .run("select millrace.replay(min(id)) from millrace.dead_letter; select millrace.cancel(max(id)) from millrace.job")
        .await;
    database.stop_clock_at("2031-09-05 12:00:00+00").await;
    database.run("select millrace.housekeep()").await;
    let left: i64 = database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0);
    assert_eq!(left, 0, "everything is older than retention keeps");
    assert_eq!(untrue_counts(database.client()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_database_restored_into_another_cluster_counts_on() {
    let database = Database::fresh().await;
    database
        .run("select millrace.enqueue('q', 't'); select count(*) from millrace.claim('q', 'w')")
        .await;
    // As after a restore: the snapshot that was remembered is of transactions that this cluster has yet to see.
    database
        .run("update millrace.queue_clock set folded = '900000000:900000000:', folded_by = '900000000'")
        .await;
    database.run("select millrace.enqueue('q', 't')").await;
    assert_eq!(untrue_counts(database.client()).await, Vec::<String>::new());
    database
        .run("select millrace.fold(id, '0') from millrace.queue; select millrace.enqueue('q', 't')")
        .await;
    assert_eq!(untrue_counts(database.client()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_time_at_a_bound_is_within_it() {
    let database = Database::fresh().await;
    let sql = "select b.bound, i.place, millrace.histogram_bucket(b.bound), millrace.histogram_bucket(b.bound + 0.000001)
                 from unnest(millrace.histogram_bounds()) with ordinality as b (bound, place)
                cross join lateral (select b.place::smallint) as i (place)";
    let rows = database.all(sql, &[]).await;
    for row in &rows {
        let (bound, place): (f64, i16) = (row.get(0), row.get(1));
        assert_eq!(
            (row.get::<_, i16>(2), row.get::<_, i16>(3)),
            (place, place + 1),
            "{bound} s"
        );
    }
    let zero: i16 = database
        .one("select millrace.histogram_bucket(0)", &[])
        .await
        .get(0);
    assert_eq!((rows.len(), zero), (17, 1));
}

#[tokio::test]
async fn waits_and_runs_are_timed_by_the_database() {
    let database = Database::fresh().await;
    database.stop_clock_at("2031-03-05 12:00:00+00").await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    database.stop_clock_at("2031-03-05 12:00:10+00").await;
    let lease = claim_one(database.client(), "q", "w").await;
    database.stop_clock_at("2031-03-05 12:00:10.25+00").await;
    queue::report(database.client(), &lease, Outcome::RetryAfter(0.0))
        .await
        .expect("a report");
    let lease = claim_one(database.client(), "q", "w").await;
    database.stop_clock_at("2031-03-05 12:00:40.25+00").await;
    queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    let rows = database
        .all("select kind, n, seconds, (millrace.histogram_bounds())[bucket] from millrace.counts() where kind <> 'queued' order by 1, 2, 3 desc", &[])
        .await;
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {:?}",
                row.get::<_, String>(0),
                row.get::<_, i64>(1),
                row.get::<_, f64>(2),
                row.get::<_, Option<f64>>(3)
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "retry_scheduled 1 0.25 Some(0.25)",
            "started 1 10 Some(10.0)",
            "started 1 0 None", // a second attempt has waited for its backoff, which says nothing of the queue
            "succeeded 1 30 Some(30.0)",
        ]
    );
}

#[tokio::test]
async fn only_a_job_s_first_start_is_timed() {
    let database = Database::fresh().await;
    database.stop_clock_at("2031-03-05 12:00:00+00").await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    for outcome in [Outcome::Permanent, Outcome::Succeeded] {
        let lease = claim_one(database.client(), "q", "w").await;
        queue::report(database.client(), &lease, outcome)
            .await
            .expect("a report");
        if outcome == Outcome::Permanent {
            database.stop_clock_at("2031-03-12 12:00:00+00").await;
            database.run(&format!("select millrace.retry({job})")).await;
        }
    }
    let sql = "select sum(n)::bigint, sum(n) filter (where bucket > 0)::bigint, sum(seconds) from millrace.counts() where kind = 'started'";
    let row = database.one(sql, &[]).await;
    let counted: (i64, i64, f64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(counted, (2, 1, 0.0), "the week until the retry is no wait");
}

/// Buffers that reading all counters touches.
async fn pages(client: &Client) -> i64 {
    let sql = "explain (analyze, buffers, format json) select * from millrace.queue_counts()";
    let plan: serde_json::Value = client.query_one(sql, &[]).await.expect("a plan").get(0);
    let plan = &plan[0]["Plan"];
    plan["Shared Hit Blocks"].as_i64().unwrap_or(0)
        + plan["Shared Read Blocks"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn reading_them_costs_the_same_at_any_size_and_with_an_old_snapshot_held() {
    let database = Database::fresh().await;
    database
        .run("select millrace.enqueue('q', 't'); select millrace.fold(id, '0') from millrace.queue")
        .await;
    pages(database.client()).await; // plans and catalogue, once
    let few = pages(database.client()).await;
    let holder = database.connect().await;
    holder
        .batch_execute("begin isolation level repeatable read; select count(*) from millrace.job")
        .await
        .expect("a snapshot that stays");
    for _ in 0..40 {
        database
            .run("do $$ begin
                    for i in 1..50 loop
                      perform millrace.enqueue_many((select jsonb_agg('{\"queue\": \"q\", \"type\": \"t\"}'::jsonb) from generate_series(1, 50)));
                      commit;
                    end loop;
                    perform millrace.fold(id, '0') from millrace.queue;
                  end $$")
            .await;
    }
    let many = pages(database.client()).await;
    println!(
        "counters: {few} pages for one job, {many} for 100,000 with 2,000 dead tallies and a snapshot held"
    );
    let ran = transactions_beside_folds(database.client()).await;
    assert!(
        many < few + 60 + 10 * ran,
        "{few} pages became {many}, beside {ran} transactions"
    );
    assert_eq!(untrue_counts(database.client()).await, Vec::<String>::new());
}
