//! `millrace.job_events` in a logical replication: what a publication brings, under which name, and how often. The server is the test's
//! own, since the others write no logical log.

use std::collections::HashMap;

use millrace::cluster::{Cluster, Keep};
use millrace::migrate::migrate;
use millrace_tests::database::Database;
use millrace_tests::queue::{self, Outcome, claim_one};
use millrace_tests::scratch::Scratch;
use serde_json::json;

/// A server that writes a logical log, with the schema on it. The fields go in this order.
struct Logical {
    database: Database,
    _cluster: Cluster,
    _scratch: Scratch,
}

impl Logical {
    async fn start() -> Self {
        let scratch = Scratch::new();
        let folder = scratch.path().join("postgres");
        // What is committed is in the log at once, and can be decoded.
        let settings = ["wal_level=logical", "synchronous_commit=on"];
        let cluster = Cluster::start_with(&folder, Keep::Throwaway, &settings)
            .await
            .expect("a cluster");
        let url = cluster.url("postgres");
        migrate(&url).await.expect("the schema");
        Self {
            database: Database::open(&url).await,
            _cluster: cluster,
            _scratch: scratch,
        }
    }

    /// The rows that came through the publication since the last call: each the table's name and the columns by name.
    async fn published(&self) -> Vec<(String, HashMap<String, String>)> {
        let rows = self
            .database
            .all(
                "select data from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p')",
                &[],
            )
            .await;
        let mut tables = HashMap::new();
        let mut published = Vec::new();
        for row in &rows {
            let mut message = Message(row.get(0));
            match message.byte() {
                b'R' => {
                    let (id, table) = message.relation();
                    tables.insert(id, table);
                }
                b'I' => {
                    let (name, columns) = &tables[&message.int(4)];
                    published.push((name.clone(), message.row(columns)));
                }
                b'B' | b'C' | b'Y' => {}
                other => panic!("a message of another kind: {}", char::from(other)),
            }
        }
        published
    }
}

/// A message of the logical replication protocol (PostgreSQL's documentation, chapter "Logical Replication Message Formats").
struct Message<'a>(&'a [u8]);

impl Message<'_> {
    fn take(&mut self, length: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn int(&mut self, bytes: usize) -> u32 {
        self.take(bytes)
            .iter()
            .fold(0, |int, byte| int << 8 | u32::from(*byte))
    }

    fn text(&mut self) -> String {
        let length = self.0.iter().position(|byte| *byte == 0).expect("a text");
        let text = String::from_utf8(self.take(length).to_vec()).expect("UTF-8");
        self.byte();
        text
    }

    /// Its id, its name with its schema, and the names of its columns.
    fn relation(&mut self) -> (u32, (String, Vec<String>)) {
        let id = self.int(4);
        let name = format!("{}.{}", self.text(), self.text());
        self.byte(); // replica identity
        let columns = (0..self.int(2))
            .map(|_| {
                self.byte(); // flags
                let column = self.text();
                self.take(8); // type and its modifier
                column
            })
            .collect();
        (id, (name, columns))
    }

    /// The new row of an insert, as text.
    fn row(&mut self, columns: &[String]) -> HashMap<String, String> {
        assert_eq!(self.byte(), b'N');
        assert_eq!(self.int(2) as usize, columns.len());
        let mut row = HashMap::new();
        for column in columns {
            assert_eq!(self.byte(), b't', "{column} is neither null nor left out");
            let length = self.int(4) as usize;
            let value = String::from_utf8(self.take(length).to_vec()).expect("UTF-8");
            row.insert(column.clone(), value);
        }
        row
    }
}

