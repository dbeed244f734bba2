//! Every permission that is denied, seen from outside: the functions' role, their hosts, their variables.

use std::collections::{BTreeMap, BTreeSet};

use millrace::manifest::Manifest;
use millrace::serve::Server;
use millrace_tests::app::{App, host, manifest, options};
use millrace_tests::database::Database;
use millrace_tests::program::{command, run};
use millrace_tests::scratch::Scratch;
use reqwest::{Client, Method};

/// The fixture that runs any statement, served for the test's database.
struct Probe {
    server: Server,
    database: Database,
    client: Client,
    _scratch: Scratch,
}

impl Probe {
    async fn start() -> Self {
        let (scratch, database) = (Scratch::new(), Database::fresh().await);
        let address = millrace::database::outbound_host(database.url()).expect("an address");
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../target/wasm32-wasip2/component/fixture_probe.wasm"
        );
        let text = format!(
            "spin_manifest_version = 2\n[application]\nname = \"denied\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"probe\"\n\
             [component.probe]\nsource = \"{source}\"\nallowed_outbound_hosts = [\"{address}\"]\n"
        );
        let file = scratch.path().join("spin.toml");
        std::fs::write(&file, text).expect("a manifest");
        let server = host()
            .await
            .serve(options(file, BTreeMap::new()))
            .await
            .expect("the fixture serves");
        Self {
            server,
            database,
            client: Client::new(),
            _scratch: scratch,
        }
    }

    /// What comes of a statement that a component runs with the functions' login.
    async fn run(&self, statement: &str) -> String {
        let request = self
            .client
            .get(format!("http://{}/sql", self.server.addr()));
        let request = request
            .header("address", self.database.functions_url())
            .header("argument", statement);
        request
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("a body")
    }
}

#[tokio::test]
async fn the_functions_role_can_call_the_api_and_nothing_else() {
    let probe = Probe::start().await;
    let allowed = probe
        .run("select millrace_api.collab_health('{}')::text")
        .await;
    assert!(allowed.contains("timestamp"), "{allowed}");

    let sql = "select format('select from %I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname like 'millrace%' and c.relkind in ('r', 'p', 'v', 'm', 'S') \
               union all \
               select format('select %I.%I(%s)', n.nspname, p.proname, (select string_agg(format('null::%s', format_type(t, null)), ', ') from unnest(p.proargtypes) t)) \
               from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'millrace' and p.prokind = 'f'";
    let found = probe.database.all(sql, &[]).await;
    let mut statements: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    assert!(
        statements.len() > 60,
        "tables and functions: {}",
        statements.len()
    );
    statements.extend(
        [
            "insert into millrace.ready values (1, now(), 1, 1)",
            "delete from millrace.job",
            "truncate millrace.lease",
            "create table millrace.mine ()",
            "create table public.mine ()",
            "create function millrace_api.mine() returns int language sql as 'select 1'",
            "create or replace function millrace_api.collab_health(jsonb) returns jsonb language sql as 'select null::jsonb'",
            "create schema mine",
            "create role mine",
            "alter role millrace_functions superuser",
            "set role postgres",
            "select pg_read_file('postmaster.pid')",
            "select rolpassword from pg_authid",
            "copy (select 1) to program 'true'",
        ]
        .map(str::to_owned),
    );
    for statement in &statements {
        let answer = probe.run(statement).await;
        let refused = ["42501", "permission denied", "must be"]
            .iter()
            .any(|word| answer.contains(word));
        assert!(
            answer.starts_with("error") && refused,
            "{statement}: {answer}"
        );
    }
    println!(
        "{} statements by the functions' login, all refused",
        statements.len()
    );
}

#[tokio::test]
async fn a_function_reaches_only_the_host_that_it_may() {
    let app = App::start_with(&[("database_host", "postgres://127.0.0.1:1")]).await;
    for (method, path, body) in [
        (Method::GET, "/api/collab/health", ""),
        (Method::GET, "/api/collab/workers/active", ""),
        (
            Method::POST,
            "/api/collab/task.claim",
            r#"{"executorId":"e","workerId":"w"}"#,
        ),
    ] {
        let request = app
            .api
            .request(method, path)
            .header("content-type", "application/json")
            .body(body);
        app.api
            .send(request)
            .await
            .assert_refused(503, "database_unavailable");
    }
}

