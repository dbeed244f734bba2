//! `tick`: a firing of its trigger is a round of `cron-enqueue`, and a run that comes to nothing says why without a secret.

use std::time::Duration;

use millrace::serve::Limits;
use millrace_tests::app::{App, manifest};
use millrace_tests::database::Database;
use millrace_tests::double::{Double, Reply};

/// A stored key that may do nothing but call for a round.
async fn tick_key(database: &Database) -> String {
    let row = database.one("select millrace.create_api_key('tick', '{tick}')", &[]);
    row.await.get(0)
}

#[tokio::test]
async fn a_firing_is_a_round_at_the_address_that_the_server_has() {
    let database = Database::fresh().await;
    let key = tick_key(&database).await;
    let app = App::serve(database, &[("tick_key", &key)]).await;
    app.database
        .run("select millrace.create_schedule('s', '* * * * * *', 'q', 't', grace => '1 day')")
        .await;
    app.database.set_clock_ahead(5.0).await;
    app.server().fire_cron("tick").await.expect("a round");
    let row = app
        .database
        .one("select count(*) from millrace.job j join millrace.queue q on q.id = j.queue_id where q.name = 'q'", &[])
        .await;
    assert!(row.get::<_, i64>(0) >= 4, "{row:?}");
    let used = "select last_used_at is not null from millrace.api_key where name = 'tick'";
    assert!(app.database.one(used, &[]).await.get::<_, bool>(0));
}

#[tokio::test]
async fn what_goes_wrong_is_told_without_key_or_address() {
    let double = Double::start(|seen| match seen.target.as_str() {
        "/503?word=hidden" => Reply::json(503, "{\"hidden\": 1}"),
        "/302" => Reply::Answer(302, "location: http://hidden.example/\r\n", vec![]),
        "/silence" => Reply::Silence,
        "/200" => Reply::json(200, "{}"),
        _ => Reply::HangUp,
    })
    .await;
    let at = |path: &str| format!("{}{path}", double.url);
    let host = double.url.as_str();
    let unknown = format!("mr_{}", "0".repeat(64));
    let database = Database::fresh().await;
    let functions_url = database.functions_url();
    let mut tried = 0;
    for (variables, complaint) in [
        (
            vec![("tick_key", unknown.as_str())],
            "tick_key is not good for it",
        ),
        (vec![], "tick_key is not set"),
        (vec![("tick_key", " ")], "tick_key is not set"),
        (
            vec![("tick_key", "a\nhidden")],
            "tick_key cannot stand in a header",
        ),
        (
            vec![("tick_key", "hidden"), ("tick_url", "ftp://hidden/")],
            "tick_url is not an http:// or https:// URL that can be called",
        ),
        (
            vec![
                ("tick_key", "hidden"),
                ("tick_url", "http://u:hidden@127.0.0.1:1/x"),
            ],
            "tick_url is not an http:// or https:// URL that can be called",
        ),
        (
            vec![("tick_key", "hidden"), ("tick_url", &at("/200"))],
            "tick_host does not allow the host of tick_url",
        ),
        (
            vec![
                ("tick_key", "hidden"),
                ("tick_url", "http://127.0.0.1:1/hidden"),
                ("tick_host", "http://127.0.0.1:1"),
            ],
            "tick_url cannot be reached",
        ),
        (
            vec![
                ("tick_key", "hidden"),
                ("tick_url", &at("/503?word=hidden")),
                ("tick_host", host),
            ],
            "answered 503",
        ),
        (
            vec![
                ("tick_key", "hidden"),
                ("tick_url", &at("/302")),
                ("tick_host", host),
            ],
            "answered 302",
        ),
        (
            vec![
                ("tick_key", "hidden"),
                ("tick_url", &at("/silence")),
                ("tick_host", host),
            ],
            "did not answer in time",
        ),
        (
            vec![
                ("tick_key", "hidden"),
                ("tick_url", &at("/hang-up")),
                ("tick_host", host),
            ],
            "tick_url cannot be reached",
        ),
        (
            vec![
                ("tick_key", "hidden"),
                ("tick_url", &at("/200")),
                ("tick_host", host),
            ],
            "",
        ),
    ] {
        let database = Database::open(database.url())
            .await
            .with_functions_url(&functions_url);
        let limits = Limits {
            outbound_timeout: Duration::from_secs(2),
            ..Limits::default()
        };
        let app = App::serve_limited(manifest(), database, &variables, limits).await;
        match app.server().fire_cron("tick").await {
            Ok(()) => assert_eq!(complaint, "", "{variables:?}"),
            Err(error) => {
                let error = format!("{error:?}");
                assert!(
                    !complaint.is_empty() && error.contains(complaint),
                    "{variables:?}: {error}"
                );
                for secret in ["hidden", unknown.as_str(), "127.0.0.1", "mr_"] {
                    assert!(!error.contains(secret), "{secret} is in {error}");
                }
            }
        }
        tried += 1;
    }
    let last = double.seen().pop().expect("the request that went well");
    assert_eq!(
        (last.method.as_str(), last.header("x-api-key")),
        ("POST", "hidden")
    );
    println!("{tried} ways tried");
}