#[tokio::test]
async fn a_publication_brings_each_event_once_under_the_tables_own_name() {
    let logical = Logical::start().await;
    let (database, client) = (&logical.database, logical.database.client());
    database
        .run(
            "create publication p for table millrace.job_events with (publish = 'insert', publish_via_partition_root = true)",
        )
        .await;
    database
        .run("select pg_create_logical_replication_slot('s', 'pgoutput')")
        .await;
    let job = queue::enqueue(client, json!({ "queue": "q", "type": "t" })).await;
    let lease = claim_one(client, "q", "w").await;
    queue::report(client, &lease, Outcome::RetryAfter(3600.0))
        .await
        .expect("a report");
    // Weeks later, in another partition, one that was made after the publication, and at last in none of the weeks'.
    for days in [14.0, 63.0, 365.0] {
        if days < 100.0 {
            database.set_clock_ahead(days * 86400.0).await;
            database.run("select millrace.make_partitions()").await;
        }
        database.set_clock_ahead((days + 1.0) * 86400.0).await;
        let lease = claim_one(client, "q", "w").await;
        queue::report(client, &lease, Outcome::RetryAfter(1.0))
            .await
            .expect("a report");
    }
    let partitions: i64 = database
        .one(
            "select count(distinct tableoid) from millrace.job_events",
            &[],
        )
        .await
        .get(0);
    assert_eq!(partitions, 4);

    let published = logical.published().await;
    for (table, row) in &published {
        assert_eq!(table, "millrace.job_events");
        assert_eq!(row["job_id"], job.to_string());
    }
    let read: Vec<(String, String)> = published
        .into_iter()
        .map(|(_, row)| (row["id"].clone(), row["event_type"].clone()))
        .collect();
    let rows = database
        .all(
            "select id::text, event_type from millrace.job_events order by id",
            &[],
        )
        .await;
    let written: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(read, written);
    assert!(logical.published().await.is_empty());
    println!(
        "replication: {} events of {partitions} partitions, each once",
        read.len()
    );
}

/// Supabase Realtime decodes with wal2json, which knows partitions and not the table that they are of: it listens to the tables
/// that its publication lists, which are the partitions where `publish_via_partition_root` is not set.
#[tokio::test]
async fn supabases_publication_lists_the_partitions_with_those_to_come() {
    let database = Database::fresh().await;
    database
        .run("create publication supabase_realtime; alter publication supabase_realtime add table millrace.job_events")
        .await;
    let unlisted = "select c.oid::regclass::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
                     where i.inhparent = 'millrace.job_events'::regclass and not exists (
                             select from pg_publication_tables p where p.pubname = 'supabase_realtime'
                                and p.schemaname = 'millrace' and p.tablename = c.relname and p.tablename like 'job_events%')";
    let partitions =
        "select count(*) from pg_publication_tables where pubname = 'supabase_realtime'";
    assert!(database.all(unlisted, &[]).await.is_empty());
    let before: i64 = database.one(partitions, &[]).await.get(0);
    database.set_clock_ahead(70.0 * 86400.0).await;
    database.run("select millrace.make_partitions()").await;
    assert!(database.all(unlisted, &[]).await.is_empty());
    let after: i64 = database.one(partitions, &[]).await.get(0);
    assert!(after > before, "{before} partitions, then {after}");
}

#[tokio::test]
async fn a_role_that_may_read_events_may_read_those_of_weeks_to_come() {
    let database = Database::fresh().await;
    database
        .run("select millrace.grant_events('millrace_client')")
        .await;
    database.stop_clock_at("2031-03-05 12:00:00+00").await;
    database.run("select millrace.make_partitions()").await;
    let sql = "select count(*), count(*) filter (where has_table_privilege('millrace_client', t.relid, 'select')),
                      count(*) filter (where has_table_privilege('millrace_client', t.relid, 'insert, update, delete'))
                 from pg_partition_tree(('millrace.' || $1::text)::regclass) as t";
    let row = database.one(sql, &[&"job_events"]).await;
    let (parts, readable, writable): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((readable, writable), (parts, 0));
    assert!(
        parts > 18,
        "the root, the default, and two times nine weeks"
    );
    let attempts: i64 = database.one(sql, &[&"attempt"]).await.get(1);
    assert_eq!(attempts, 0);
}
