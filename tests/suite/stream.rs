//! `GET /api/collab/events/stream` of a job: its life as it happens, its end, the refusals, the permissions, and how many may listen.

mod queue;

use std::time::{Duration, Instant};

use futures::future::join_all;
use millrace::serve::Limits;
use millrace_tests::api::{Answer, Api};
use millrace_tests::app::App;
use millrace_tests::deadline::eventually;
use millrace_tests::keys::API_KEY;
use millrace_tests::scope::assert_scope;
use millrace_tests::sse::{PATH, Stream, request};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

const NO_JOB: &str = "00000000-0000-8000-806d-696c6c726163";

/// Claims the queue's next job and reports on it.
async fn work(api: &Api, queue: &str, ok: bool) {
    let job = api.claim_one(queue, "w").await.expect("a job");
    let report = json!({ "jobId": job["id"], "type": job["type"], "ok": ok, "permanent": true, "error": "a \"b\"\nc\u{2028}" });
    api.result(report).await.ok();
}

/// What a request that opens no stream is answered.
async fn answer(api: &Api, query: &str, place: Option<&str>) -> Answer {
    api.send(request(api, query, place)).await
}

#[tokio::test]
async fn a_jobs_life_is_told_as_it_happens() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    let query = format!("jobId={id}&until=end");
    let mut stream = Stream::open(request(&app.api, &query, None)).await;
    assert_eq!(stream.next().await.expect("a word").retry, Some(1000));
    // Each is read before the next thing is done: nothing waits for a buffer to fill.
    let mut told = vec![stream.event().await.expect("queued")];
    let job = app.api.claim_one("q", "w").await.expect("a job");
    told.push(stream.event().await.expect("started"));
    let report = json!({ "jobId": job["id"], "type": "t", "ok": false, "permanent": true, "error": "a \"b\"\r\nid: 9\u{2028}" });
    app.api.result(report).await.ok();
    told.push(stream.event().await.expect("dead_lettered"));
    assert_eq!(stream.event().await, Some(("end".to_owned(), json!({}))));
    assert_eq!(stream.event().await, None, "the stream has ended");

    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["queued", "started", "dead_lettered"]);
    let told: Vec<Value> = told.into_iter().map(|(_, data)| data).collect();
    let kept = app
        .api
        .get(&format!("/api/collab/events/by-job/{id}"))
        .await
        .ok();
    assert_eq!(
        Value::from(told),
        kept["items"],
        "the same that is told afterwards"
    );
}

#[tokio::test]
async fn until_the_end_is_over_once_the_end_was_read() {
    let app = App::start_with(&[("stream_seconds", "1")]).await;
    let id = app.api.assign_one("q", "t").await;
    work(&app.api, "q", true).await;

    let until_end = format!("jobId={id}&until=end");
    let mut stream = Stream::open(request(&app.api, &until_end, None)).await;
    for kind in ["queued", "started", "succeeded", "end"] {
        assert_eq!(stream.event().await.expect(kind).0, kind);
    }
    let place = stream.place.clone().expect("a place");
    assert!(stream.rest().await.is_empty());
    for answer in [
        answer(&app.api, &until_end, Some(&place)).await,
        answer(&app.api, &format!("{until_end}&lastEventId={place}"), None).await,
    ] {
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (204, ""),
            "do not come back"
        );
    }
    // The header goes before the parameter, and an empty one is none.
    let from_the_parameter = format!("jobId={id}&lastEventId={place}");
    let first = Stream::open(request(&app.api, &from_the_parameter, Some("0"))).await;
    assert_eq!(first.rest().await, ["queued", "started", "succeeded"]);
    let empty = Stream::open(request(&app.api, &from_the_parameter, Some(""))).await;
    assert!(empty.rest().await.is_empty());
    // Without `until` it is a stream like any other, which ends in its time.
    let open_end = Stream::open(request(&app.api, &format!("jobId={id}"), None)).await;
    assert_eq!(open_end.rest().await, ["queued", "started", "succeeded"]);
}

