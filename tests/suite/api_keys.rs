//! Stored API keys: what each scope opens, how they end, and that nobody but their owner ever sees one.

use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::database::{Database, refusal};
use millrace_tests::keys::API_KEY;
use millrace_tests::program::{command, run};
use millrace_tests::routes;
use millrace_tests::scope::assert_scope;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_postgres::types::ToSql;

const ACTIVE: &str = "/api/collab/workers/active";

async fn create(database: &Database, name: &str, scopes: &[&str]) -> String {
    let sql = "select millrace.create_api_key($1, $2)";
    database.one(sql, &[&name, &scopes]).await.get(0)
}

async fn show(app: &App, key: &str) -> Answer {
    let request = app.api.bare(Method::GET, ACTIVE).header("x-api-key", key);
    app.api.send(request).await
}

/// When the only key was used last, in seconds of 1970's; `None` if never.
async fn last_used(app: &App) -> Option<f64> {
    let sql = "select extract(epoch from last_used_at)::float8 from millrace.api_key";
    app.database.one(sql, &[]).await.get(0)
}

#[tokio::test]
async fn a_scope_opens_its_routes_and_no_others() {
    let app = App::start().await;
    let all = create(&app.database, "all", &["all"]).await;
    let mut tried = 0;
    for route in routes::all() {
        tried += assert_scope(&app, route.scope, || route.request(&app.api)).await;
        let request = route.request(&app.api).header("apikey", &all);
        route.assert_let_in(&app.api.send(request).await, "a key of all scopes");
        tried += 1;
    }
    println!(
        "stored keys: {} routes, {tried} callers",
        routes::all().len()
    );
}

#[tokio::test]
async fn a_request_that_is_refused_does_nothing() {
    let app = App::start().await;
    let reader = create(&app.database, "reader", &["read", "work"]).await;
    let task = json!({"type": "t", "executorId": "e"});
    let assign = || {
        app.api
            .bare(Method::POST, "/api/collab/task.assign")
            .header("x-api-key", &reader)
    };
    let answer = app.api.send(assign().json(&task)).await;
    answer.assert_refused(403, "forbidden");
    let jobs: i64 = app
        .database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0);
    assert_eq!(jobs, 0);
    assert_eq!(last_used(&app).await, None, "a refused use is none");
}

#[tokio::test]
async fn a_key_expires_by_the_databases_clock_and_ends_when_it_is_revoked() {
    let app = App::start().await;
    let sql = "select millrace.create_api_key('short', '{read}', interval '1 hour')";
    let short: String = app.database.one(sql, &[]).await.get(0);
    let long = create(&app.database, "long", &["read"]).await;
    for key in [&short, &long] {
        show(&app, key).await.ok();
    }
    app.database.set_clock_ahead(3601.0).await;
    let expired = show(&app, &short).await;
    expired.assert_refused(401, "api_key_expired");
    assert_eq!(
        expired.header("www-authenticate"),
        "Bearer error=\"invalid_token\""
    );
    show(&app, &long).await.ok();

    app.database
        .run("select millrace.revoke_api_key('long')")
        .await;
    let revoked = show(&app, &long).await;
    revoked.assert_refused(401, "invalid_api_key");
    assert_eq!(
        revoked.header("www-authenticate"),
        "Bearer error=\"invalid_token\""
    );

    // The name is free again, and the old key stays what it is.
    let next = create(&app.database, "long", &["read"]).await;
    show(&app, &next).await.ok();
    show(&app, &long)
        .await
        .assert_refused(401, "invalid_api_key");
}

#[tokio::test]
async fn the_last_use_is_noted_once_a_minute_and_nobody_waits_for_that() {
    let app = App::start().await;
    let key = create(&app.database, "k", &["read"]).await;
    assert_eq!(last_used(&app).await, None);
    show(&app, &key).await.ok();
    let first = last_used(&app).await.expect("a time");
    for _ in 0..5 {
        show(&app, &key).await.ok();
    }
    assert_eq!(last_used(&app).await, Some(first));
    app.database.set_clock_ahead(61.0).await;
    show(&app, &key).await.ok();
    let second = last_used(&app).await.expect("a time");
    assert!(second > first + 60.0, "{first} {second}");

    // Somebody holds the row, as another request does that notes its use just now.
    let holder = app.database.connect().await;
    let lock = "begin; select from millrace.api_key for update";
    holder.batch_execute(lock).await.expect("the lock");
    app.database.set_clock_ahead(200.0).await;
    show(&app, &key).await.ok();
    assert_eq!(last_used(&app).await, Some(second));
    holder.batch_execute("rollback").await.expect("the end");
    show(&app, &key).await.ok();
    assert!(last_used(&app).await > Some(second));
}

