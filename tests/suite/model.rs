//! Random sequences of all core operations, run against SQL and against a plain in-memory model; every answer, and
//! after each step the whole state, must be the same.
//!
//! `MILLRACE_MODEL_CASES` sets how many sequences are run (300 by default), `MILLRACE_MODEL_SEED` where they start from.

mod memory;

use std::cell::Cell;
use std::env;

use memory::{Checked, Filter, Micros, Model, Request, SECOND, Settings, same};
use millrace_tests::database::{Database, explain, refusal};
use millrace_tests::queue::{self, Outcome, Want};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Error};

/// Where the queue's clock begins in every sequence: a fixed instant, so that a seed says everything.
const BEGIN: &str = "2030-01-07 12:00:00+00";
const QUEUES: [&str; 2] = ["mill", "race"];
const WORKERS: [&str; 3] = ["ann", "bob", "cleo"];

/// One word of a batch of reports: a lease, what of it is named, and the outcome.
#[derive(Debug, Clone)]
struct Word {
    pick: u8,
    name_lease: bool,
    worker: Worker,
    job_type: Option<&'static str>,
    outcome: Outcome,
}

/// Whom a word comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Worker {
    Owner,
    Other,
    Unnamed,
}

#[derive(Debug, Clone)]
enum Operation {
    Enqueue(Vec<Request>),
    Claim { queue: &'static str, worker: &'static str, max_jobs: i32, filter: Filter, lease: Option<i64> },
    Report { pick: u8, worker: Worker, outcome: Outcome },
    ReportMany(Vec<Word>),
    Extend { pick: u8, worker: Worker, seconds: Option<i64> },
    Cancel(u8),
    Retry { pick: u8, reset: bool },
    Replay(u8),
    Expire(&'static str),
    Housekeep,
    Pause(&'static str, bool),
    Configure(&'static str, Settings),
    Advance(i64),
}

fn request() -> impl Strategy<Value = Request> {
    (
        select(&QUEUES[..]),
        select(&["mail", "mail.send", "sms", "100%"][..]),
        select(&[-3, 5, 5, 5, 20][..]),
        select(&[-50, 0, 0, 0, 0, 0, 2, 30][..]),
        option::weighted(0.2, select(&["k1", "k2", "k3"][..])),
        option::weighted(0.3, select(&["c1", "c2"][..])),
        option::weighted(0.5, 1..=3),
        option::weighted(0.2, select(&[1, 10, 200][..])),
    )
        .prop_map(|(queue, job_type, priority, due_in, idempotency_key, concurrency_key, max_attempts, lease)| Request {
            queue,
            job_type,
            priority,
            due_in,
            idempotency_key,
            concurrency_key,
            max_attempts,
            lease,
        })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Succeeded),
        4 => Just(Outcome::Failed),
        1 => Just(Outcome::Permanent),
        2 => select(&[0.0, 1.0, 45.0][..]).prop_map(Outcome::RetryAfter),
    ]
}

fn worker() -> impl Strategy<Value = Worker> {
    prop_oneof![8 => Just(Worker::Owner), 1 => Just(Worker::Other)]
}

fn word() -> impl Strategy<Value = Word> {
    let named = prop_oneof![4 => Just(None), 1 => Just(Some("mail")), 1 => Just(Some("sms"))];
    let worker = prop_oneof![4 => worker(), 1 => Just(Worker::Unnamed)];
    (any::<u8>(), prop::bool::weighted(0.7), worker, named, outcome()).prop_map(|(pick, name_lease, worker, job_type, outcome)| Word {
        pick,
        name_lease,
        worker,
        job_type,
        outcome,
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        option::of(1..=4),
        option::of(any::<bool>()),
        option::of(select(&[0, 1, 7, 30][..])),
        option::of(select(&[0, 20, 3600][..])),
        option::of(select(&[1, 5, 60][..])),
        option::of(0..=3),
    )
        .prop_map(|(max_attempts, exponential, base, cap, lease, limit)| Settings { max_attempts, exponential, base, cap, lease, limit })
}

fn operation() -> impl Strategy<Value = Operation> {
    let queue = || select(&QUEUES[..]);
    let filter = prop_oneof![
        6 => Just(Filter::Any),
        1 => select(&["mail", "sms", "none"][..]).prop_map(Filter::Type),
        1 => select(&["mail", "mail.", "s", "100%", "%"][..]).prop_map(Filter::Prefix),
    ];
    prop_oneof![
        8 => vec(request(), 1..=4).prop_map(Operation::Enqueue),
        9 => (queue(), select(&WORKERS[..]), 1..=5, filter, option::weighted(0.3, select(&[1, 20, 300][..])))
            .prop_map(|(queue, worker, max_jobs, filter, lease)| Operation::Claim { queue, worker, max_jobs, filter, lease }),
        8 => (any::<u8>(), worker(), outcome()).prop_map(|(pick, worker, outcome)| Operation::Report { pick, worker, outcome }),
        3 => vec(word(), 0..=4).prop_map(Operation::ReportMany),
        2 => (any::<u8>(), worker(), option::of(select(&[1, 50, 400][..])))
            .prop_map(|(pick, worker, seconds)| Operation::Extend { pick, worker, seconds }),
        2 => any::<u8>().prop_map(Operation::Cancel),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(pick, reset)| Operation::Retry { pick, reset }),
        2 => any::<u8>().prop_map(Operation::Replay),
        1 => queue().prop_map(Operation::Expire),
        1 => Just(Operation::Housekeep),
        2 => (queue(), prop::bool::weighted(0.3)).prop_map(|(queue, paused)| Operation::Pause(queue, paused)),
        2 => (queue(), settings()).prop_map(|(queue, settings)| Operation::Configure(queue, settings)),
        7 => select(&[0, 1, 2, 5, 30, 61, 400][..]).prop_map(Operation::Advance),
    ]
}

/// One sequence's two sides.
struct Run<'a> {
    sql: &'a Client,
    model: Model,
}

