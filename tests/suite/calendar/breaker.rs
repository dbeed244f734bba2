//! The circuit breakers: an outage costs one probe in each interval, and no attempts.

use millrace_tests::database::Database;
use millrace_tests::provider::Fault;
use serde_json::{Value, json};

use super::{Syncing, is_call};

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_google_costs_a_probe_in_each_interval_and_no_attempt() {
    // Short runs: one that finds its queue held looks again until its time is up.
    let short = [("channel_run_seconds", "2"), ("channel_job_seconds", "1")];
    let syncing = Syncing::start_with(&short).await;
    let database = &syncing.app.database;
    let at = |seconds: u32| {
        format!(
            "2026-11-22 {:02}:{:02}:{:02}Z",
            12 + seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    };
    database.stop_clock_at(&at(0)).await;
    syncing
        .google
        .by_chance(1, &[(Fault::ErrorBeforeActing(503), 1.0)], is_call);
    for source in 0..200 {
        syncing.upsert(source, "first").await;
    }
    let mut calls = Vec::new();
    let seconds = (0..480).step_by(30).chain((480..=3600).step_by(150));
    for second in seconds {
        database.stop_clock_at(&at(second)).await;
        let before = syncing.calls(is_call);
        syncing.run().await;
        let asked = syncing.calls(is_call) - before;
        if asked > 0 {
            calls.push((second, asked));
        }
    }
    let probes: i64 = database
        .one(
            "select probes from millrace.circuit_breaker where name = 'google'",
            &[],
        )
        .await
        .get(0);
    let attempts: i64 = database
        .one("select coalesce(sum(attempts), 0) from sync_outbox", &[])
        .await
        .get(0);
    println!(
        "an hour's outage, 200 items waiting: calls (second, how many) {calls:?}, {probes} probes, {attempts} attempts lost"
    );
    assert_eq!(attempts, 0);
    // Ten in hand, and those that took the places of the first four failures: the fifth opens the breaker.
    assert!(calls[0].1 <= 14, "{} when it began", calls[0].1);
    assert!(calls[1..].iter().all(|(_, asked)| *asked == 1));
    assert_eq!(calls.len() - 1, usize::try_from(probes).expect("few"));
    // 30 s, doubled up to 15 minutes.
    let times: Vec<u32> = calls.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [0, 30, 90, 210, 450, 930, 1830, 2730]);

    syncing.google.by_chance(1, &[], is_call);
    for step in 0..10 {
        database.stop_clock_at(&at(3600 + step * 30)).await;
        syncing.run().await;
    }
    assert_eq!(syncing.titles().len(), 200);
    let attempts: i64 = database
        .one("select max(attempts)::int8 from sync_outbox", &[])
        .await
        .get(0);
    assert_eq!(attempts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_fails_by_itself_is_not_excused_for_ever() {
    let syncing = Syncing::start().await;
    let database = &syncing.app.database;
    let poison = "poison";
    syncing
        .google
        .by_chance(1, &[(Fault::ErrorBeforeActing(500), 1.0)], move |request| {
            request.body.contains(poison)
        });
    let job = syncing.upsert(1, poison).await;
    for round in 0..12 {
        database.set_clock_ahead(f64::from(round) * 7200.0).await;
        syncing.upsert(2 + round, "first").await;
        syncing.run().await;
        syncing.run().await;
    }
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.state.as_str(), fate.attempts),
        ("dead", 5),
        "{fate:?}"
    );
    assert_eq!(syncing.titles().len(), 12);
}

async fn admit(database: &Database, breakers: &str) -> (bool, Option<f64>, Value) {
    let sql = format!(
        "select admitted, extract(epoch from wait)::float8, permits from millrace.admit_call('{breakers}')"
    );
    let row = database.one(&sql, &[]).await;
    (row.get(0), row.get(1), row.get(2))
}

