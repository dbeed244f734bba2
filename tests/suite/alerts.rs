//! Alerts: what is told, how often, to a webhook that works, fails or is not there; and that what is told is signed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use futures::future::join_all;
use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::database::{Database, refusal};
use millrace_tests::double::{Double, Reply, Seen};
use millrace_tests::queue::{self, Outcome};
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An application that tells a webhook, which answers as the test says.
struct Alerting {
    app: App,
    hook: Double,
    status: Arc<AtomicU16>,
}

impl Alerting {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let answers = Arc::clone(&status);
        let hook = Double::start(move |_| match answers.load(Ordering::Relaxed) {
            429 => Reply::Answer(429, "retry-after: 120\r\n", vec![]),
            307 => Reply::Answer(307, "location: http://127.0.0.1:1/\r\n", vec![]),
            503 => Reply::Answer(503, "retry-after: 1\r\n", vec![]),
            0 => Reply::HangUp,
            status => Reply::Answer(status, "", b"ok".to_vec()),
        })
        .await;
        let database = Database::fresh().await;
        let app = serve(database, &hook, variables).await;
        Self { app, hook, status }
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    async fn round(&self) -> Value {
        round(&self.app).await.ok()["alerts"].clone()
    }

    /// The types of the messages that came, in their order.
    fn types(&self) -> Vec<String> {
        self.events()
            .iter()
            .map(|event| event["type"].as_str().expect("a type").to_owned())
            .collect()
    }

    /// The messages that came.
    fn events(&self) -> Vec<Value> {
        let seen = self.hook.seen();
        seen.iter()
            .map(|seen| serde_json::from_str(&seen.body).expect("JSON"))
            .collect()
    }

    /// As [`Database::set_clock_ahead`], in minutes.
    async fn minutes_ahead(&self, minutes: f64) {
        self.app.database.set_clock_ahead(minutes * 60.0).await;
    }
}

async fn serve(database: Database, hook: &Double, variables: &[(&str, &str)]) -> App {
    let url = format!("{}/hook?token=hidden", hook.url);
    let mut all = vec![
        ("alert_webhook_url", url.as_str()),
        ("alert_webhook_host", hook.url.as_str()),
        ("alert_webhook_secret", SECRET),
    ];
    all.extend(variables);
    App::serve(database, &all).await
}

async fn round(app: &App) -> Answer {
    app.api
        .send(app.api.request(Method::POST, "/functions/v1/cron-enqueue"))
        .await
}

/// Jobs of a queue that have failed for good.
async fn dead_letters(database: &Database, queue: &str, count: usize) -> Vec<i64> {
    let client = database.client();
    let requests: Vec<Value> = (0..count)
        .map(|n| json!({ "queue": queue, "type": "send", "payload": { "n": n } }))
        .collect();
    queue::enqueue_many(client, &json!(requests))
        .await
        .expect("an enqueue");
    let claimed = queue::claim(client, queue, "w", i32::try_from(count).expect("few")).await;
    assert_eq!(claimed.len(), count);
    let reports: Vec<Value> = claimed
        .iter()
        .map(|one| {
            let mut report = Outcome::Permanent.report(one.job_id, one.lease_id, "w");
            report["error_code"] = json!("bounced");
            report["error"] = json!("550 <no such user> & \"more\"");
            report
        })
        .collect();
    let codes = queue::report_many(client, &json!(reports))
        .await
        .expect("reports");
    assert!(codes.iter().all(Option::is_none));
    claimed.iter().map(|one| one.job_id).collect()
}

/// One of each kind: 25 dead letters in two queues, a job that nobody claims, and a schedule that nobody enqueued.
async fn trouble(database: &Database) {
    dead_letters(database, "mail", 22).await;
    dead_letters(database, "sms", 3).await;
    queue::enqueue(database.client(), json!({ "queue": "stuck", "type": "t" })).await;
    database
        .run("select millrace.create_schedule('often', '*/10 * * * *', 'fed', 't', grace => '30 minutes')")
        .await;
    database.run("select millrace.pause('fed')").await;
}

