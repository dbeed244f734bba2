//! `GET /api/collab/metrics/overview` and `GET /metrics`: counts that are true, and text that Prometheus can read.

use std::collections::BTreeMap;

use millrace_tests::app::App;
use millrace_tests::queue::{self, Outcome};
use millrace_tests::scope::assert_scope;
use reqwest::Method;
use serde_json::{Value, json};

const OVERVIEW: &str = "/api/collab/metrics/overview";

/// A sample's name and labels, as Prometheus tells samples apart.
type Series = (String, BTreeMap<String, String>);

/// What `/metrics` says: each family's type, and each sample.
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<Series, f64>,
}

impl Scrape {
    /// Scrapes, and reads the text line by line as format 0.0.4 has it; anything unexpected fails the test.
    async fn of(app: &App) -> Self {
        let answer = app.api.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(
            answer.header("content-type"),
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert!(answer.text.ends_with('\n'));
        let mut scrape = Self {
            types: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        let (mut helped, mut family) = (String::new(), String::new());
        for line in answer.text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split_once(' ').expect("a help text").0.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(name, helped, "a family's type follows its help");
                assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let known = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(known, None, "{name} is there twice");
                family = name.to_owned();
            } else {
                let ((name, labels), value) = sample(line);
                let base = match scrape.types[&family].as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|suffix| name.strip_suffix(suffix))
                        .expect(line),
                    _ => &name,
                };
                assert_eq!(base, family, "a sample stands in its family");
                let known = scrape.samples.insert((name, labels), value);
                assert_eq!(known, None, "{line} is there twice");
            }
        }
        scrape
    }

    /// The sample of this name and these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.samples
            .get(&(name.to_owned(), labels))
            .copied()
            .unwrap_or_else(|| panic!("no {name} among {:?}", self.samples.keys()))
    }

    /// Fails unless the histogram's buckets rise up to its count; returns that, and its sum.
    fn histogram(&self, name: &str, queue: &str) -> (f64, f64) {
        let bucket = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = self
            .samples
            .iter()
            .filter(|((name, labels), _)| *name == bucket && labels["queue"] == queue)
            .map(|((_, labels), count)| (number(&labels["le"]), *count))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.len() > 10, "{buckets:?}");
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
        let count = self.value(&format!("{name}_count"), &[("queue", queue)]);
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)));
        (
            count,
            self.value(&format!("{name}_sum"), &[("queue", queue)]),
        )
    }
}

/// A line `name{label="value",…} number`.
fn sample(line: &str) -> (Series, f64) {
    let (name, rest) = line.split_once('{').expect(line);
    assert!(
        name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
        "{line}"
    );
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    loop {
        let (label, quoted) = rest.split_once("=\"").expect(line);
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next().expect(line) {
                (end, '"') => break end,
                (_, '\\') => value.push(match characters.next().expect(line).1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("\\{other} in {line}"),
                }),
                (_, character) => value.push(character),
            }
        };
        assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
        match &quoted[end + 1..] {
            next if next.starts_with(',') => rest = &next[1..],
            last => {
                return (
                    (name.to_owned(), labels),
                    number(last.strip_prefix("} ").expect(line)),
                );
            }
        }
    }
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        _ => text.parse().expect(text),
    }
}

/// A mix of everything that can happen to jobs, over three queues; drawn from `seed`, so that a failure can be had again.
async fn random_mix(app: &App, seed: f64) {
    let database = &app.database;
    database.one("select setseed($1)::text", &[&seed]).await;
    for round in 0..40 {
        let queue = format!("q{}", round % 3);
        let requests: Vec<_> = (0..20)
            .map(|n| json!({ "queue": queue, "type": format!("t{}", n % 2), "max_attempts": 1 + n % 3 }))
            .collect();
        queue::enqueue_many(database.client(), &json!(requests))
            .await
            .expect("an enqueue");
        for (place, lease) in queue::claim(database.client(), &queue, "w", 15)
            .await
            .iter()
            .enumerate()
        {
            let outcome = match (place + round) % 5 {
                0 => continue, // it goes on running
                1 => Outcome::RetryAfter(0.0),
                2 => Outcome::Permanent,
                _ => Outcome::Succeeded,
            };
            queue::report(database.client(), lease, outcome)
                .await
                .expect("a report");
        }
        let word = [
            "select count(millrace.cancel(job_id)) from (select job_id from millrace.ready order by random() limit 3) as r",
            "select count(millrace.retry(job_id)) from (select job_id from millrace.dead_letter where retried_at is null order by random() limit 2) as d",
            "select count(millrace.replay(id)) from (select id from millrace.dead_letter where retried_at is null order by random() limit 2) as d",
            "select count(millrace.cancel(job_id)) from (select job_id from millrace.lease order by random() limit 1) as l",
        ][round % 4];
        database.one(word, &[]).await;
    }
}

