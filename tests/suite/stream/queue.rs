//! `GET /api/collab/events/stream` of a queue: every event once, whoever writes, and however often the client is cut off.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{join, join_all};
use millrace_tests::api::Api;
use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::queue::{self, Outcome, claim, crowd};
use millrace_tests::sse::{Stream, request};
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

const WRITERS: usize = 8;
const ROUNDS: usize = 40;

/// The type of the job that tells a reader that no more will be written.
const LAST: &str = "last";

/// A client that comes back to where it was.
struct Reader<'a> {
    api: &'a Api,
    place: Option<String>,
    read: Vec<Value>,
    connections: usize,
}

impl<'a> Reader<'a> {
    /// One that has read nothing, and listens from now on.
    async fn new(api: &'a Api) -> Self {
        let mut stream = Stream::open(request(api, "executorId=q", None)).await;
        while stream.place.is_none() {
            stream.next().await.expect("a place");
        }
        Self {
            api,
            place: stream.place,
            read: Vec::new(),
            connections: 1,
        }
    }

    /// Reads over one connection until `most` events were read or the server ends it. Answers whether `last`, the id of the last job, came.
    async fn read(&mut self, most: usize, last: &str) -> bool {
        self.connections += 1;
        let request = request(self.api, "executorId=q", self.place.as_deref());
        let mut stream = Stream::open(request).await;
        for _ in 0..most {
            let Some((kind, data)) = stream.event().await else {
                break;
            };
            assert_eq!(data["event_type"], kind);
            let is_last = data["job_id"] == last && kind == "queued";
            self.read.push(data);
            if is_last {
                self.place = stream.place;
                return true;
            }
        }
        self.place = stream.place.or(self.place.take());
        false
    }

    /// Fails unless what was read is each event of the queue, once.
    async fn assert_complete(&self, database: &Database) -> usize {
        let rows = database
            .all(
                "select e.id from millrace.job_events e join millrace.queue q on q.id = e.queue_id where q.name = 'q' order by 1",
                &[],
            )
            .await;
        let written: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let mut read: Vec<i64> = self.read.iter().filter_map(|e| e["id"].as_i64()).collect();
        read.sort_unstable();
        assert_eq!(read, written, "each event once");
        written.len()
    }
}

/// The id that the last job will have.
fn last_job() -> (String, i64) {
    // Chosen ahead, since it is written last and looked for from the beginning.
    let id = 1_000_000_000;
    let uuid = format!(
        "{:08x}-{:04x}-8{:03x}-8{:x}6d-696c6c726163",
        id >> 32,
        (id >> 16) & 0xffff,
        (id >> 4) & 0xfff,
        id & 0xf
    );
    (uuid, id)
}

/// Writes the last job, under that id.
async fn write_last(database: &Database, id: i64) {
    let jump = format!("select setval('millrace.job_id_seq', {id}, false)");
    database.run(&jump).await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": LAST })).await;
}

/// Enqueues, claims and reports in transactions that overlap, some of which come to nothing.
async fn write(client: &Client, worker: &str) {
    let request = json!({ "queue": "q", "type": "t" });
    for n in 0..ROUNDS {
        client
            .batch_execute("begin; select pg_current_xact_id()")
            .await
            .expect("a transaction");
        queue::enqueue_many(client, &json!([request, request, request]))
            .await
            .expect("an enqueue");
        tokio::task::yield_now().await;
        let end = if n % 5 == 0 { "rollback" } else { "commit" };
        client.batch_execute(end).await.expect("its end");
        for lease in claim(client, "q", worker, 2).await {
            queue::report(client, &lease, Outcome::Succeeded)
                .await
                .expect("a report");
        }
    }
}

/// Has everybody write, then writes the last job.
async fn write_all(database: &Database, last: i64) {
    join_all((0..WRITERS).map(async |number| {
        let client = database.connect().await;
        write(&client, &format!("w{number}")).await;
    }))
    .await;
    write_last(database, last).await;
}

#[tokio::test]
async fn a_client_that_is_cut_off_again_and_again_reads_each_event_once() {
    let app = App::start().await;
    let _permit = crowd(WRITERS as u32).await;
    app.database
        .run("select millrace.configure_queue('q')")
        .await;
    let (last, last_id) = last_job();
    let mut reader = Reader::new(&app.api).await;
    let reading = async {
        // After none to 40 events, wherever the server is then.
        while !reader
            .read(Uuid::new_v4().as_u128() as usize % 41, &last)
            .await
        {}
    };
    join(reading, write_all(&app.database, last_id)).await;
    let count = reader.assert_complete(&app.database).await;
    println!(
        "streams: {count} events of {WRITERS} writers, each read once over {} connections",
        reader.connections
    );
    assert!(reader.connections > 20);
}

#[tokio::test]
async fn a_stream_that_ends_in_its_time_loses_nothing() {
    let app = App::start_with(&[("stream_seconds", "1")]).await;
    app.database
        .run("select millrace.configure_queue('q')")
        .await;
    let (last, last_id) = last_job();
    let mut reader = Reader::new(&app.api).await;
    let enough = AtomicBool::new(false);
    let reading = async {
        while !reader.read(usize::MAX, &last).await {
            enough.store(reader.connections > 5, Ordering::Relaxed);
        }
    };
    let writing = async {
        while !enough.load(Ordering::Relaxed) {
            app.api.assign_one("q", "t").await;
        }
        write_last(&app.database, last_id).await;
    };
    join(reading, writing).await;
    let count = reader.assert_complete(&app.database).await;
    println!(
        "streams: {count} events, each read once over {} connections of a second",
        reader.connections
    );
}

#[tokio::test]
async fn what_was_missed_is_told_in_one_go() {
    let app = App::start().await;
    app.database
        .run("select millrace.configure_queue('q')")
        .await;
    let (last, last_id) = last_job();
    let mut reader = Reader::new(&app.api).await;
    let many = json!(vec![json!({ "queue": "q", "type": "t" }); 1000]);
    queue::enqueue_many(app.database.client(), &many)
        .await
        .expect("an enqueue");
    write_last(&app.database, last_id).await;
    assert!(reader.read(usize::MAX, &last).await, "over one connection");
    assert_eq!(reader.assert_complete(&app.database).await, 1001);
}