#[tokio::test]
async fn a_database_that_refuses_the_login_is_told_without_a_name() {
    let database = Database::fresh().await;
    let mut url = url::Url::parse(&database.functions_url()).expect("a URL");
    url.set_password(Some("wrong")).expect("a password");
    let url = String::from(url);
    let app = App::serve(database, &[("database_url", &url)]).await;
    let answer = app.api.get("/api/collab/health").await;
    answer.assert_refused(503, "database_unavailable");
    assert!(
        !answer.text.contains("wrong") && !answer.text.contains("password"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn a_database_without_the_schema_is_a_500_that_shows_nothing() {
    let app = App::start().await;
    app.database.run("drop schema millrace_api cascade").await;
    app.api
        .get("/api/collab/health")
        .await
        .assert_refused(500, "internal_error");
    let ready = app.api.get("/health/ready").await;
    assert_eq!(ready.status, 503, "{}", ready.text);
    assert_eq!(ready.json()["checks"]["migrations"]["code"], "behind");
}

#[test]
fn every_component_has_only_what_it_needs() {
    let manifest = Manifest::load(&manifest()).expect("the project's manifest");
    for (name, component) in &manifest.components {
        let (hosts, variables) = needed_by(name);
        let reached = component.allowed_outbound_hosts.iter();
        let reached: Vec<_> = reached.map(ToString::to_string).collect();
        assert_eq!(reached, hosts, "{name}");
        let read = component.variables.keys().map(ToString::to_string);
        assert_eq!(read.collect::<BTreeSet<_>>(), variables, "{name}");
        assert!(component.environment.is_empty(), "{name}");
    }
}

/// The hosts that a component connects to, and the variables that it reads.
fn needed_by(component: &str) -> (Vec<&'static str>, BTreeSet<String>) {
    const ASKS_WHO: [&str; 7] = [
        "collab_api_key",
        "collab_jwks_url",
        "collab_jwt_audience",
        "collab_jwt_issuer",
        "collab_jwt_mode",
        "collab_require_jwt",
        "supabase_jwt_secret",
    ];
    const CALLS_THE_DATABASE: [&str; 2] = ["database_service_key", "database_url"];
    let (database, jwks) = ("{{ database_host }}", "{{ collab_jwks_host }}");
    let own: &[&str] = match component {
        "docs" => return (vec![], BTreeSet::new()),
        "files" => return (vec![], BTreeSet::from(["artifact_signing_key".to_owned()])),
        "health" => return (vec![database], CALLS_THE_DATABASE.map(str::to_owned).into()),
        "events" => &["stream_heartbeat_seconds", "stream_seconds"],
        "tick" => {
            let read = ["tick_key", "tick_url"].map(str::to_owned);
            return (vec!["{{ tick_host }}"], BTreeSet::from(read));
        }
        "cron-enqueue" => &[
            "alert_webhook_format",
            "alert_webhook_secret",
            "alert_webhook_url",
            "cors_allow_origin",
        ],
        "dlq-list" | "dlq-retry" => &["cors_allow_origin"],
        "channel-email" => &[
            "aws_access_key_id",
            "aws_region",
            "aws_secret_access_key",
            "aws_session_token",
            "email_ambiguous",
            "email_host",
            "email_provider",
            "email_url",
            "mailgun_api_key",
            "mailgun_domain",
            "postmark_message_stream",
            "postmark_server_token",
            "resend_api_key",
            "sendgrid_api_key",
            "ses_configuration_set",
            "wake_key",
            "wake_url",
        ],
        "channel-sms" => &[
            "messagebird_access_key",
            "sms_ambiguous",
            "sms_from",
            "sms_host",
            "sms_provider",
            "sms_url",
            "twilio_account_sid",
            "twilio_auth_token",
            "vonage_api_key",
            "vonage_api_secret",
            "wake_key",
            "wake_url",
        ],
        "channel-calendar" => &[
            "calendar_sync_batch_size",
            "calendar_sync_max_retries",
            "calendar_sync_poll_interval_ms",
            "calendar_token_key",
            "google_batch_url",
            "google_calendar_host",
            "google_calendar_url",
            "google_client_id",
            "google_client_secret",
            "google_token_host",
            "google_token_url",
            "wake_key",
            "wake_url",
        ],
        "channel-webhook" => &[
            "wake_key",
            "wake_url",
            "webhook_allow_http",
            "webhook_allow_private",
            "webhook_mode",
            "webhook_timeout_seconds",
        ],
        "sign-artifact" => &[
            "artifact_buckets",
            "artifact_signing_key",
            "artifact_store",
            "cors_allow_origin",
            "public_url",
            "s3_access_key_id",
            "s3_endpoint",
            "s3_path_style",
            "s3_region",
            "s3_secret_access_key",
            "s3_session_token",
            "supabase_service_key",
            "supabase_url",
        ],
        "tasks" | "schedules" => &["tasks_queue"],
        "graphql" => &[
            "graphql_explorer",
            "graphql_introspection",
            "graphql_max_complexity",
            "graphql_max_depth",
            "stream_heartbeat_seconds",
            "stream_seconds",
            "tasks_queue",
        ],
        _ => &[],
    };
    let mut hosts = vec![database, jwks];
    if component == "sign-artifact" {
        hosts.push("{{ supabase_host }}");
    }
    if component == "cron-enqueue" {
        hosts.push("{{ alert_webhook_host }}");
    }
    match component {
        "channel-email" => hosts.extend(["{{ wake_host }}", "{{ email_host }}"]),
        "channel-sms" => hosts.extend(["{{ wake_host }}", "{{ sms_host }}"]),
        "channel-calendar" => hosts.extend([
            "{{ wake_host }}",
            "{{ google_calendar_host }}",
            "{{ google_token_host }}",
        ]),
        _ => (),
    }
    // It calls whatever URL a job names.
    if component == "channel-webhook" {
        hosts.extend([
            "{{ wake_host }}",
            "https://*:*",
            "http://*:*",
            "{{ webhook_private_host }}",
        ]);
    }
    let drains: &[&str] = match component.starts_with("channel-") {
        true => &[
            "concurrency",
            "job_seconds",
            "lease_seconds",
            "queue",
            "run_seconds",
        ],
        false => &[],
    };
    // They enqueue, and wake the channels that have something due then.
    let enqueues = [
        "assign",
        "cron-enqueue",
        "dlq-retry",
        "graphql",
        "rpc",
        "tasks",
    ]
    .contains(&component);
    if enqueues {
        hosts.push("{{ wake_host }}");
    }
    let wakes: &[&str] = match enqueues {
        true => &["channels", "wake_key", "wake_url"],
        false => &[],
    };
    let calls: &[&str] = match component {
        // It needs a connection: it is what a PostgREST would be.
        "rpc" => &["database_url"],
        _ => &CALLS_THE_DATABASE,
    };
    let all = ASKS_WHO
        .iter()
        .chain(own)
        .chain(calls)
        .chain(wakes)
        .chain(drains);
    (hosts, all.map(|name| (*name).to_owned()).collect())
}

#[tokio::test]
async fn a_missing_variable_and_an_unknown_key_are_named_at_the_start() {
    let (status, said) = run(command(&["serve", "--listen", "127.0.0.1:0"])).await;
    assert!(!status.success());
    for name in [
        "database_url (SPIN_VARIABLE_DATABASE_URL)",
        "database_host (SPIN_VARIABLE_DATABASE_HOST)",
    ] {
        assert!(said.contains(name), "{said}");
    }

    let scratch = Scratch::new();
    let text = std::fs::read_to_string(manifest()).expect("the project's manifest");
    for (line, named) in [
        ("memory_limit = 5\n", "memory_limit"),
        ("key_value_stores = [\"default\"]\n", "key_value_stores"),
        ("variable = { a = \"b\" }\n", "variable"),
    ] {
        let file = scratch.path().join("spin.toml");
        let place = "[component.health]\n";
        std::fs::write(&file, text.replace(place, &format!("{place}{line}"))).expect("a manifest");
        let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--manifest"]);
        command.arg(&file);
        let (status, said) = run(command).await;
        assert!(
            !status.success() && said.contains(named) && said.contains("spin.toml"),
            "{named}: {said}"
        );
    }
}
