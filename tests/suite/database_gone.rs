//! The database goes away and comes back: what clients are told meanwhile, that the functions recover by themselves,
//! and that no job is lost or done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millrace::cluster::{Cluster, Keep};
use millrace::database::ensure_functions_login;
use millrace::migrate::migrate;
use millrace_tests::api::{Answer, Api};
use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::program::{has_ended, send};
use millrace_tests::routes;
use millrace_tests::scratch::Scratch;
use millrace_tests::sse::{Stream, request};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How soon a client must hear that the database is gone.
const SOON: Duration = Duration::from_secs(10);

/// An application over a Postgres of its own. The fields go in this order.
struct Own {
    app: App,
    cluster: Cluster,
    _scratch: Scratch,
}

impl Own {
    async fn start() -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch.path().join("postgres"), Keep::Durable)
            .await
            .expect("a cluster");
        let owner_url = cluster.url("postgres");
        migrate(&owner_url).await.expect("the schema");
        let url = ensure_functions_login(&owner_url, "millrace_app", "of-this-cluster")
            .await
            .expect("a login");
        let database = Database::open(&owner_url).await.with_functions_url(&url);
        let app = App::serve(database, &[]).await;
        Self {
            app,
            cluster,
            _scratch: scratch,
        }
    }

    /// A new connection as the owner: the one that came with the application did not survive a restart.
    async fn database(&self) -> Database {
        Database::open(&self.cluster.url("postgres")).await
    }
}

/// A request to each route.
fn requests(api: &Api) -> [reqwest::RequestBuilder; 6] {
    let post = |path: &str, body: Value| api.request(Method::POST, path).json(&body);
    let id = "00000000-0000-4000-8000-000000000000";
    [
        post(
            "/api/collab/task.assign",
            json!({"type": "t", "executorId": "e"}),
        ),
        post(
            "/api/collab/task.claim",
            json!({"executorId": "none", "workerId": "w"}),
        ),
        post(
            "/api/collab/task.result",
            json!({"results": [{"jobId": id, "type": "t", "ok": true}]}),
        ),
        post(
            "/api/collab/workers/heartbeat",
            json!({"agentId": "a", "executorId": "e", "status": "idle"}),
        ),
        api.request(Method::GET, "/api/collab/workers/active"),
        api.bare(Method::GET, "/api/collab/health"),
    ]
}