#[tokio::test]
async fn counts_are_what_the_tables_say() {
    let app = App::start().await;
    let empty = app.api.get(OVERVIEW).await.ok();
    let none = json!({ "queued": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0 });
    assert_eq!(
        empty,
        json!({ "ok": true, "counts": none, "latest": null, "ts": empty["ts"] })
    );

    random_mix(&app, 0.5).await;
    let rows = app
        .database
        .all(
            "select q.name, millrace.job_state(j.id), count(*)::float8 from millrace.job j join millrace.queue q on q.id = j.queue_id group by 1, 2",
            &[],
        )
        .await;
    let scrape = Scrape::of(&app).await;
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for row in &rows {
        let (queue, state, count): (String, String, f64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(
            scrape.value(
                "millrace_queue_jobs",
                &[("queue", &queue), ("state", &state)]
            ),
            count,
            "{queue} {state}"
        );
        *sums.entry(state).or_default() += count;
    }
    let overview = app.api.get(OVERVIEW).await.ok();
    let counts: BTreeMap<String, f64> = ["queued", "running", "succeeded", "cancelled", "dead"]
        .into_iter()
        .map(|state| {
            let name = if state == "dead" { "failed" } else { state };
            (
                state.to_owned(),
                overview["counts"][name].as_f64().expect(name),
            )
        })
        .collect();
    assert_eq!(counts, sums);
    println!(
        "metrics: after a mix of {} jobs the counts are {counts:?}",
        sums.values().sum::<f64>()
    );

    for queue in ["q0", "q1", "q2"] {
        let waiting: f64 = app
            .database
            .one(
                "select count(*)::float8 from millrace.dead_letter d join millrace.queue q on q.id = d.queue_id where q.name = $1 and d.retried_at is null",
                &[&queue],
            )
            .await
            .get(0);
        let of_queue = [("queue", queue)];
        assert_eq!(scrape.value("millrace_dead_letters", &of_queue), waiting);
        for (name, event) in [
            ("millrace_jobs_enqueued_total", "queued"),
            ("millrace_attempts_started_total", "started"),
            ("millrace_jobs_cancelled_total", "cancelled"),
        ] {
            assert_eq!(
                scrape.value(name, &of_queue),
                events(&app, queue, event).await,
                "{name}"
            );
        }
        let mut ended = 0.0;
        for outcome in ["succeeded", "retry_scheduled", "dead_lettered"] {
            let labels = [("queue", queue), ("outcome", outcome)];
            let value = scrape.value("millrace_attempts_ended_total", &labels);
            assert_eq!(value, events(&app, queue, outcome).await, "{outcome}");
            ended += value;
        }
        assert_eq!(
            scrape
                .histogram("millrace_claim_to_finish_seconds", queue)
                .0,
            ended
        );
        let first: f64 = app
            .database
            .one(
                "select count(*)::float8 from millrace.job_events e join millrace.queue q on q.id = e.queue_id
                  where q.name = $1 and e.event_type = 'started' and e.payload ? 'waited'",
                &[&queue],
            )
            .await
            .get(0);
        assert_eq!(
            scrape
                .histogram("millrace_enqueue_to_start_seconds", queue)
                .0,
            first
        );
    }
}

/// How many events of one type a queue has.
async fn events(app: &App, queue: &str, event: &str) -> f64 {
    let sql = "select count(*)::float8 from millrace.job_events e join millrace.queue q on q.id = e.queue_id where q.name = $1 and e.event_type = $2";
    app.database.one(sql, &[&queue, &event]).await.get(0)
}

#[tokio::test]
async fn the_overview_shows_the_newest_job_without_what_it_carries() {
    let app = App::start().await;
    app.api.assign_one("q", "first").await;
    let id = app.api.assign_one("q", "second").await;
    let overview = app.api.get(OVERVIEW).await.ok();
    let mut job = app.api.get(&format!("/api/collab/job/{id}")).await.ok()["job"].clone();
    job.as_object_mut().expect("a job").remove("payload");
    assert_eq!(overview["latest"], job);
    app.api
        .get(&format!("{OVERVIEW}?limit=1"))
        .await
        .assert_invalid("limit");
    for path in [OVERVIEW, "/metrics"] {
        let answer = app.api.send(app.api.request(Method::POST, path)).await;
        answer.assert_refused(405, "method_not_allowed");
    }
}

#[tokio::test]
async fn a_scrape_tells_how_a_queue_is() {
    let app = App::start().await;
    let database = &app.database;
    database.stop_clock_at("2030-01-01 00:00:00Z").await;
    let name = "a \"b\"\\c\nd é";
    queue::enqueue(
        database.client(),
        json!({ "queue": name, "type": "t", "priority": 9, "delay_seconds": 600 }),
    )
    .await;
    queue::enqueue(database.client(), json!({ "queue": name, "type": "t" })).await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "idle", "type": "t", "delay_seconds": 600 }),
    )
    .await;
    let beat = json!({ "agentId": "w", "executorId": name, "status": "idle" });

    database.stop_clock_at("2030-01-01 00:01:30.5Z").await;
    app.api
        .post("/api/collab/workers/heartbeat", &beat)
        .await
        .ok();
    database
        .run("select millrace.pause('idle'); select millrace.configure_queue('idle', concurrency_limit => 3, rate_limit => 40, rate_interval => '1 hour')")
        .await;
    let scrape = Scrape::of(&app).await;
    let age = "millrace_queue_oldest_ready_age_seconds";
    for (family, of_named, of_idle) in [
        (age, 90.5, 0.0),
        ("millrace_queue_paused", 0.0, 1.0),
        ("millrace_workers_active", 1.0, 0.0),
        ("millrace_jobs_enqueued_total", 2.0, 1.0),
        ("millrace_attempts_started_total", 0.0, 0.0),
    ] {
        assert_eq!(
            scrape.value(family, &[("queue", name)]),
            of_named,
            "{family}"
        );
        assert_eq!(
            scrape.value(family, &[("queue", "idle")]),
            of_idle,
            "{family}"
        );
    }
    assert_eq!(
        scrape.value("millrace_queue_concurrency_limit", &[("queue", "idle")]),
        3.0
    );
    for family in ["millrace_queue_rate_limit", "millrace_queue_rate_tokens"] {
        assert_eq!(scrape.value(family, &[("queue", "idle")]), 40.0);
    }
    let limited = scrape
        .samples
        .keys()
        .filter(|(family, _)| family == "millrace_queue_concurrency_limit");
    assert_eq!(limited.count(), 1, "no limit is no sample");

    let lease = queue::claim_one(database.client(), name, "w").await;
    database.stop_clock_at("2030-01-01 00:02:00.5Z").await;
    queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    let scrape = Scrape::of(&app).await;
    assert_eq!(
        scrape.value(age, &[("queue", name)]),
        0.0,
        "what is left is not due"
    );
    assert_eq!(
        scrape.histogram("millrace_enqueue_to_start_seconds", name),
        (1.0, 90.5)
    );
    assert_eq!(
        scrape.histogram("millrace_claim_to_finish_seconds", name),
        (1.0, 30.0)
    );
    for (le, count) in [("10", 0.0), ("30", 1.0), ("60", 1.0)] {
        let labels = [("queue", name), ("le", le)];
        assert_eq!(
            scrape.value("millrace_claim_to_finish_seconds_bucket", &labels),
            count,
            "{le}"
        );
    }
    println!(
        "metrics: {} families, {} samples of 2 queues",
        scrape.types.len(),
        scrape.samples.len()
    );
}

#[tokio::test]
async fn a_scraper_needs_no_more_than_its_own_key() {
    let app = App::start().await;
    let scraping = assert_scope(&app, "metrics", || app.api.bare(Method::GET, "/metrics")).await;
    let reading = assert_scope(&app, "read", || app.api.bare(Method::GET, OVERVIEW)).await;
    println!("metrics: {scraping} kinds of callers scrape, {reading} look at the overview");
    let with_parameters = app.api.get("/metrics?job=millrace").await;
    assert_eq!(
        with_parameters.status, 200,
        "a scraper may be set up to send some"
    );
    let _: Value = app.api.get(OVERVIEW).await.ok();
}
