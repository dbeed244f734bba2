//! A round: what it shares, whom it waits for, what ends it, and what it touches.

use std::time::Duration;

use millrace_tests::database::{Database, explain, refusal};
use serde_json::Value;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::{at_begin, count, create, history, next_run, round, round_at, shown};

/// A round on that connection; it may wait for nobody.
async fn round_of(client: &Client, max_jobs: i32) -> i32 {
    let sql = "select millrace.enqueue_due($1)";
    let answer = timeout(Duration::from_secs(20), client.query_one(sql, &[&max_jobs])).await;
    answer
        .expect("a round waits for nobody")
        .unwrap_or_else(|e| panic!("{}", explain(&e)))
        .get(0)
}

async fn create_many(database: &Database, schedules: usize, arguments: &str) {
    database
        .run(&format!(
            "select count(millrace.create_schedule('s' || n, {arguments})) from generate_series(1, {schedules}) as n"
        ))
        .await;
}

#[tokio::test]
async fn two_at_once_share_the_work_and_wait_for_nobody() {
    let database = at_begin().await;
    create_many(&database, 10, "'* * * * *', 'q', 't'").await;
    database.stop_clock_at("2031-03-05 12:01:00+00").await;
    let (one, other, owner) = (
        database.connect().await,
        database.connect().await,
        database.connect().await,
    );
    one.batch_execute("begin").await.expect("a transaction");
    assert_eq!(round_of(&one, 4).await, 4);
    owner
        .batch_execute("begin; select millrace.update_schedule('s10', priority => 7)")
        .await
        .expect("a change under way");
    assert_eq!(
        round_of(&other, 1000).await,
        5,
        "all but the four, and the one that is being changed"
    );
    one.batch_execute("rollback").await.expect("a rollback");
    owner.batch_execute("commit").await.expect("the change");
    assert_eq!(
        round_of(&other, 1000).await,
        5,
        "what was rolled back is due as before"
    );
    assert_eq!(round(&database).await, 0);
    assert_eq!(count(&database, "job").await, 10);
    assert_eq!(count(&database, "job where priority = 7").await, 1);
}

#[tokio::test]
async fn a_round_that_is_rolled_back_leaves_nothing_behind() {
    let database = at_begin().await;
    create_many(&database, 5, "'* * * * *', 'q', 't', overlap => 'queue'").await;
    database.stop_clock_at("2031-03-05 12:01:00+00").await;
    for level in ["read committed", "repeatable read", "serializable"] {
        database
            .run(&format!(
                "begin isolation level {level}; select millrace.enqueue_due(); rollback"
            ))
            .await;
        assert_eq!(
            (
                count(&database, "job").await,
                count(&database, "schedule_run").await
            ),
            (0, 0),
            "{level}"
        );
    }
    database
        .run("begin isolation level serializable; select millrace.enqueue_due(); commit")
        .await;
    assert_eq!(count(&database, "job").await, 5);
}

#[tokio::test]
async fn a_schedule_that_is_refused_does_not_keep_the_others() {
    let database = at_begin().await;
    create_many(&database, 6, "'* * * * *', 'q', 't' || n").await;
    // One whose lane the queue has no room for any more, one whose zone is gone from Postgres' data.
    database
        .run(
            "update millrace.schedule set type = 'new', overlap = 'skip' where slug = 's2';
             insert into millrace.lane (queue_id, type, priority) select q.id, 'x' || n, 1 from millrace.queue q, generate_series(7, 1000) n;
             update millrace.schedule set time_zone = 'Europe/Nowhere' where slug = 's4'",
        )
        .await;
    assert_eq!(round_at(&database, "2031-03-05 12:01:30+00").await, 4);
    assert_eq!(round(&database).await, 0);
    assert_eq!(
        history(&database, "s2").await,
        ["05 12:01:00..05 12:02:00 refused"]
    );
    assert_eq!(
        history(&database, "s4").await,
        ["05 12:01:00..05 13:01:30 refused"],
        "looked at again in an hour"
    );
    for (slug, reason) in [("s2", "more than 1000 combinations"), ("s4", "Nowhere")] {
        let error = shown(&database, slug).await["last_error"].to_string();
        assert!(error.contains(reason), "{slug}: {error}");
    }
    assert_eq!(
        next_run(&database, "s2").await.as_deref(),
        Some("2031-03-05 12:02:00")
    );

    // Healed, they go on, and the error is gone.
    database
        .run(
            "update millrace.schedule set type = 't1' where slug = 's2';
             update millrace.schedule set time_zone = 'Europe/Berlin' where slug = 's4'",
        )
        .await;
    assert_eq!(round_at(&database, "2031-03-05 12:02:00+00").await, 5);
    assert_eq!(
        round_at(&database, "2031-03-05 13:02:00+00").await,
        5,
        "all but s2, whose last job waits"
    );
    for slug in ["s2", "s4"] {
        assert_eq!(shown(&database, slug).await["last_error"], Value::Null);
    }
    database.assert_no_job_misplaced().await;
}

