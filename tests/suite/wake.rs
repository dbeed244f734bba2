//! Wake-up: what is enqueued reaches the handler of its channel at once, without the tick, whichever way it came in; many enqueues
//! make few runs; and a wake-up that is lost, or hangs, harms nobody.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use millrace::channels::{Listener, check, listen};
use millrace::database::{connect_raw, outbound_host};
use millrace::serve::Server;
use millrace_tests::api::Api;
use millrace_tests::app::{App, host, options};
use millrace_tests::channel_manifest::ChannelManifest;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::double::{Double, Reply};
use millrace_tests::program::{Program, command};
use millrace_tests::queue;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

/// An application with the channel `instant`, whose jobs are done at once, and no trigger that fires by itself.
struct Woken {
    app: App,
    key: String,
    manifest: ChannelManifest,
}

impl Woken {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let database = Database::fresh().await;
        let sql = "select millrace.create_api_key('tick', '{tick}')";
        let key: String = database.one(sql, &[]).await.get(0);
        let manifest = ChannelManifest::new("instant", "instant", "");
        let mut all = vec![("tick_key", key.as_str()), ("channels", "instant,other")];
        all.extend(variables);
        let app = App::serve_manifest(manifest.path(), database, &all).await;
        Self { app, key, manifest }
    }

    /// The same application once more, with everything as it should be.
    async fn second(&self) -> Server {
        let database_url = self.app.database.functions_url();
        let host_of = outbound_host(&database_url).expect("an address");
        let variables = [
            ("database_url", database_url),
            ("database_host", host_of),
            ("tick_key", self.key.clone()),
            ("channels", "instant".to_owned()),
        ];
        let variables: BTreeMap<_, _> = variables.map(|(n, v)| (n.to_owned(), v)).into();
        let served = host().await.serve(options(self.manifest.path(), variables));
        served.await.expect("the application serves")
    }

    fn database(&self) -> &Database {
        &self.app.database
    }

    async fn assign(&self) {
        self.app.api.assign_one("instant", "t").await;
    }

    /// Waits until so many jobs have been done, none of which was enqueued by a round.
    async fn done(&self, jobs: i64) {
        eventually("the jobs are done", async || {
            let sql = "select count(*) from millrace.finished";
            let done: i64 = self.database().one(sql, &[]).await.get(0);
            (done >= jobs).then_some(())
        })
        .await;
    }

    async fn listen(&self) -> Listener {
        let listener = listen(self.app.server()).expect("a client");
        let listening = "select from pg_stat_activity where datname = current_database() and query like '%due_channels%' and state = 'idle'";
        eventually("it listens", async || {
            let found = self.database().all(listening, &[]).await;
            (!found.is_empty()).then_some(())
        })
        .await;
        listener.expect("there is something to listen to")
    }
}

/// A round of what is to be done regularly, as the tick calls for it.
async fn round(server: &Server, key: &str) {
    let api = Api::new(&format!("http://{}", server.addr()), key);
    let request = api.request(Method::POST, "/functions/v1/cron-enqueue");
    api.send(request).await.ok();
}

#[tokio::test]
async fn what_is_enqueued_over_http_reaches_its_handler() {
    let woken = Woken::start(&[]).await;
    let (database, api) = (woken.database(), &woken.app.api);
    woken.assign().await;
    woken.done(1).await;

    let tasks = json!({"tasks": [{"type": "t", "executorId": "elsewhere"}, {"type": "t", "executorId": "instant"}]});
    api.assign(tasks).await.ok();
    woken.done(2).await;

    // A dead letter, made where nobody is woken.
    let dead =
        "select millrace.report(c.job_id, c.lease_id, 'w', false, error => 'x', permanent => true)
                  from millrace.claim('instant', 'w') c";
    database
        .run("select millrace.enqueue('instant', 't')")
        .await;
    database.run(dead).await;
    api.post("/functions/v1/dlq-retry", &json!({"all": true}))
        .await
        .ok();
    woken.done(3).await;

    let schedule =
        "select millrace.create_schedule('s', '* * * * * *', 'instant', 't', grace => '1 day')";
    database.run(schedule).await;
    database.set_clock_ahead(3.0).await;
    api.post("/rpc/enqueue_cron_tasks", &json!({})).await;
    woken.done(4).await;
}

