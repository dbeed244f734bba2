//! `GET /api/collab/jobs/recent`: pages of the newest jobs, with every filter, while others arrive.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::queue;
use reqwest::Method;
use serde_json::{Value, json};

const RECENT: &str = "/api/collab/jobs/recent";

/// The pages of a list from its beginning to its end.
async fn pages(app: &App, query: &str) -> Vec<Vec<Value>> {
    pages_from(app, query, String::new()).await
}

/// The pages from a cursor on, given as a parameter.
async fn pages_from(app: &App, query: &str, mut cursor: String) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    loop {
        let page = app.api.get(&format!("{RECENT}?{query}{cursor}")).await.ok();
        let items = page["items"].as_array().expect("items").clone();
        assert_eq!(page["count"], items.len());
        pages.push(items);
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
        assert!(pages.len() < 5000, "{query} has no end");
    }
}

/// The ids of all pages.
async fn listed(app: &App, query: &str) -> Vec<String> {
    let pages = pages(app, query).await;
    pages.iter().flatten().map(id).collect()
}

fn id(job: &Value) -> String {
    job["id"].as_str().expect("an id").to_owned()
}

/// Ends up to a thousand jobs of the queue, every fifth for good as a failure.
async fn end_some(database: &Database, queue: &str) -> i64 {
    let sql = "with claimed as materialized (select * from millrace.claim($1, 'w', 1000))
               select count(*) from millrace.report_many((
                 select coalesce(jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w',
                                                              'succeeded', c.job_id % 5 <> 0, 'permanent', true)), '[]')
                   from claimed c)) as r";
    database.one(sql, &[&queue]).await.get(0)
}

/// Enqueues `jobs` jobs of the queue, in batches, whose jobs share their time; three types take turns.
async fn fill(database: &Database, queue: &str, jobs: i64, batch: i64) {
    let sql = "select count(e.job_id) from generate_series(1, $2::bigint / $3::bigint) as b
                cross join lateral millrace.enqueue_many((
                  select jsonb_agg(jsonb_build_object('queue', $1::text, 'type', 't' || (n + b) % 3, 'payload', jsonb_build_object('n', n)))
                    from generate_series(1, $3::bigint) as n)) as e";
    database.one(sql, &[&queue, &jobs, &batch]).await;
}

/// Thousands of jobs of three queues and three types, in every state, the states well mixed along the order of time.
async fn variety(database: &Database) {
    for round in 0..3 {
        for queue in ["q0", "q1", "q2"] {
            fill(database, queue, 320, 40).await;
            if round < 2 {
                end_some(database, queue).await;
            }
        }
        fill(database, "q1", 60, 20).await;
    }
    database
        .run(
            "select count(millrace.cancel(job_id)) from (select job_id from millrace.ready where job_id % 7 = 0) as r;
             select count(*) from millrace.claim('q2', 'w', 90, lease => '1 day')",
        )
        .await;
}

