//! `POST /api/collab/task.assign`: what it enqueues, and every request that it refuses.

use millrace_tests::app::App;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATH: &str = "/api/collab/task.assign";

/// A task with one field set to what is given.
fn with(field: &str, value: Value) -> Value {
    let mut task = json!({"type": "t", "executorId": "e"});
    task[field] = value;
    task
}

async fn enqueued(app: &App) -> i64 {
    app.database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0)
}

#[tokio::test]
async fn every_field_reaches_the_job() {
    let app = App::start().await;
    let task = json!({
        "type": "browser.run", "executorId": "ключ-🦀", "payload": {"a": null, "b": [null, 1]}, "idempotencyKey": "k", "priority": 20,
        "concurrencyKey": "c", "limitKey": "l", "maxAttempts": 7
    });
    let answer = app.api.assign(task).await.ok();
    assert_eq!(answer["queued"], true);
    let sql = "select j.type, q.name, j.payload::text, j.idempotency_key, j.priority, j.concurrency_key, j.max_attempts, j.limit_key \
               from millrace.job j join millrace.queue q on q.id = j.queue_id where j.id = millrace.job_id($1::text::uuid)";
    let row = app.database.one(sql, &[&answer["jobId"].as_str()]).await;
    let text = |index: usize| row.get::<_, String>(index);
    assert_eq!(
        (text(0), text(1)),
        ("browser.run".to_owned(), "ключ-🦀".to_owned())
    );
    assert_eq!(
        (text(2), text(3), text(5)),
        (
            r#"{"a": null, "b": [null, 1]}"#.to_owned(),
            "k".to_owned(),
            "c".to_owned()
        )
    );
    assert_eq!((row.get::<_, i16>(4), row.get::<_, i32>(6)), (20, 7));
    assert_eq!(text(7), "l");
}

#[tokio::test]
async fn a_payload_comes_back_digit_for_digit() {
    let app = App::start().await;
    let numbers = r#"[12345678901234567890, 1.10, -0.000000000000000000000000001, 123456789012345678901234567890.5]"#;
    let body = format!(
        r#"{{"type":"t","executorId":"e","payload":{{"n":{numbers},"text":"日本 \ud83e\udd80 \" \\ \n"}}}}"#
    );
    app.api.post_text(PATH, body).await.ok();
    let claimed = app
        .api
        .claim(json!({"executorId": "e", "workerId": "w"}))
        .await;
    assert!(claimed.text.contains(numbers), "{}", claimed.text);
    assert_eq!(claimed.ok()["job"]["payload"]["text"], "日本 🦀 \" \\ \n");
}