async fn note(database: &Database, breakers: &str, permits: &Value, worked: bool) {
    let sql = format!("select excused from millrace.note_call('{breakers}', $1, $2)");
    database.one(&sql, &[permits, &worked]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_probe_speaks_for_an_open_breaker() {
    let database = Database::fresh().await;
    let none = json!({});
    database.stop_clock_at("2026-11-22 12:00:00Z").await;
    for _ in 0..5 {
        assert!(admit(&database, "{a,a/1}").await.0);
        note(&database, "{a,a/1}", &none, false).await;
    }
    assert_eq!(
        admit(&database, "{a,a/1}").await,
        (false, Some(30.0), none.clone())
    );
    note(&database, "{a,a/1}", &none, true).await;
    assert!(
        !admit(&database, "{a}").await.0,
        "a call of before changes nothing"
    );
    database.stop_clock_at("2026-11-22 12:00:30Z").await;
    let (admitted, _, permits) = admit(&database, "{a,a/1}").await;
    assert!(admitted);
    assert_eq!(permits, json!({"a": 1, "a/1": 1}));
    assert!(!admit(&database, "{a,a/1}").await.0, "one probe at a time");
    // The prober is never heard of again.
    database.stop_clock_at("2026-11-22 12:01:00Z").await;
    let (admitted, _, second) = admit(&database, "{a,a/1}").await;
    assert!(admitted);
    note(&database, "{a,a/1}", &permits, true).await;
    assert!(
        !admit(&database, "{a}").await.0,
        "the first one's word is too late"
    );
    note(&database, "{a,a/1}", &second, true).await;
    assert_eq!(admit(&database, "{a,a/1}").await, (true, None, none));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_send_one_probe() {
    let database = Database::fresh().await;
    for _ in 0..5 {
        note(&database, "{a}", &json!({}), false).await;
    }
    database.set_clock_ahead(31.0).await;
    let mut asking = Vec::new();
    for _ in 0..16 {
        let client = database.connect().await;
        asking.push(tokio::spawn(async move {
            let sql = "select permits <> '{}' and admitted from millrace.admit_call('{a}')";
            client
                .query_one(sql, &[])
                .await
                .expect("an answer")
                .get::<_, bool>(0)
        }));
    }
    let mut probes = 0;
    for asked in asking {
        probes += usize::from(asked.await.expect("no panic"));
    }
    assert_eq!(probes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_fails_alone_keeps_nobody_else_out() {
    let database = Database::fresh().await;
    for _ in 0..5 {
        note(&database, "{a,a/1}", &json!({}), false).await;
        note(&database, "{a,a/2}", &json!({}), true).await;
    }
    assert!(!admit(&database, "{a,a/1}").await.0);
    assert!(admit(&database, "{a,a/2}").await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_somebody_set_outlives_the_breakers() {
    let database = Database::fresh().await;
    let held = async || -> Option<String> {
        let sql = "select to_char(held_until at time zone 'UTC', 'HH24:MI:SS') from millrace.queue where name = 'calendar'";
        database.one(sql, &[]).await.get(0)
    };
    let follow = "select millrace.follow_calendar_breakers('{\"workspaceId\": \"W\"}')";
    let hold = |at: &str| format!("select millrace.hold('calendar', until => '2026-11-22 {at}Z')");
    database.stop_clock_at("2026-11-22 12:00:00Z").await;
    database.run(&hold("14:00:00")).await;
    for _ in 0..5 {
        note(&database, "{google,google/w}", &json!({}), false).await;
    }
    database.run(follow).await;
    assert_eq!(held().await.as_deref(), Some("14:00:00"));
    // Shorter than the breaker is open after its probe.
    database.run(&hold("12:00:45")).await;
    database.stop_clock_at("2026-11-22 12:00:30Z").await;
    let (_, _, permits) = admit(&database, "{google,google/w}").await;
    database.run(follow).await;
    assert_eq!(held().await.as_deref(), Some("12:01:00"));
    note(&database, "{google,google/w}", &permits, true).await;
    database.run(follow).await;
    assert_eq!(held().await.as_deref(), Some("12:00:45"));
    // The breaker's own is lifted as it closes.
    database.run("select millrace.hold('calendar')").await;
    for _ in 0..5 {
        note(&database, "{google,google/w}", &json!({}), false).await;
    }
    database.run(follow).await;
    assert_eq!(held().await.as_deref(), Some("12:01:00"));
    database.stop_clock_at("2026-11-22 12:01:00Z").await;
    let (_, _, permits) = admit(&database, "{google,google/w}").await;
    database.run(follow).await;
    note(&database, "{google,google/w}", &permits, true).await;
    database.run(follow).await;
    assert_eq!(held().await, None);
}
