//! The load: clients that enqueue, claim and report as fast as they are answered, for a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace::cluster::{Cluster, Keep};
use millrace::database::{connect, ensure_functions_login, outbound_host};
use millrace::migrate::migrate;
use millrace::serve::Server;
use millrace_tests::app::{host, options};
use millrace_tests::channel_manifest::ChannelManifest;
use millrace_tests::database::scratch_folder;
use millrace_tests::keys::API_KEY;
use serde_json::{Value, json};

/// Which way the work goes in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Sql,
    Http,
}

impl Face {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sql => "SQL",
            Self::Http => "HTTP",
        }
    }
}

/// One measurement.
pub struct Work {
    pub face: Face,
    pub batch: usize,
    pub clients: usize,
    pub time: Duration,
}

/// What one measurement found. Latencies are those of single calls, in the order enqueue, claim, report.
pub struct Line {
    pub face: Face,
    pub batch: usize,
    pub jobs_per_second: f64,
    pub latencies: [Vec<Duration>; 3],
}

/// A durable server of our own and the application on it.
pub struct Stage {
    cluster: Cluster,
    server: Server,
    pub database_url: String,
    pub base: String,
    /// The project's own and the channel `instant`, whose jobs are done at once.
    _manifest: ChannelManifest,
}

impl Stage {
    pub async fn set(clients: usize) -> Result<Self> {
        eprintln!("==> starting Postgres and the application for {clients} clients");
        let cluster = Cluster::start(&scratch_folder().join("bench"), Keep::Durable).await?;
        connect(&cluster.url("postgres"))
            .await?
            .batch_execute("create database bench")
            .await?;
        let database_url = cluster.url("bench");
        migrate(&database_url).await?;
        let functions_url =
            ensure_functions_login(&database_url, "millrace_bench", "bench-password").await?;
        let database_host = outbound_host(&functions_url)?;
        let tick_key = "select millrace.create_api_key('bench', '{tick}')";
        let tick_key = connect(&database_url)
            .await?
            .query_one(tick_key, &[])
            .await?;
        let variables = [
            ("database_url", functions_url),
            ("database_host", database_host),
            ("collab_api_key", API_KEY.into()),
            ("tick_key", tick_key.get(0)),
            ("channels", "instant".into()),
        ];
        let variables = variables
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let manifest = ChannelManifest::new("instant", "instant", "");
        let server = host().await;
        let server = server.serve(options(manifest.path(), variables)).await?;
        let base = format!("http://{}", server.addr());
        Ok(Self {
            cluster,
            server,
            database_url,
            base,
            _manifest: manifest,
        })
    }

    /// Ends what was started and removes its folder.
    pub async fn strike(self) -> Result<()> {
        self.server.shutdown().await;
        self.cluster.stop()?;
        std::fs::remove_dir_all(scratch_folder()).context("removing the scratch folder")
    }
}

/// Runs the work and counts the jobs that went all the way.
pub async fn measure(stage: &Stage, work: &Work) -> Result<Line> {
    let queue = format!("bench-{}-{}", work.face.name(), work.batch);
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let clients = (0..work.clients).map(|number| {
        let (done, deadline) = (done.clone(), started + work.time);
        let client = Client {
            queue: format!("{queue}-{number}"),
            batch: work.batch,
            number,
        };
        let (face, database_url, base) =
            (work.face, stage.database_url.clone(), stage.base.clone());
        tokio::spawn(async move {
            let mut way = Way::open(face, &database_url, &base).await?;
            client.drive(&mut way, deadline, &done).await
        })
    });
    let mut latencies = [Vec::new(), Vec::new(), Vec::new()];
    for client in clients.collect::<Vec<_>>() {
        for (all, own) in latencies.iter_mut().zip(client.await??) {
            all.extend(own);
        }
    }
    let jobs_per_second = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    latencies.iter_mut().for_each(|l| l.sort_unstable());
    Ok(Line {
        face: work.face,
        batch: work.batch,
        jobs_per_second,
        latencies,
    })
}

/// The same three calls either way: the jsonb functions that the components call, or the routes that lead to them.
enum Way {
    Sql(tokio_postgres::Client, [tokio_postgres::Statement; 3]),
    Http(reqwest::Client, String),
}

const ROUTES: [&str; 3] = ["task.assign", "task.claim", "task.result"];
const FUNCTIONS: [&str; 3] = ["collab_assign", "collab_claim", "collab_result"];

impl Way {
    async fn open(face: Face, database_url: &str, base: &str) -> Result<Self> {
        if face == Face::Http {
            return Ok(Self::Http(
                reqwest::Client::new(),
                format!("{base}/api/collab"),
            ));
        }
        let client = connect(database_url).await?;
        let mut statements = Vec::new();
        for function in FUNCTIONS {
            statements.push(
                client
                    .prepare(&format!("select millrace_api.{function}($1)"))
                    .await?,
            );
        }
        let statements = statements
            .try_into()
            .map_err(|_| anyhow::anyhow!("three statements"))?;
        Ok(Self::Sql(client, statements))
    }

    async fn call(&mut self, step: usize, body: &Value) -> Result<Value> {
        match self {
            Self::Sql(client, statements) => {
                Ok(client.query_one(&statements[step], &[body]).await?.get(0))
            }
            Self::Http(client, base) => {
                let url = format!("{base}/{}", ROUTES[step]);
                let answer = client
                    .post(url)
                    .header("x-api-key", API_KEY)
                    .json(body)
                    .send()
                    .await?;
                Ok(answer.error_for_status()?.json().await?)
            }
        }
    }
}

/// One client with a queue of its own.
struct Client {
    queue: String,
    batch: usize,
    number: usize,
}

impl Client {
    async fn drive(
        &self,
        way: &mut Way,
        deadline: Instant,
        done: &AtomicU64,
    ) -> Result<[Vec<Duration>; 3]> {
        let mut latencies = [Vec::new(), Vec::new(), Vec::new()];
        let worker = format!("worker-{}", self.number);
        while Instant::now() < deadline {
            timed(&mut latencies[0], way.call(0, &self.assignment())).await?;
            let claim =
                json!({ "executorId": self.queue, "workerId": worker, "limit": self.batch });
            let claimed = timed(&mut latencies[1], way.call(1, &claim)).await?;
            let results: Vec<Value> = claimed["jobs"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|job| result(job, &worker))
                .collect();
            ensure!(
                results.len() == self.batch,
                "claimed {} of {}",
                results.len(),
                self.batch
            );
            timed(
                &mut latencies[2],
                way.call(2, &json!({ "results": results })),
            )
            .await?;
            done.fetch_add(self.batch as u64, Ordering::Relaxed);
        }
        Ok(latencies)
    }

    fn assignment(&self) -> Value {
        let task = json!({ "type": "bench.noop", "executorId": self.queue, "payload": { "padding": "x".repeat(150) } });
        json!({ "tasks": vec![task; self.batch] })
    }
}

fn result(job: &Value, worker: &str) -> Value {
    json!({ "jobId": job["id"], "type": "bench.noop", "ok": true, "workerId": worker, "leaseId": job["lease_id"] })
}

async fn timed(
    into: &mut Vec<Duration>,
    call: impl Future<Output = Result<Value>>,
) -> Result<Value> {
    let started = Instant::now();
    let answer = call.await?;
    into.push(started.elapsed());
    Ok(answer)
}