#[tokio::test]
async fn payloads_of_any_kind_are_kept() {
    let app = App::start().await;
    for payload in [
        json!([]),
        json!("text"),
        json!(false),
        json!(0),
        json!({"": {"": null}}),
        json!({"deep": nested(100)}),
    ] {
        app.api.assign(with("payload", payload.clone())).await.ok();
        let job = app.api.claim_one("e", "w").await.expect("a job");
        assert_eq!(job["payload"], payload);
    }
    // As for every field, null stands for an absent one.
    for task in [
        json!({"type": "t", "executorId": "e"}),
        with("payload", Value::Null),
    ] {
        app.api.assign(task).await.ok();
        assert_eq!(
            app.api.claim_one("e", "w").await.expect("a job")["payload"],
            json!({})
        );
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

#[tokio::test]
async fn a_delayed_task_waits_and_the_greatest_priority_goes_first() {
    let app = App::start().await;
    let sql = "select to_char(now() at time zone 'UTC' + $1::text::interval, 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"')";
    let hence: [String; 2] = [
        app.database.one(sql, &[&"2 hours"]).await.get(0),
        app.database.one(sql, &[&"11 years"]).await.get(0),
    ];
    let too_late = app.api.assign(with("runAt", json!(hence[1]))).await;
    too_late.assert_refused(400, "invalid_request");
    for task in [
        with("delaySeconds", json!(3600)),
        with("runAt", json!(hence[0])),
    ] {
        app.api.assign(task).await.ok();
    }
    assert_eq!(app.api.claim_one("e", "w").await, None);
    app.database.set_clock_ahead(3601.0).await;
    assert!(
        app.api.claim_one("e", "w").await.is_some(),
        "the delay is over"
    );
    assert_eq!(app.api.claim_one("e", "w").await, None);

    for priority in [1, 20, 5, -100, 100] {
        app.api.assign(with("priority", json!(priority))).await.ok();
    }
    app.api
        .assign(with("runAt", json!("2001-01-01T00:00:00Z")))
        .await
        .ok();
    let claimed = app
        .api
        .claim(json!({"executorId": "e", "workerId": "w", "limit": 100}))
        .await
        .ok();
    let order: Vec<_> = claimed["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| job["priority"].as_i64())
        .collect();
    assert_eq!(
        order,
        [100, 20, 5, 5, 1, -100].map(Some),
        "a time in the past means now, with the usual priority"
    );
}

#[tokio::test]
async fn jobs_of_one_concurrency_key_run_one_after_the_other() {
    let app = App::start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(
            app.api
                .assign(with("concurrencyKey", json!("c")))
                .await
                .ok()["jobId"]
                .clone(),
        );
    }
    let first = app.api.claim_one("e", "w").await.expect("the first");
    assert_eq!(first["id"], ids[0]);
    assert_eq!(app.api.claim_one("e", "w").await, None);
    app.api
        .result(json!({"jobId": ids[0], "type": "t", "ok": true}))
        .await
        .ok();
    assert_eq!(
        app.api.claim_one("e", "w").await.expect("the second")["id"],
        ids[1]
    );
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order() {
    let app = App::start().await;
    let tasks: Vec<_> = (0..100).map(|n| json!({"type": "t", "executorId": "e", "payload": n, "idempotencyKey": format!("k{}", n % 99)})).collect();
    let answer = app.api.assign(json!({"tasks": tasks})).await.ok();
    let answers = answer["tasks"].as_array().expect("tasks");
    assert_eq!(answers.len(), 100);
    assert!(answers[..99].iter().all(|task| task["queued"] == true));
    assert_eq!(
        answers[99],
        json!({"jobId": answers[0]["jobId"], "queued": false}),
        "the key of the first"
    );
    for n in [0, 50, 98] {
        let sql =
            "select payload::text from millrace.job where id = millrace.job_id($1::text::uuid)";
        let row = app
            .database
            .one(sql, &[&answers[n]["jobId"].as_str()])
            .await;
        assert_eq!(row.get::<_, String>(0), n.to_string());
    }
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let app = App::start().await;
    let long = "x".repeat(201);
    let nul = "a\0b";
    for (field, values) in [
        (
            "type",
            vec![
                json!(null),
                json!(""),
                json!(" \t"),
                json!(long),
                json!(nul),
                json!(7),
                json!([]),
                json!({}),
            ],
        ),
        (
            "executorId",
            vec![json!(null), json!(""), json!(long), json!(nul), json!(true)],
        ),
        (
            "idempotencyKey",
            vec![json!(""), json!(long), json!(nul), json!(1)],
        ),
        (
            "concurrencyKey",
            vec![json!(" "), json!(long), json!(nul), json!({})],
        ),
        (
            "limitKey",
            vec![json!(" "), json!(long), json!(nul), json!(1)],
        ),
        (
            "priority",
            vec![
                json!(101),
                json!(-101),
                json!(1.5),
                json!("5"),
                json!(1e30),
                json!(true),
            ],
        ),
        (
            "delaySeconds",
            vec![json!(-1), json!(315_360_001_i64), json!(0.5), json!("1")],
        ),
        (
            "maxAttempts",
            vec![json!(0), json!(1001), json!(-1), json!("3")],
        ),
        (
            "runAt",
            vec![
                json!("tomorrow"),
                json!(0),
                json!(""),
                json!("2030-02-30T00:00:00Z"),
                json!("2030-01-01T00:00:00"),
            ],
        ),
        (
            "payload",
            vec![
                json!(nul),
                json!({"k": [nul]}),
                json!({nul: 1}),
                nested(200),
            ],
        ),
        ("unknown", vec![json!(null), json!(1), nested(50)]),
        ("executorID", vec![json!("e")]),
    ] {
        for value in values {
            let answer = app.api.assign(with(field, value.clone())).await;
            println!("{field} = {:.60}: {}", value.to_string(), answer.text);
            answer.assert_invalid(field);
        }
    }
    assert_eq!(enqueued(&app).await, 0);
}

#[tokio::test]
async fn what_is_missing_or_given_twice_is_named() {
    let app = App::start().await;
    for (body, field) in [
        (r#"{"executorId":"e"}"#, "type"),
        (r#"{"type":"t"}"#, "executorId"),
        (r#"{}"#, "type"),
        (r#"{"type":"t","type":"t","executorId":"e"}"#, "type"),
        (
            r#"{"type":"t","executorId":"e","payload":1,"payload":2}"#,
            "payload",
        ),
        (
            r#"{"tasks":[{"type":"t","executorId":"e"}],"type":"t"}"#,
            "type",
        ),
        (r#"{"tasks":[]}"#, "tasks"),
        (r#"{"tasks":{}}"#, "tasks"),
        (r#"{"tasks":null}"#, "tasks"),
        (r#"{"tasks":[{"type":"t","executorId":"e"},7]}"#, "tasks[1]"),
        (
            r#"{"tasks":[{"type":"t","executorId":"e"},{"type":"","executorId":"e"}]}"#,
            "tasks[1].type",
        ),
        (r#"{"tasks":[{"type":"t"}]}"#, "tasks[0].executorId"),
        (
            r#"{"tasks":[{"type":"t","executorId":"e","tasks":[]}]}"#,
            "tasks[0].tasks",
        ),
    ] {
        app.api.post_text(PATH, body).await.assert_invalid(field);
    }
    let both =
        json!({"type": "t", "executorId": "e", "delaySeconds": 1, "runAt": "2030-01-01T00:00:00Z"});
    app.api
        .assign(both)
        .await
        .assert_refused(400, "invalid_request");
    let many = vec![json!({"type": "t", "executorId": "e"}); 101];
    app.api
        .assign(json!({"tasks": many}))
        .await
        .assert_invalid("tasks");
    assert_eq!(
        enqueued(&app).await,
        0,
        "a batch with one bad task enqueues none"
    );
}

#[tokio::test]
async fn what_is_not_a_json_object_is_refused() {
    let app = App::start().await;
    let deep = "[".repeat(100_000);
    let deep_payload = format!(
        r#"{{"type":"t","executorId":"e","payload":{}{}}}"#,
        "[".repeat(400_000),
        "]".repeat(400_000)
    );
    let deep_unknown = format!(
        r#"{{"type":"t","executorId":"e","other":{}1{}}}"#,
        r#"{"a":"#.repeat(100_000),
        "}".repeat(100_000)
    );
    for body in [
        "",
        " ",
        "{",
        "nul",
        "{]",
        r#"{"type":"t","executorId":"e"}x"#,
        r#"{"type":"t","executorId":"e",}"#,
        r#"{'type':'t'}"#,
        r#"{"type":"\ud800","executorId":"e"}"#,
        r#"{"type":"t","executorId":"e","payload":NaN}"#,
        r#"{"type":"t","executorId":"e","payload":{}"#,
    ] {
        let answer = app.api.post_text(PATH, body).await;
        println!("{body:?}: {}", answer.text);
        answer.assert_refused(400, "invalid_json");
    }
    for body in ["7", "null", "\"text\"", "[]", r#"["t","e"]"#] {
        app.api
            .post_text(PATH, body)
            .await
            .assert_refused(400, "invalid_request");
    }
    for body in [deep, deep_payload, deep_unknown] {
        let answer = app.api.post_text(PATH, body).await;
        println!("deep: {}", answer.text);
        assert!(
            ["invalid_json", "invalid_request"].contains(&answer.code().as_str()),
            "{}",
            answer.text
        );
        answer.assert_refused(400, &answer.code());
    }
    let not_utf8 = [
        br#"{"type":"t","executorId":""#.as_slice(),
        &[0xff],
        br#""}"#,
    ]
    .concat();
    app.api
        .post_text(PATH, not_utf8)
        .await
        .assert_refused(400, "invalid_json");
    assert_eq!(enqueued(&app).await, 0);
}

#[tokio::test]
async fn a_body_may_have_a_mebibyte_and_no_byte_more() {
    const LIMIT: usize = 1 << 20;
    let app = App::start().await;
    let body = |length: usize| {
        let frame = r#"{"type":"t","executorId":"e","payload":""}"#.len();
        format!(
            r#"{{"type":"t","executorId":"e","payload":"{}"}}"#,
            "x".repeat(length - frame)
        )
    };
    assert_eq!(
        app.api.post_text(PATH, body(LIMIT)).await.ok()["queued"],
        true
    );
    app.api
        .post_text(PATH, body(LIMIT + 1))
        .await
        .assert_refused(413, "body_too_large");
    assert_eq!(app.api.post_text(PATH, body(64 << 20)).await.status, 413);
    assert_eq!(enqueued(&app).await, 1);
}

#[tokio::test]
async fn a_body_of_untold_length_is_cut_off() {
    let app = App::start().await;
    let mut stream = TcpStream::connect(app.server().addr())
        .await
        .expect("a connection");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        millrace_tests::keys::API_KEY
    );
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the head goes out");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let (mut reader, mut writer) = stream.split();
    let mut start = [0; 12];
    let endless = async {
        while writer.write_all(chunk.as_bytes()).await.is_ok() {}
        std::future::pending().await // the answer may still be on its way
    };
    tokio::select! {
        read = reader.read_exact(&mut start) => { read.expect("an answer"); }
        () = endless => {}
    }
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[tokio::test]
async fn other_methods_and_media_types_are_refused() {
    let app = App::start().await;
    for method in [
        Method::GET,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        let answer = app.api.send(app.api.request(method.clone(), PATH)).await;
        answer.assert_refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "POST", "{method}");
    }
    let body = r#"{"type":"t","executorId":"e"}"#;
    let post = || app.api.request(Method::POST, PATH).body(body);
    for media_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/json, text/plain",
    ] {
        let answer = app
            .api
            .send(post().header("content-type", media_type))
            .await;
        answer.assert_refused(415, "unsupported_media_type");
    }
    app.api
        .send(post())
        .await
        .assert_refused(415, "unsupported_media_type");
    let zipped = post()
        .header("content-type", "application/json")
        .header("content-encoding", "gzip");
    app.api
        .send(zipped)
        .await
        .assert_refused(415, "unsupported_media_type");
    for media_type in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=\"UTF-8\"",
    ] {
        app.api
            .send(post().header("content-type", media_type))
            .await
            .ok();
    }
}
