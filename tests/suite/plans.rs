//! Plan guards: how many pages the hot statements touch at 100,000 jobs, and again with 100,000 dead entries that no vacuum
//! may remove. They bound buffers, never time.

use millrace_tests::database::Database;
use millrace_tests::deadline::PATIENCE;
use millrace_tests::queue::{self, Outcome};
use serde_json::{Value, json};
use std::time::Instant;
use tokio_postgres::Client;

const JOBS: i64 = 100_000;

/// Enqueues jobs of one lane, a thousand a call.
async fn fill(database: &Database, jobs: i64) {
    database
        .run(&format!(
            "select count(e.job_id) from generate_series(1, {jobs} / 1000) as batch
              cross join lateral millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', 'q', 'type', 't', 'payload', jsonb_build_object('n', n, 'batch', batch)))
                                                          from generate_series(1, 1000) as n)) as e;
             analyze millrace.ready; analyze millrace.job; analyze millrace.lease;"
        ))
        .await;
}

/// Runs `sql` and returns the pages it touched.
pub async fn buffers(client: &Client, sql: &str) -> i64 {
    let row = client
        .query_one(
            &format!("explain (analyze, buffers, timing off, format json) {sql}"),
            &[],
        )
        .await
        .expect(sql);
    let plan: Value = row.get(0);
    let pages = |name: &str| plan[0]["Plan"][name].as_i64().expect("a count of pages");
    pages("Shared Hit Blocks") + pages("Shared Read Blocks")
}

/// The least of three runs: what a statement needs once its session has its plans and catalogue, and nobody tends.
pub async fn least(client: &Client, sql: &str) -> i64 {
    let mut least = i64::MAX;
    for _ in 0..3 {
        least = least.min(buffers(client, sql).await);
    }
    least
}

fn claim(jobs: u32) -> String {
    format!("select * from millrace.claim('q', 'w', {jobs})")
}

/// Claims of 1 and of 100, as pages touched.
async fn claims(database: &Database) -> (i64, i64) {
    let client = database.client();
    (
        least(client, &claim(1)).await,
        least(client, &claim(100)).await,
    )
}

/// Finishes every job that is due, a thousand at a time, as fast as SQL can.
async fn drain(database: &Database) {
    loop {
        let ended: i64 = database
            .one(
                "with claimed as materialized (select * from millrace.claim('q', 'w', 1000))
                 select count(*) from millrace.report_many((
                   select coalesce(jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w', 'succeeded', true)), '[]')
                     from claimed c)) as r",
                &[],
            )
            .await
            .get(0);
        if ended == 0 {
            return;
        }
    }
}

/// Claims nothing until the lane's floor has passed every dead entry.
async fn floors_past(database: &Database, instant: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        database
            .one(
                "select count(*) from millrace.claim('q', 'w', 1, type => 'none')",
                &[],
            )
            .await;
        let sql = "select (select bool_and(floor > $1::text::timestamptz) from millrace.lane where type = 't')
                      and (select lease_floor > $1::text::timestamptz from millrace.queue_clock
                            where queue_id = (select id from millrace.queue where name = 'q'))";
        if database.one(sql, &[&instant]).await.get(0) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the floors have not passed the dead entries"
        );
    }
}

#[tokio::test]
async fn claims_touch_few_pages_with_100_000_ready_and_with_100_000_dead_entries() {
    let database = Database::fresh().await;
    fill(&database, JOBS).await;
    let ready = claims(&database).await;
    println!(
        "plans: with {JOBS} ready, a claim of 1 touches {} pages, of 100 {}",
        ready.0, ready.1
    );
    assert!(ready.0 < 200, "a claim of 1 touched {} pages", ready.0);
    assert!(ready.1 < 4000, "a claim of 100 touched {} pages", ready.1);

    // A session with an old snapshot: whatever is deleted from now on stays, for all that vacuum can do.
    let reader = database.connect().await;
    reader
        .batch_execute("begin isolation level repeatable read; select count(*) from millrace.job")
        .await
        .expect("a snapshot");
    database
        .run("update millrace.queue set lease = '1 day'")
        .await;
    drain(&database).await;
    let drained: String = database
        .one("select millrace.clock()::text", &[])
        .await
        .get(0);
    let left: i64 = database
        .one("select count(*) from millrace.ready", &[])
        .await
        .get(0);
    assert_eq!(left, 0);
    floors_past(&database, &drained).await;

    fill(&database, 2000).await;
    let dead = claims(&database).await;
    println!(
        "plans: with {JOBS} dead entries held by a snapshot, a claim of 1 touches {} pages, of 100 {}",
        dead.0, dead.1
    );
    assert!(
        dead.0 < 2 * ready.0 + 50,
        "a claim of 1 touched {} pages, {} without the dead entries",
        dead.0,
        ready.0
    );
    assert!(
        dead.1 < 2 * ready.1 + 50,
        "a claim of 100 touched {} pages, {} without the dead entries",
        dead.1,
        ready.1
    );

    let expire = least(
        database.client(),
        "select millrace.expire_leases((select id from millrace.queue where name = 'q'))",
    )
    .await;
    println!("plans: a scan for expired leases touches {expire} pages beside {JOBS} dead ones");
    assert!(
        expire < 100,
        "the scan for expired leases touched {expire} pages"
    );

    // The witness: with floors at the very beginning the same claim walks over all the dead.
    database.run("update millrace.lane set floor = '-infinity'; update millrace.queue_clock set tended_at = millrace.clock() + interval '0.5 seconds'").await;
    let floorless = buffers(database.client(), &claim(1)).await;
    println!("plans: without its floor a claim of 1 touches {floorless} pages");
    assert!(
        floorless > 5 * dead.0,
        "floors make no difference: {floorless} pages without, {} with",
        dead.0
    );
    reader
        .batch_execute("commit")
        .await
        .expect("the end of the snapshot");
}

