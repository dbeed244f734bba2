//! Plan guards: what a claim touches where many jobs of an exhausted key, or many lost ones, lie in front.

use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::queue;
use serde_json::json;

use super::crowd::enqueue;
use crate::plans::{buffers, least};

const JOBS: usize = 100_000;

#[tokio::test]
async fn an_exhausted_key_in_front_is_moved_away_in_bounded_steps() {
    let database = Database::fresh().await;
    database.run("select millrace.configure_queue('q', key_rate_limit => 1, key_rate_interval => '1 hour')").await;
    enqueue(
        &database,
        JOBS,
        |_| json!({ "queue": "q", "type": "t", "limit_key": "busy" }),
    )
    .await;
    let other = queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "t", "limit_key": "other" }),
    )
    .await;
    database
        .run("analyze millrace.ready; analyze millrace.job")
        .await;
    assert_eq!(
        queue::claim(database.client(), "q", "w", 1).await.len(),
        1,
        "the busy key's one token"
    );
    let (mut claims, mut most) = (0, 0);
    loop {
        claims += 1;
        assert!(
            claims < 60,
            "the other key's job has not been reached in {claims} claims"
        );
        most = most.max(
            buffers(
                database.client(),
                "select * from millrace.claim('q', 'w', 10)",
            )
            .await,
        );
        let found: bool = database
            .one(
                "select exists (select from millrace.lease where job_id = $1)",
                &[&other],
            )
            .await
            .get(0);
        if found {
            break;
        }
    }
    // Floors move once every transaction that wrote meanwhile has ended, those of other tests on this server too.
    let after = eventually("a claim passes over those in line", async || {
        let sql = "select * from millrace.claim('q', 'w', 10)";
        let pages = least(database.client(), sql).await;
        (pages < 300).then_some(pages)
    })
    .await;
    println!(
        "limits: {JOBS} jobs of an exhausted key in front: the other key's job after {claims} claims of at most {most} pages; then a claim touches {after}"
    );
    assert!(most < 200_000, "a claim touched {most} pages");
}

#[tokio::test]
async fn lost_jobs_in_front_cost_a_claim_nothing() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', backoff_base => '0', max_attempts => 9)")
        .await;
    enqueue(&database, JOBS, |_| json!({ "queue": "q", "type": "t" })).await;
    // As millrace.expire_leases leaves them; it would take minutes to lose so many one thousand at a time.
    database
        .run("insert into millrace.lane (queue_id, type, priority, alone) select queue_id, type, priority, true from millrace.lane where type = 't';
              update millrace.ready set attempts = 1, resumed = true, lane_id = (select id from millrace.lane where alone)")
        .await;
    enqueue(&database, 100, |_| json!({ "queue": "q", "type": "t" })).await;
    database.run("vacuum analyze millrace.ready").await;
    let mut touched = Vec::new();
    for isolate in [true, false] {
        touched.push(
            least(
                database.client(),
                &format!("select * from millrace.claim('q', 'w', 10, isolate => {isolate})"),
            )
            .await,
        );
    }
    println!(
        "limits: {JOBS} lost jobs in front: a claim of 10 in isolation touches {} pages, one without {}",
        touched[0], touched[1]
    );
    assert!(
        touched[0] < 500,
        "a claim in isolation touched {} pages",
        touched[0]
    );
    assert!(touched[1] < 1000, "a claim touched {} pages", touched[1]);
}