fn assert_unavailable(answer: &Answer) {
    answer.assert_refused(503, "database_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_database_that_is_gone_is_a_503_and_the_functions_recover_by_themselves() {
    let mut own = Own::start().await;
    let api = own.app.api.clone();
    for request in requests(&api) {
        api.send(request).await.ok();
    }
    let id = api.assign_one("kept", "t").await;

    own.cluster.halt().expect("the server ends");
    for round in 0..2 {
        for request in requests(&api) {
            let start = Instant::now();
            assert_unavailable(&api.send(request).await);
            assert!(
                start.elapsed() < SOON,
                "round {round}: {:?}",
                start.elapsed()
            );
        }
    }

    own.cluster.restart().await.expect("the server is back");
    for request in requests(&api) {
        api.send(request).await.ok();
    }
    let job = api
        .claim_one("kept", "w")
        .await
        .expect("what was enqueued is kept");
    assert_eq!(job["id"], id);
}

/// A request to each route of tasks and jobs.
fn requests_of_tasks(api: &Api) -> Vec<reqwest::RequestBuilder> {
    let all = routes::all().into_iter();
    all.filter(|route| route.path.starts_with("/api/tasks") || route.path.starts_with("/api/jobs"))
        .map(|route| {
            route
                .request(api)
                .header("x-api-key", millrace_tests::keys::API_KEY)
        })
        .collect()
}

#[tokio::test]
async fn a_database_that_is_gone_makes_tasks_and_jobs_unavailable() {
    let mut own = Own::start().await;
    let api = own.app.api.clone();
    own.cluster.halt().expect("the server ends");
    let mut refused = 0;
    for request in requests_of_tasks(&api) {
        let answer = api.send(request).await;
        assert_eq!(answer.gateway_refusal(503), "Worker Service is unavailable");
        assert_eq!(answer.header("retry-after"), "1");
        refused += 1;
    }
    assert_eq!(refused, 13);
    own.cluster.restart().await.expect("the server is back");
    for request in requests_of_tasks(&api) {
        assert_ne!(api.send(request).await.status, 503);
    }
    println!("{refused} routes of tasks and jobs, each a 503 and then served again");
}

#[tokio::test]
async fn a_stream_ends_with_its_database_and_goes_on_where_it_was() {
    let mut own = Own::start().await;
    let api = own.app.api.clone();
    api.assign_one("q", "t").await;
    let mut stream = Stream::open(request(&api, "executorId=q", None)).await;
    api.assign_one("q", "t").await;
    assert_eq!(stream.event().await.expect("an event").0, "queued");
    let place = stream.place.clone();
    own.cluster.halt().expect("the server ends");
    assert_eq!(stream.event().await, None, "it ends");
    let refused = api
        .send(request(&api, "executorId=q", place.as_deref()))
        .await;
    assert_unavailable(&refused);

    own.cluster.restart().await.expect("the server is back");
    let id = api.assign_one("q", "t").await;
    let mut stream = Stream::open(request(&api, "executorId=q", place.as_deref())).await;
    let (_, event) = stream.event().await.expect("an event");
    assert_eq!(event["job_id"], id, "the next one");
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_not_handed_out() {
    let mut own = Own::start().await;
    let api = own.app.api.clone();
    let all_at_once = async || -> Vec<u16> {
        let mut calls = JoinSet::new();
        for _ in 0..12 {
            let api = api.clone();
            calls.spawn(async move { api.get("/api/collab/health").await.status });
        }
        calls.join_all().await
    };
    assert_eq!(all_at_once().await, [200; 12]);
    own.cluster.restart().await.expect("the server is back");
    assert_eq!(all_at_once().await, [200; 12], "right after the restart");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let (url, host) = (
        format!("postgres://u:p@{address}/d"),
        format!("postgres://{address}"),
    );
    let app = App::start_with(&[("database_url", &url), ("database_host", &host)]).await;
    let start = Instant::now();
    assert_unavailable(&app.api.get("/api/collab/health").await);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// What the workers count together.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    assigned: AtomicUsize,
    finished: AtomicUsize,
    unavailable: AtomicUsize,
    /// Reports whose first answer was lost, though it had counted.
    told_before: AtomicUsize,
}

/// One worker's way to the application: a 503 is tried again, as it asks for, and every other refusal is returned.
struct Worker {
    api: Api,
    name: String,
    tally: Arc<Tally>,
}

impl Worker {
    async fn call(&self, path: &str, body: Value) -> Answer {
        eventually(path, async || {
            let answer = self.api.post(path, &body).await;
            if answer.status == 503 {
                assert_unavailable(&answer);
                self.tally.unavailable.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Some(answer)
        })
        .await
    }

    /// Assigns, claims and reports until told to stop; returns the jobs that it was told are enqueued.
    async fn run(self) -> BTreeSet<String> {
        let mut assigned = BTreeSet::new();
        while !self.tally.stop.load(Ordering::Relaxed) {
            let key = format!("{}-{}", self.name, assigned.len());
            let task = json!({"type": "t", "executorId": "load", "idempotencyKey": key, "maxAttempts": 1000});
            let answer = self.call("/api/collab/task.assign", task).await.ok();
            assigned.insert(answer["jobId"].as_str().expect("an id").to_owned());
            self.tally.assigned.fetch_add(1, Ordering::Relaxed);
            self.work(2).await;
        }
        assigned
    }

    /// Claims up to `limit` jobs and finishes them; returns how many.
    async fn work(&self, limit: usize) -> usize {
        let claim = json!({"executorId": "load", "workerId": self.name, "leaseSeconds": 600, "limit": limit});
        let claimed = self.call("/api/collab/task.claim", claim).await.ok();
        let jobs = claimed["jobs"].as_array().expect("jobs");
        for job in jobs {
            let word = json!({"jobId": job["id"], "type": "t", "ok": true, "leaseId": job["lease_id"], "workerId": self.name});
            let answer = self.call("/api/collab/task.result", word).await;
            if answer.status == 200 {
                self.tally.finished.fetch_add(1, Ordering::Relaxed);
            } else {
                answer.assert_refused(409, "already_attempted");
                self.tally.told_before.fetch_add(1, Ordering::Relaxed);
            }
        }
        jobs.len()
    }
}

/// Kills the server as a crash would, and waits until all of its processes are gone.
async fn kill(database: &Database) {
    let sql = "select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)::int \
               union all select pid from pg_stat_activity where pid <> pg_backend_pid()";
    let pids: Vec<i32> = database
        .all(sql, &[])
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(
        send("KILL", pids[0].unsigned_abs()),
        "the postmaster is killed"
    );
    for pid in pids {
        eventually("the server's processes end", async || {
            has_ended(pid.unsigned_abs()).then_some(())
        })
        .await;
    }
}

/// Waits until the workers have finished `more` jobs.
async fn progress(tally: &Tally, more: usize) {
    let goal = tally.finished.load(Ordering::Relaxed) + more;
    eventually("the workers go on", async || {
        (tally.finished.load(Ordering::Relaxed) >= goal).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_two_restarts_and_a_crash_lose_no_job_and_double_none() {
    const WORKERS: usize = 8;
    const STRETCH: usize = 150;
    let mut own = Own::start().await;
    let tally = Arc::new(Tally::default());
    own.app
        .database
        .run("select millrace.configure_queue('load', backoff_base => '0')")
        .await;
    let worker = |name: String| Worker {
        api: own.app.api.clone(),
        name,
        tally: tally.clone(),
    };
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        workers.spawn(worker(format!("worker-{number}")).run());
    }

    progress(&tally, STRETCH).await;
    for _ in 0..2 {
        own.cluster.restart().await.expect("a restart");
        progress(&tally, STRETCH).await;
    }
    kill(&own.database().await).await;
    own.cluster
        .restart()
        .await
        .expect("a start after the crash");
    progress(&tally, STRETCH).await;
    tally.stop.store(true, Ordering::Relaxed);
    let assigned: BTreeSet<String> = workers.join_all().await.into_iter().flatten().collect();

    // Claims whose answers were lost hold leases that nobody knows of: those run out.
    let database = own.database().await;
    let lost: i64 = database
        .one("select count(*) from millrace.lease", &[])
        .await
        .get(0);
    database.set_clock_ahead(601.0).await;
    let last = worker("the last".to_owned());
    eventually("the queue is empty", async || {
        last.work(100).await;
        database
            .all(
                "select from millrace.ready union all select from millrace.lease",
                &[],
            )
            .await
            .is_empty()
            .then_some(())
    })
    .await;

    let sql = "select millrace.job_uuid(j.id)::text, (select count(*) from millrace.finished f where f.job_id = j.id and f.outcome = 'succeeded'), \
               (select count(*) from millrace.attempt a where a.job_id = j.id and a.outcome = 'succeeded') from millrace.job j";
    let rows = database.all(sql, &[]).await;
    let known: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        known, assigned,
        "what clients were told is enqueued, and what is"
    );
    for row in &rows {
        assert_eq!(
            (row.get::<_, i64>(1), row.get::<_, i64>(2)),
            (1, 1),
            "job {}",
            row.get::<_, String>(0)
        );
    }
    database.assert_no_job_misplaced().await;
    println!(
        "{WORKERS} workers, 2 restarts, 1 crash: {} assigned, {} finished once, {} answers 503, {lost} claims and {} reports whose answers were lost",
        assigned.len(),
        rows.len(),
        tally.unavailable.load(Ordering::Relaxed),
        tally.told_before.load(Ordering::Relaxed),
    );
}