#[tokio::test]
async fn a_task_reaches_its_handler_when_it_is_created_and_when_it_is_retried() {
    let woken = Woken::start(&[]).await;
    let api = &woken.app.api;
    let task = json!({ "type": "t", "queue": "instant" });
    api.post("/api/tasks", &task).await.created();
    woken.done(1).await;

    let later = json!({ "type": "t", "queue": "instant", "delaySeconds": 3600 });
    let later = api.post("/api/tasks", &later).await.created();
    let path = format!("/api/tasks/{}", later["id"].as_str().expect("an id"));
    for change in ["cancel", "retry"] {
        let answer = api.post(&format!("{path}/{change}"), &json!({})).await;
        answer.created();
    }
    eventually("the retried task is done", async || {
        (api.get(&path).await.ok()["status"] == "completed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_task_reaches_its_handler_when_graphql_creates_and_retries_it() {
    let woken = Woken::start(&[]).await;
    let api = &woken.app.api;
    let run = async |mutation: &str| {
        api.graphql(&format!("mutation {{ {mutation} }}"))
            .await
            .data()
    };
    run(r#"createTask(input: {type: "t", queue: "instant"}) { id }"#).await;
    woken.done(1).await;

    let later = r#"createTask(input: {type: "t", queue: "instant", delaySeconds: 3600}) { id }"#;
    let id = run(later).await["createTask"]["id"].clone();
    run(&format!("cancelTask(taskId: {id})")).await;
    run(&format!("retryTask(taskId: {id}) {{ id }}")).await;
    woken.done(2).await;
}

#[tokio::test]
async fn a_round_wakes_what_was_not_woken() {
    let woken = Woken::start(&[]).await;
    let sql = "select millrace.enqueue('instant', 't') from generate_series(1, 3)";
    woken.database().run(sql).await; // nobody listens
    round(woken.app.server(), &woken.key).await;
    woken.done(3).await;
}

#[tokio::test]
async fn a_thousand_enqueues_make_few_runs() {
    let woken = Woken::start(&[]).await;
    let start = Instant::now();
    stream::iter(0..1000)
        .for_each_concurrent(16, async |_| woken.assign().await)
        .await;
    let enqueued = start.elapsed();
    woken.done(1000).await;
    let all = start.elapsed();
    let sql = "select count(distinct worker) from millrace.attempt";
    let runs: i64 = woken.database().one(sql, &[]).await.get(0);
    println!("1,000 enqueues in {enqueued:?}, done after {all:?}, in {runs} runs");
    assert!(runs <= 100, "{runs} runs");
    let sql = "select count(*) from millrace.attempt";
    assert_eq!(woken.database().one(sql, &[]).await.get::<_, i64>(0), 1000);
}

#[tokio::test]
async fn a_lost_wake_up_is_made_good_by_the_next_round() {
    // Nobody listens on port 1.
    let nowhere = [
        ("wake_url", "http://127.0.0.1:1"),
        ("wake_host", "http://127.0.0.1:1"),
    ];
    let woken = Woken::start(&nowhere).await;
    let job = queue::enqueue(
        woken.database().client(),
        json!({"queue": "instant", "type": "t"}),
    )
    .await;
    woken.assign().await;
    assert_eq!(
        queue::state(woken.database().client(), job)
            .await
            .as_deref(),
        Some("queued")
    );
    let second = woken.second().await;
    round(&second, &woken.key).await;
    woken.done(2).await;
}

#[tokio::test]
async fn no_answer_waits_for_a_wake_up_and_there_is_one_at_a_time() {
    let silent = Double::start(|_| Reply::Silence).await;
    let at = [
        ("wake_url", silent.url.as_str()),
        ("wake_host", silent.url.as_str()),
    ];
    let woken = Woken::start(&at).await;
    let start = Instant::now();
    for _ in 0..20 {
        woken.assign().await;
    }
    let elapsed = start.elapsed();
    println!("20 enqueues beside a wake-up that hangs: {elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    eventually("the double is called", async || {
        (!silent.seen().is_empty()).then_some(())
    })
    .await;
    let seen = silent.seen();
    assert_eq!(seen[0].method, "POST");
    assert_eq!(seen[0].target, "/channels/instant");
    assert_eq!(seen[0].header("x-api-key"), woken.key);
    assert_eq!(seen[0].header("prefer"), "respond-async");
    assert!(seen.len() <= 3, "{} wake-ups at once", seen.len());
}

#[tokio::test]
async fn what_is_due_later_wakes_nobody_and_without_a_key_nobody_is_woken() {
    let woken = Woken::start(&[("tick_key", "")]).await;
    let database = woken.database();
    database
        .run("select millrace.enqueue('instant', 't', delay => '1 hour')")
        .await;
    let due = async || -> Value {
        let sql =
            "select millrace_api.due_channels('{\"channels\": [\"instant\", \"unheard-of\"]}')";
        database.one(sql, &[]).await.get(0)
    };
    assert_eq!(due().await, json!({"channels": []}));
    woken.assign().await;
    assert_eq!(due().await, json!({"channels": ["instant"]}));
    database.run("select millrace.pause('instant')").await;
    assert_eq!(due().await, json!({"channels": []}));
    let attempts: i64 = database
        .one("select count(*) from millrace.attempt", &[])
        .await
        .get(0);
    assert_eq!(attempts, 0);
    assert!(listen(woken.app.server()).expect("a client").is_none());
}

#[tokio::test]
async fn an_enqueue_in_sql_wakes_a_host_that_listens() {
    let woken = Woken::start(&[]).await;
    let database = woken.database();
    check(woken.app.server())
        .await
        .expect("the channel is ready"); // which makes it known
    let _listener = woken.listen().await;
    database
        .run("begin; select millrace.enqueue('instant', 't'); commit")
        .await;
    woken.done(1).await;
    database.run("do $$ begin perform millrace.enqueue('instant', 't') from generate_series(1, 500); end $$").await;
    woken.done(501).await;

    // The connection goes, and what is enqueued meanwhile is found by the next one.
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like '%due_channels%' and pid <> pg_backend_pid()";
    database.run(sql).await;
    database
        .run("select millrace.enqueue('instant', 't')")
        .await;
    woken.done(502).await;
}

/// A client that listens, and the queues that are notified from now on until somebody notifies "end".
async fn hear(database: &Database) -> (Client, JoinHandle<Vec<String>>) {
    let (client, mut connection) = connect_raw(database.url()).await.expect("a connection");
    let reading = tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            let AsyncMessage::Notification(notification) = message else {
                continue;
            };
            match notification.payload() {
                "end" => break,
                queue => heard.push(queue.to_owned()),
            }
        }
        heard
    });
    client
        .batch_execute("listen millrace_wake")
        .await
        .expect("it listens");
    (client, reading)
}