impl Run<'_> {
    async fn operation(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Enqueue(requests) => {
                let requested: Vec<_> = requests.iter().map(|r| self.json(r)).collect();
                let answers = queue::enqueue_many(self.sql, &json!(requested)).await.map_err(|e| explain(&e))?;
                self.model.enqueue(requests, &answers)
            }
            Operation::Claim { queue, worker, max_jobs, filter, lease } => {
                let mut want = Want::any(queue, worker, *max_jobs);
                #[allow(clippy::cast_precision_loss)] // small whole numbers
                let seconds = lease.map(|seconds| seconds as f64);
                want.lease = seconds;
                match filter {
                    Filter::Any => {}
                    Filter::Type(name) => want.job_type = Some(name),
                    Filter::Prefix(prefix) => want.type_prefix = Some(prefix),
                }
                let claimed = queue::try_claim(self.sql, want).await.map_err(|e| explain(&e))?;
                self.model.claim(queue, *max_jobs, *filter, *lease, &claimed)
            }
            Operation::Report { pick, worker, outcome } => self.report(*pick, *worker, *outcome).await,
            Operation::ReportMany(words) => self.report_many(words).await,
            Operation::Extend { pick, worker, seconds } => self.extend(*pick, *worker, *seconds).await,
            Operation::Cancel(pick) => {
                let job = self.job(*pick);
                let sql = code(self.sql.execute("select millrace.cancel($1)", &[&job]).await);
                same("cancel", &sql.as_deref(), &self.model.cancel(job))
            }
            Operation::Retry { pick, reset } => {
                let job = self.job(*pick);
                let sql = code(self.sql.execute("select millrace.retry($1, $2)", &[&job, reset]).await);
                same("retry", &sql.as_deref(), &self.model.retry(job, *reset))
            }
            Operation::Replay(pick) => self.replay(*pick).await,
            Operation::Expire(queue) => {
                let sql: i32 = self.number("select coalesce((select millrace.expire_leases(id) from millrace.queue where name = $1), 0)", queue).await?;
                same("leases expired", &sql, &self.model.expire(queue))
            }
            Operation::Housekeep => {
                let sql: i32 = self.number("select (millrace.housekeep() ->> 'leases_expired')::int where $1 = ''", "").await?;
                same("leases expired", &sql, &self.model.expire_all())
            }
            Operation::Pause(queue, paused) => {
                let verb = if *paused { "pause" } else { "resume" };
                self.sql.execute(&format!("select millrace.{verb}($1)"), &[queue]).await.map_err(|e| explain(&e))?;
                self.model.set_paused(queue, *paused);
                Ok(())
            }
            Operation::Configure(queue, settings) => self.configure(queue, *settings).await,
            Operation::Advance(seconds) => {
                self.model.now += seconds * SECOND;
                set_clock(self.sql, self.model.now).await.map_err(|e| explain(&e))
            }
        }
    }

    fn json(&self, request: &Request) -> Value {
        let mut json = json!({ "queue": request.queue, "type": request.job_type, "priority": request.priority,
            "idempotency_key": request.idempotency_key, "concurrency_key": request.concurrency_key,
            "max_attempts": request.max_attempts, "lease_seconds": request.lease });
        if request.due_in < 0 {
            json["run_at"] = json!("2001-01-01T00:00:00Z");
        } else {
            json["delay_seconds"] = json!(request.due_in);
        }
        json
    }

    async fn number(&self, sql: &str, parameter: &str) -> Result<i32, String> {
        Ok(self.sql.query_one(sql, &[&parameter]).await.map_err(|e| explain(&e))?.get(0))
    }

    /// A job: mostly one that is there.
    fn job(&self, pick: u8) -> i64 {
        let jobs = self.model.job_ids();
        recent(&jobs, pick).copied().unwrap_or(-7)
    }

    /// A lease that was given once; one that never was where there is none yet.
    fn lease(&self, pick: u8, worker: Worker) -> queue::Claimed {
        let none = queue::Claimed {
            job_id: -7,
            lease_id: -7,
            job_type: String::new(),
            priority: 0,
            attempt: 0,
            max_attempts: 0,
            worker: "ann".to_owned(),
        };
        let mut lease = recent(&self.model.leases, pick).cloned().unwrap_or(none);
        if worker == Worker::Other {
            lease.worker = "mallory".to_owned();
        }
        if pick == 255 {
            lease.lease_id += 1_000_000;
        }
        lease
    }

    async fn report(&mut self, pick: u8, worker: Worker, outcome: Outcome) -> Checked {
        let lease = self.lease(pick, worker);
        let sql = code(queue::report(self.sql, &lease, outcome).await);
        let expected = self.model.refusal(lease.job_id, Some(lease.lease_id), Some(&lease.worker), None);
        same("report", &sql.as_deref(), &expected)?;
        if expected.is_none() {
            self.model.report(lease.job_id, outcome);
        }
        Ok(())
    }

    async fn report_many(&mut self, words: &[Word]) -> Checked {
        let mut reports = Vec::new();
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        for word in words {
            let lease = self.lease(word.pick, word.worker);
            if seen.contains(&lease.job_id) {
                continue; // a job may be reported once in a call
            }
            seen.push(lease.job_id);
            let mut report = word.outcome.report(lease.job_id, lease.lease_id, &lease.worker);
            let lease_id = word.name_lease.then_some(lease.lease_id);
            let worker = (word.worker != Worker::Unnamed).then_some(lease.worker.as_str());
            report["lease_id"] = json!(lease_id);
            report["worker"] = json!(worker);
            report["type"] = json!(word.job_type);
            reports.push(report);
            expected.push((lease.job_id, self.model.refusal(lease.job_id, lease_id, worker, word.job_type), word.outcome));
        }
        let sql = queue::report_many(self.sql, &json!(reports)).await.map_err(|e| explain(&e))?;
        let codes: Vec<_> = expected.iter().map(|(_, code, _)| code.map(str::to_owned)).collect();
        same("report_many", &sql, &codes)?;
        for (job, code, outcome) in expected {
            if code.is_none() {
                self.model.report(job, outcome);
            }
        }
        Ok(())
    }

    async fn extend(&mut self, pick: u8, worker: Worker, seconds: Option<i64>) -> Checked {
        let lease = self.lease(pick, worker);
        #[allow(clippy::cast_precision_loss)] // small whole numbers
        let length = seconds.map(|seconds| seconds as f64);
        let answer = self
            .sql
            .query_one(
                "select (extract(epoch from millrace.extend_lease($1, $2, $3, make_interval(secs => $4)) - $5::text::timestamptz) * 1000000)::bigint",
                &[&lease.job_id, &lease.lease_id, &lease.worker, &length, &BEGIN],
            )
            .await;
        let expected = self.model.refusal(lease.job_id, Some(lease.lease_id), Some(&lease.worker), None);
        match answer {
            Ok(row) if expected.is_none() => same("extended to", &row.get::<_, Micros>(0), &self.model.extend(lease.job_id, seconds)),
            answer => same("extend", &code(answer).as_deref(), &expected),
        }
    }

    async fn replay(&mut self, pick: u8) -> Checked {
        let letters = self.sql.query("select id, job_id from millrace.dead_letter order by id", &[]).await.map_err(|e| explain(&e))?;
        let Some((letter, job)) = recent(&letters, pick).map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1))) else {
            let sql = code(self.sql.execute("select millrace.replay(-1)", &[]).await);
            return same("replay", &sql.as_deref(), &Some("dead_letter_not_found"));
        };
        let answer = self.sql.query_one("select millrace.replay($1)", &[&letter]).await;
        match (answer, self.model.replay_refusal(job)) {
            (Ok(row), None) => self.model.replay(job, row.get(0)),
            (answer, expected) => same("replay", &code(answer).as_deref(), &expected),
        }
    }

    async fn configure(&mut self, queue: &'static str, settings: Settings) -> Checked {
        let backoff = settings.exponential.map(|exponential| if exponential { "exponential" } else { "fixed" });
        #[allow(clippy::cast_precision_loss)] // small whole numbers
        let [base, cap, lease] = [settings.base, settings.cap, settings.lease].map(|seconds| seconds.map(|seconds| seconds as f64));
        self.sql
            .execute(
                "select millrace.configure_queue($1, max_attempts => $2, backoff => $3, backoff_base => make_interval(secs => $4), \
                 backoff_cap => make_interval(secs => $5), lease => make_interval(secs => $6), concurrency_limit => $7)",
                &[&queue, &settings.max_attempts, &backoff, &base, &cap, &lease, &settings.limit],
            )
            .await
            .map_err(|e| explain(&e))?;
        self.model.configure(queue, settings);
        Ok(())
    }

    /// Every job on both sides: where it lies with all that belongs to it, and its events in order.
    async fn compare_jobs(&self) -> Checked {
        let rows = self.sql.query("select line from test.job_lines order by id", &[]).await.map_err(|e| explain(&e))?;
        let sql: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let model = self.model.shown();
        match sql.iter().zip(&model).find(|(sql, model)| sql != model) {
            Some((sql, model)) => same("state of a job", sql, model),
            None => same("number of jobs", &sql.len(), &model.len()),
        }
    }

    /// What is compared once a sequence: concurrency keys, attempts, and the invariant of places.
    async fn compare_rest(&self) -> Checked {
        for (what, query, model) in [
            ("concurrency keys", "select line from test.slot_lines order by name, key", self.model.slots()),
            ("attempts", "select line from test.attempt_lines order by job_id, lease_id", self.model.attempts()),
            ("misplaced jobs", "select job_id::text from millrace.misplaced_jobs()", Vec::new()),
        ] {
            let rows = self.sql.query(query, &[]).await.map_err(|e| explain(&e))?;
            let sql: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            same(what, &sql, &model)?;
        }
        Ok(())
    }
}

