//! One event for each source, whatever is lost on the way; and in the order in which its items were made.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::app::App;
use millrace_tests::channel::run;
use millrace_tests::deadline::eventually;
use millrace_tests::provider::Fault;
use millrace_tests::providers::google::{CLIENT_ID, CLIENT_SECRET};

use serde_json::{Value, json};

use super::{KEY_1, Syncing, WORKSPACE, is_call};

/// Runs the channel, an hour passing each time, until every item has ended.
async fn run_to_the_end(syncing: &Syncing) -> usize {
    for hour in 1..=60 {
        syncing.run().await;
        let open =
            "select count(*) from sync_outbox where status in ('PENDING', 'FAILED', 'PROCESSING')";
        if syncing.app.database.one(open, &[]).await.get::<_, i64>(0) == 0 {
            return hour;
        }
        syncing
            .app
            .database
            .set_clock_ahead(f64::from(u32::try_from(hour).expect("few")) * 3600.0)
            .await;
    }
    panic!("items are still open after 60 hours");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_at_every_point_of_the_exchange_make_no_second_event() {
    // Short runs: what was put off for seconds is due in the next one, an hour later.
    let short = [
        ("calendar_sync_max_retries", "50"),
        ("channel_run_seconds", "3"),
        ("channel_job_seconds", "2"),
    ];
    let syncing = Syncing::start_with(&short).await;
    let rates = [
        Fault::ResetBeforeActing,
        Fault::ResetAfterActing,
        Fault::HalfAnswer,
        Fault::ErrorBeforeActing(500),
        Fault::ErrorAfterActing(502),
        Fault::NotHttp,
        Fault::Told("403 rateLimitExceeded"),
    ]
    .map(|fault| (fault, 0.06));
    syncing.google.by_chance(5, &rates, is_call);
    let sources = 60;
    for source in 0..sources {
        syncing.upsert(source, &format!("v1 of {source}")).await;
        syncing.upsert(source, &format!("v2 of {source}")).await;
    }
    let hours = run_to_the_end(&syncing).await;
    let mut titles = syncing.titles();
    titles.sort();
    let mut expected: Vec<String> = (0..sources)
        .map(|source| format!("v2 of {source}"))
        .collect();
    expected.sort();
    assert_eq!(titles, expected);
    let effects = syncing.google.effects();
    let mut inserts = BTreeMap::<&str, usize>::new();
    for effect in effects
        .iter()
        .filter(|effect| effect.what.starts_with("insert"))
    {
        *inserts.entry(&effect.key).or_default() += 1;
    }
    assert_eq!(inserts.len(), sources as usize);
    assert!(inserts.values().all(|times| *times == 1));
    println!(
        "{} items of {sources} sources, {} requests, faults {:?}: {} events, {hours} runs",
        sources * 2,
        syncing.google.requests().len(),
        syncing.google.faults(),
        titles.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_googles_answer_and_ours_makes_no_second_event() {
    let Syncing { app, google } = Syncing::start().await;
    let url = google.url.clone();
    let paths = ["/calendar/v3", "/batch/calendar/v3", "/token"].map(|path| format!("{url}{path}"));
    google.plan_for(is_call, [Fault::SlowAnswer(Duration::from_secs(6))]);
    let sql = "insert into sync_outbox (payload) values ($1) returning job_id";
    let job: i64 = app
        .database
        .one(sql, &[&super::upsert(1, "first")])
        .await
        .get(0);
    {
        let under_way = run(&app, "calendar");
        tokio::pin!(under_way);
        let acted = eventually("Google has acted", || async {
            (google.effects().len() == 1).then_some(())
        });
        tokio::select! {
            _ = &mut under_way => panic!("the run ended before the crash"),
            () = acted => (),
        }
    }
    let database = app.cut_off();
    database.set_clock_ahead(120.0).await;
    let variables = [
        ("google_client_id", CLIENT_ID),
        ("google_client_secret", CLIENT_SECRET),
        ("calendar_token_key", KEY_1),
        ("google_calendar_url", &paths[0]),
        ("google_batch_url", &paths[1]),
        ("google_token_url", &paths[2]),
        ("google_calendar_host", &url),
        ("google_token_host", &url),
    ];
    let app = App::serve(database, &variables).await;
    let syncing = Syncing { app, google };
    for ahead in [180.0, 240.0, 300.0] {
        syncing.run().await;
        syncing.app.database.set_clock_ahead(ahead).await;
    }
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.state.as_str(), fate.attempts),
        ("succeeded", 2),
        "{fate:?}"
    );
    let effects = syncing.google.effects();
    let whats: Vec<&str> = effects.iter().map(|effect| effect.what.as_str()).collect();
    assert_eq!(whats, ["insert \"first\"", "update \"first\""]);
    assert_eq!(syncing.google.service(|google| google.events.len()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_a_source_are_done_one_after_the_other() {
    let syncing = Syncing::start().await;
    for version in 0..6 {
        for source in 0..10 {
            syncing.upsert(source, &format!("v{version}")).await;
        }
    }
    run_to_the_end(&syncing).await;
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    for effect in syncing.google.effects() {
        let title = effect.what.split('"').nth(1).unwrap_or_default().to_owned();
        versions.entry(effect.key).or_default().push(title);
    }
    assert_eq!(versions.len(), 10);
    let order: Vec<String> = (0..6).map(|version| format!("v{version}")).collect();
    assert!(
        versions.values().all(|titles| *titles == order),
        "{versions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_comes_back_after_its_event_was_deleted() {
    let syncing = Syncing::start().await;
    for round in 0..3 {
        syncing.upsert(1, &format!("round {round}")).await;
        run_to_the_end(&syncing).await;
        assert_eq!(syncing.titles(), [format!("round {round}")]);
        syncing.cancel(1).await;
        run_to_the_end(&syncing).await;
        assert!(syncing.titles().is_empty());
    }
    assert_eq!(
        syncing.google.service(|google| google.events.len()),
        3,
        "an id is used once"
    );
    // Its generations forgotten, an insert meets the first event, which it brings back.
    let cleaned = "select cleanup_old_outbox_items(0)";
    assert_eq!(
        syncing
            .app
            .database
            .one(cleaned, &[])
            .await
            .get::<_, i64>(0),
        6
    );
    syncing.upsert(1, "again").await;
    run_to_the_end(&syncing).await;
    assert_eq!(syncing.titles(), ["again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_after_an_upsert_whose_answer_was_lost_deletes_the_event() {
    let syncing = Syncing::start().await;
    syncing
        .app
        .database
        .stop_clock_at("2026-11-22 12:00:00Z")
        .await;
    // The insert acts, its answer says otherwise.
    syncing
        .google
        .plan_for(is_call, [Fault::ErrorAfterActing(500)]);
    let job = syncing.upsert(1, "first").await;
    syncing.run().await;
    assert_eq!(
        (syncing.status(job).await.as_str(), syncing.titles().len()),
        ("PENDING", 1)
    );
    let withdrawn = format!("update sync_outbox set status = 'CANCELLED' where job_id = {job}");
    syncing.app.database.run(&withdrawn).await;
    syncing.cancel(1).await;
    run_to_the_end(&syncing).await;
    assert!(syncing.titles().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_moves_with_its_calendar() {
    let syncing = Syncing::start().await;
    syncing.bound(1).await;
    let mut payload = super::upsert(1, "moved");
    payload["calendarId"] = "other@example.com".into();
    syncing.insert(&payload).await;
    run_to_the_end(&syncing).await;
    assert_eq!(syncing.titles(), ["moved"]);
    let calendar = syncing
        .google
        .service(|google| google.live()[0].calendar.clone());
    assert_eq!(calendar, "other@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_attempt_of_a_job_says_too_late_is_passed_over() {
    let database = millrace_tests::database::Database::fresh().await;
    let connect =
        format!("select millrace.connect_calendar('{WORKSPACE}', null, 'ciphertext', 'k1')");
    database.run(&connect).await;
    let payload = super::upsert(1, "first");
    let sql = "insert into sync_outbox (payload) values ($1) returning id::text";
    let job: String = database.one(sql, &[&payload]).await.get(0);
    let call = async |function: &str, mut request: Value| -> Value {
        request["job_id"] = job.as_str().into();
        request["remaining"] = 30.into();
        let sql = format!("select millrace_api.{function}($1)");
        database.one(&sql, &[&request]).await.get(0)
    };
    let begin = json!({"payload": payload, "max_attempts": 5});
    let note = |lease: &Value, effect: &str| json!({"payload": payload, "lease": lease, "permits": {}, "effect": effect, "google": "worked", "outcome": "done"});
    let (first, second) = (
        call("calendar_begin", begin.clone()).await,
        call("calendar_begin", begin).await,
    );
    assert_eq!(first["binding"], second["binding"]);
    assert_ne!(first["lease"], second["lease"]);
    let late = call("calendar_note", note(&first["lease"], "gone")).await;
    assert_eq!(late["held"], false);
    let noted = call("calendar_note", note(&second["lease"], "bound")).await;
    assert_eq!(noted["held"], true);

    // Nor does the earlier attempt of a rebuilding count.
    let part = |lease: u32, gone: Value, limit: u32| json!({"payload": super::rebuild_all(), "lease": lease, "limit": limit, "gone": gone});
    let rebuild = "insert into sync_outbox (payload) values ($1) returning id::text";
    let job: String = database.one(rebuild, &[&super::rebuild_all()]).await.get(0);
    let call = async |mut request: Value| -> Value {
        request["job_id"] = job.as_str().into();
        request["remaining"] = 30.into();
        let sql = "select millrace_api.calendar_rebuild($1)";
        database.one(sql, &[&request]).await.get(0)
    };
    let source = json!([{"source_type": "task", "source_id": super::source_id(1)}]);
    for lease in [901, 902] {
        let items = call(part(lease, json!([]), 50)).await;
        assert_eq!(items["items"].as_array().map(Vec::len), Some(1), "{items}");
    }
    assert_eq!(call(part(901, source.clone(), 0)).await["lost"], 1);
    assert_eq!(call(part(902, source, 0)).await["lost"], 0);
}
