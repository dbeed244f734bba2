//! Who may call what, and how the others are refused.

use super::{assert_refused, refusal, shapes};
use millrace_tests::app::App;
use millrace_tests::keys::{JWT_SECRET, now, signed, token};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// A function, what its caller must be allowed to do, and a call without credentials that comes to nothing much.
struct Callable {
    profile: &'static str,
    function: &'static str,
    scope: &'static str,
    arguments: Value,
}

fn callables() -> Vec<Callable> {
    let worker = "00000000-0000-4000-8000-000000000001";
    let of = |profile, function, scope, arguments| Callable {
        profile,
        function,
        scope,
        arguments,
    };
    vec![
        of(
            "service_api",
            "fetch_next_task",
            "work",
            json!({"worker_id": "w"}),
        ),
        of(
            "service_api",
            "report_task_result",
            "work",
            json!({"worker_id": "w", "job_id": 1, "lease_id": 1, "succeeded": true}),
        ),
        of(
            "service_api",
            "extend_lease",
            "work",
            json!({"worker_id": "w", "job_id": 1, "lease_id": 1}),
        ),
        of(
            "public",
            "claim_next_job",
            "work",
            json!({"worker_id": worker}),
        ),
        of(
            "public",
            "resolve_job",
            "work",
            json!({"job_id": 1, "worker_id": worker, "success": true}),
        ),
        of("public", "enqueue_cron_tasks", "tick", json!({})),
        of("millrace_api", "collab_health", "all", json!({})),
    ]
}

impl Callable {
    fn bare(&self, app: &App) -> RequestBuilder {
        let request = app
            .api
            .bare(Method::POST, &format!("/rpc/{}", self.function));
        request
            .header("content-profile", self.profile)
            .json(&self.arguments)
    }
}

/// A stored key with these scopes.
async fn key(app: &App, scopes: &[&str]) -> String {
    let name = uuid::Uuid::new_v4().to_string();
    app.database
        .one("select millrace.create_api_key($1, $2)", &[&name, &scopes])
        .await
        .get(0)
}

/// How a request is refused on the faces that workers know: with this hint and these details.
fn failed(status: u16, details: &str, hint: &str) -> (u16, Value) {
    let code = format!("PT{status}");
    (
        status,
        refusal(&code, "Service API Failed", json!(details), json!(hint)),
    )
}

#[tokio::test]
async fn each_function_asks_for_its_scope() {
    const SCOPES: [&str; 6] = ["enqueue", "work", "read", "operate", "metrics", "tick"];
    let app = App::start().await;
    let expired = signed(
        &json!({"role": "service_role", "exp": now() - 60}),
        JWT_SECRET,
    );
    let never_made = format!("mr_{}", "0".repeat(64));
    let mut tried = 0;
    for callable in callables() {
        let Callable {
            profile,
            function,
            scope,
            ..
        } = callable;
        let of_others = key(
            &app,
            &SCOPES
                .into_iter()
                .filter(|one| *one != scope)
                .collect::<Vec<_>>(),
        )
        .await;
        let (of_scope, of_all) = (key(&app, &[scope]).await, key(&app, &["all"]).await);
        let bare = || callable.bare(&app);
        let stored = |key: &str| bare().header("x-api-key", key);

        // Other applications of ours are refused as PostgREST refuses tokens, since they call for callers of their own.
        let own = |status, code: &str, message: &str| {
            (status, refusal(code, message, Value::Null, Value::Null))
        };
        let denied = format!("permission denied for function {function}");
        let (missing, wrong, stale, forbidden) = match profile {
            "millrace_api" => (
                own(401, "PGRST302", "Anonymous access is disabled"),
                own(401, "PGRST301", "No suitable key or wrong key type"),
                own(401, "PGRST303", "JWT expired"),
                own(403, "42501", &denied),
            ),
            _ => (
                failed(401, "the request carries no credentials", "missing_api_key"),
                failed(401, "the API key is not valid", "invalid_api_key"),
                failed(401, "the token has expired", "token_expired"),
                failed(403, "the token's role does not allow this", "forbidden"),
            ),
        };
        let key_forbidden = match profile {
            "millrace_api" => forbidden.clone(),
            _ => failed(403, "the API key's scopes do not allow this", "forbidden"),
        };
        for (who, request, (status, body)) in [
            ("nobody", bare(), &missing),
            ("a wrong key", stored("wrong"), &wrong),
            ("a key never made", stored(&never_made), &wrong),
            (
                "a key never made, as a bearer",
                bare().bearer_auth(&never_made),
                &wrong,
            ),
            ("an expired token", bare().bearer_auth(&expired), &stale),
            ("anon", bare().bearer_auth(token("anon")), &forbidden),
            ("a reader", bare().bearer_auth(token("reader")), &forbidden),
            (
                "a key of all other scopes",
                stored(&of_others),
                &key_forbidden,
            ),
        ] {
            println!("{who} at {function}");
            assert_refused(&app.api.send(request).await, *status, body);
            tried += 1;
        }
        for (who, request) in [
            (
                "the application's key",
                app.api
                    .request(Method::POST, &format!("/rpc/{function}"))
                    .header("content-profile", profile)
                    .json(&callable.arguments),
            ),
            ("a service role", bare().bearer_auth(token("service_role"))),
            (
                "a service role as Supabase's clients send it",
                bare().header("apikey", token("service_role")),
            ),
            ("a key of its scope", stored(&of_scope)),
            ("the same as a bearer", bare().bearer_auth(&of_scope)),
            ("a key of all scopes", bare().header("apikey", &of_all)),
        ] {
            let answer = app.api.send(request).await;
            let known = answer.status < 300 || answer.code() == "P0001" || answer.code() == "PT404";
            assert!(
                known && !answer.text.contains("Service API Failed"),
                "{who} at {function}: {}",
                answer.text
            );
            tried += 1;
        }
    }
    println!("{} functions, {tried} callers", callables().len());
}

