//! Tokens: got, kept and renewed; a consent that is gone; keys that change; and that nobody sees a secret.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use millrace_tests::deadline::eventually;
use millrace_tests::program::command;
use millrace_tests::provider::Fault;
use millrace_tests::providers::google::{CLIENT_SECRET, REFRESH_TOKEN, TOKEN_LIFE};

use super::{KEY_1, KEY_2, Syncing, WORKSPACE, is_call};

fn token_requests(syncing: &Syncing) -> usize {
    syncing.calls(|request| request.path() == "/token")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_serves_until_it_expires() {
    let syncing = Syncing::start().await;
    for source in 1..=3 {
        syncing.bound(source).await;
    }
    assert_eq!(token_requests(&syncing), 1);
    syncing.google.advance(TOKEN_LIFE);
    syncing.app.database.set_clock_ahead(3600.0).await;
    syncing.bound(4).await;
    assert_eq!(token_requests(&syncing), 2);
    assert_eq!(syncing.calls(is_call), 4, "none was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_that_is_not_taken_is_renewed_once() {
    let syncing = Syncing::start().await;
    syncing.bound(1).await;
    syncing
        .google
        .plan_for(is_call, [Fault::Told("expired token")]);
    syncing.bound(2).await;
    assert_eq!(token_requests(&syncing), 2);
    syncing
        .google
        .plan_for(is_call, [Fault::Told("401 authError"); 2]);
    let job = syncing.upsert(3, "first").await;
    syncing.run().await;
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str()),
        ("dead", "connection_invalid")
    );
    assert_eq!(
        token_requests(&syncing),
        3,
        "renewed once, not again and again"
    );
    assert!(!syncing.is_valid().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_is_gone_ends_items_until_somebody_connects_again() {
    let syncing = Syncing::start().await;
    syncing.bound(1).await;
    syncing
        .google
        .plan_for(is_call, [Fault::Told("revoked grant")]);
    let first = syncing.upsert(2, "first").await;
    syncing.run().await;
    let fate = syncing.fate(first).await;
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str(), fate.attempts),
        ("dead", "connection_invalid", 1)
    );
    assert!(!syncing.is_valid().await);
    let asked = syncing.google.requests().len();
    let second = syncing.upsert(3, "first").await;
    syncing.run().await;
    assert_eq!(syncing.status(second).await, "DEAD_LETTER");
    assert_eq!(syncing.google.requests().len(), asked, "nobody was asked");

    syncing
        .google
        .service(|google| google.consents.insert(REFRESH_TOKEN.to_owned()));
    syncing.connect(WORKSPACE).await;
    assert!(syncing.is_valid().await);
    let again = "update sync_outbox set status = 'PENDING' where status = 'DEAD_LETTER'";
    syncing.app.database.run(again).await;
    syncing.run().await;
    assert_eq!(syncing.titles().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_google_does_not_know_costs_no_attempt() {
    let syncing = Syncing::start_with(&[("google_client_secret", "another")]).await;
    syncing
        .app
        .database
        .stop_clock_at("2026-11-22 12:00:00Z")
        .await;
    let job = syncing.upsert(1, "first").await;
    syncing.run().await;
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.code.as_str(), fate.attempts, fate.delay),
        ("google_client_refused", 0, Some(60.0))
    );
    assert!(syncing.is_valid().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_while_the_application_runs() {
    let syncing = Syncing::start_with(&[("calendar_token_key", &format!("{KEY_2},{KEY_1}"))]).await;
    for n in 0..149 {
        syncing.connect_in_sql(n).await;
    }
    syncing.bound(1).await;
    let keys = "select string_agg(distinct key_id, ',' order by key_id) from google_connections";
    let (done, said) = syncing.secrets(&["rotate"], KEY_2, "").await;
    assert!(
        !done && said.contains("k1") && said.contains("nothing was changed"),
        "{said}"
    );
    let (done, said) = syncing
        .secrets(&["rotate"], &format!("{KEY_2},{KEY_1}"), "")
        .await;
    assert!(done && said.contains("150 refresh tokens"), "{said}");
    print!("{said}");
    assert_eq!(
        syncing
            .app
            .database
            .one(keys, &[])
            .await
            .get::<_, String>(0),
        "k2"
    );
    let (done, said) = syncing
        .secrets(&["rotate"], &format!("{KEY_2},{KEY_1}"), "")
        .await;
    assert!(done && said.contains("0 refresh tokens"), "{said}");
    syncing.google.advance(Duration::from_secs(4000));
    syncing.app.database.set_clock_ahead(4000.0).await;
    syncing.bound(2).await;
    let (done, said) = syncing.secrets(&["list"], "", "").await;
    assert!(
        done && said.contains(WORKSPACE) && said.contains("team@example.com"),
        "{said}"
    );
    assert!(!said.contains(REFRESH_TOKEN));
    let (done, key) = syncing.secrets(&["key"], "", "").await;
    assert!(done && key.trim().len() == 44, "32 bytes as base64");
    assert_ne!(key, syncing.secrets(&["key"], "", "").await.1);
}

impl Syncing {
    /// Another workspace with the token of the one that is connected, encrypted for it: a ciphertext that is no use to it.
    async fn connect_in_sql(&self, n: u32) {
        let workspace = match n {
            0 => "00000000-0000-0000-0000-000000000000".to_owned(),
            _ => format!("00000000-0000-4000-9000-{n:012}"),
        };
        let vault = millrace_vault::Vault::new(KEY_1).expect("a vault");
        let sealed = vault.seal(&workspace, REFRESH_TOKEN).expect("sealed");
        let sql = "select millrace.connect_calendar($1::text::uuid, null, $2, $3)";
        self.app
            .database
            .one(sql, &[&workspace, &sealed.ciphertext, &sealed.key_id])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_moved_to_another_workspace_does_not_open() {
    let syncing = Syncing::start().await;
    let other = "00000000-0000-4000-9000-000000000001";
    let sql = "select millrace.connect_calendar($1::text::uuid, null, c.refresh_token_encrypted, c.key_id) from google_connections c";
    syncing.app.database.one(sql, &[&other]).await;
    let mut payload = super::upsert(1, "first");
    payload["workspaceId"] = other.into();
    let job = syncing.insert(&payload).await;
    syncing.run().await;
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.code.as_str(), fate.attempts),
        ("token_not_readable", 0)
    );
    assert!(syncing.google.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_anywhere_in_the_open() {
    let syncing = Syncing::start().await;
    for fault in ["400 invalid", "401 authError", "403 forbidden"] {
        syncing
            .google
            .plan_for(is_call, [Fault::Told(fault), Fault::Told(fault)]);
        syncing.upsert(1, "a title that is private").await;
        syncing.run().await;
    }
    for table in [
        "millrace.google_connection",
        "millrace.attempt",
        "millrace.job_events",
        "millrace.dead_letter",
        "millrace.channel",
        "millrace.finished",
    ] {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from {table} t");
        let text: String = syncing.app.database.one(&sql, &[]).await.get(0);
        for secret in [
            REFRESH_TOKEN,
            CLIENT_SECRET,
            "ya29.",
            &KEY_1[3..],
            "a title that is private",
        ] {
            assert!(!text.contains(secret), "{secret} in {table}");
        }
    }
    let (done, said) = syncing
        .secrets(&["put", "--workspace", WORKSPACE], KEY_1, "two words")
        .await;
    assert!(!done && !said.contains("two words"), "{said}");
    let (done, said) = syncing.secrets(&["rotate"], &KEY_1[3..], "").await;
    assert!(!done && !said.contains(&KEY_1[3..]), "{said}");
    // One that is no text.
    let mut rotate = command(&["secrets", "rotate"]);
    rotate.env("DATABASE_URL", syncing.app.database.url()).env(
        "SPIN_VARIABLE_CALENDAR_TOKEN_KEY",
        OsStr::from_bytes(b"k1:secretsecret\xff"),
    );
    let said = rotate.output().await.expect("it ends").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("CALENDAR_TOKEN_KEY") && !said.contains("secretsecret"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_consent_is_not_for_ends_the_connection() {
    let syncing = Syncing::start().await;
    let is_token = |request: &millrace_tests::provider::Seen| request.path() == "/token";
    syncing
        .google
        .plan_for(is_token, [Fault::Told("400 unauthorized_client")]);
    let job = syncing.upsert(1, "first").await;
    syncing.run().await;
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str()),
        ("dead", "connection_invalid")
    );
    assert!(!syncing.is_valid().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_attempt_says_of_an_older_connection_does_not_count() {
    let syncing = Syncing::start().await;
    syncing.google.service(|google| google.consents.clear());
    let is_token = |request: &millrace_tests::provider::Seen| request.path() == "/token";
    syncing
        .google
        .plan_for(is_token, [Fault::SlowAnswer(Duration::from_secs(4))]);
    let job = syncing.upsert(1, "first").await;
    let reconnected = async {
        eventually("the token is asked for", || async {
            (syncing.google.count() == 1).then_some(())
        })
        .await;
        let consent = REFRESH_TOKEN.to_owned();
        syncing
            .google
            .service(|google| google.consents.insert(consent));
        syncing.connect(WORKSPACE).await;
    };
    tokio::join!(syncing.run(), reconnected);
    syncing.run().await;
    let fate = syncing.fate(job).await;
    assert_eq!(
        (fate.state.as_str(), fate.attempts),
        ("succeeded", 1),
        "{fate:?}"
    );
    assert!(syncing.is_valid().await);
}