#[tokio::test]
async fn only_channels_are_notified_and_not_by_functions() {
    let woken = Woken::start(&[]).await;
    let database = woken.database();
    check(woken.app.server())
        .await
        .expect("the channel is ready");
    let (_client, reading) = hear(database).await;
    database
        .run("select millrace.enqueue('elsewhere', 't')")
        .await;
    database
        .run("select millrace.enqueue('instant', 't', delay => '1 hour')")
        .await;
    woken.assign().await;
    database
        .run("begin; select millrace.enqueue('instant', 't') from generate_series(1, 100); commit")
        .await;
    database
        .run("begin; select millrace.enqueue('instant', 't'); rollback")
        .await;
    database.run("notify millrace_wake, 'end'").await;
    assert_eq!(reading.await.expect("what was heard"), ["instant"]);
}

/// Roles have any name, and who made Millrace's roles may grant them without being a function.
#[tokio::test]
async fn an_enqueue_notifies_whatever_its_role_is_called() {
    let database = Database::fresh().await;
    database
        .run("select millrace_api.channel_seen('{\"queue\": \"instant\", \"state\": \"ready\"}')")
        .await;
    let (_client, reading) = hear(&database).await;
    let client = database.connect().await;
    for (role, grants) in [
        ("App-User", "millrace_client to {role}"),
        (
            "App Owner",
            "millrace_client to {role}; grant millrace_functions to {role} with admin option",
        ),
        ("App\"Fn", "millrace_client, millrace_functions to {role}"),
    ] {
        let role = format!("\"{} {}\"", role.replace('"', "\"\""), std::process::id());
        let grants = grants.replace("{role}", &role);
        let sql = format!(
            "create role {role}; grant {grants}; set session authorization {role}; \
             select millrace.enqueue('instant', 't'); reset session authorization; drop role {role}"
        );
        client.batch_execute(&sql).await.expect(&role);
    }
    // A retry, and a job that is given another time, wake as an enqueue does.
    let job = queue::enqueue(
        database.client(),
        json!({"queue": "instant", "type": "t", "delay_seconds": 3600}),
    )
    .await;
    for call in [
        "cancel($1)",
        "retry($1)",
        "reschedule($1, millrace.clock())",
    ] {
        let sql = format!("select millrace.{call}");
        database.one(&sql, &[&job]).await;
    }
    database.run("notify millrace_wake, 'end'").await;
    assert_eq!(reading.await.expect("what was heard"), ["instant"; 4]);
}

/// `serve` over a channel whose handler says `readiness`.
async fn serve(manifest: &ChannelManifest, database: &Database) -> Program {
    let url = database.functions_url();
    let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--manifest"]);
    command
        .arg(manifest.path())
        .env(
            "SPIN_VARIABLE_DATABASE_HOST",
            outbound_host(&url).expect("an address"),
        )
        .env("SPIN_VARIABLE_DATABASE_URL", url)
        .env("SPIN_VARIABLE_COLLAB_API_KEY", "key-0123456789abcdef");
    Program::start(command)
}

fn told(readiness: &str) -> ChannelManifest {
    ChannelManifest::new("told", "behaves", &format!("readiness = \"{readiness}\""))
}

#[tokio::test]
async fn a_start_tells_what_channels_say_and_ends_where_one_is_configured_wrongly() {
    let database = Database::fresh().await;
    let idle = told("idle");
    let program = serve(&idle, &database).await;
    let said = program.until("==> serving").await;
    let line = said
        .lines()
        .find(|line| line.contains("channel-told") && line.contains("idle"));
    let line = line.expect("a line about the channel");
    assert!(
        line.contains("INFO") && line.contains("set the variable readiness"),
        "{line}"
    );
    program.end("TERM").await;

    let wrong = told("readiness_word");
    let (status, said) = serve(&wrong, &database).await.finish().await;
    assert!(!status.success(), "{said}");
    // Instances that the program's end cuts off are told of behind it.
    let error = said
        .lines()
        .find(|line| line.contains("configured wrongly"));
    let error = error.expect("a line about the channel");
    for word in ["channel-told", "readiness_word", "is set wrongly"] {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert!(!said.contains("==> serving"), "{said}");
    assert!(!said.contains("key-0123456789abcdef"), "{said}");
}
