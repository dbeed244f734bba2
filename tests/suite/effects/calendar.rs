//! Calendar events: their ids are of our choice, so an insert that is repeated meets the event that the first one made.

use std::process::Stdio;

use millrace_tests::database::Database;
use millrace_tests::program::command;
use millrace_tests::provider::Provider;
use millrace_tests::providers::google::{CLIENT_ID, CLIENT_SECRET, Google, REFRESH_TOKEN};
use tokio::io::AsyncWriteExt;

use super::{Trial, deliveries};

const WORKSPACE: &str = "5e5e5e5e-1111-4222-8333-444444444444";
/// 32 bytes.
const KEY: &str = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A database with a connected workspace, and so many events to make, each of another source.
async fn with_events(number: i64) -> Database {
    let database = Database::fresh().await;
    connect(&database).await;
    // Of so many calls that go wrong there are always a few in a row: the breaker would be open most of the time.
    database
        .run("update millrace.circuit_settings set threshold = 1000")
        .await;
    // Past the view, which reads each item back and is a matter of other tests: that takes longer than all the rest.
    let sql = "select count(millrace.enqueue_calendar_item(jsonb_build_object('operation', 'UPSERT_EVENT', 'workspaceId', $1::text, \
                 'calendarId', 'team@example.com', 'sourceType', 'task', 'sourceId', format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0')), \
                 'eventType', 'BLOCKER_DEADLINE', 'event', jsonb_build_object('title', 'Number ' || n, 'start', '2025-01-15T14:00:00Z', \
                 'end', '2025-01-15T15:00:00Z', 'isAllDay', false)), null, 100)) from generate_series(1, $2::bigint) as n";
    database.one(sql, &[&WORKSPACE, &number]).await;
    database
}

/// Connects the workspace as an administrator does.
async fn connect(database: &Database) {
    let calendar = ["--calendar", "team@example.com"];
    let mut put = command(&[&["secrets", "put", "--workspace", WORKSPACE], &calendar[..]].concat());
    put.env("DATABASE_URL", database.url())
        .env("SPIN_VARIABLE_CALENDAR_TOKEN_KEY", KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut put = put.spawn().expect("millrace starts");
    let mut stdin = put.stdin.take().expect("its standard input");
    let written = stdin.write_all(REFRESH_TOKEN.as_bytes()).await;
    written.expect("the token is read");
    drop(stdin);
    assert!(put.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn an_event_whose_id_is_of_our_choice_is_made_exactly_once() {
    let number = deliveries(2000);
    let google = Provider::start(Google::default()).await;
    let url = |path: &str| format!("{}{path}", google.url);
    let (calendar, batch, token) = (
        url("/calendar/v3"),
        url("/batch/calendar/v3"),
        url("/token"),
    );
    let trial = Trial {
        name: "calendar",
        queue: "calendar",
        provider: &google,
        variables: vec![
            ("google_client_id", CLIENT_ID),
            ("google_client_secret", CLIENT_SECRET),
            ("calendar_token_key", KEY),
            ("google_calendar_url", &calendar),
            ("google_batch_url", &batch),
            ("google_token_url", &token),
            ("google_calendar_host", &google.url),
            ("google_token_host", &google.url),
            ("calendar_sync_max_retries", "100"),
        ],
        // A second insert is refused and becomes an update, which changes nothing.
        is_delivery: |effect| effect.what.starts_with("insert"),
        kills: 6,
    };
    let outcome = trial.run(with_events(number).await).await;
    assert_eq!((outcome.succeeded, outcome.dead), (number, 0));
    assert_eq!(outcome.effects.len() as i64, number);
    assert_eq!(outcome.duplicates(), 0);
    // An event that was made twice would have two ids and one title.
    let mut titles = google.service(|google| {
        let live = google.live().into_iter();
        live.map(|event| event.body["summary"].to_string())
            .collect::<Vec<_>>()
    });
    assert_eq!(titles.len() as i64, number);
    titles.sort();
    titles.dedup();
    assert_eq!(titles.len() as i64, number);
}
