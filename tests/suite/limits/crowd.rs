//! A crowd of workers while the queue's clock runs ahead in steps, and what the tables say about when jobs started.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use millrace_tests::database::Database;
use millrace_tests::queue::{self, Claimed, Outcome};
use serde_json::json;
use tokio_postgres::Client;

/// Enqueues `count` jobs, a thousand a call, each as `request` makes it.
pub async fn enqueue(
    database: &Database,
    count: usize,
    request: impl Fn(usize) -> serde_json::Value,
) {
    for first in (0..count).step_by(1000) {
        let requests: Vec<_> = (first..count.min(first + 1000)).map(&request).collect();
        queue::enqueue_many(database.client(), &json!(requests))
            .await
            .expect("an enqueue");
    }
}

/// Moves the clock on by `step` seconds `steps` times, each time after every worker has claimed; meanwhile `workers` claim up to `size` jobs each and
/// do with them what `work` says. Returns how many claims that were.
pub async fn run(
    database: &Database,
    workers: usize,
    steps: u32,
    step: f64,
    size: i32,
    work: impl AsyncFn(&Client, Vec<Claimed>),
) -> usize {
    let _crowd = queue::crowd(u32::try_from(workers).expect("few") + 1).await;
    let over = AtomicBool::new(false);
    let claims: Vec<_> = (0..workers)
        .map(|_| std::sync::atomic::AtomicUsize::new(0))
        .collect();
    let clock = async {
        for n in 1..=steps {
            let before: Vec<_> = claims.iter().map(|c| c.load(Ordering::SeqCst)).collect();
            // Two rounds of everybody: a worker may have begun its claim before the step.
            while claims
                .iter()
                .zip(&before)
                .any(|(c, b)| c.load(Ordering::SeqCst) < b + 2)
            {
                tokio::task::yield_now().await;
            }
            database.set_clock_ahead(step * f64::from(n)).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let crowd = join_all(claims.iter().enumerate().map(async |(n, claims)| {
        let client = database.connect().await;
        while !over.load(Ordering::SeqCst) {
            let claimed = queue::claim(&client, "q", &format!("w{n}"), size).await;
            claims.fetch_add(1, Ordering::SeqCst);
            work(&client, claimed).await;
        }
    }));
    tokio::join!(clock, crowd);
    claims.iter().map(|c| c.load(Ordering::SeqCst)).sum()
}

/// Reports success for all.
pub async fn succeed(client: &Client, claimed: Vec<Claimed>) {
    let reports: Vec<_> = claimed
        .iter()
        .map(|c| Outcome::Succeeded.report(c.job_id, c.lease_id, &c.worker))
        .collect();
    queue::report_many(client, &json!(reports))
        .await
        .expect("reports");
}

/// How many jobs have started, and the most that did within any `seconds`, among those whose limit key is `key` (none: among all).
pub async fn starts(database: &Database, seconds: f64, key: Option<&str>) -> (i64, i64) {
    let row = database
        .one(
            "with start as (
               select e.created_at as at from millrace.job_events e join millrace.job j on j.id = e.job_id
                where e.event_type = 'started' and ($2::text is null or j.limit_key = $2))
             select (select count(*) from start),
                    coalesce(max(s.n), 0) from (select count(*) over (order by at range between current row and make_interval(secs => $1) following) as n
                                               from start) as s",
            // the end of a window is not in it
            &[&(seconds - 0.000_001), &key],
        )
        .await;
    (row.get(0), row.get(1))
}