#[tokio::test]
async fn reports_touch_few_pages_with_many_running() {
    let database = Database::fresh().await;
    fill(&database, 20_000).await;
    database
        .run("update millrace.queue set lease = '1 day'")
        .await;
    for _ in 0..19 {
        queue::claim(database.client(), "q", "w", 1000).await;
    }
    let leases = queue::claim(database.client(), "q", "w", 600).await;
    let mut parts = leases.chunks(100);
    let mut next = |jobs: usize| {
        let reports: Vec<_> = parts.next().expect("leases")[..jobs]
            .iter()
            .map(|l| Outcome::Succeeded.report(l.job_id, l.lease_id, "w"))
            .collect();
        format!("select * from millrace.report_many('{}')", json!(reports))
    };
    let (mut one, mut hundred) = (i64::MAX, i64::MAX);
    for _ in 0..3 {
        one = one.min(buffers(database.client(), &next(1)).await);
        hundred = hundred.min(buffers(database.client(), &next(100)).await);
    }
    println!("plans: with 19,600 running, a report of 1 touches {one} pages, of 100 {hundred}");
    assert!(one < 200, "a report of 1 touched {one} pages");
    assert!(hundred < 6000, "a report of 100 touched {hundred} pages");

    // Of the first hundred all but the first are still running.
    let named: Vec<_> = leases[1..100]
        .iter()
        .map(|l| json!({ "job_id": l.job_id, "lease_id": l.lease_id }))
        .collect();
    let extend = format!(
        "select * from millrace.extend_many('w', '{}')",
        json!(named)
    );
    let extended = least(database.client(), &extend).await;
    println!("plans: an extension of 99 leases touches {extended} pages");
    assert!(
        extended < 6000,
        "an extension of 99 touched {extended} pages"
    );
    let expire = least(
        database.client(),
        "select millrace.expire_leases((select id from millrace.queue where name = 'q'))",
    )
    .await;
    println!("plans: a scan for expired leases touches {expire} pages beside 19,000 running");
    assert!(
        expire < 100,
        "the scan for expired leases touched {expire} pages"
    );
}

/// The statements that the hot functions run use the indexes made for them, whatever the statistics say.
#[tokio::test]
async fn hot_statements_use_their_indexes() {
    let database = Database::fresh().await;
    fill(&database, 20_000).await;
    let used = async |index: &str| -> i64 {
        database.run("select pg_stat_force_next_flush()").await;
        let sql = "select coalesce(sum(idx_scan), 0)::bigint from pg_stat_user_indexes where schemaname = 'millrace' and indexrelname = $1";
        database.one(sql, &[&index]).await.get(0)
    };
    let scanned = async |table: &str| -> i64 {
        database.one("select seq_scan from pg_stat_user_tables where schemaname = 'millrace' and relname = $1", &[&table]).await.get(0)
    };
    let (lanes, expiry) = (used("ready_lane").await, used("lease_expiry").await);
    let before = (
        scanned("ready").await,
        scanned("lease").await,
        scanned("job").await,
    );
    for _ in 0..10 {
        for lease in queue::claim(database.client(), "q", "w", 100).await {
            queue::report(database.client(), &lease, Outcome::Succeeded)
                .await
                .expect("a report");
        }
    }
    database
        .run("select millrace.expire_leases(id) from millrace.queue")
        .await;
    assert!(
        used("ready_lane").await >= lanes + 10,
        "claims did not use ready_lane"
    );
    assert!(
        used("lease_expiry").await > expiry,
        "the scan for expired leases did not use lease_expiry"
    );
    assert_eq!(
        (
            scanned("ready").await,
            scanned("lease").await,
            scanned("job").await
        ),
        before,
        "a hot table was scanned"
    );
}
