//! Random sequences of all core operations, run against SQL and against a plain in-memory model; every answer, and
//! after each step the whole state, must be the same.
//!
//! `MILLRACE_MODEL_CASES` sets how many sequences are run (300 by default), `MILLRACE_MODEL_SEED` where they start from.

mod database;
mod job;
mod memory;
mod operations;

use std::cell::Cell;
use std::env;

use database::{BEGIN, begin, prepare, set_clock};
use job::{Filter, Settings};
use memory::{Checked, Micros, Model, SECOND, same};
use millrace_tests::database::{explain, refusal};
use millrace_tests::queue::{self, Outcome, UNTRUE_COUNTS, Want};
use operations::{Operation, Word, Worker, operation};
use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Error, Statement};

/// One sequence's two sides.
struct Run<'a> {
    sql: &'a Client,
    job_lines: &'a Statement,
    model: Model,
}

impl Run<'_> {
    async fn operation(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Enqueue(requests) => {
                let requested: Vec<_> = requests.iter().map(|r| r.json()).collect();
                let answers = queue::enqueue_many(self.sql, &json!(requested))
                    .await
                    .map_err(|e| explain(&e))?;
                self.model.enqueue(requests, &answers)
            }
            Operation::Claim {
                queue,
                worker,
                max_jobs,
                filter,
                lease,
                isolate,
            } => {
                let mut want = Want::any(queue, worker, *max_jobs);
                #[allow(clippy::cast_precision_loss)] // small whole numbers
                let seconds = lease.map(|seconds| seconds as f64);
                want.lease = seconds;
                want.isolate = *isolate;
                match filter {
                    Filter::Any => {}
                    Filter::Type(name) => want.job_type = Some(name),
                    Filter::Prefix(prefix) => want.type_prefix = Some(prefix),
                }
                let claimed = queue::try_claim(self.sql, want)
                    .await
                    .map_err(|e| explain(&e))?;
                self.model
                    .claim(queue, *max_jobs, *filter, *lease, *isolate, &claimed)
            }
            Operation::Report {
                pick,
                worker,
                outcome,
            } => self.report(*pick, *worker, *outcome).await,
            Operation::ReportMany(words) => self.report_many(words).await,
            Operation::Extend {
                pick,
                worker,
                seconds,
            } => self.extend(*pick, *worker, *seconds).await,
            Operation::Cancel(pick) => {
                let job = self.job(*pick);
                let sql = code(
                    self.sql
                        .execute("select millrace.cancel($1)", &[&job])
                        .await,
                );
                same("cancel", &sql.as_deref(), &self.model.cancel(job))
            }
            Operation::Retry { pick, reset } => {
                let job = self.job(*pick);
                let sql = code(
                    self.sql
                        .execute("select millrace.retry($1, $2)", &[&job, reset])
                        .await,
                );
                same("retry", &sql.as_deref(), &self.model.retry(job, *reset))
            }
            Operation::Replay(pick) => self.replay(*pick).await,
            Operation::Expire(queue) => {
                let sql: i32 = self.number("select coalesce((select millrace.expire_leases(id) from millrace.queue where name = $1), 0)", queue).await?;
                same("leases expired", &sql, &self.model.expire(queue))
            }
            Operation::Housekeep => {
                let sql: i32 = self
                    .number(
                        "select (millrace.housekeep() ->> 'leases_expired')::int where $1 = ''",
                        "",
                    )
                    .await?;
                same("leases expired", &sql, &self.model.expire_all())
            }
            Operation::Pause(queue, paused) => {
                let verb = if *paused { "pause" } else { "resume" };
                self.sql
                    .execute(&format!("select millrace.{verb}($1)"), &[queue])
                    .await
                    .map_err(|e| explain(&e))?;
                self.model.set_paused(queue, *paused);
                Ok(())
            }
            Operation::Configure(queue, settings) => self.configure(queue, *settings).await,
            Operation::Advance(seconds) => {
                self.model.now += seconds * SECOND;
                set_clock(self.sql, self.model.now)
                    .await
                    .map_err(|e| explain(&e))
            }
        }
    }

    async fn number(&self, sql: &str, parameter: &str) -> Result<i32, String> {
        Ok(self
            .sql
            .query_one(sql, &[&parameter])
            .await
            .map_err(|e| explain(&e))?
            .get(0))
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
            resumed: false,
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
        let expected = self.model.refusal(
            lease.job_id,
            Some(lease.lease_id),
            Some(&lease.worker),
            None,
        );
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
            let mut report = word
                .outcome
                .report(lease.job_id, lease.lease_id, &lease.worker);
            let lease_id = word.name_lease.then_some(lease.lease_id);
            let worker = (word.worker != Worker::Unnamed).then_some(lease.worker.as_str());
            report["lease_id"] = json!(lease_id);
            report["worker"] = json!(worker);
            report["type"] = json!(word.job_type);
            reports.push(report);
            expected.push((
                lease.job_id,
                self.model
                    .refusal(lease.job_id, lease_id, worker, word.job_type),
                word.outcome,
            ));
        }
        let sql = queue::report_many(self.sql, &json!(reports))
            .await
            .map_err(|e| explain(&e))?;
        let codes: Vec<_> = expected
            .iter()
            .map(|(_, code, _)| code.map(str::to_owned))
            .collect();
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
        let expected = self.model.refusal(
            lease.job_id,
            Some(lease.lease_id),
            Some(&lease.worker),
            None,
        );
        match answer {
            Ok(row) if expected.is_none() => same(
                "extended to",
                &row.get::<_, Micros>(0),
                &self.model.extend(lease.job_id, seconds),
            ),
            answer => same("extend", &code(answer).as_deref(), &expected),
        }
    }

    async fn replay(&mut self, pick: u8) -> Checked {
        let letters = self
            .sql
            .query(
                "select id, job_id from millrace.dead_letter order by id",
                &[],
            )
            .await
            .map_err(|e| explain(&e))?;
        let Some((letter, job)) =
            recent(&letters, pick).map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1)))
        else {
            let sql = code(self.sql.execute("select millrace.replay(-1)", &[]).await);
            return same("replay", &sql.as_deref(), &Some("dead_letter_not_found"));
        };
        let answer = self
            .sql
            .query_one("select millrace.replay($1)", &[&letter])
            .await;
        match (answer, self.model.replay_refusal(job)) {
            (Ok(row), None) => self.model.replay(job, row.get(0)),
            (answer, expected) => same("replay", &code(answer).as_deref(), &expected),
        }
    }

    async fn configure(&mut self, queue: &'static str, settings: Settings) -> Checked {
        let backoff = settings
            .exponential
            .map(|exponential| if exponential { "exponential" } else { "fixed" });
        #[allow(clippy::cast_precision_loss)] // small whole numbers
        let [base, cap, lease] = [settings.base, settings.cap, settings.lease]
            .map(|seconds| seconds.map(|seconds| seconds as f64));
        self.sql
            .execute(
                "select millrace.configure_queue($1, max_attempts => $2, backoff => $3, backoff_base => make_interval(secs => $4), \
                 backoff_cap => make_interval(secs => $5), lease => make_interval(secs => $6), concurrency_limit => $7, key_concurrency => $8)",
                &[&queue, &settings.max_attempts, &backoff, &base, &cap, &lease, &settings.limit, &settings.key_concurrency],
            )
            .await
            .map_err(|e| explain(&e))?;
        self.model.configure(queue, settings);
        Ok(())
    }

    /// Every job on both sides: where it lies with all that belongs to it, and its events in order.
    async fn compare_jobs(&self) -> Checked {
        let rows = self
            .sql
            .query(self.job_lines, &[])
            .await
            .map_err(|e| explain(&e))?;
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
            (
                "concurrency keys",
                "select line from test.slot_lines order by name, key",
                self.model.slots(),
            ),
            (
                "attempts",
                "select line from test.attempt_lines order by job_id, lease_id",
                self.model.attempts(),
            ),
            (
                "misplaced jobs",
                "select job_id::text from millrace.misplaced_jobs()",
                Vec::new(),
            ),
            ("untrue counters", UNTRUE_COUNTS, Vec::new()),
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
    let window = if pick < 190 {
        all.len().min(5)
    } else {
        all.len()
    };
    (window > 0).then(|| &all[all.len() - 1 - usize::from(pick) % window])
}