#[tokio::test]
async fn only_the_digest_of_a_key_is_stored() {
    let database = Database::fresh().await;
    let key = create(&database, "k", &["read", "work"]).await;
    let digits = key.strip_prefix("mr_").expect("how keys begin");
    assert_eq!(digits.len(), 64);
    assert!(
        digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        "{digits}"
    );
    let row = database
        .one(
            "select digest, to_jsonb(k)::text from millrace.api_key k",
            &[],
        )
        .await;
    assert_eq!(row.get::<_, Vec<u8>>(0), Sha256::digest(&key).to_vec());
    assert!(!row.get::<_, String>(1).contains(digits));
    assert_ne!(create(&database, "other", &["read"]).await, key);
}

#[tokio::test]
async fn a_key_that_makes_no_sense_is_not_made() {
    let database = Database::fresh().await;
    create(&database, "taken", &["read"]).await;
    let long = "x".repeat(201);
    let sql = "select millrace.create_api_key($1, $2, $3::text::interval)";
    let (read, none): (&[&str], Option<&str>) = (&["read"], None);
    for (name, scopes, expires_in, status, code) in [
        (Some("taken"), Some(read), none, "PT409", "key_exists"),
        (Some(""), Some(read), none, "PT400", "invalid_request"),
        (Some(" "), Some(read), none, "PT400", "invalid_request"),
        (
            Some(long.as_str()),
            Some(read),
            none,
            "PT400",
            "invalid_request",
        ),
        (None, Some(read), none, "PT400", "invalid_request"),
        (Some("a"), Some(&[]), none, "PT400", "invalid_request"),
        (Some("a"), None, none, "PT400", "invalid_request"),
        (
            Some("a"),
            Some(&["read", "write"]),
            none,
            "PT400",
            "invalid_request",
        ),
        (Some("a"), Some(read), Some("0"), "PT400", "invalid_request"),
        (
            Some("a"),
            Some(read),
            Some("-1 day"),
            "PT400",
            "invalid_request",
        ),
    ] {
        let parameters: &[&(dyn ToSql + Sync)] = &[&name, &scopes, &expires_in];
        let error = database.client().query_one(sql, parameters).await;
        let error = error.expect_err("a refusal");
        assert_eq!(
            refusal(&error),
            (status.to_owned(), code.to_owned()),
            "{name:?}"
        );
    }
    let gone = database
        .client()
        .execute("select millrace.revoke_api_key('gone')", &[]);
    assert_eq!(refusal(&gone.await.unwrap_err()).1, "key_not_found");
    // Its privileges are the owner's: no other role makes or sees keys.
    let nobody = "select has_function_privilege(r, f::regprocedure, 'execute')
                    from unnest(array['millrace_functions', 'millrace_client', 'public']) as r,
                         unnest(array['millrace.create_api_key(text, text[], interval)', 'millrace.revoke_api_key(text)']) as f";
    for row in database.all(nobody, &[]).await {
        assert!(!row.get::<_, bool>(0));
    }
}