/// Mostly one of the last few, sometimes any.
fn recent<T>(all: &[T], pick: u8) -> Option<&T> {
    let window = if pick < 190 { all.len().min(5) } else { all.len() };
    (window > 0).then(|| &all[all.len() - 1 - usize::from(pick) % window])
}

/// The code of a refusal, none where there was no error.
fn code<T>(answer: Result<T, Error>) -> Option<String> {
    answer.err().map(|error| if error.as_db_error().is_some() { refusal(&error).1 } else { error.to_string() })
}

/// Moves the queue's clock to so many microseconds after the beginning.
async fn set_clock(sql: &Client, now: Micros) -> Result<(), Error> {
    sql.execute("select set_config('test.clock', ($1::text::timestamptz + $2 * interval '1 microsecond')::text, false)", &[&BEGIN, &(now as f64)])
        .await?;
    Ok(())
}

/// A database whose clock is a setting of the session, with views that show the state as the model shows it.
async fn prepare() -> Database {
    let database = Database::fresh().await;
    database
        .run(&format!(
            "set timezone = 'UTC';
             alter table millrace.queue alter backoff_jitter set default false;
             create or replace function millrace.clock() returns timestamptz language sql volatile parallel safe
               as 'select current_setting(''test.clock'')::timestamptz';
             create schema test;
             create function test.micros(timestamptz) returns bigint language sql as
               $$ select (extract(epoch from $1 - timestamptz '{BEGIN}') * 1000000)::bigint $$;
             create view test.job_lines as
               select j.id, format('%s %s | %s', j.id, coalesce(
                 (select format('ready %s %s', test.micros(r.run_at), r.attempts) from millrace.ready r where r.job_id = j.id),
                 (select format('parked %s %s', test.micros(p.run_at), p.attempts) from millrace.parked p where p.job_id = j.id),
                 (select format('running %s %s %s %s', e.lease_id, e.worker, e.attempt, test.micros(e.expires_at))
                    from millrace.lease e where e.job_id = j.id),
                 (select format('%s %s', f.outcome, f.attempts) from millrace.finished f where f.job_id = j.id),
                 (select format('dead %s %s %s', d.attempts, d.reason, coalesce(d.retried_job_id, 0))
                    from millrace.dead_letter d where d.job_id = j.id)),
                 (select string_agg(v.event_type, ' ' order by v.id) from millrace.job_events v where v.job_id = j.id)) as line
                 from millrace.job j;
             create view test.slot_lines as
               select q.name, s.key, format('%s %s %s', q.name, s.key, s.job_id) as line
                 from millrace.concurrency_slot s join millrace.queue q on q.id = s.queue_id;
             create view test.attempt_lines as
               select job_id, lease_id, format('%s %s %s %s', job_id, lease_id, worker, outcome) as line from millrace.attempt;"
        ))
        .await;
    database
}

