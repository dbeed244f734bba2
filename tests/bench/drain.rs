//! What a drain gets done with a handler that does nothing: beside the bare claim and report in SQL, and beside the same drain with its handler
//! linked in, which says what the seam between components costs. The ways take turns over queues of the same jobs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millrace::database::{connect, ensure_functions_login, outbound_host};
use millrace::serve::Server;
use millrace_tests::app::{host, options};
use millrace_tests::keys::API_KEY;
use millrace_tests::scratch::Scratch;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::load::Stage;

/// How many calls are in flight, and so how many jobs a claim takes.
const CONCURRENCY: [usize; 2] = [10, 100];

/// Jobs of one measurement, and how often each is made.
const JOBS: i64 = 10_000;
const ROUNDS: usize = 3;

/// Which way the jobs go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Sql,
    Composed,
    Linked,
}

impl Way {
    const ALL: [Self; 3] = [Self::Sql, Self::Composed, Self::Linked];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sql => "claim and report in SQL",
            Self::Composed => "drain",
            Self::Linked => "drain, handler linked in",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::Composed => "composed",
            Self::Linked => "linked",
        }
    }
}

/// What one way came to: jobs a second in each of its rounds, in order.
pub struct Line {
    pub way: Way,
    pub concurrency: usize,
    pub jobs_per_second: Vec<f64>,
}

/// What a call of the handler takes across the seam and without it, in the least of several rounds.
pub struct Seam {
    pub across: Duration,
    pub within: Duration,
}

/// The drains, four channels of a manifest of their own.
struct Drains {
    server: Server,
    _folder: Scratch,
}

/// Measures every way at every concurrency, and the seam by itself.
pub async fn measure(stage: &Stage) -> Result<(Vec<Line>, Seam)> {
    let drains = Drains::serve(stage).await?;
    let client = connect(&stage.database_url).await?;
    let mut lines = Vec::new();
    for concurrency in CONCURRENCY {
        let mut rates = BTreeMap::<_, Vec<f64>>::new();
        for _ in 0..ROUNDS {
            for (place, way) in Way::ALL.into_iter().enumerate() {
                eprintln!("==> {} × {concurrency}", way.name());
                let queue = format!("{}-{concurrency}", way.word());
                fill(&client, &queue).await?;
                let time = match way {
                    Way::Sql => in_sql(&client, &queue, concurrency).await?,
                    Way::Composed | Way::Linked => drains.run(&queue).await?,
                };
                let rate = JOBS as f64 / time.as_secs_f64();
                rates.entry(place).or_default().push(rate);
            }
        }
        for (way, mut jobs_per_second) in Way::ALL.into_iter().zip(rates.into_values()) {
            jobs_per_second.sort_by(f64::total_cmp);
            lines.push(Line {
                way,
                concurrency,
                jobs_per_second,
            });
        }
    }
    let seam = drains.seam().await?;
    drains.server.shutdown().await;
    Ok((lines, seam))
}

async fn fill(client: &Client, queue: &str) -> Result<()> {
    let sql = "select count(*) from generate_series(1, $2::bigint / 1000) as n,
                 lateral millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', $1::text, 'type', 'bench.noop', 'payload',
                   jsonb_build_object('padding', repeat('x', 150), 'n', n * 1000 + i))) from generate_series(1, 1000) as i)) as e";
    let count: i64 = client.query_one(sql, &[&queue, &JOBS]).await?.get(0);
    ensure!(count == JOBS, "enqueued {count} of {JOBS}");
    client.batch_execute("vacuum analyze").await?;
    Ok(())
}

/// One worker that claims a batch, reports it, and so on: what is left of a drain without a drain.
async fn in_sql(client: &Client, queue: &str, limit: usize) -> Result<Duration> {
    let claim = client
        .prepare("select millrace_api.channel_claim($1)")
        .await?;
    let report = client
        .prepare("select millrace_api.channel_report($1)")
        .await?;
    let asked = json!({ "queue": queue, "workerId": "bench", "limit": limit, "leaseSeconds": 15, "detail": "instant" });
    let start = Instant::now();
    loop {
        let claimed: Value = client.query_one(&claim, &[&asked]).await?.get(0);
        let jobs = claimed["jobs"].as_array().cloned().unwrap_or_default();
        if jobs.is_empty() {
            return Ok(start.elapsed());
        }
        let done =
            |job: &Value| json!({ "id": job["id"], "leaseId": job["leaseId"], "outcome": "done" });
        let outcomes: Vec<_> = jobs.iter().map(done).collect();
        let told = json!({ "workerId": "bench", "outcomes": outcomes });
        client.query_one(&report, &[&told]).await?;
    }
}