/// The code of a refusal, none where there was no error.
fn code<T>(answer: Result<T, Error>) -> Option<String> {
    answer.err().map(|error| {
        if error.as_db_error().is_some() {
            refusal(&error).1
        } else {
            error.to_string()
        }
    })
}

async fn sequence(
    sql: &Client,
    job_lines: &Statement,
    operations: &[Operation],
    done: &Cell<usize>,
) -> Checked {
    begin(sql).await.map_err(|e| explain(&e))?;
    let mut run = Run {
        sql,
        job_lines,
        model: Model::default(),
    };
    for (place, operation) in operations.iter().enumerate() {
        let checked = async {
            run.operation(operation).await?;
            run.compare_jobs().await
        };
        checked
            .await
            .map_err(|wrong| format!("after operation {place}, {operation:?}: {wrong}"))?;
        done.set(done.get() + 1);
    }
    run.compare_rest().await
}

/// How many sequences are run, how many operations that were, and the first disagreement.
struct Ran {
    sequences: usize,
    operations: usize,
    disagreement: Option<String>,
}

/// Runs `cases` sequences from `seed` against a database in which each rewrite (function, from, to) was made.
fn run(cases: u32, seed: u64, shrink: u32, rewrites: &[(&str, &str, &str)]) -> Ran {
    let runtime = Runtime::new().expect("a runtime");
    let (database, job_lines) = runtime.block_on(async {
        let database = prepare().await;
        for (function, from, to) in rewrites {
            database.rewrite_function(function, from, to).await;
        }
        let lines = "select line from test.job_lines order by id";
        let job_lines = database.client().prepare(lines).await.expect("a view");
        (database, job_lines)
    });
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: shrink,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (sequences, operations) = (Cell::new(0), Cell::new(0));
    let outcome = runner.run(&vec(operation(), 30..=50), |drawn| {
        sequences.set(sequences.get() + 1);
        let compared = sequence(database.client(), &job_lines, &drawn, &operations);
        runtime.block_on(compared).map_err(TestCaseError::fail)
    });
    Ran {
        sequences: sequences.get(),
        operations: operations.get(),
        disagreement: outcome.err().map(|e| e.to_string()),
    }
}