#[tokio::test]
async fn a_key_that_has_ended_is_refused() {
    let app = App::start().await;
    let callable = &callables()[0];
    let key = key(&app, &["work"]).await;
    let send = async || {
        app.api
            .send(callable.bare(&app).header("x-api-key", &key))
            .await
    };
    assert_eq!(send().await.text, r#"{"job": null}"#);
    let used: bool = app
        .database
        .one("select last_used_at is not null from millrace.api_key", &[])
        .await
        .get(0);
    assert!(used, "its use is recorded");
    app.database
        .run("update millrace.api_key set expires_at = millrace.clock()")
        .await;
    let (status, body) = failed(401, "the API key has expired", "api_key_expired");
    assert_refused(&send().await, status, &body);
    app.database
        .run("update millrace.api_key set expires_at = null, revoked_at = millrace.clock()")
        .await;
    let (status, body) = failed(401, "the API key is not valid", "invalid_api_key");
    assert_refused(&send().await, status, &body);
}

#[tokio::test]
async fn whoever_is_refused_has_called_nothing() {
    let app = shapes().await;
    let (reading, working) = (key(&app, &["read"]).await, key(&app, &["work"]).await);
    for (key, called) in [
        ("wrong", 0),
        (reading.as_str(), 0),
        (&format!("mr_{}", "0".repeat(64)), 0),
        (&working, 1),
    ] {
        let request = app
            .api
            .bare(Method::POST, "/rpc/writes")
            .header("x-api-key", key)
            .json(&json!({"n": 3}));
        app.api.send(request).await;
        // A sequence keeps its number also where what drew it is rolled back.
        let row = app
            .database
            .one(
                "select case when is_called then last_value else 0 end from shapes.called",
                &[],
            )
            .await;
        assert_eq!(row.get::<_, i64>(0), called, "{key}");
    }
}

#[tokio::test]
async fn whoever_shows_no_good_key_is_told_nothing_else() {
    let app = shapes().await;
    let never_made = format!("mr_{}", "0".repeat(64));
    let (working, reading) = (key(&app, &["work"]).await, key(&app, &["read"]).await);
    let all = key(&app, &["all"]).await;
    let post = |function: &str, body: &str| {
        let request = app.api.bare(Method::POST, &format!("/rpc/{function}"));
        request.body(body.to_owned())
    };
    let get = |function: &str| app.api.bare(Method::GET, &format!("/rpc/{function}"));
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    // What is wrong with the request besides the key, and how that is refused.
    let cases = [
        ("no such function", post("summ", "{}"), "PGRST202"),
        ("no such argument", post("sum", r#"{"z":1}"#), "PGRST202"),
        (
            "a value of another type",
            post("types", r#"{"i":"x"}"#),
            "22P02",
        ),
        ("GET", get("sum?a=1"), "25006"),
        ("GET of no function", get("summ"), "PGRST202"),
        ("no JSON", post("sum", "{"), "PGRST102"),
        ("deep JSON", post("echo", &deep), "PGRST102"),
        ("what is not jsonb", post("echo", r#""\u0000""#), "22P05"),
        ("a query", post("sum?limit=1", "{}"), "PGRST127"),
        (
            "an unknown format",
            post("sum", "{}").header("accept", "text/csv"),
            "PGRST107",
        ),
        (
            "a preference",
            post("sum", "{}").header("prefer", "handling=strict, x"),
            "PGRST122",
        ),
        (
            "a form",
            post("sum", "{}").header("content-type", "text/csv"),
            "PGRST102",
        ),
        ("a large body", post("sum", &" ".repeat(1 << 21)), "PT413"),
        (
            "no such profile",
            post("sum", "{}").header("content-profile", "x"),
            "PGRST106",
        ),
    ];
    let with = |request: &RequestBuilder, key: &str| {
        let request = request
            .try_clone()
            .expect("a request whose body is at hand");
        request.header("x-api-key", key)
    };
    let (no_key, unauthorized) = failed(401, "the API key is not valid", "invalid_api_key");
    let (no_scope, forbidden) = failed(403, "the API key's scopes do not allow this", "forbidden");
    for (what, request, code) in &cases {
        println!("{what}");
        let refused = app.api.send(with(request, &never_made)).await;
        assert_eq!(refused.status, no_key, "{what}: {}", refused.text);
        assert_eq!(refused.json(), unauthorized, "{what}");
        let refused = app.api.send(with(request, &reading)).await;
        assert_eq!(refused.status, no_scope, "{what}: {}", refused.text);
        assert_eq!(refused.json(), forbidden, "{what}");
        let refused = app.api.send(with(request, &working)).await;
        assert_eq!(refused.code(), *code, "{what}: {}", refused.text);
    }
    // The profile of other applications has words of its own.
    let own = |key: &str| {
        with(
            &post("no_such", "{}").header("content-profile", "millrace_api"),
            key,
        )
    };
    for (key, code) in [
        (&never_made, "PGRST301"),
        (&working, "42501"),
        (&all, "PGRST202"),
    ] {
        assert_eq!(app.api.send(own(key)).await.code(), code);
    }
    println!("{} faults besides the key", cases.len());
}

#[tokio::test]
async fn a_token_of_a_worker_does_not_allow_everything() {
    let app = App::start().await;
    for callable in callables() {
        let request = callable.bare(&app).bearer_auth(token("worker"));
        let answer = app.api.send(request).await;
        let refused = (answer.status, answer.code()) == (403, "42501".to_owned());
        let everything = callable.scope == "all";
        assert_eq!(
            refused, everything,
            "{}: {}",
            callable.function, answer.text
        );
        let admitted = !answer.text.contains("Service API Failed");
        assert!(admitted, "{}: {}", callable.function, answer.text);
    }
}

#[tokio::test]
async fn strangers_cost_the_database_nothing() {
    // There is none, so whatever asks it is answered with 503.
    let app = App::start_with(&[("database_host", "postgres://127.0.0.1:1")]).await;
    let callable = &callables()[0];
    for (request, status) in [
        (callable.bare(&app), 401),
        (callable.bare(&app).header("x-api-key", "wrong"), 401),
        (callable.bare(&app).bearer_auth("no.to.ken"), 401),
        (callable.bare(&app).bearer_auth(token("worker")), 503),
    ] {
        assert_eq!(app.api.send(request).await.status, status);
    }
}

#[tokio::test]
async fn a_function_that_was_replaced_asks_for_the_scope_it_has_now() {
    let app = shapes().await;
    let (working, operating) = (key(&app, &["work"]).await, key(&app, &["operate"]).await);
    let send = async |key: &str| {
        let request = app.api.bare(Method::POST, "/rpc/sum");
        app.api
            .send(request.header("x-api-key", key).json(&json!({"a": 1})))
            .await
    };
    assert_eq!(send(&working).await.text, "3");
    app.database
        .run(
            "alter function shapes.sum(int, int) rename to sum_before;              create schema moved; grant usage on schema moved to millrace_functions;              create function moved.sum(a int, b int default 2) returns int language sql as 'select a * b';              update millrace.rpc_function set schema_name = 'moved', scope = 'operate' where function_name = 'sum'",
        )
        .await;
    let (status, body) = failed(403, "the API key's scopes do not allow this", "forbidden");
    assert_refused(&send(&working).await, status, &body);
    assert_eq!(send(&operating).await.text, "2");
}

#[tokio::test]
async fn an_application_that_lets_nobody_in_says_so() {
    let app = App::start_with(&[("collab_api_key", ""), ("supabase_jwt_secret", "")]).await;
    let answer = app.api.send(callables()[0].bare(&app)).await;
    let message = "authentication is not configured, so nobody is let in";
    assert_refused(
        &answer,
        503,
        &refusal("PT503", message, Value::Null, json!("auth_not_configured")),
    );
}