/// An error that may be gone in a moment undoes the round, so that no due time is lost to it.
#[tokio::test]
async fn an_error_that_passes_is_no_refusal() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', overlap => 'queue'").await;
    create(&database, "'u', '* * * * *', 'q', 't'").await;
    assert_eq!(round_at(&database, "2031-03-05 12:01:00+00").await, 2);
    let holder = database.connect().await;
    holder
        .batch_execute("begin; select from millrace.concurrency_slot for update")
        .await
        .expect("the slot of the schedule's key");
    database.stop_clock_at("2031-03-05 12:02:00+00").await;
    let sql = "set lock_timeout = '50ms'; select millrace.enqueue_due()";
    let error = database
        .client()
        .batch_execute(sql)
        .await
        .expect_err("a lock that is held");
    assert!(explain(&error).starts_with("55P03"), "{}", explain(&error));
    holder
        .batch_execute("rollback")
        .await
        .expect("the slot is free");
    assert_eq!(round(&database).await, 2);
    assert_eq!(
        history(&database, "s").await,
        ["05 12:01:00 enqueued", "05 12:02:00 enqueued"]
    );
}

#[tokio::test]
async fn a_clock_that_steps_back_makes_no_due_time_come_again() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', catch_up => 'all'").await;
    create(&database, "'p', '* * * * *', 'q', 't', catch_up => 'all'").await;
    assert_eq!(round_at(&database, "2031-03-05 12:10:00+00").await, 20);
    assert_eq!(round_at(&database, "2031-03-05 12:05:00+00").await, 0);
    assert_eq!(
        next_run(&database, "s").await.as_deref(),
        Some("2031-03-05 12:11:00")
    );
    // Its next time is counted from the clock as it is: what was dealt with is known by the history.
    database
        .run("select millrace.pause_schedule('p'); select millrace.resume_schedule('p')")
        .await;
    assert_eq!(
        next_run(&database, "p").await.as_deref(),
        Some("2031-03-05 12:06:00")
    );
    assert_eq!(round_at(&database, "2031-03-05 12:08:00+00").await, 0);
    assert_eq!(round_at(&database, "2031-03-05 12:11:00+00").await, 2);
    for slug in ["s", "p"] {
        let history = history(&database, slug).await;
        assert_eq!(history.len(), 11, "{slug}: {history:?}");
    }
    assert_eq!(count(&database, "job").await, 22);
}

#[tokio::test]
async fn what_a_row_of_history_stands_for_was_dealt_with_too() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', catch_up => 'none'").await;
    assert_eq!(round_at(&database, "2031-03-05 13:00:00+00").await, 3);
    let before = history(&database, "s").await;
    assert_eq!(before[0], "05 12:01:00..05 12:58:00 missed");
    database.stop_clock_at("2031-03-05 12:30:00+00").await;
    database
        .run("select millrace.pause_schedule('s'); select millrace.resume_schedule('s')")
        .await;
    assert_eq!(round_at(&database, "2031-03-05 12:32:30+00").await, 0);
    assert_eq!(history(&database, "s").await, before);
}

/// Those that make no job now are as many as fit into a round, and were due before the one that does.
#[tokio::test]
async fn those_that_skip_their_time_don_t_end_the_round() {
    let database = at_begin().await;
    create_many(&database, 600, "'* * * * *', 'q', 't', overlap => 'skip'").await;
    while round_at(&database, "2031-03-05 12:01:00+00").await > 0 {}
    create(&database, "'last', '* * * * *', 'q', 't'").await;
    assert_eq!(round_at(&database, "2031-03-05 12:02:00+00").await, 1);
    assert_eq!(history(&database, "last").await, ["05 12:02:00 enqueued"]);
    let due = count(
        &database,
        "schedule where next_run_at <= '2031-03-05 12:02:00+00'",
    );
    assert_eq!(due.await, 0);
}

