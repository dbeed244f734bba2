//! What the database says about published key sets: when one is fetched, by whom, and how long an old one serves.
//! Through SQL with the clock stopped; `jwks` shows that the functions heed it.

use millrace_tests::database::{Database, explain, refusal};
use serde_json::{Value, json};
use tokio_postgres::Client;

const URL: &str = "https://issuer.example/jwks.json";

/// A database and the hands of its clock.
struct Play(Database);

impl Play {
    async fn new() -> Self {
        let play = Self(Database::fresh().await);
        play.at(0).await;
        play
    }

    /// Sets the clock so many seconds after the play began.
    async fn at(&self, seconds: u32) {
        let (minute, second) = (seconds / 60, seconds % 60);
        let (hour, minute) = (10 + minute / 60, minute % 60);
        let instant = format!("2030-01-01 {hour}:{minute:02}:{second:02}+00");
        self.0.stop_clock_at(&instant).await;
    }

    /// What is to be done about a key that the set of this version lacks; about any key if `None`.
    async fn ask(&self, lacks: Option<i64>) -> Value {
        ask(self.0.client(), URL, lacks).await
    }

    /// Step and document of that, in one word each.
    async fn says(&self, seconds: u32, lacks: Option<i64>) -> String {
        self.at(seconds).await;
        let said = self.ask(lacks).await;
        let step = said["step"].as_str().expect("a step");
        match said["document"].as_str() {
            Some(document) => format!("{step} {document}"),
            None => step.to_owned(),
        }
    }

    /// Notes what a fetch came to; answers with the version that it has got.
    async fn keep(&self, seconds: u32, document: Option<&str>) -> Option<i64> {
        self.at(seconds).await;
        let noted = json!({"url": URL, "document": document});
        let receipt = call(self.0.client(), "keep_key_set", &noted).await;
        receipt.expect("noted")["version"].as_i64()
    }

    /// Has had the set `a` at the start; answers with its version.
    async fn with_set() -> (Self, Option<i64>) {
        let play = Self::new().await;
        assert_eq!(play.says(0, None).await, "fetch");
        let version = play.keep(0, Some("a")).await;
        assert!(version.is_some());
        (play, version)
    }
}

async fn call(
    client: &Client,
    function: &str,
    request: &Value,
) -> Result<Value, tokio_postgres::Error> {
    let sql = format!("select millrace_api.{function}($1)");
    Ok(client.query_one(&sql, &[request]).await?.get(0))
}

async fn ask(client: &Client, url: &str, lacks: Option<i64>) -> Value {
    call(client, "key_set", &json!({"url": url, "lacks": lacks}))
        .await
        .unwrap_or_else(|e| panic!("{}", explain(&e)))
}

#[tokio::test]
async fn a_set_is_fetched_by_one_and_again_after_ten_minutes() {
    let play = Play::new().await;
    assert_eq!(play.says(0, None).await, "fetch");
    assert_eq!(play.says(1, None).await, "wait", "one fetch will do");
    assert!(play.keep(1, Some("a")).await.is_some());
    assert_eq!(play.says(1, None).await, "use a");
    assert_eq!(play.says(600, None).await, "use a");
    assert_eq!(play.says(601, None).await, "fetch a");
    assert_eq!(
        play.says(602, None).await,
        "use a",
        "nobody waits meanwhile"
    );
    assert!(play.keep(602, Some("b")).await.is_some());
    assert_eq!(play.says(1201, None).await, "use b");
    assert_eq!(play.says(1202, None).await, "fetch b");
}

#[tokio::test]
async fn a_new_key_is_looked_for_but_not_all_the_time() {
    let (play, first) = Play::with_set().await;
    assert_eq!(
        play.says(1, first).await,
        "fetch",
        "it may have been made since"
    );
    assert_eq!(play.says(1, first).await, "wait");
    assert_eq!(play.says(1, None).await, "use a", "others do not wait");
    let second = play.keep(2, Some("b")).await;
    assert_eq!(
        play.says(3, first).await,
        "use b",
        "somebody else has fetched it: nobody need"
    );
    for seconds in 3..31 {
        assert_eq!(play.says(seconds, second).await, "use", "no such key");
    }
    assert_eq!(play.says(31, second).await, "fetch");
    assert_eq!(play.keep(31, None).await, None);
    assert_eq!(
        play.says(32, second).await,
        "unavailable",
        "it may be a new one"
    );
    assert_eq!(play.says(32, None).await, "use b");
}