#[tokio::test]
async fn a_job_that_is_tried_again_goes_on_after_its_end() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    work(&app.api, "q", false).await;
    let query = format!("jobId={id}&until=end");
    let mut stream = Stream::open(request(&app.api, &query, None)).await;
    while stream.event().await.expect("the end").0 != "end" {}
    let place = stream.place.expect("a place");
    app.database
        .run("select millrace.retry((select max(id) from millrace.job))")
        .await;
    let mut stream = Stream::open(request(&app.api, &query, Some(&place))).await;
    assert_eq!(stream.event().await.expect("an event").0, "replayed");
    work(&app.api, "q", true).await;
    assert_eq!(stream.rest().await, ["started", "succeeded", "end"]);
}

#[tokio::test]
async fn a_stream_says_that_it_lives_and_where_it_is() {
    let app = App::start_with(&[("stream_heartbeat_seconds", "1")]).await;
    app.api.assign_one("q", "t").await;
    let mut stream = Stream::open(request(&app.api, "executorId=q", None)).await;
    let mut places = Vec::new();
    while places.len() < 3 {
        let said = stream.next().await.expect("a sign of life");
        assert!(said.data.is_none() && said.event.is_none(), "{said:?}");
        places.extend(said.id);
    }
    drop(stream);
    // Cut off before any event came, a client still knows where it was.
    app.api.assign_one("q", "t").await;
    for place in &places {
        let mut stream = Stream::open(request(&app.api, "executorId=q", Some(place))).await;
        assert_eq!(stream.event().await.expect("an event").0, "queued");
    }
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_before_the_stream() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    let get = async |query: &str| answer(&app.api, query, None).await;
    get("").await.assert_invalid("jobId");
    get(&format!("jobId={id}&executorId=q"))
        .await
        .assert_invalid("executorId");
    get("jobId=7").await.assert_invalid("jobId");
    get("executorId=%20").await.assert_invalid("executorId");
    get("executorId=q&until=end").await.assert_invalid("until");
    get(&format!("jobId={id}&until=done"))
        .await
        .assert_invalid("until");
    get("executorId=q&limit=7").await.assert_invalid("limit");
    get("executorId=q&lastEventId=")
        .await
        .assert_invalid("lastEventId");
    get(&format!("jobId={NO_JOB}"))
        .await
        .assert_refused(404, "job_not_found");
    get(&format!("jobId={NO_JOB}&until=end&lastEventId=1"))
        .await
        .assert_refused(404, "job_not_found");
    let of_another = format!("jobId={id}&lastEventId=1:1:");
    get(&of_another).await.assert_refused(400, "invalid_cursor");
    for place in ["x", "-1", "5", "1:1:/1:1:", "99999999999:99999999999:"] {
        let answer = answer(&app.api, "executorId=q", Some(place)).await;
        answer.assert_refused(400, "invalid_cursor");
    }
    let long = "1".repeat(32769);
    let answer = answer(&app.api, "executorId=q", Some(&long)).await;
    answer.assert_invalid("Last-Event-ID");
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let request = app.api.request(method, &format!("{PATH}?executorId=q"));
        let answer = app.api.send(request).await;
        answer.assert_refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "GET");
    }
}

#[tokio::test]
async fn settings_that_mean_nothing_are_a_fault_of_the_servers() {
    for (name, value) in [
        ("stream_seconds", "0"),
        ("stream_seconds", "3601"),
        ("stream_seconds", "soon"),
        ("stream_heartbeat_seconds", "0"),
        ("stream_heartbeat_seconds", ""),
    ] {
        let app = App::start_with(&[(name, value)]).await;
        let answer = answer(&app.api, "executorId=q", None).await;
        answer.assert_refused(500, "misconfigured");
    }
}

#[tokio::test]
async fn who_may_read_may_listen() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    work(&app.api, "q", true).await;
    let path = format!("{PATH}?jobId={id}&until=end");
    let tried = assert_scope(&app, "read", || app.api.bare(Method::GET, &path)).await;
    println!("streams: {tried} kinds of callers");
}