impl Drains {
    async fn serve(stage: &Stage) -> Result<Self> {
        let folder = Scratch::new();
        std::fs::write(folder.path().join("spin.toml"), manifest())?;
        let url = ensure_functions_login(&stage.database_url, "millrace_drains", "bench-password");
        let url = url.await?;
        let host_of = outbound_host(&url)?;
        let variables = [
            ("database_url", url),
            ("database_host", host_of),
            ("collab_api_key", API_KEY.into()),
        ];
        let variables = variables
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let options = options(folder.path().join("spin.toml"), variables);
        let server = host().await.serve(options).await?;
        let drains = Self {
            server,
            _folder: folder,
        };
        for way in [Way::Composed, Way::Linked] {
            for concurrency in CONCURRENCY {
                drains.run(&format!("{}-{concurrency}", way.word())).await?; // instances and connections are made
            }
        }
        Ok(drains)
    }

    async fn seam(&self) -> Result<Seam> {
        let url = format!("http://{}/seam", self.server.addr());
        let mut least = [u64::MAX; 2];
        for _ in 0..20 {
            let text = reqwest::get(&url).await?.error_for_status()?.text().await?;
            for (least, word) in least.iter_mut().zip(text.split(' ')) {
                *least = word.parse::<u64>()?.min(*least);
            }
        }
        let [across, within] = least.map(Duration::from_nanos);
        Ok(Seam { across, within })
    }

    /// Runs a channel until a run finds nothing more.
    async fn run(&self, queue: &str) -> Result<Duration> {
        let url = format!("http://{}/channels/{queue}", self.server.addr());
        let client = reqwest::Client::new();
        let start = Instant::now();
        loop {
            let answer = client
                .post(&url)
                .header("x-api-key", API_KEY)
                .send()
                .await?;
            let summary: Value = answer.error_for_status()?.json().await?;
            if summary["more"] == false {
                return Ok(start.elapsed());
            }
        }
    }
}

fn manifest() -> String {
    let components = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/wasm32-wasip2/component"
    );
    let mut text = String::from(
        "spin_manifest_version = 2\n[application]\nname = \"drains\"\n[variables]\n\
         database_url = { required = true }\ndatabase_host = { required = true }\ncollab_api_key = { required = true }\n",
    );
    _ = write!(
        text,
        "[[trigger.http]]\nroute = \"/seam\"\ncomponent = \"seam\"\n[component.seam]\nsource = \"{components}/fixture_seam.wasm\"\n\
         [component.seam.dependencies]\n\"millrace:worker/handler@0.1.0\" = {{ path = \"{components}/fixture_handler_instant.wasm\", inherit_configuration = true }}\n"
    );
    for concurrency in CONCURRENCY {
        for way in [Way::Composed, Way::Linked] {
            let queue = format!("{}-{concurrency}", way.word());
            let (source, dependency) = match way {
                Way::Linked => ("fixture_drain_instant", String::new()),
                _ => (
                    "drain",
                    format!(
                        "[component.{queue}.dependencies]\n\"millrace:worker/handler@0.1.0\" = {{ path = \"{components}/fixture_handler_instant.wasm\", inherit_configuration = true }}\n"
                    ),
                ),
            };
            _ = write!(
                text,
                "[[trigger.http]]\nroute = \"/channels/{queue}\"\ncomponent = \"{queue}\"\n\
                 [component.{queue}]\nsource = \"{components}/{source}.wasm\"\nallowed_outbound_hosts = [\"{{{{ database_host }}}}\"]\n{dependency}\
                 [component.{queue}.variables]\ndatabase_url = \"{{{{ database_url }}}}\"\ndatabase_service_key = \"\"\nsupabase_jwt_secret = \"\"\n\
                 collab_require_jwt = \"0\"\ncollab_jwt_mode = \"local\"\ncollab_jwks_url = \"\"\ncollab_api_key = \"{{{{ collab_api_key }}}}\"\n\
                 collab_jwt_issuer = \"\"\ncollab_jwt_audience = \"\"\nqueue = \"{queue}\"\nconcurrency = \"{concurrency}\"\n"
            );
        }
    }
    text
}
