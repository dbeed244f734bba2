//! Retrying many dead letters: callers at once, batches that are bounded, and the typed function for SQL users.

use std::collections::{BTreeMap, HashSet};

use futures::future::join_all;
use millrace_tests::app::App;
use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, untrue_counts};
use serde_json::json;

use crate::dead_letters::{kill, listed, retry};

#[tokio::test]
async fn eight_callers_at_once_share_the_work() {
    let app = App::start().await;
    kill(&app.database, "q", "t", 2000).await;
    let caller = async || {
        let mut done = Vec::new();
        loop {
            let batch = retry(&app, json!({ "all": true, "limit": 37 })).await;
            for job in batch["jobs"].as_array().expect("jobs") {
                done.push((job["dlqId"].as_i64(), job["jobId"].to_string()));
            }
            if batch["more"] == false {
                return done;
            }
        }
    };
    let shares = join_all((0..8).map(|_| caller())).await;
    let sizes: Vec<_> = shares.iter().map(Vec::len).collect();
    println!("dead letters: eight callers retried {sizes:?}");
    let all: Vec<_> = shares.concat();
    let letters: HashSet<_> = all.iter().map(|(letter, _)| *letter).collect();
    let jobs: HashSet<_> = all.iter().map(|(_, job)| job.clone()).collect();
    assert_eq!(
        (all.len(), letters.len(), jobs.len()),
        (2000, 2000, 2000),
        "each once"
    );
    let row = app
        .database
        .one(
            "select count(*), count(replay_of), count(distinct replay_of) from millrace.job",
            &[],
        )
        .await;
    let counts: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(counts, (4000, 2000, 2000));
    assert_eq!(untrue_counts(app.database.client()).await, [""; 0]);
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let app = App::start().await;
    app.database
        .run("select count(millrace.enqueue('large', 't', jsonb_build_object('text', repeat('x', 1500000)), max_attempts => 1)) from generate_series(1, 14)")
        .await;
    while let Some(lease) = queue::claim(app.database.client(), "large", "w", 1)
        .await
        .pop()
    {
        queue::report(app.database.client(), &lease, queue::Outcome::Failed)
            .await
            .expect("a report");
    }
    let (items, pages) = listed(&app, "limit=100").await;
    assert_eq!(
        (items.len(), pages),
        (14, 3),
        "a page ends soon after 8 MiB"
    );
    let mut sizes = Vec::new();
    loop {
        let batch = retry(&app, json!({ "all": true })).await;
        sizes.push(batch["retried"].as_i64());
        if batch["more"] == false {
            break;
        }
    }
    assert_eq!(
        sizes,
        [Some(6), Some(6), Some(2)],
        "a batch ends soon after 8 MiB"
    );

    // One that fits, behind more than a batch looks at.
    kill(&app.database, "many", "common", 10_500).await;
    kill(&app.database, "many", "rare", 1).await;
    let mut request = json!({ "all": true, "type": "rare" });
    let batch = retry(&app, request.clone()).await;
    assert_eq!(
        (&batch["retried"], &batch["more"]),
        (&json!(0), &json!(true))
    );
    request["cursor"] = batch["nextCursor"].clone();
    let batch = retry(&app, request).await;
    assert_eq!(
        (&batch["retried"], &batch["more"]),
        (&json!(1), &json!(false))
    );
    let (items, pages) = listed(&app, "reason=unheard-of").await;
    assert_eq!((items.len(), pages), (0, 2));
}

#[tokio::test]
async fn replay_many_passes_over_what_is_not_to_be_replayed() {
    let database = Database::fresh().await;
    kill(&database, "q", "t", 4).await;
    let replay = async |ids: Vec<i64>| -> BTreeMap<i64, i64> {
        let rows = database
            .all(
                "select dead_letter_id, job_id from millrace.replay_many($1)",
                &[&ids],
            )
            .await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let other = database.connect().await;
    other
        .batch_execute("begin; select millrace.replay(2)")
        .await
        .expect("a replay that takes its time");
    let first = replay(vec![1, 2, 3, 99, 1]).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), [&1, &3]);
    other.batch_execute("rollback").await.expect("a rollback");
    let second = replay(vec![1, 2, 3, 4]).await;
    assert_eq!(second.keys().collect::<Vec<_>>(), [&2, &4]);
    assert!(replay(vec![]).await.is_empty());
    let too_many: Vec<i64> = (1..=1001).collect();
    let error = database
        .client()
        .query("select * from millrace.replay_many($1)", &[&too_many])
        .await
        .expect_err("too many");
    assert_eq!(refusal(&error).1, "invalid_request");
}