/// Empties every table that a sequence fills. Deleting a few rows is much faster than truncating.
async fn begin(sql: &Client) -> Result<(), Error> {
    sql.batch_execute(
        "delete from millrace.ready; delete from millrace.parked; delete from millrace.lease; delete from millrace.finished;
         delete from millrace.dead_letter; delete from millrace.attempt; delete from millrace.job_events; delete from millrace.job;
         delete from millrace.idempotency_key; delete from millrace.concurrency_slot; delete from millrace.lane;
         delete from millrace.queue_clock; delete from millrace.queue;",
    )
    .await?;
    set_clock(sql, 0).await
}

async fn sequence(sql: &Client, operations: &[Operation], done: &Cell<usize>) -> Checked {
    begin(sql).await.map_err(|e| explain(&e))?;
    let mut run = Run { sql, model: Model::default() };
    for (place, operation) in operations.iter().enumerate() {
        let checked = async {
            run.operation(operation).await?;
            run.compare_jobs().await
        };
        checked.await.map_err(|wrong| format!("after operation {place}, {operation:?}: {wrong}"))?;
        done.set(done.get() + 1);
    }
    run.compare_rest().await
}

#[test]
fn random_sequences_agree_with_the_model() {
    let number = |name: &str, default: u64| env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let cases = number("MILLRACE_MODEL_CASES", 300);
    let seed = number("MILLRACE_MODEL_SEED", 1);
    println!("model: {cases} sequences from seed {seed}");

    let runtime = Runtime::new().expect("a runtime");
    let database = runtime.block_on(prepare());
    let config = Config {
        cases: u32::try_from(cases).expect("a number of cases"),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (sequences, operations) = (Cell::new(0), Cell::new(0));
    let outcome = runner.run(&vec(operation(), 30..=50), |sequence_of| {
        sequences.set(sequences.get() + 1);
        runtime.block_on(sequence(database.client(), &sequence_of, &operations)).map_err(TestCaseError::fail)
    });
    println!("model: {} sequences, {} operations compared with SQL", sequences.get(), operations.get());
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