#[tokio::test]
async fn a_stored_key_that_is_revoked_ends_its_stream() {
    let app = App::start().await;
    let key: String = app
        .database
        .one("select millrace.create_api_key('k', '{read}')", &[])
        .await
        .get(0);
    let open = || {
        app.api
            .bare(Method::GET, &format!("{PATH}?executorId=q"))
            .header("x-api-key", &key)
    };
    let stream = Stream::open(open()).await;
    let start = Instant::now();
    app.database
        .run("select millrace.revoke_api_key('k')")
        .await;
    assert!(stream.rest().await.is_empty());
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "not only in its time: {:?}",
        start.elapsed()
    );
    let answer = app.api.send(open()).await;
    answer.assert_refused(401, "invalid_api_key");
}

#[tokio::test]
async fn listeners_take_no_other_requests_place() {
    let limits = Limits {
        streams_per_component: 3,
        concurrent_requests: 2,
        ..Limits::default()
    };
    let app = App::start_limited(limits).await;
    let open = async || {
        request(&app.api, "executorId=q", None)
            .send()
            .await
            .expect("an answer")
    };
    let mut streams = join_all([open(), open(), open()]).await;
    assert!(streams.iter().all(|stream| stream.status() == 200));

    let fourth = open().await;
    assert_eq!(fourth.status(), 503);
    assert_eq!(fourth.headers()["retry-after"], "1");
    let body: Value = fourth.json().await.expect("JSON");
    assert_eq!(body["code"], "overloaded");
    for _ in 0..20 {
        app.api.assign_one("q", "t").await;
        work(&app.api, "q", true).await;
    }
    app.api.get("/api/collab/jobs/recent").await.ok();

    // Whoever goes away makes room, and so does whoever is done.
    drop(streams.pop());
    eventually("a place is free", async || {
        (open().await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_loses_his_place() {
    let limits = Limits {
        streams_per_component: 1,
        unread_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let app = App::start_limited(limits).await;
    // More than the buffers on the way hold.
    let backlog = "select millrace.enqueue_many((select jsonb_agg('{\"queue\": \"q\", \"type\": \"t\"}'::jsonb) from generate_series(1, 1000)));
                   select millrace.report_many((select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w',
                          'succeeded', false, 'error', repeat('x', 10000))) from millrace.claim('q', 'w', 1000) as c));";
    app.database.run(backlog).await;
    let lazy = TcpSocket::new_v4().expect("a socket");
    lazy.set_recv_buffer_size(4096).expect("a small buffer");
    let mut lazy = lazy
        .connect(app.server().addr())
        .await
        .expect("a connection");
    let asked = format!(
        "GET {PATH}?executorId=q&lastEventId=1:1: HTTP/1.1\r\nhost: localhost\r\nx-api-key: {API_KEY}\r\n\r\n"
    );
    lazy.write_all(asked.as_bytes()).await.expect("a request");
    lazy.readable().await.expect("the beginning of an answer");

    let open = async || {
        let answer = request(&app.api, "executorId=q", None).send().await;
        answer.expect("an answer").status().as_u16()
    };
    assert_eq!(open().await, 503, "he has the only place");
    eventually("the place is free", async || {
        (open().await == 200).then_some(())
    })
    .await;
    drop(lazy);
}

#[tokio::test]
async fn hundreds_listen_at_once() {
    const LISTENERS: usize = 200;
    let app = App::start().await;
    let open = || Stream::open(request(&app.api, "executorId=q", None));
    let streams = join_all((0..LISTENERS).map(|_| open())).await;
    let id = app.api.assign_one("q", "t").await;
    let heard = join_all(streams.into_iter().map(async |mut stream| {
        let (kind, data) = stream.event().await.expect("an event");
        (kind, data["job_id"].clone())
    }))
    .await;
    assert!(
        heard
            .iter()
            .all(|heard| *heard == ("queued".to_owned(), json!(id)))
    );
    println!("streams: {} listeners heard of one job", heard.len());
}
