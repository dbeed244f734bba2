//! A job whose last attempt was lost comes alone to who asks for isolation.

use millrace_tests::database::Database;
use millrace_tests::queue::{self, Claimed, Outcome, Want, claim_one};
use serde_json::json;

use super::crowd::{enqueue, succeed};

async fn claim_isolated(database: &Database, max_jobs: i32) -> Vec<Claimed> {
    let want = Want {
        isolate: true,
        ..Want::any("q", "w", max_jobs)
    };
    queue::try_claim(database.client(), want)
        .await
        .expect("a claim")
}

/// `lost` jobs whose only attempt was lost and `fresh` ones that came after them, all due.
async fn lost_and_fresh(lost: usize, fresh: usize) -> Database {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', backoff_base => '0', max_attempts => 9)")
        .await;
    enqueue(&database, lost, |_| json!({ "queue": "q", "type": "t" })).await;
    let mut left = lost;
    while left > 0 {
        left -= queue::claim(database.client(), "q", "crashes", 1000)
            .await
            .len();
    }
    database.set_clock_ahead(120.0).await;
    database
        .run("select millrace.expire_leases(id, 100000) from millrace.queue where name = 'q'")
        .await;
    enqueue(&database, fresh, |_| json!({ "queue": "q", "type": "t" })).await;
    database
}

#[tokio::test]
async fn lost_jobs_come_one_by_one_and_the_others_together() {
    let database = lost_and_fresh(30, 30).await;
    let (mut alone, mut together, mut batches) = (0, 0, 0);
    loop {
        let claimed = claim_isolated(&database, 10).await;
        if claimed.is_empty() {
            break;
        }
        if claimed.iter().any(|c| c.resumed) {
            assert_eq!(claimed.len(), 1, "a lost job among others: {claimed:?}");
            assert_eq!(claimed[0].attempt, 2);
            alone += 1;
        } else {
            together += claimed.len();
            batches += 1;
        }
        succeed(database.client(), claimed).await;
    }
    assert_eq!((alone, together, batches), (30, 30, 3));
    database.assert_no_job_misplaced().await;
    println!("isolation: {alone} lost jobs came alone, {together} others in {batches} batches");
}

#[tokio::test]
async fn who_does_not_ask_for_isolation_gets_all_together_in_order() {
    let database = lost_and_fresh(5, 5).await;
    let claimed = queue::claim(database.client(), "q", "w", 100).await;
    let resumed: Vec<_> = claimed.iter().map(|c| c.resumed).collect();
    assert_eq!(resumed, [[true; 5], [false; 5]].concat());
}

#[tokio::test]
async fn ten_thousand_lost_jobs_do_not_keep_the_others_waiting() {
    let database = lost_and_fresh(10_000, 1000).await;
    let (mut claims, mut fresh, mut lost) = (0, 0, 0);
    while fresh < 1000 {
        let claimed = claim_isolated(&database, 50).await;
        claims += 1;
        if claimed[0].resumed {
            lost += 1
        } else {
            fresh += claimed.len()
        }
        succeed(database.client(), claimed).await;
        // Twenty batches at a chance of a half: more than this happens once in many millions.
        assert!(
            claims < 120,
            "only {fresh} of 1000 fresh jobs came in {claims} claims"
        );
    }
    assert!(
        lost > 0,
        "the lost ones, which are first, had no turn in {claims} claims"
    );
    println!(
        "isolation: behind 10,000 lost jobs, 1000 fresh ones came in {claims} claims of 50, {lost} lost ones between them"
    );
}

#[tokio::test]
async fn a_word_brings_a_lost_job_back_among_the_others_and_a_postponement_does_not() {
    let database = lost_and_fresh(1, 0).await;
    let lease = claim_isolated(&database, 10)
        .await
        .pop()
        .expect("the lost one");
    queue::report(database.client(), &lease, Outcome::Postponed(0.0))
        .await
        .expect("a report");
    enqueue(&database, 5, |_| json!({ "queue": "q", "type": "t" })).await;
    let mut seen = 0;
    let lease = loop {
        let claimed = claim_isolated(&database, 10).await;
        seen += claimed.len();
        if let [alone] = &claimed[..] {
            break alone.clone();
        }
        assert_eq!(claimed.len(), 5);
    };
    assert!(
        lease.resumed && lease.attempt == 2,
        "{lease:?}, {seen} seen"
    );
    queue::report(database.client(), &lease, Outcome::RetryAfter(0.0))
        .await
        .expect("a report");
    enqueue(&database, 5, |_| json!({ "queue": "q", "type": "t" })).await;
    let rest: Vec<_> = claim_isolated(&database, 10).await;
    assert!(rest.len() >= 6, "{rest:?}");
    let back = rest
        .iter()
        .find(|c| c.job_id == lease.job_id)
        .expect("the job that was lost");
    assert!(
        back.resumed,
        "what an earlier attempt has done is still not known"
    );
}