#[tokio::test]
async fn a_long_backlog_leaves_the_others_their_turn() {
    let database = at_begin().await;
    create(
        &database,
        "'long', '* * * * * *', 'q', 't', catch_up => 'all'",
    )
    .await;
    create_many(&database, 3, "'0 * * * *', 'q', 't'").await;
    database.stop_clock_at("2031-03-12 13:00:00+00").await;
    let row = database.one("select millrace.enqueue_due(100)", &[]).await;
    assert_eq!(
        row.get::<_, i32>(0),
        28,
        "a quarter of the round, and one each of the others"
    );
    let row = database.one("select millrace.enqueue_due(100)", &[]).await;
    assert_eq!(row.get::<_, i32>(0), 100, "the round is its alone");
}

#[tokio::test]
async fn a_round_ends_at_8_mib_of_payloads() {
    let database = at_begin().await;
    create_many(
        &database,
        7,
        "'* * * * *', 'q', 't', jsonb_build_object('x', repeat('x', 2000000))",
    )
    .await;
    create(
        &database,
        "'z', '* * * * * *', 'q', 't', jsonb_build_object('x', repeat('x', 1000000)), catch_up => 'all'",
    )
    .await;
    database.stop_clock_at("2031-03-05 12:01:00+00").await;
    let mut jobs = Vec::new();
    while jobs.last() != Some(&0) {
        jobs.push(round(&database).await);
    }
    assert_eq!(jobs.iter().sum::<i32>(), 37, "{jobs:?}");
    assert!(jobs.iter().all(|jobs| *jobs <= 9), "{jobs:?}");
}

#[tokio::test]
async fn a_round_s_size_is_checked() {
    let database = at_begin().await;
    for size in ["0", "1001", "null"] {
        let sql = format!("select millrace.enqueue_due({size})");
        let error = database.client().query(&sql, &[]).await.expect_err(size);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_request".to_owned())
        );
    }
}

/// Pages that a round touches.
async fn pages(client: &Client) -> (i64, i64) {
    let sql =
        "explain (analyze, buffers, timing off, format json) select from millrace.enqueue_due()";
    let before = "select count(*) from millrace.job";
    let jobs: i64 = client.query_one(before, &[]).await.expect(before).get(0);
    let plan: Value = client.query_one(sql, &[]).await.expect("a plan").get(0);
    let made: i64 = client.query_one(before, &[]).await.expect(before).get(0);
    let plan = &plan[0]["Plan"];
    let pages = |name: &str| plan[name].as_i64().expect("a count of pages");
    (
        pages("Shared Hit Blocks") + pages("Shared Read Blocks"),
        made - jobs,
    )
}

#[tokio::test]
async fn a_round_touches_what_is_due_and_not_the_other_schedules() {
    let database = at_begin().await;
    create_many(
        &database,
        10,
        "'* * * * *', 'q', 't', jsonb_build_object('n', n)",
    )
    .await;
    database.stop_clock_at("2031-03-05 12:01:00+00").await;
    round(&database).await;
    database.stop_clock_at("2031-03-05 12:02:00+00").await;
    round(&database).await; // plans and catalogue
    database.stop_clock_at("2031-03-05 12:03:00+00").await;
    let few = pages(database.client()).await;
    // Without statistics: the plan must not need them.
    database
        .run("select count(millrace.create_schedule('daily' || n, '0 0 * * *', 'q', 't', jsonb_build_object('n', n))) from generate_series(1, 10000) as n")
        .await;
    // The lesser of two: the server may look at its catalogue anew once after so many rows.
    database.stop_clock_at("2031-03-05 12:04:00+00").await;
    let many = pages(database.client()).await;
    database.stop_clock_at("2031-03-05 12:05:00+00").await;
    let many = many.min(pages(database.client()).await);
    database.stop_clock_at("2031-03-05 12:05:30+00").await;
    let idle = pages(database.client()).await;
    println!(
        "schedules: a round of 10 due touches {} pages alone, {} among 10,000 more; with nothing due {}",
        few.0, many.0, idle.0
    );
    assert_eq!((few.1, many.1, idle.1), (10, 10, 0));
    assert!(many.0 < few.0 + 150, "{} pages became {}", few.0, many.0);
    assert!(idle.0 < 30, "{} pages for nothing", idle.0);
}