/// The ids of the jobs up to `newest` that fit a query, newest first, as the tables have them.
async fn truth(database: &Database, query: &str, newest: i64) -> Vec<String> {
    let wanted = |name: &str| {
        let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
        parameters
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
            .next()
    };
    let sql = "select millrace.job_uuid(j.id)::text from millrace.job j join millrace.queue q on q.id = j.queue_id
                where j.id <= $1 and ($2::text is null or q.name = $2) and ($3::text is null or j.type = $3)
                  and ($4::text is null or millrace.collab_status(millrace.job_state(j.id)) = $4)
                order by j.id desc";
    let (executor, kind, status) = (wanted("executorId"), wanted("type"), wanted("status"));
    let rows = database
        .all(sql, &[&newest, &executor, &kind, &status])
        .await;
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_job_is_seen_once_while_others_arrive() {
    let app = App::start().await;
    variety(&app.database).await;
    let newest: i64 = app
        .database
        .one("select max(id) from millrace.job", &[])
        .await
        .get(0);
    let done = Arc::new(AtomicBool::new(false));
    let arriving = {
        let (client, done) = (app.database.connect().await, done.clone());
        tokio::spawn(async move {
            let mut arrived = 0;
            while !done.load(Ordering::Relaxed) {
                let requests: Vec<_> = (0..5)
                    .map(|n| json!({ "queue": format!("q{}", n % 3), "type": format!("t{}", n % 3) }))
                    .collect();
                arrived += queue::enqueue_many(&client, &json!(requests))
                    .await
                    .expect("an enqueue")
                    .len();
            }
            arrived
        })
    };
    let (mut walks, mut seen) = (0, 0);
    for query in [
        "limit=100",
        "limit=20",
        "",
        "limit=7&executorId=q0",
        "limit=100&type=t1",
        "limit=20&executorId=q1&type=t2",
        "limit=100&status=queued",
        "limit=50&status=succeeded",
        "limit=19&status=failed",
        "limit=20&status=cancelled",
        "limit=1&status=running",
        "limit=33&status=succeeded&executorId=q1",
        "limit=10&status=failed&type=t0",
        "limit=5&status=cancelled&executorId=q2&type=t2",
        "limit=100&status=queued&type=t1",
        "limit=20&status=running&executorId=q2",
        "limit=20&status=running&executorId=q0",
        "limit=20&executorId=nobody",
        "limit=20&type=nothing",
    ] {
        let truth = truth(&app.database, query, newest).await;
        let listed = listed(&app, query).await;
        let distinct: HashSet<_> = listed.iter().collect();
        assert_eq!(distinct.len(), listed.len(), "{query} repeats a job");
        let known: HashSet<_> = truth.iter().collect();
        let before: Vec<_> = listed.iter().filter(|id| known.contains(id)).collect();
        assert_eq!(before, truth.iter().collect::<Vec<_>>(), "{query}");
        walks += 1;
        seen += truth.len();
    }
    done.store(true, Ordering::Relaxed);
    let arrived = arriving.await.expect("the arrivals");
    println!("recent: {walks} walks saw {seen} jobs, each once, while {arrived} arrived");
    assert!(newest > 2000 && arrived > 0 && seen > 4 * newest as usize);
}

#[tokio::test]
async fn jobs_of_one_instant_have_exact_cursors_that_are_times() {
    let app = App::start().await;
    fill(&app.database, "q", 250, 250).await;
    let all = listed(&app, "limit=10").await;
    assert_eq!(all.len(), 250);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 250);

    let first = app.api.get(&format!("{RECENT}?limit=10")).await.ok();
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    let same: bool = app
        .database
        .one(
            "select $1::text::timestamptz = $2::text::timestamptz",
            &[&cursor, &first["items"][9]["created_at"].as_str()],
        )
        .await
        .get(0);
    assert!(same, "{cursor} is the time of the last job on its page");
    assert!(cursor.ends_with('Z') && cursor.len() == "2030-01-01T00:00:00.Z".len() + 25);
    assert_eq!(
        first["items"][0],
        app.api
            .get(&format!("/api/collab/job/{}", all[0]))
            .await
            .ok()["job"],
        "a job is shown here as by itself"
    );
}

#[tokio::test]
async fn a_plain_time_gives_the_jobs_created_before_it() {
    let app = App::start().await;
    for second in 1..=9 {
        app.database
            .stop_clock_at(&format!("2030-01-01 00:00:0{second}Z"))
            .await;
        fill(&app.database, "q", 6, 3).await;
    }
    for (cursor, before) in [
        ("2030-01-01T00:00:05Z", 24),
        ("2030-01-01T00:00:05.000001Z", 30),
        ("2030-01-01T00:00:04.999999999Z", 24),
        ("2030-01-01T02:00:05%2B02:00", 24),
        ("2029-12-31T23:00:05-01:00", 24),
        ("2030-01-01T00:00:01Z", 0),
        ("2020-01-01T00:00:00Z", 0),
        ("2040-01-01T00:00:00Z", 54),
    ] {
        let pages = pages_from(&app, "limit=5", format!("&cursor={cursor}")).await;
        assert_eq!(pages.concat().len(), before, "{cursor}");
    }

    // Two that were enqueued at once, and the one with the lesser key has the later time.
    app.database
        .run("update millrace.job set enqueued_at = case id when 23 then timestamptz '2030-01-01 00:00:05Z' else '2030-01-01 00:00:04Z' end where id in (23, 25)")
        .await;
    let page = app
        .api
        .get(&format!("{RECENT}?cursor=2030-01-01T00:00:05Z"))
        .await
        .ok();
    let items = page["items"].as_array().expect("items");
    let late = items
        .iter()
        .filter(|job| job["created_at"] == "2030-01-01T00:00:05+00:00");
    assert_eq!(
        (items.len(), late.count()),
        (20, 0),
        "none of that very time"
    );
}