#[tokio::test]
async fn a_job_that_kills_its_workers_dies_by_itself_and_is_tried_alone_when_a_person_retries_it() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', backoff_base => '0', max_attempts => 3)")
        .await;
    let poison = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    enqueue(&database, 20, |_| json!({ "queue": "q", "type": "t" })).await;
    let (mut runs, mut harmed) = (0, 0);
    for round in 1..20 {
        database.set_clock_ahead(120.0 * f64::from(round)).await;
        loop {
            let claimed = claim_isolated(&database, 10).await;
            if claimed.is_empty() {
                break;
            }
            if claimed.iter().any(|c| c.job_id == poison) {
                runs += 1;
                harmed += claimed.len() - 1; // the run is over, for all of them
            } else {
                succeed(database.client(), claimed).await;
            }
        }
    }
    assert_eq!(
        (runs, harmed),
        (3, 9),
        "it took its neighbours of the first run with it, once"
    );
    assert_eq!(
        queue::state(database.client(), poison).await.as_deref(),
        Some("dead")
    );
    let dead: i64 = database
        .one("select count(*) from millrace.dead_letter", &[])
        .await
        .get(0);
    assert_eq!(dead, 1);

    database
        .client()
        .execute("select millrace.retry($1)", &[&poison])
        .await
        .expect("a retry");
    enqueue(&database, 20, |_| json!({ "queue": "q", "type": "t" })).await;
    for _ in 0..40 {
        let claimed = claim_isolated(&database, 10).await;
        if claimed.iter().any(|c| c.job_id == poison) {
            assert_eq!((claimed.len(), claimed[0].resumed), (1, true));
            return;
        }
    }
    panic!("the job that was retried has not come");
}

/// Claims in isolation until `job` comes; answers how many came with it.
async fn until_claimed(database: &Database, job: i64) -> usize {
    for _ in 0..40 {
        let claimed = claim_isolated(database, 10).await;
        if claimed.iter().any(|c| c.job_id == job) {
            return claimed.len();
        }
    }
    panic!("job {job} has not come");
}

#[tokio::test]
async fn a_lost_job_that_is_cancelled_and_retried_is_still_tried_alone() {
    for runs in [false, true] {
        let database = lost_and_fresh(1, 0).await;
        let sql = "select job_id from millrace.ready";
        let lost: i64 = database.one(sql, &[]).await.get(0);
        if runs {
            assert_eq!(claim_isolated(&database, 10).await.len(), 1);
        }
        for call in ["cancel", "retry"] {
            let sql = format!("select millrace.{call}($1)");
            database.one(&sql, &[&lost]).await;
        }
        enqueue(&database, 20, |_| json!({ "queue": "q", "type": "t" })).await;
        assert_eq!(until_claimed(&database, lost).await, 1, "running: {runs}");
    }
}

#[tokio::test]
async fn the_replay_of_a_job_that_died_of_its_workers_is_tried_alone() {
    for key in [None, Some("k")] {
        let database = Database::fresh().await;
        database
            .run("select millrace.configure_queue('q', max_attempts => 1)")
            .await;
        let job = json!({ "queue": "q", "type": "t", "concurrency_key": key });
        queue::enqueue(database.client(), job).await;
        claim_one(database.client(), "q", "crashes").await;
        database.set_clock_ahead(120.0).await;
        database
            .run("select millrace.expire_leases(id) from millrace.queue where name = 'q'")
            .await;
        let sql = "select millrace.replay(id) from millrace.dead_letter";
        let replay: i64 = database.one(sql, &[]).await.get(0);
        enqueue(&database, 20, |_| json!({ "queue": "q", "type": "t" })).await;
        assert_eq!(until_claimed(&database, replay).await, 1, "key {key:?}");
        database.assert_no_job_misplaced().await;
    }
}

#[tokio::test]
async fn a_job_cancelled_while_it_ran_says_so_when_it_runs_again() {
    let database = Database::fresh().await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    claim_one(database.client(), "q", "w").await;
    for call in ["cancel", "retry"] {
        database
            .client()
            .execute(&format!("select millrace.{call}($1)"), &[&job])
            .await
            .expect(call);
    }
    assert!(claim_one(database.client(), "q", "w").await.resumed);
}

/// Lost jobs of a key that has no token left, in front of others.
#[tokio::test]
async fn lost_jobs_of_an_exhausted_key_make_room_for_the_others() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', backoff_base => '0', key_rate_limit => 20, key_rate_interval => '1 day')")
        .await;
    enqueue(
        &database,
        20,
        |_| json!({ "queue": "q", "type": "t", "limit_key": "busy" }),
    )
    .await;
    assert_eq!(
        queue::claim(database.client(), "q", "crashes", 100)
            .await
            .len(),
        20
    );
    database.set_clock_ahead(120.0).await;
    enqueue(&database, 5, |_| json!({ "queue": "q", "type": "t" })).await;
    let claimed = claim_isolated(&database, 10).await;
    assert_eq!(
        claimed.iter().map(|c| c.resumed).collect::<Vec<_>>(),
        [false; 5]
    );
    assert_eq!(claim_isolated(&database, 10).await, []);
    database.set_clock_ahead(260_000.0).await;
    let (mut alone, mut claims) = (0, 0);
    while alone < 20 && claims < 100 {
        let claimed = claim_isolated(&database, 10).await;
        claims += 1;
        if claimed.first().is_some_and(|c| c.resumed && c.job_id <= 20) {
            assert_eq!(claimed.len(), 1);
            alone += 1;
        }
        succeed(database.client(), claimed).await;
    }
    println!(
        "isolation: 20 lost jobs of one key came alone in {claims} claims, once it had tokens"
    );
    assert_eq!(alone, 20, "lost jobs came within {claims} claims");
    database.assert_no_job_misplaced().await;
}
