//! A due time that comes while the schedule's last job has not ended.

use millrace_tests::database::refusal;
use millrace_tests::queue::{self, Outcome, claim, claim_one};

use super::{at_begin, create, history, round_at};

#[tokio::test]
async fn allow_makes_the_job_all_the_same() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't'").await;
    assert_eq!(round_at(&database, "2031-03-05 12:01:00+00").await, 1);
    assert_eq!(round_at(&database, "2031-03-05 12:02:00+00").await, 1);
    assert_eq!(claim(database.client(), "q", "w", 5).await.len(), 2);
}

#[tokio::test]
async fn skip_makes_none_while_the_last_is_queued_or_running() {
    let database = at_begin().await;
    database
        .run("select millrace.configure_queue('q', lease => '1 hour')")
        .await;
    create(&database, "'s', '* * * * *', 'q', 't', overlap => 'skip'").await;
    assert_eq!(
        round_at(&database, "2031-03-05 12:02:00+00").await,
        1,
        "of two due at once the first"
    );
    assert_eq!(
        round_at(&database, "2031-03-05 12:03:00+00").await,
        0,
        "queued"
    );
    let lease = claim_one(database.client(), "q", "w").await;
    assert_eq!(
        round_at(&database, "2031-03-05 12:05:00+00").await,
        0,
        "running"
    );
    let run = "select millrace.run_schedule('s')";
    let error = database
        .client()
        .query(run, &[])
        .await
        .expect_err("by hand neither");
    assert_eq!(
        refusal(&error),
        ("PT409".to_owned(), "schedule_running".to_owned())
    );
    queue::report(database.client(), &lease, Outcome::RetryAfter(0.0))
        .await
        .expect("a report");
    assert_eq!(
        round_at(&database, "2031-03-05 12:06:00+00").await,
        0,
        "it waits for its retry"
    );
    let lease = claim_one(database.client(), "q", "w").await;
    queue::report(database.client(), &lease, Outcome::Permanent)
        .await
        .expect("a report");
    assert_eq!(
        round_at(&database, "2031-03-05 12:07:00+00").await,
        1,
        "it is dead"
    );
    assert_eq!(
        history(&database, "s").await,
        [
            "05 12:01:00 enqueued",
            "05 12:02:00..05 12:03:00 skipped",
            "05 12:03:00..05 12:04:00 skipped",
            "05 12:04:00..05 12:06:00 skipped",
            "05 12:06:00..05 12:07:00 skipped",
            "05 12:07:00 enqueued"
        ]
    );
}

#[tokio::test]
async fn skip_counts_a_run_by_hand_too() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', overlap => 'skip'").await;
    database.run("select millrace.run_schedule('s')").await;
    assert_eq!(round_at(&database, "2031-03-05 12:01:00+00").await, 0);
    let lease = claim_one(database.client(), "q", "w").await;
    queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    assert_eq!(round_at(&database, "2031-03-05 12:02:00+00").await, 1);
}

#[tokio::test]
async fn queue_lets_the_next_wait_for_the_last() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', overlap => 'queue'").await;
    create(&database, "'u', '* * * * *', 'q', 't', overlap => 'queue'").await;
    assert_eq!(round_at(&database, "2031-03-05 12:02:00+00").await, 4);
    database.run("select millrace.run_schedule('s')").await;
    let mut done = Vec::new();
    loop {
        let leases = claim(database.client(), "q", "w", 10).await;
        if leases.is_empty() {
            break;
        }
        done.push(leases.len());
        for lease in &leases {
            queue::report(database.client(), lease, Outcome::Succeeded)
                .await
                .expect("a report");
        }
    }
    assert_eq!(
        done,
        [2, 2, 1],
        "one of each schedule at a time, and the run by hand last"
    );
    database.assert_no_job_misplaced().await;
}