#[tokio::test]
async fn stored_keys_count_where_tokens_are_required() {
    let app = App::start_with(&[("collab_require_jwt", "1")]).await;
    let key = create(&app.database, "scraper", &["read"]).await;
    show(&app, &key).await.ok();
    let bare = || app.api.bare(Method::GET, ACTIVE);
    for request in [bare().bearer_auth(&key), bare().header("apikey", &key)] {
        app.api.send(request).await.ok();
    }
    show(&app, API_KEY)
        .await
        .assert_refused(401, "missing_credentials");
    let unknown = format!("mr_{}", "0".repeat(64));
    show(&app, &unknown)
        .await
        .assert_refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_stored_key_counts_where_nothing_else_is_configured() {
    let app = App::start_with(&[("supabase_jwt_secret", ""), ("collab_api_key", "")]).await;
    let key = create(&app.database, "k", &["read"]).await;
    show(&app, &key).await.ok();
    let unknown = format!("mr_{}", "0".repeat(64));
    show(&app, &unknown)
        .await
        .assert_refused(401, "invalid_api_key");
    for other in [API_KEY, "mr", ""] {
        show(&app, other)
            .await
            .assert_refused(503, "auth_not_configured");
    }
    let bare = app.api.bare(Method::GET, ACTIVE);
    app.api
        .send(bare)
        .await
        .assert_refused(503, "auth_not_configured");
}

#[tokio::test]
async fn what_only_looks_like_a_key_is_refused_where_it_stands() {
    let app = App::start().await;
    let key = create(&app.database, "k", &["read"]).await;
    for wrong in [
        "mr_".to_owned(),
        key[..66].to_owned(),
        format!("{key}0"),
        key.replacen("mr_", "mr_mr_", 1),
        format!("mr_{}", "g".repeat(64)),
        format!("mr_{}", key[3..].to_uppercase().replace('0', "A")),
    ] {
        show(&app, &wrong)
            .await
            .assert_refused(401, "invalid_api_key");
        let bearer = app.api.bare(Method::GET, ACTIVE).bearer_auth(&wrong);
        app.api
            .send(bearer)
            .await
            .assert_refused(401, "invalid_api_key");
    }
    let twice = app.api.bare(Method::GET, ACTIVE);
    let twice = twice.header("x-api-key", &key).header("x-api-key", &key);
    app.api
        .send(twice)
        .await
        .assert_refused(401, "invalid_api_key");
}

#[tokio::test]
async fn the_program_makes_lists_and_revokes_keys() {
    let app = App::start().await;
    let keys = async |arguments: &[&str]| {
        let mut command = command(&[&["keys"], arguments].concat());
        command.env("DATABASE_URL", app.database.url());
        let (status, said) = run(command).await;
        (status.success(), said)
    };
    let (good, key) = keys(&[
        "create",
        "ci",
        "--scope",
        "read",
        "--scope",
        "work",
        "--expires-in",
        "90d",
    ])
    .await;
    assert!(good, "{key}");
    let key = key.trim();
    assert!(
        key.starts_with("mr_") && key.len() == 67,
        "the key and nothing else: {key:?}"
    );
    show(&app, key).await.ok();

    let (good, said) = keys(&["list"]).await;
    assert!(good && !said.contains(&key[3..]), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let cells: Vec<&str> = lines[1]
        .split("  ")
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        cells[..3]
            .iter()
            .map(|cell| cell.trim())
            .collect::<Vec<_>>(),
        ["ci", "live", "read,work"]
    );
    assert!(lines.len() == 2 && !said.contains("never"), "{said}");

    for (arguments, why) in [
        (
            vec!["create", "ci", "--scope", "read"],
            "there is a key named ci already",
        ),
        (
            vec!["create", "x", "--scope", "write"],
            "invalid value 'write'",
        ),
        (vec!["create", "x"], "--scope"),
        (
            vec!["create", "x", "--scope", "all", "--expires-in", "soon"],
            "--expires-in: invalid input syntax",
        ),
        (
            vec!["create", "x", "--scope", "all", "--expires-in", "-1d"],
            "unexpected argument",
        ),
        (
            vec!["create", "x", "--scope", "all", "--expires-in=-1d"],
            "a key expires after it was made",
        ),
        (vec!["revoke", "x"], "there is no live key named x"),
    ] {
        let (good, said) = keys(&arguments).await;
        assert!(!good && said.contains(why), "{arguments:?}: {said}");
    }

    let (good, said) = keys(&["revoke", "ci"]).await;
    assert!(good, "{said}");
    show(&app, key).await.assert_refused(401, "invalid_api_key");
    let (_, said) = keys(&["list"]).await;
    assert!(said.contains("revoked"), "{said}");
}