#[tokio::test]
async fn an_outage_is_bridged_for_an_hour() {
    let (play, first) = Play::with_set().await;
    assert_eq!(play.says(700, None).await, "fetch a");
    play.keep(705, None).await;
    assert_eq!(play.says(706, None).await, "use a");
    assert_eq!(play.says(706, first).await, "unavailable");
    assert_eq!(play.says(734, None).await, "use a");
    assert_eq!(play.says(735, None).await, "fetch a", "every half minute");
    play.keep(735, None).await;
    assert_eq!(play.says(3599, None).await, "fetch a");
    play.keep(3599, None).await;
    assert_eq!(play.says(3600, None).await, "unavailable");
    assert_eq!(
        play.says(3604, None).await,
        "fetch",
        "every five seconds now"
    );
    assert!(play.keep(3604, Some("b")).await.is_some());
    assert_eq!(play.says(3605, None).await, "use b");
}

#[tokio::test]
async fn without_any_set_it_is_tried_every_five_seconds() {
    let play = Play::new().await;
    assert_eq!(play.says(0, None).await, "fetch");
    play.keep(1, None).await;
    assert_eq!(play.says(5, None).await, "unavailable");
    assert_eq!(play.says(6, None).await, "fetch");
}

#[tokio::test]
async fn a_fetch_that_never_came_back_is_not_waited_for() {
    let play = Play::new().await;
    assert_eq!(play.says(0, None).await, "fetch");
    assert_eq!(play.says(5, None).await, "wait");
    assert_eq!(play.says(6, None).await, "fetch");
    assert_eq!(play.says(7, None).await, "wait");
    // Whoever was late is heard all the same, once.
    assert!(play.keep(8, Some("a")).await.is_some());
    assert_eq!(play.keep(8, None).await, None);
    assert_eq!(play.says(8, None).await, "use a");
    assert_eq!(play.says(607, None).await, "use a");
}

#[tokio::test]
async fn only_what_was_asked_for_is_kept_and_nothing_large() {
    let play = Play::new().await;
    assert_eq!(play.keep(0, Some("a")).await, None);
    assert_eq!(play.says(0, None).await, "fetch");
    let limit = 64 << 10;
    for (length, kept) in [(limit + 1, false), (limit, true)] {
        let request = json!({"url": URL, "document": "x".repeat(length)});
        match call(play.0.client(), "keep_key_set", &request).await {
            Ok(answer) => assert!(kept && answer["version"].is_i64(), "{length}: {answer}"),
            Err(error) => {
                assert!(!kept, "{length}: {}", explain(&error));
                assert_eq!(refusal(&error).0, "PT400");
            }
        }
    }
    let said = play.ask(None).await;
    assert_eq!(said["document"].as_str().map(str::len), Some(limit));

    let other = ask(play.0.client(), "https://other.example", None).await;
    assert_eq!(other, json!({"step": "fetch"}), "another URL, another set");
    for url in [Value::Null, json!(""), json!("x".repeat(2001))] {
        let refused = call(play.0.client(), "key_set", &json!({ "url": url })).await;
        assert_eq!(refusal(&refused.expect_err("no URL")).0, "PT400");
    }
}

/// Whatever else holds the row, or is about to make it, nobody waits for it and nobody is told to fetch twice.
#[tokio::test]
async fn nobody_waits_for_a_lock() {
    let play = Play::new().await;
    let (one, other) = (play.0.connect().await, play.0.connect().await);
    other
        .batch_execute("set lock_timeout = '1ms'")
        .await
        .expect("a limit");

    one.batch_execute("begin").await.expect("a transaction");
    assert_eq!(ask(&one, URL, None).await["step"], "fetch");
    // The row is not there yet for anybody else.
    assert_eq!(ask(&other, URL, None).await["step"], "wait");
    one.batch_execute("commit").await.expect("a transaction");
    assert!(play.keep(0, Some("a")).await.is_some());

    play.at(601).await;
    one.batch_execute("begin").await.expect("a transaction");
    assert_eq!(ask(&one, URL, None).await["step"], "fetch");
    assert_eq!(ask(&other, URL, None).await["step"], "use");
    one.batch_execute("rollback").await.expect("a transaction");
    assert_eq!(ask(&other, URL, None).await["step"], "fetch");
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_is_told_to_fetch() {
    let play = Play::new().await;
    let (rounds, at_once) = (20, 8);
    let mut clients = Vec::new();
    for _ in 0..at_once {
        clients.push(play.0.connect().await);
    }
    for round in 0..rounds {
        let url = format!("{URL}?{round}");
        let asked = clients.iter().map(|client| ask(client, &url, None));
        let said = futures::future::join_all(asked).await;
        let told = said.iter().filter(|it| it["step"] == "fetch").count();
        assert_eq!(told, 1, "{said:?}");
    }
    println!("key sets: {rounds} times {at_once} at once, each time one fetch");
}