#[tokio::test]
async fn each_kind_is_told_once_however_many_rounds_there_are() {
    let alerting = Alerting::start(&[]).await;
    trouble(&alerting.app.database).await;
    alerting.minutes_ahead(9.0).await;
    let quiet = alerting.round().await;
    assert_eq!(
        (&quiet["opened"], &quiet["told"]),
        (&json!(0), &json!(0)),
        "too early: {quiet}"
    );

    alerting.minutes_ahead(50.0).await;
    let mut rounds = 1;
    for _ in 0..3 {
        for answer in join_all((0..16).map(|_| round(&alerting.app))).await {
            answer.ok();
            rounds += 1;
        }
    }
    let events = alerting.events();
    let mut types = alerting.types();
    types.sort();
    assert_eq!(
        types,
        [
            "dead_letters.opened",
            "queue_age.opened",
            "schedule_missed.opened"
        ]
    );
    let of = |kind: &str| {
        &events
            .iter()
            .find(|event| event["type"] == format!("{kind}.opened"))
            .expect(kind)["data"]
    };
    let dead = of("dead_letters");
    assert_eq!(
        (&dead["count"], dead["items"].as_array().map(Vec::len)),
        (&json!(25), Some(20))
    );
    let first = &dead["items"][0];
    assert_eq!(
        (
            &first["queue"],
            &first["type"],
            &first["reason"],
            &first["attempts"]
        ),
        (&json!("mail"), &json!("send"), &json!("bounced"), &json!(1))
    );
    assert_eq!(of("queue_age")["items"][0]["queue"], "stuck");
    assert_eq!(of("queue_age")["items"][0]["limitSeconds"], 900);
    assert_eq!(of("schedule_missed")["items"][0]["schedule"], "often");
    assert_eq!(
        of("schedule_missed")["items"][0]["missed"]["outcome"],
        "missed"
    );

    assert_eq!(
        dead["subjects"],
        json!([{ "queue": "mail", "count": 22, "waiting": 22 }, { "queue": "sms", "count": 3, "waiting": 3 }])
    );
    assert_eq!(
        of("schedule_missed")["subjects"],
        json!([{ "schedule": "often" }])
    );
    let open =
        "select kind, subject, told from millrace.alert where resolved_at is null order by 1, 2";
    let open = alerting.app.database.all(open, &[]).await;
    let open: Vec<(String, String, i32)> = open
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let expected = [
        ("dead_letters", "mail"),
        ("dead_letters", "sms"),
        ("queue_age", "stuck"),
        ("schedule_missed", "often"),
    ];
    assert_eq!(
        open,
        expected.map(|(kind, subject)| (kind.to_owned(), subject.to_owned(), 1))
    );
    println!("{rounds} rounds, {} messages", events.len());
}

#[tokio::test]
async fn what_is_told_is_signed_and_shows_no_secret() {
    let alerting = Alerting::start(&[]).await;
    dead_letters(&alerting.app.database, "mail", 1).await;
    alerting.minutes_ahead(11.0).await;
    alerting.answer_with(503);
    assert_eq!(alerting.round().await["failed"], 1);
    alerting.answer_with(204);
    alerting.minutes_ahead(30.0).await;
    assert_eq!(alerting.round().await["delivered"], 1);

    let seen = alerting.hook.seen();
    let [first, second] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(
        first.header("webhook-id"),
        second.header("webhook-id"),
        "the same message"
    );
    assert_eq!(first.body, second.body);
    let verifier = Webhook::new(SECRET).expect("a secret");
    let headers = |seen: &Seen| {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        http_headers(names.map(|name| (name, seen.header(name).to_owned())))
    };
    for seen in &seen {
        verifier
            .verify(seen.body.as_bytes(), &headers(seen))
            .expect("a good signature");
        assert!(
            verifier
                .verify(format!("{} ", seen.body).as_bytes(), &headers(seen))
                .is_err()
        );
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str()),
            ("POST", "/hook?token=hidden")
        );
        assert_eq!(seen.header("content-type"), "application/json");
        let event: Value = serde_json::from_str(&seen.body).expect("JSON");
        let fields: Vec<&String> = event.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["data", "timestamp", "type"]);
    }
    let other = Webhook::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
    assert!(
        other
            .verify(second.body.as_bytes(), &headers(second))
            .is_err()
    );
    let kept: String = alerting
        .app
        .database
        .one("select coalesce(string_agg(a::text, ' '), '') || coalesce(string_agg(j::text, ' '), '') from millrace.attempt a join millrace.job j on j.id = a.job_id", &[])
        .await
        .get(0);
    assert!(
        !kept.contains("hidden") && kept.contains("the webhook answered 503"),
        "{kept}"
    );
}