#[test]
fn random_sequences_agree_with_the_model() {
    let number =
        |name: &str, default: u64| env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let cases = u32::try_from(number("MILLRACE_MODEL_CASES", 600)).expect("a number of cases");
    let seed = number("MILLRACE_MODEL_SEED", 1);
    println!("model: {cases} sequences from seed {seed}");
    let ran = run(cases, seed, 400, &[]);
    println!(
        "model: {} sequences, {} operations compared with SQL",
        ran.sequences, ran.operations
    );
    if let Some(disagreement) = ran.disagreement {
        panic!("{disagreement}");
    }
}

/// The witness: with any of these rules broken in SQL, the sequences do not agree.
#[test]
fn the_model_notices_broken_rules() {
    let broken = [
        (
            "millrace.settle(millrace.ended[])",
            "e.attempt >= coalesce",
            "e.attempt > coalesce",
        ),
        (
            "millrace.backoff_delay(millrace.queue,integer)",
            "p_attempt - 1",
            "p_attempt",
        ),
        (
            "millrace.expire_leases(integer,integer)",
            "e.expires_at <= v_now",
            "e.expires_at < v_now",
        ),
        (
            "millrace.pass_on_slots(bigint[])",
            "order by p.job_id limit greatest",
            "order by p.job_id desc limit greatest",
        ),
        (
            "millrace.pass_on_slots(bigint[])",
            "q.key_concurrency - cardinality(s.stay)",
            "1 - cardinality(s.stay)",
        ),
        (
            "millrace.join_holders(millrace.request[])",
            "where not exists (select from millrace.parked",
            "where true or not exists (select from millrace.parked",
        ),
        (
            "millrace.turn_of_alone(integer,text,text)",
            "v_heads[1] and",
            "",
        ),
        (
            "millrace.settle(millrace.ended[])",
            "e.attempt - (e.next = 'postponed')::int",
            "e.attempt",
        ),
        (
            "millrace.settle(millrace.ended[])",
            "when 'postponed' then e.lane_id",
            "when 'postponed' then j.lane_id",
        ),
        (
            "millrace.settle(millrace.ended[])",
            "e.resumed or e.outcome = 'lease_expired'",
            "e.outcome = 'lease_expired'",
        ),
        (
            "millrace.cancel(bigint)",
            "perform millrace.pass_on_slots(array[cancel.job_id]);",
            "",
        ),
        (
            "millrace.cancel(bigint)",
            "millrace.waiting_status(v_attempts, v_retried)",
            "'pending'",
        ),
        (
            "millrace.claim(text,text,integer,text,text,interval,boolean)",
            "millrace.waiting_status(k.attempts, k.retried)",
            "'pending'",
        ),
        (
            "millrace.fold(integer,interval)",
            "(values (g.became, g.n), (g.was, -g.n))",
            "(values (g.became, g.n))",
        ),
        (
            "millrace.retry(bigint,boolean)",
            "and d.retried_at is null",
            "",
        ),
        (
            "millrace.claim(text,text,integer,text,text,interval,boolean)",
            "v_queue.paused_at is not null",
            "false",
        ),
    ];
    for (function, from, to) in broken {
        let ran = run(300, 1, 0, &[(function, from, to)]);
        assert!(
            ran.disagreement.is_some(),
            "{function}: {from:?} as {to:?} was not noticed"
        );
        println!(
            "model: {function} broken was noticed in sequence {}",
            ran.sequences
        );
    }
}
