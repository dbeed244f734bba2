//! What reaches the world: at least 10,000 deliveries through the channels, with something going wrong at every point of the exchange
//! with the provider, and the drain killed with jobs in hand. Every message is sent at least once, and exactly once wherever the provider
//! knows a request again; where it does not, at most once if the channel is told so. A provider that forgets its keys shows what
//! the counts would be otherwise.
//!
//! `MILLRACE_EFFECTS_SEED` decides what goes wrong when (1); `MILLRACE_EFFECTS_DELIVERIES` multiplies how much is sent (1).

mod calendar;
mod email;
mod webhook;

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::deadline::PATIENCE;
use millrace_tests::provider::{Effect, Fault, Provider, RetryAfter, Service, by_key};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, Response};
use tokio::task::JoinHandle;

/// How far the queue's clock goes on after each run: past every lease and every delay.
const STEP: f64 = 2.0 * 3600.0;

/// More runs than this make a test that does not end.
const MOST_RUNS: usize = 100;

/// How the drain runs: the slow faults take longer than an attempt may.
const TIMES: [(&str, &str); 4] = [
    ("channel_concurrency", "32"),
    ("calendar_sync_batch_size", "32"),
    ("channel_job_seconds", "2"),
    ("channel_run_seconds", "20"),
];
const SLOW: Duration = Duration::from_secs(3);

/// A third of the requests go wrong, in every way.
const FAULTS: [(Fault, f64); 13] = [
    (Fault::ResetBeforeActing, 0.03),
    (Fault::ResetAfterActing, 0.05),
    (Fault::HalfAnswer, 0.04),
    (Fault::SlowAnswer(SLOW), 0.003),
    (Fault::SlowToAct(SLOW), 0.003),
    (Fault::ErrorBeforeActing(500), 0.03),
    (Fault::ErrorBeforeActing(503), 0.03),
    (Fault::ErrorAfterActing(500), 0.05),
    (Fault::TooMany(RetryAfter::Unsaid), 0.01),
    (Fault::TooMany(RetryAfter::Seconds(7)), 0.02),
    (Fault::Garbage, 0.03),
    (Fault::NotHttp, 0.02),
    (Fault::Oversized(2 << 20), 0.005),
];

/// A number that a variable of the environment sets.
fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// So many times what is sent in the ordinary way.
fn deliveries(usual: u64) -> i64 {
    let deliveries = usual * setting("MILLRACE_EFFECTS_DELIVERIES", 1);
    i64::try_from(deliveries).expect("a number of deliveries")
}

/// One channel, one provider, and what is to happen to them.
struct Trial<'a, S: Service> {
    /// What it is called in what is printed.
    name: &'static str,
    queue: &'static str,
    provider: &'a Provider<S>,
    variables: Vec<(&'static str, &'a str)>,
    /// Which of the provider's effects are deliveries.
    is_delivery: fn(&Effect) -> bool,
    /// How often the drain is killed, at least.
    kills: usize,
}

/// What a trial came to.
struct Outcome {
    /// How often each delivery took effect, by its key; those that never did are not in it.
    effects: BTreeMap<String, usize>,
    succeeded: i64,
    dead: i64,
}

impl Outcome {
    /// How many effects there were beyond the first of each delivery.
    fn duplicates(&self) -> usize {
        self.effects.values().map(|times| times - 1).sum()
    }
}

impl<S: Service> Trial<'_, S> {
    /// Runs the drain until every job is over, and prints what happened. The jobs are in the database already.
    async fn run(&self, database: Database) -> Outcome {
        let seed = setting("MILLRACE_EFFECTS_SEED", 1);
        let mut random = StdRng::seed_from_u64(seed);
        self.provider.by_chance(random.random(), &FAULTS, |_| true);
        let variables = [&TIMES[..], &self.variables].concat();
        let (mut database, mut kills, mut runs) = (database, 0, 0);
        while unfinished(&database).await > 0 {
            assert!(runs < MOST_RUNS, "{runs} runs and no end");
            let app = App::serve(database, &variables).await;
            let run = self.begin(&app);
            let is_killed =
                kills < self.kills && self.comes_to(random.random_range(20..200), &run).await;
            if !is_killed {
                let response = run.await.expect("the run").expect("its answer");
                assert_eq!(response.status(), 200, "{:?}", response.text().await);
            }
            // A server that is dropped takes what its components have in hand with it.
            database = app.cut_off();
            kills += usize::from(is_killed);
            runs += 1;
            database.set_clock_ahead(STEP * runs as f64).await;
        }
        database.assert_no_job_misplaced().await;
        let outcome = self.outcome(&database, seed, kills, runs).await;
        assert!(kills >= self.kills, "only {kills} kills");
        outcome
    }

    fn begin(&self, app: &App) -> JoinHandle<reqwest::Result<Response>> {
        let path = format!("/channels/{}", self.queue);
        let request = app.api.request(Method::POST, &path);
        tokio::spawn(request.send())
    }

    /// Waits until the provider has read so many requests more; false where the run ends before.
    async fn comes_to(&self, requests: usize, run: &JoinHandle<reqwest::Result<Response>>) -> bool {
        let goal = self.provider.count() + requests;
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.provider.count() < goal && !run.is_finished() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.expect("requests, or the run's end");
        !run.is_finished()
    }

    async fn outcome(&self, database: &Database, seed: u64, kills: usize, runs: usize) -> Outcome {
        let sql = "select count(*), count(*) filter (where outcome = 'lease_expired'), count(*) filter (where outcome = 'succeeded') \
                   from millrace.attempt";
        let row = database.one(sql, &[]).await;
        let (attempts, lost, succeeded): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let sql = "select count(*) from millrace.dead_letter";
        let dead: i64 = database.one(sql, &[]).await.get(0);
        let mut all = self.provider.effects();
        all.retain(self.is_delivery);
        let effects = by_key(&all).into_iter();
        let effects = effects.map(|(key, times)| (key.to_owned(), times));
        let outcome = Outcome {
            effects: effects.collect(),
            succeeded,
            dead,
        };
        println!(
            "{}: {} deliveries, {attempts} attempts, {lost} of them lost in {kills} kills, {runs} runs (seed {seed})\n\
             {0}: faults: {:?}\n\
             {0}: {succeeded} succeeded, {dead} dead; {} effects, {} of them duplicates",
            self.name,
            succeeded + dead,
            self.provider.faults(),
            all.len(),
            outcome.duplicates(),
        );
        outcome
    }
}

async fn unfinished(database: &Database) -> i64 {
    let sql = "select (select count(*) from millrace.ready) + (select count(*) from millrace.parked) \
               + (select count(*) from millrace.lease)";
    database.one(sql, &[]).await.get(0)
}