fn http_headers(headers: [(&'static str, String); 3]) -> reqwest::header::HeaderMap {
    headers
        .into_iter()
        .map(|(name, value)| {
            (
                reqwest::header::HeaderName::from_static(name),
                value.parse().expect("a value"),
            )
        })
        .collect()
}

#[tokio::test]
async fn two_secrets_make_two_signatures_and_none_makes_none() {
    let second = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    for (secrets, count) in [(format!("{SECRET} {second}"), 2), (String::new(), 0)] {
        let alerting = Alerting::start(&[("alert_webhook_secret", &secrets)]).await;
        dead_letters(&alerting.app.database, "mail", 1).await;
        alerting.minutes_ahead(11.0).await;
        alerting.round().await;
        let seen = alerting.hook.seen().pop().expect("a message");
        let signature = seen.header("webhook-signature");
        assert_eq!(signature.split_whitespace().count(), count, "{signature}");
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers = http_headers(names.map(|name| (name, seen.header(name).to_owned())));
        for secret in secrets.split_whitespace() {
            Webhook::new(secret)
                .expect("a secret")
                .verify(seen.body.as_bytes(), &headers)
                .expect("a good signature");
        }
    }
}

#[tokio::test]
async fn what_goes_on_is_told_again_after_a_day_and_once_more_when_it_is_over() {
    let alerting = Alerting::start(&[]).await;
    let database = &alerting.app.database;
    let jobs = dead_letters(database, "mail", 3).await;
    queue::enqueue(database.client(), json!({ "queue": "stuck", "type": "t" })).await;
    let day = 24.0 * 60.0;
    for (minutes, told) in [
        (20.0, 2),
        (day, 0),
        (day + 21.0, 2),
        (day + 40.0, 0),
        (2.0 * day + 10.0, 0),
        (2.0 * day + 22.0, 2),
    ] {
        alerting.minutes_ahead(minutes).await;
        for told in [told, 0] {
            let did = alerting.round().await;
            assert_eq!(
                (&did["told"], &did["delivered"]),
                (&json!(told), &json!(told)),
                "at {minutes} min"
            );
        }
    }
    let repeated = &alerting.events()[2..];
    assert!(
        repeated.iter().all(|event| event["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with(".repeated"))),
        "{repeated:?}"
    );
    let waiting = repeated
        .iter()
        .find(|event| event["type"] == "dead_letters.repeated")
        .expect("dead letters");
    assert_eq!(
        waiting["data"]["items"],
        json!([{ "queue": "mail", "waiting": 3 }])
    );

    // One is replayed, one retried, one acknowledged: only with the last of them it is over.
    let letters = database
        .all("select id from millrace.dead_letter order by id", &[])
        .await;
    let letters: Vec<i64> = letters.iter().map(|row| row.get(0)).collect();
    let told = async |statement: String| {
        database.run(&statement).await;
        alerting.round().await["told"].clone()
    };
    assert_eq!(
        told(format!("select millrace.replay({})", letters[0])).await,
        0
    );
    assert_eq!(told(format!("select millrace.retry({})", jobs[1])).await, 0);
    assert_eq!(
        told(format!("select millrace.acknowledge({})", letters[2])).await,
        1
    );
    assert_eq!(
        alerting.types().last().map(String::as_str),
        Some("dead_letters.recovered")
    );
    queue::claim_one(database.client(), "stuck", "w").await;
    // The replay and the retry wait in their own queue, not for long yet.
    assert_eq!(alerting.round().await["told"], 1);
    assert_eq!(
        alerting.types().last().map(String::as_str),
        Some("queue_age.recovered")
    );
    for _ in 0..3 {
        assert_eq!(alerting.round().await["told"], 0);
    }
    let open = "select count(*) from millrace.alert where resolved_at is null";
    assert_eq!(database.one(open, &[]).await.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn further_dead_letters_are_gathered_and_each_is_told_once() {
    let alerting = Alerting::start(&[]).await;
    let database = &alerting.app.database;
    dead_letters(database, "mail", 2).await;
    alerting.minutes_ahead(3.0).await;
    dead_letters(database, "mail", 3).await;
    alerting.minutes_ahead(11.0).await;
    assert_eq!(alerting.round().await["told"], 1);
    alerting.minutes_ahead(14.0).await;
    assert_eq!(
        alerting.round().await["told"],
        0,
        "old enough, but gathered"
    );
    dead_letters(database, "mail", 4).await;
    alerting.minutes_ahead(17.0).await;
    assert_eq!(alerting.round().await["told"], 1);
    alerting.minutes_ahead(23.5).await;
    assert_eq!(alerting.round().await["told"], 0, "the others are young");
    dead_letters(database, "mail", 1).await;
    alerting.minutes_ahead(25.0).await;
    assert_eq!(alerting.round().await["told"], 1);
    alerting.minutes_ahead(40.0).await;
    database
        .run("select millrace.acknowledge_queue('mail')")
        .await;
    assert_eq!(alerting.round().await["told"], 1);
    let told: Vec<(String, Value)> = alerting
        .events()
        .iter()
        .map(|event| {
            (
                event["type"].as_str().expect("a type").to_owned(),
                event["data"]["count"].clone(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("dead_letters.opened".to_owned(), json!(2)),
            ("dead_letters.more".to_owned(), json!(3)),
            ("dead_letters.more".to_owned(), json!(4)),
            ("dead_letters.recovered".to_owned(), json!(1))
        ]
    );

    // What dies after that is told of anew.
    dead_letters(database, "mail", 1).await;
    alerting.minutes_ahead(60.0).await;
    assert_eq!(alerting.round().await["told"], 1);
    assert_eq!(
        alerting.types().last().map(String::as_str),
        Some("dead_letters.opened")
    );
}

#[tokio::test]
async fn a_schedule_that_missed_its_time_is_told_and_again_when_it_runs_in_time() {
    let alerting = Alerting::start(&[]).await;
    let database = &alerting.app.database;
    database.stop_clock_at("2026-03-01 00:00:30Z").await;
    database
        .run("select millrace.create_schedule('nightly', '0 3 * * *', 'q', 't')")
        .await;
    database
        .run("select millrace.create_schedule('paused', '0 3 * * *', 'q', 't'), millrace.create_schedule('monthly', '0 3 2 * *', 'q', 't')")
        .await;
    database.run("select millrace.pause('q')").await;
    database.stop_clock_at("2026-03-01 03:01:59Z").await;
    database
        .run("select millrace.pause_schedule('paused')")
        .await;
    assert_eq!(
        alerting.round().await["opened"],
        0,
        "in time is within its grace"
    );

    database.stop_clock_at("2026-03-02 05:00:00Z").await;
    for told in [1, 0, 0] {
        assert_eq!(alerting.round().await["told"], told);
    }
    let items = alerting.events()[0]["data"]["items"].clone();
    let mut items = items.as_array().expect("items").clone();
    items.sort_by_key(|item| item["schedule"].to_string());
    assert_eq!(
        (items.len(), &items[0]["schedule"], &items[1]["schedule"]),
        (2, &json!("monthly"), &json!("nightly"))
    );
    let item = &items[1];
    assert_eq!(item["overdue"], false);
    assert_eq!(
        item["missed"],
        json!({ "dueAt": "2026-03-02T03:00:00+00:00", "outcome": "enqueued" }),
        "late, though it ran"
    );
    assert_eq!(item["nextRunAt"], "2026-03-03T03:00:00+00:00");
    database.stop_clock_at("2026-03-03 02:00:00Z").await;
    assert_eq!(alerting.round().await["told"], 0);
    database.stop_clock_at("2026-03-03 03:00:05Z").await;
    assert_eq!(alerting.round().await["told"], 1);
    assert_eq!(
        alerting.types(),
        ["schedule_missed.opened", "schedule_missed.recovered"]
    );

    // Where nobody enqueues at all it is overdue, and that is repeated. Of the monthly one there is nothing more to say.
    for (at, told) in [
        ("2026-03-04 03:01:00Z", 0),
        ("2026-03-04 03:02:05Z", 1),
        ("2026-03-04 20:00:00Z", 0),
        ("2026-03-05 03:02:10Z", 1),
    ] {
        database.stop_clock_at(at).await;
        let row = database
            .one("select (millrace.raise_alerts() ->> 'told')::int", &[])
            .await;
        assert_eq!(row.get::<_, i32>(0), told, "{at}");
    }
    alerting.round().await;
    assert_eq!(
        alerting.types()[2..],
        ["schedule_missed.opened", "schedule_missed.repeated"].map(str::to_owned)
    );
}

#[tokio::test]
async fn a_webhook_that_is_down_for_hours_gets_everything_once_and_in_order() {
    let alerting = Alerting::start(&[]).await;
    let database = &alerting.app.database;
    let mut ids = Vec::new();
    let mut minutes = 11.0;
    dead_letters(database, "mail", 1).await;
    for status in [500, 0, 503, 307, 408, 502] {
        alerting.answer_with(status);
        alerting.minutes_ahead(minutes).await;
        alerting.round().await;
        dead_letters(database, "mail", 1).await;
        minutes += 20.0;
    }
    let tried = alerting.hook.seen().len();
    assert!(tried >= 6, "{tried}");
    alerting.answer_with(200);
    for _ in 0..4 {
        alerting.minutes_ahead(minutes).await;
        alerting.round().await;
        minutes += 20.0;
    }
    for seen in &alerting.hook.seen()[tried..] {
        ids.push(seen.header("webhook-id").to_owned());
    }
    let came: i64 = alerting.events()[tried..]
        .iter()
        .map(|event| event["data"]["count"].as_i64().expect("a count"))
        .sum();
    assert_eq!(came, 7, "every dead letter in one message");
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    let types = &alerting.types()[tried..];
    assert_eq!(types[0], "dead_letters.opened");
    assert!(
        types[1..].iter().all(|kind| kind == "dead_letters.more"),
        "{types:?}"
    );
    let times: Vec<String> = alerting.events()[tried..]
        .iter()
        .map(|event| event["timestamp"].as_str().expect("a time").to_owned())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    println!("{tried} attempts in vain, {} messages", ids.len());
}

#[tokio::test]
async fn a_webhook_says_for_how_long_it_wants_to_be_left_alone() {
    let alerting = Alerting::start(&[]).await;
    let database = &alerting.app.database;
    dead_letters(database, "mail", 1).await;
    alerting.answer_with(429);
    alerting.minutes_ahead(11.0).await;
    assert_eq!(alerting.round().await["failed"], 1);
    alerting.answer_with(200);
    alerting.minutes_ahead(12.5).await;
    assert_eq!(
        alerting.round().await["delivered"],
        0,
        "within its two minutes"
    );
    alerting.minutes_ahead(13.5).await;
    assert_eq!(alerting.round().await["delivered"], 1);
}

#[tokio::test]
async fn a_message_that_is_refused_is_a_dead_letter_of_which_no_alert_tells() {
    let alerting = Alerting::start(&[]).await;
    let database = &alerting.app.database;
    dead_letters(database, "mail", 1).await;
    alerting.answer_with(422);
    alerting.minutes_ahead(11.0).await;
    assert_eq!(alerting.round().await["failed"], 1);
    alerting.answer_with(200);
    for minutes in [30.0, 60.0, 120.0] {
        alerting.minutes_ahead(minutes).await;
        let did = alerting.round().await;
        assert_eq!((&did["opened"], &did["delivered"]), (&json!(0), &json!(0)));
    }
    let list = alerting
        .app
        .api
        .get("/functions/v1/dlq-list?executorId=millrace.alerts")
        .await
        .ok();
    let item = &list["items"][0];
    assert_eq!(
        (&list["count"], &item["reason"], &item["error"]),
        (
            &json!(1),
            &json!("webhook_refused"),
            &json!("the webhook answered 422")
        )
    );
    // Once the webhook is put right, it is replayed like any other.
    let answer = alerting
        .app
        .api
        .post("/functions/v1/dlq-retry", &json!({ "dlqId": item["id"] }))
        .await;
    answer.ok();
    assert_eq!(alerting.round().await["delivered"], 1);
    let seen = alerting.hook.seen();
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
}

#[tokio::test]
async fn without_a_webhook_nothing_is_enqueued_and_with_one_later_what_is_open_is_told() {
    let app = App::start().await;
    let (url, functions_url) = (app.database.url().to_owned(), app.database.functions_url());
    trouble(&app.database).await;
    queue::enqueue(
        app.database.client(),
        json!({ "queue": "over", "type": "t" }),
    )
    .await;
    app.database.set_clock_ahead(3000.0).await;
    let did = round(&app).await.ok()["alerts"].clone();
    assert_eq!((&did["opened"], &did["told"]), (&json!(5), &json!(0)));
    queue::claim_one(app.database.client(), "over", "w").await;
    for _ in 0..3 {
        let did = round(&app).await.ok()["alerts"].clone();
        assert_eq!((&did["opened"], &did["told"]), (&json!(0), &json!(0)));
    }
    let made = "select count(*) from millrace.job j join millrace.queue q on q.id = j.queue_id where q.name = 'millrace.alerts'";
    assert_eq!(app.database.one(made, &[]).await.get::<_, i64>(0), 0);
    app.shutdown().await;

    let hook = Double::start(|_| Reply::json(200, "{}")).await;
    let database = Database::open(&url)
        .await
        .with_functions_url(&functions_url);
    let app = serve(database, &hook, &[]).await;
    let did = round(&app).await.ok()["alerts"].clone();
    assert_eq!((&did["told"], &did["delivered"]), (&json!(3), &json!(3)));
    let bodies: Vec<Value> = hook
        .seen()
        .iter()
        .map(|seen| serde_json::from_str(&seen.body).expect("JSON"))
        .collect();
    let dead = bodies
        .iter()
        .find(|body| body["type"] == "dead_letters.opened")
        .expect("dead letters");
    assert_eq!(dead["data"]["count"], 25);
}

#[tokio::test]
async fn slack_gets_a_text_with_nothing_in_it_that_slack_would_act_on() {
    let alerting = Alerting::start(&[("alert_webhook_format", "slack")]).await;
    trouble(&alerting.app.database).await;
    alerting.minutes_ahead(50.0).await;
    assert_eq!(alerting.round().await["delivered"], 3);
    let texts: Vec<String> = alerting
        .events()
        .iter()
        .map(|body| {
            assert_eq!(
                body.as_object().map(serde_json::Map::len),
                Some(1),
                "{body}"
            );
            body["text"].as_str().expect("a text").to_owned()
        })
        .collect();
    for text in &texts {
        assert!(
            text.starts_with("*Millrace: ") && text.chars().count() < 2000,
            "{text}"
        );
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
    }
    let dead = texts
        .iter()
        .find(|text| text.contains("failed for good"))
        .expect("dead letters");
    assert!(
        dead.contains("(25)")
            && dead.contains("\nmail: 22, sms: 3\n")
            && dead.contains("mail / send")
            && dead.contains("550 &lt;no such user&gt; &amp;"),
        "{dead}"
    );
    assert!(
        texts
            .iter()
            .any(|text| text.contains("• stuck: the oldest for 50 min, the limit is 15 min")),
        "{texts:?}"
    );
    assert!(
        texts
            .iter()
            .any(|text| text.contains("• often: missed at ")),
        "{texts:?}"
    );
}

#[tokio::test]
async fn a_webhook_that_is_configured_wrongly_is_told_without_its_value() {
    let mut cases = 0;
    for (name, value) in [
        ("alert_webhook_url", "sesame"),
        ("alert_webhook_url", "ftp://sesame/"),
        ("alert_webhook_url", "https://user:sesame@127.0.0.1/"),
        ("alert_webhook_format", "sesame"),
        ("alert_webhook_secret", "sesame"),
        ("alert_webhook_secret", "whsec_c2VzYW1l"),
        ("alert_webhook_host", "https://sesame.invalid"),
    ] {
        let alerting = Alerting::start(&[(name, value)]).await;
        dead_letters(&alerting.app.database, "mail", 1).await;
        alerting.minutes_ahead(11.0).await;
        let answer = round(&alerting.app).await;
        answer.assert_refused(500, "round_incomplete");
        assert_eq!(answer.json()["details"], "alerts: misconfigured", "{name}");
        assert!(!answer.text.contains("sesame"), "{}", answer.text);
        assert!(alerting.hook.seen().is_empty());
        // The message waits until that is put right.
        let database = &alerting.app.database;
        let database = Database::open(database.url())
            .await
            .with_functions_url(&database.functions_url());
        database.set_clock_ahead(1800.0).await;
        let right = serve(database, &alerting.hook, &[]).await;
        assert_eq!(round(&right).await.ok()["alerts"]["delivered"], 1, "{name}");
        cases += 1;
    }
    println!("{cases} wrong variables");
}

#[tokio::test]
async fn a_queue_has_its_own_limit_and_a_paused_one_waits_for_as_long_as_it_likes() {
    let database = Database::fresh().await;
    for name in ["own", "default", "paused", "later"] {
        let later = name == "later";
        queue::enqueue(
            database.client(),
            json!({ "queue": name, "type": "t", "delay_seconds": if later { 3600 } else { 0 } }),
        )
        .await;
    }
    database.run("select millrace.configure_queue('own', alert_age => '1 minute'), millrace.pause('paused')").await;
    let late = async |seconds: f64| -> Vec<String> {
        database.set_clock_ahead(seconds).await;
        database.run("select millrace.raise_alerts()").await;
        let rows = database
            .all(
                "select subject from millrace.alert where resolved_at is null order by 1",
                &[],
            )
            .await;
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert!(late(50.0).await.is_empty());
    assert_eq!(late(70.0).await, ["own"]);
    assert_eq!(late(1000.0).await, ["default", "own"]);
    assert_eq!(late(3700.0).await, ["default", "own"]);
    assert_eq!(late(4600.0).await, ["default", "later", "own"]);
    database
        .run("select millrace.configure_queue('own', alert_age => '0'), millrace.pause('default')")
        .await;
    assert_eq!(late(4700.0).await, ["later", "own"]);
    database
        .run("update millrace.alert_settings set ready_after = '3 hours'")
        .await;
    assert!(late(4800.0).await.is_empty());
    let negative = database
        .client()
        .execute(
            "select millrace.configure_queue('own', alert_age => '-1 s')",
            &[],
        )
        .await;
    assert_eq!(
        refusal(&negative.expect_err("a limit below 0")),
        ("PT400".to_owned(), "invalid_request".to_owned())
    );
}

#[tokio::test]
async fn a_dead_letter_is_acknowledged_by_its_id_or_with_its_queue() {
    let database = Database::fresh().await;
    dead_letters(&database, "a", 3).await;
    dead_letters(&database, "b", 1).await;
    let unknown = database
        .client()
        .execute("select millrace.acknowledge(999)", &[])
        .await;
    assert_eq!(
        refusal(&unknown.expect_err("no such dead letter")),
        ("PT404".to_owned(), "dead_letter_not_found".to_owned())
    );
    database
        .run("select millrace.acknowledge(1), millrace.acknowledge(1)")
        .await;
    let count = database.one("select millrace.acknowledge_queue('a'), millrace.acknowledge_queue('a'), millrace.acknowledge_queue('none')", &[]).await;
    assert_eq!(
        (
            count.get::<_, i64>(0),
            count.get::<_, i64>(1),
            count.get::<_, i64>(2)
        ),
        (2, 0, 0)
    );
    database.set_clock_ahead(3600.0).await;
    database.run("select millrace.raise_alerts()").await;
    let subject = database
        .one("select subject from millrace.alert", &[])
        .await;
    assert_eq!(subject.get::<_, &str>(0), "b");
}

#[tokio::test]
async fn alerts_that_are_over_are_kept_for_a_while() {
    let database = Database::fresh().await;
    queue::enqueue(database.client(), json!({ "queue": "stuck", "type": "t" })).await;
    let alerts = async |days: f64| -> i64 {
        database.set_clock_ahead(days * 86400.0).await;
        database
            .run("select millrace.raise_alerts(tell => false)")
            .await;
        database
            .one("select count(*) from millrace.alert", &[])
            .await
            .get(0)
    };
    assert_eq!(alerts(1.0).await, 1);
    queue::claim_one(database.client(), "stuck", "w").await;
    assert_eq!(alerts(2.0).await, 1);
    assert_eq!(alerts(91.0).await, 1);
    assert_eq!(alerts(93.0).await, 0);
}

/// Rounds without a webhook's part: returns the data of the messages that they made, with their types.
async fn told(database: &Database, rounds: usize) -> Vec<Value> {
    let made = "select j.id, j.payload from millrace.job j join millrace.queue q on q.id = j.queue_id where q.name = 'millrace.alerts' order by 1";
    let before = database.all(made, &[]).await.len();
    for _ in 0..rounds {
        database.run("select millrace.raise_alerts()").await;
    }
    let messages = database.all(made, &[]).await;
    messages[before..].iter().map(|row| row.get(1)).collect()
}

/// The names in a field of the messages' subjects.
fn subjects(messages: &[Value], field: &str) -> Vec<String> {
    let all = messages
        .iter()
        .flat_map(|message| message["data"]["subjects"].as_array().expect("subjects"));
    all.map(|subject| subject[field].as_str().expect(field).to_owned())
        .collect()
}

#[tokio::test]
async fn however_many_alerts_there_are_each_is_named_in_one_message() {
    let database = Database::fresh().await;
    database
        .run("select count(millrace.create_schedule('s' || n, '* * * * *', 'scheduled', 't', catch_up => 'none')) from generate_series(1, 450) as n")
        .await;
    for n in 0..250 {
        queue::enqueue(
            database.client(),
            json!({ "queue": format!("q{n}"), "type": "t", "max_attempts": 1 }),
        )
        .await;
    }
    // A worker that takes them all and fails.
    database
        .run("select millrace.report_many((select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'succeeded', false))
                                            from millrace.queue q cross join lateral millrace.claim(q.name, 'w') as c where q.name like 'q%'))")
        .await;
    database.set_clock_ahead(7200.0).await;
    database.run("select millrace.enqueue_due()").await;
    // The jobs that they made are not this test's.
    database.run("select millrace.pause('scheduled')").await;

    let messages = told(&database, 5).await;
    let of = |kind: &str| -> Vec<Value> {
        let is_kind = |message: &&Value| message["type"] == kind;
        messages.iter().filter(is_kind).cloned().collect()
    };
    for (kind, field, count) in [
        ("schedule_missed.opened", "schedule", 450),
        ("dead_letters.opened", "queue", 250),
    ] {
        let mut named = subjects(&of(kind), field);
        assert_eq!(named.len(), count, "{kind}");
        named.sort();
        named.dedup();
        assert_eq!(named.len(), count, "{kind}: each once");
        for message in of(kind) {
            let items = message["data"]["items"].as_array().map(Vec::len);
            assert_eq!(items, Some(20), "{kind}");
        }
    }
    assert_eq!(messages.len(), 5);

    // Missed again, as many messages tell of it.
    database.set_clock_ahead(14400.0).await;
    database.run("select millrace.enqueue_due()").await;
    let more = told(&database, 5).await;
    assert_eq!(subjects(&more, "schedule").len(), 450);
    assert!(
        more.iter()
            .all(|message| message["type"] == "schedule_missed.more"),
        "{more:?}"
    );
    println!(
        "450 schedules and 250 queues in {} messages",
        messages.len()
    );
}

#[tokio::test]
async fn a_heap_of_dead_letters_is_one_message_with_its_count() {
    let database = Database::fresh().await;
    dead_letters(&database, "mail", 1).await;
    let copy = async |count: i32| {
        database
            .run(&format!(
                "insert into millrace.dead_letter (job_id, queue_id, attempts, reason, dead_at)
                 select -(random() * 1e15)::bigint, d.queue_id, 1, 'failed', millrace.clock()
                   from (select queue_id from millrace.dead_letter limit 1) as d, generate_series(1, {count})"
            ))
            .await;
    };
    copy(3999).await;
    database.set_clock_ahead(660.0).await;
    let first = told(&database, 3).await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["data"]["count"], 4000);
    assert_eq!(first[0]["data"].get("capped"), None);
    copy(50_000).await;
    database.set_clock_ahead(1320.0).await;
    let more = told(&database, 3).await;
    assert_eq!(more.len(), 1, "{more:?}");
    assert_eq!(
        (&more[0]["type"], &more[0]["data"]["subjects"]),
        (
            &json!("dead_letters.more"),
            &json!([{ "queue": "mail", "count": 10000, "waiting": 10000, "capped": true }])
        )
    );
    database.set_clock_ahead(7200.0).await;
    assert!(told(&database, 3).await.is_empty(), "all were told of");
}

#[tokio::test]
async fn a_queue_whose_age_goes_to_and_fro_is_told_once() {
    let database = Database::fresh().await;
    queue::enqueue(database.client(), json!({ "queue": "stuck", "type": "t" })).await;
    database.set_clock_ahead(905.0).await;
    // The clock may not go back, so the limit goes to and fro instead.
    let limit = async |seconds: i32| {
        database
            .run(&format!(
                "select millrace.configure_queue('stuck', alert_age => '{seconds} s')"
            ))
            .await;
    };
    let mut messages = Vec::new();
    let mut rounds = 0;
    for _ in 0..60 {
        for seconds in [910, 900] {
            limit(seconds).await;
            messages.extend(told(&database, 1).await);
            rounds += 1;
        }
    }
    assert_eq!(messages.len(), 1, "{messages:?}");

    // Paused and resumed it is late again at once.
    database.run("select millrace.pause('stuck')").await;
    assert_eq!(told(&database, 2).await.len(), 1, "recovered");
    database.run("select millrace.resume('stuck')").await;
    assert!(told(&database, 2).await.is_empty(), "not within minutes");
    database.set_clock_ahead(1300.0).await;
    assert_eq!(told(&database, 2).await.len(), 1);
    limit(2700).await;
    let over = told(&database, 1).await;
    assert_eq!(over[0]["type"], "queue_age.recovered", "below half");
    println!("{rounds} rounds, {} message", messages.len());
}

#[tokio::test]
async fn a_schedule_that_is_renamed_is_still_the_one_that_missed_its_time() {
    let database = Database::fresh().await;
    database
        .run("select millrace.create_schedule('old', '* * * * *', 'scheduled', 't', grace => '2 minutes')")
        .await;
    database.set_clock_ahead(3600.0).await;
    assert_eq!(subjects(&told(&database, 1).await, "schedule"), ["old"]);
    database
        .run("update millrace.schedule set slug = 'new' where slug = 'old'")
        .await;
    assert!(told(&database, 2).await.is_empty());
    database.set_clock_ahead(2.0 * 86400.0).await;
    let repeated = told(&database, 1).await;
    assert_eq!(repeated[0]["type"], "schedule_missed.repeated");
    assert_eq!(subjects(&repeated, "schedule"), ["new"]);
}

#[tokio::test]
async fn a_webhook_that_is_down_for_a_day_and_asks_for_short_waits_costs_no_message() {
    let alerting = Alerting::start(&[]).await;
    dead_letters(&alerting.app.database, "mail", 1).await;
    alerting.answer_with(503);
    let (first, rounds) = (11.0, 24 * 30);
    for round in 0..rounds {
        alerting.minutes_ahead(first + 2.0 * f64::from(round)).await;
        alerting.round().await;
    }
    let tried = alerting.hook.seen().len();
    assert!((100..300).contains(&tried), "{tried}");
    alerting.answer_with(200);
    let end = first + 24.0 * 60.0;
    alerting.minutes_ahead(end).await;
    alerting.round().await;
    alerting.minutes_ahead(end + 11.0).await;
    alerting.round().await;
    let came = alerting.hook.seen()[tried..].to_vec();
    let first = alerting.hook.seen()[0].header("webhook-id").to_owned();
    assert_eq!(came[0].header("webhook-id"), first);
    assert_eq!(alerting.types()[tried], "dead_letters.opened");
    println!("{rounds} rounds in a day: {tried} attempts in vain");
}

#[tokio::test]
async fn what_may_be_put_right_at_the_webhook_is_tried_again() {
    let alerting = Alerting::start(&[]).await;
    dead_letters(&alerting.app.database, "mail", 1).await;
    let mut minutes = 11.0;
    for status in [401, 403, 404, 410] {
        alerting.answer_with(status);
        alerting.minutes_ahead(minutes).await;
        assert_eq!(alerting.round().await["failed"], 1, "{status}");
        minutes += 10.0;
    }
    alerting.answer_with(200);
    alerting.minutes_ahead(minutes).await;
    assert_eq!(alerting.round().await["delivered"], 1);
}

#[tokio::test]
async fn no_key_puts_anything_into_the_queue_of_alerts_or_takes_any_out() {
    let alerting = Alerting::start(&[]).await;
    let (app, database) = (&alerting.app, &alerting.app.database);
    let task = json!({ "type": "alert", "executorId": "millrace.alerts" });
    let claim = json!({ "executorId": "millrace.alerts", "workerId": "w", "leaseSeconds": 60 });
    let many = json!({ "tasks": [{ "type": "t", "executorId": "mine" }, task] });
    for (path, body) in [
        ("/api/collab/task.assign", &task),
        ("/api/collab/task.assign", &many),
        ("/api/collab/task.claim", &claim),
    ] {
        let answer = app.api.post(path, body).await;
        answer.assert_refused(400, "invalid_request");
        assert_eq!(
            answer.json()["error"],
            "executorId names a queue that is Millrace's own"
        );
    }
    let schedule = database
        .client()
        .execute(
            "select millrace.create_schedule('s', '* * * * *', 'millrace.alerts', 'alert')",
            &[],
        )
        .await;
    assert_eq!(
        refusal(&schedule.expect_err("its queue is not free")),
        ("PT400".to_owned(), "invalid_request".to_owned())
    );
    dead_letters(database, "mail", 1).await;
    alerting.minutes_ahead(11.0).await;
    let did = alerting.round().await;
    assert_eq!((&did["delivered"], &did["failed"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn what_was_told_is_delivered_by_a_round_that_can_raise_no_alert() {
    let alerting = Alerting::start(&[]).await;
    let database = &alerting.app.database;
    dead_letters(database, "mail", 1).await;
    alerting.minutes_ahead(11.0).await;
    database.run("select millrace.raise_alerts()").await;
    database
        .rewrite_function(
            "millrace.open_alerts(timestamptz)",
            "begin",
            "begin perform 1 / 0;",
        )
        .await;
    let answer = round(&alerting.app).await;
    answer.assert_refused(500, "round_incomplete");
    assert_eq!(answer.json()["details"], "alerts: internal_error");
    assert_eq!(alerting.types(), ["dead_letters.opened"]);
}

#[tokio::test]
async fn a_message_that_is_not_enqueued_does_not_count_as_told() {
    let database = Database::fresh().await;
    dead_letters(&database, "mail", 1).await;
    database
        .run("select millrace.enqueue('millrace.alerts', 'alert', idempotency_key => 'opened:1:1')")
        .await;
    database.set_clock_ahead(660.0).await;
    let refused = database
        .client()
        .execute("select millrace.raise_alerts()", &[])
        .await;
    assert!(refused.is_err());
    let told = "select count(*) from millrace.alert where told > 0";
    assert_eq!(database.one(told, &[]).await.get::<_, i64>(0), 0);
}