#[tokio::test]
async fn large_jobs_make_short_pages() {
    let app = App::start().await;
    app.database
        .run(
            "select count(millrace.enqueue('q', 't', jsonb_build_object('text', repeat('x', 1500000)))) from generate_series(1, 14)",
        )
        .await;
    let pages = pages(&app, "limit=100").await;
    let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [6, 6, 2], "a page ends soon after 8 MiB");
}

#[tokio::test]
async fn a_filter_that_finds_little_goes_on_page_by_page() {
    let app = App::start().await;
    let database = &app.database;
    fill(database, "mixed", 5, 5).await;
    while end_some(database, "mixed").await > 0 {}
    fill(database, "done", 12_000, 1000).await;
    while end_some(database, "done").await > 0 {}
    fill(database, "mixed", 12_000, 1000).await;
    // All jobs of the one queue are newer than these and still queued, and all succeeded ones newer than these are the other queue's.
    for query in [
        "limit=20&executorId=mixed&status=succeeded",
        "limit=20&executorId=mixed&status=failed",
    ] {
        let pages = pages(&app, query).await;
        let found: Vec<_> = pages.iter().flatten().map(id).collect();
        let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
        println!("recent: {query} comes in pages of {lengths:?}");
        assert_eq!(found, truth(database, query, i64::MAX).await, "{query}");
        assert!(pages.len() < 10, "{query}: {lengths:?}");
    }
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let app = App::start().await;
    app.api.assign_one("q", "t").await;
    let digits = |count| format!("cursor=2030-01-01T00:00:00.{}Z", "1".repeat(count));
    let (ten, more) = (digits(10), digits(26));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("status=dead", "status"),
        ("status=", "status"),
        ("status=queued&status=queued", "status"),
        ("executorId=", "executorId"),
        ("executorId=a%00", "executorId"),
        ("type=%20", "type"),
        ("cursor=null", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=2030-01-01", "cursor"),
        ("cursor=2030-01-01T00:00:00", "cursor"),
        ("cursor=2030-02-30T00:00:00Z", "cursor"),
        ("cursor=2030-01-01T25:00:00Z", "cursor"),
        ("cursor=2030-01-01T00:00:00+02:00", "cursor"),
        ("cursor=17", "cursor"),
        (
            "cursor=2030-01-01T00:00:00.0000009999999999999999999Z",
            "cursor",
        ),
        (&ten, "cursor"),
        (&more, "cursor"),
        ("offset=1", "offset"),
    ] {
        app.api
            .get(&format!("{RECENT}?{query}"))
            .await
            .assert_invalid(field);
    }
    for method in [Method::POST, Method::DELETE] {
        let answer = app.api.send(app.api.request(method, RECENT)).await;
        answer.assert_refused(405, "method_not_allowed");
    }
    assert_eq!(listed(&app, "").await.len(), 1);
}

#[tokio::test]
async fn a_job_at_the_border_of_a_time_hides_no_other() {
    let database = Database::fresh().await;
    let fill = |queue: &str, batches: usize, share: usize| {
        format!(
            "do $$ declare v_reports jsonb; begin
               for v_batch in 1 .. {batches} loop
                 perform millrace.enqueue_many((select jsonb_agg('{{\"queue\": \"{queue}\", \"type\": \"t\"}}'::jsonb) from generate_series(1, 600)));
                 select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w', 'succeeded', true)) filter (where c.job_id % {share} = 0)
                   into v_reports from millrace.claim('{queue}', 'w', 600) as c;
                 perform millrace.report_many(v_reports);
               end loop;
             end $$"
        )
    };
    database.run(&fill("a", 1, 2)).await;
    database.run(&fill("b", 12, 1)).await;
    // Of two enqueues that overlap, the one that began first may have the later time.
    let sql = "update millrace.job set enqueued_at = clock_timestamp() + interval '1 minute'
                where id = (select max(j.id) from millrace.job j where j.id % 2 = 0 and j.queue_id = (select id from millrace.queue where name = 'a'))";
    database.run(sql).await;
    let now: String = database
        .one("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", &[])
        .await
        .get(0);
    let (mut cursor, mut seen) = (now, Vec::new());
    for _ in 0..1000 {
        let request =
            json!({ "status": "succeeded", "executorId": "a", "limit": 20, "cursor": cursor });
        let page: serde_json::Value = database
            .one("select millrace_api.collab_recent($1)", &[&request])
            .await
            .get(0);
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|job| job["id"].to_string()));
        match page["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (299, 299));
}
