//! Which jobs a claim selects, and in what order.

use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Want};
use serde_json::json;

#[tokio::test]
async fn greater_priority_first_then_due_time_then_number() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    let request = |priority: Option<i32>, delay: i32, name: &str| json!({ "queue": "q", "type": name, "priority": priority, "delay_seconds": delay });
    let batch = [
        request(None, 2, "fifth"),
        request(Some(-100), 0, "eighth"),
        request(Some(5), 1, "third"),
        request(Some(100), 3, "first"),
        request(Some(5), 1, "fourth"),
        request(Some(6), 9, "second"),
        request(Some(4), 0, "sixth"),
        request(Some(4), 0, "seventh"),
        request(Some(100), 60, "not due"),
    ];
    queue::enqueue_many(database.client(), &json!(batch))
        .await
        .expect("an enqueue");
    database.stop_clock_at("2030-01-07 12:00:10+00").await;
    let names: Vec<_> = queue::claim(database.client(), "q", "w", 5)
        .await
        .into_iter()
        .map(|c| c.job_type)
        .collect();
    assert_eq!(names, ["first", "second", "third", "fourth", "fifth"]);
    let names: Vec<_> = queue::claim(database.client(), "q", "w", 5)
        .await
        .into_iter()
        .map(|c| c.job_type)
        .collect();
    assert_eq!(names, ["sixth", "seventh", "eighth"]);
}

#[tokio::test]
async fn a_type_or_a_prefix_selects_literally() {
    let database = Database::fresh().await;
    let types = [
        "mail",
        "mail.send",
        "100%",
        "100 of",
        "a_b",
        "axb",
        r"back\slash",
        "MAIL",
    ];
    let jobs: Vec<_> = types
        .iter()
        .map(|name| json!({ "queue": "q", "type": name }))
        .collect();
    queue::enqueue_many(database.client(), &json!(jobs))
        .await
        .expect("an enqueue");
    let selected = async |job_type: Option<&str>, type_prefix: Option<&str>| {
        let client = database.connect().await;
        client.batch_execute("begin").await.expect("a transaction");
        let want = Want {
            job_type,
            type_prefix,
            ..Want::any("q", "w", 100)
        };
        let mut names: Vec<_> = queue::try_claim(&client, want)
            .await
            .expect("a claim")
            .into_iter()
            .map(|c| c.job_type)
            .collect();
        client.batch_execute("rollback").await.expect("a rollback");
        names.sort();
        names
    };
    assert_eq!(selected(Some("mail"), None).await, ["mail"]);
    assert_eq!(selected(Some("%"), None).await, [""; 0]);
    for (prefix, expected) in [
        ("mail", &["mail", "mail.send"][..]),
        ("mail.", &["mail.send"]),
        ("100%", &["100%"]),
        ("%", &[]),
        ("a_", &["a_b"]),
        ("_", &[]),
        (r"back\", &[r"back\slash"]),
        (r"\", &[]),
        ("mail.send.now", &[]),
    ] {
        assert_eq!(
            selected(None, Some(prefix)).await,
            expected,
            "prefix {prefix:?}"
        );
    }
    assert_eq!(
        selected(None, Some("")).await.len(),
        types.len(),
        "an empty prefix is no restriction"
    );
    let both = Want {
        job_type: Some("mail"),
        type_prefix: Some("mail"),
        ..Want::any("q", "w", 1)
    };
    assert_eq!(
        refusal(
            &queue::try_claim(database.client(), both)
                .await
                .expect_err("both")
        ),
        ("PT400".into(), "invalid_request".into())
    );
}

#[tokio::test]
async fn claims_that_make_no_sense_are_refused() {
    let database = Database::fresh().await;
    for (worker, max_jobs, code) in [
        ("", 1, "worker_id_missing"),
        ("  ", 1, "worker_id_missing"),
        ("\t\r\n", 1, "worker_id_missing"),
        ("w", 0, "invalid_request"),
        ("w", 1001, "invalid_request"),
    ] {
        let error = queue::try_claim(database.client(), Want::any("q", worker, max_jobs))
            .await
            .expect_err("a refusal");
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), code.to_owned()),
            "{worker:?} {max_jobs}"
        );
    }
}
