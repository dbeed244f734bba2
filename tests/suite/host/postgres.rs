//! `spin:postgres` as guests see it, in both of its halves: values, strictness, errors, what may be reached, and
//! what becomes of a connection that its guest left in mid-statement.

use std::time::Duration;

use millrace::serve::Limits;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;

use super::Probe;

const HALVES: [&str; 2] = ["plain", "streamed"];

/// A probe that may reach the test's own database.
struct Sql {
    probe: Probe,
    database: Database,
}

impl Sql {
    async fn start(limits: Limits) -> Self {
        let database = Database::fresh().await;
        let address = url::Url::parse(database.url()).expect("a URL");
        let host = address.host_str().expect("a host");
        let port = address.port().unwrap_or(5432);
        let lines = format!("allowed_outbound_hosts = [\"postgres://{host}:{port}\"]\n");
        let probe = Probe::limited(&lines, limits).await;
        Self { probe, database }
    }

    /// Runs a statement at the test's database, with a parameter as a header.
    async fn run(&self, half: &str, statement: &str, parameter: (&str, &str)) -> String {
        self.at(self.database.url(), half, statement, parameter)
            .await
    }

    async fn at(
        &self,
        address: &str,
        half: &str,
        statement: &str,
        parameter: (&str, &str),
    ) -> String {
        let request = self.probe.client.get(self.probe.url("sql"));
        let request = request.header("address", address).header("half", half);
        let request = request
            .header("argument", statement)
            .header(parameter.0, parameter.1);
        let response = request.send().await.expect("an answer");
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert_eq!(status, 200, "{statement}: {text}");
        text.replace("DbValue::", "")
    }

    async fn plain(&self, half: &str, statement: &str) -> String {
        self.run(half, statement, ("none", "")).await
    }
}

#[tokio::test]
async fn values_come_as_spin_maps_them() {
    let sql = Sql::start(Limits::default()).await;
    for (statement, values) in [
        (
            "select true, 1::int2, 2::int4, 3::int8",
            "Boolean(true), Int16(1), Int32(2), Int64(3)",
        ),
        (
            "select 1.5::float4, 2.5::float8, 1.50::numeric",
            "Floating32(1.5), Floating64(2.5), Decimal(\"1.50\")",
        ),
        (
            "select 'a'::text, 'b'::varchar, 'c'::char(2), null::text",
            "Str(\"a\"), Str(\"b\"), Str(\"c \"), DbNull",
        ),
        (
            "select '\\x0102'::bytea, inet '1.2.3.4'",
            "Binary([1, 2]), Unsupported([2, 32, 0, 4, 1, 2, 3, 4])",
        ),
        (
            "select date '2026-01-02', time '03:04:05.000006'",
            "Date((2026, 1, 2)), Time((3, 4, 5, 6000))",
        ),
        (
            "select timestamp '2026-01-02 03:04:05'",
            "Datetime((2026, 1, 2, 3, 4, 5, 0))",
        ),
        (
            "select '00000000-0000-8000-816d-696c6c726163'::uuid, int8 '1' + 1",
            "Uuid(\"00000000-0000-8000-816d-696c6c726163\"), Int64(2)",
        ),
        (
            "select array[1, null], array[2::int8], array['x'], array[0.5]",
            "ArrayInt32([Some(1), None]), ArrayInt64([Some(2)]), ArrayStr([Some(\"x\")]), ArrayDecimal([Some(\"0.5\")])",
        ),
        (
            "select int4range(1, 5), int8range(null, 7)",
            "RangeInt32((Some((1, RangeBoundKind::Inclusive)), Some((5, RangeBoundKind::Exclusive)))), RangeInt64((None, Some((7, RangeBoundKind::Exclusive))))",
        ),
        (
            "select numrange(0.5, 1.5, '(]')",
            "RangeDecimal((Some((\"0.5\", RangeBoundKind::Exclusive)), Some((\"1.5\", RangeBoundKind::Inclusive))))",
        ),
        (
            "select interval '1 month 2 days 3 microseconds'",
            "Interval(Interval { micros: 3, days: 2, months: 1 })",
        ),
        // {"a":1} in bytes: the guest gets the text that the host's JSON library writes.
        (
            "select '{\"a\": 1}'::jsonb",
            "Jsonb([123, 34, 97, 34, 58, 49, 125])",
        ),
    ] {
        for half in HALVES {
            assert_eq!(
                sql.plain(half, statement).await,
                format!("[[{values}]]"),
                "{half}: {statement}"
            );
        }
    }
}

#[tokio::test]
async fn rows_arrive_in_order_and_none_are_no_error() {
    let sql = Sql::start(Limits::default()).await;
    let numbers: Vec<String> = (1..=1000).map(|n| format!("[Int32({n})]")).collect();
    for half in HALVES {
        let rows = sql.plain(half, "select generate_series(1, 1000)").await;
        assert_eq!(rows, format!("[{}]", numbers.join(", ")), "{half}");
        assert_eq!(
            sql.plain(half, "select 1 where false").await,
            "[]",
            "{half}"
        );
    }
}

#[tokio::test]
async fn parameters_are_strict_and_errors_keep_their_code() {
    let sql = Sql::start(Limits::default()).await;
    for half in HALVES {
        assert_eq!(
            sql.run(half, "select $1::int4", ("int32", "5")).await,
            "[[Int32(5)]]"
        );
        assert_eq!(
            sql.run(half, "select $1::text", ("text", "x")).await,
            "[[Str(\"x\")]]"
        );
        let refusal = sql.run(half, "select $1::int8", ("int32", "5")).await;
        assert!(
            refusal.contains("QueryFailed") && refusal.contains("WrongType"),
            "{half}: {refusal}"
        );
        let failure = sql.plain(half, "select 1 / 0").await;
        assert!(
            failure.contains("DbError") && failure.contains("\"22012\""),
            "{half}: {failure}"
        );
        let unreadable = sql.plain(half, "select now()").await;
        assert!(
            unreadable.contains("QueryFailed"),
            "{half}: timestamptz, as on Spin: {unreadable}"
        );
        let late = sql
            .plain(half, "select 1 / (3 - g) from generate_series(1, 3) g")
            .await;
        assert!(
            late.contains("22012"),
            "{half}: an error after the first row: {late}"
        );
    }
}

#[tokio::test]
async fn only_allowed_databases_are_reached() {
    let sql = Sql::start(Limits::default()).await;
    let allowed = url::Url::parse(sql.database.url()).expect("a URL");
    let (host, port) = (
        allowed.host_str().expect("a host"),
        allowed.port().unwrap_or(5432),
    );
    for address in [
        format!("postgres://user:hidden@{host}:{}/x", port ^ 1),
        format!("postgres://user:hidden@elsewhere.invalid:{port}/x"),
        format!("host={host},elsewhere.invalid port={port} user=u"),
        format!("host={host} hostaddr=127.0.0.2 port={port} user=u"),
        "host=/var/run/postgresql user=u".to_owned(),
    ] {
        for half in HALVES {
            let refusal = sql.at(&address, half, "select 1", ("none", "")).await;
            assert!(
                refusal.contains("ConnectionFailed") && !refusal.contains("hidden"),
                "{address}: {refusal}"
            );
            assert!(
                ["not permitted", "not supported"]
                    .iter()
                    .any(|why| refusal.contains(why)),
                "{address}: {refusal}"
            );
        }
    }
}

#[tokio::test]
async fn a_statement_left_behind_does_not_hold_up_the_next() {
    let limits = Limits {
        request_timeout: Duration::from_secs(2),
        pg_connections_per_component: 1,
        ..Limits::default()
    };
    let sql = Sql::start(limits).await;
    let ask = async |statement: &str| {
        let request = sql.probe.client.get(sql.probe.url("sql"));
        let request = request.header("address", sql.database.url());
        let request = request.header("argument", statement);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask("select pg_sleep(600)").await, 504);
    // The instance that waits is ended soon after the answer, and with it its hold on the one connection. On a busy
    // machine the next statement may run out of its own time, but not all of them.
    eventually("the connection is free again", async || {
        (ask("select 1").await == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn connections_that_the_server_has_ended_are_replaced() {
    let sql = Sql::start(Limits::default()).await;
    let me = "select pg_backend_pid()";
    let first = sql.plain("streamed", me).await;
    assert_eq!(
        sql.plain("streamed", me).await,
        first,
        "connections are pooled"
    );
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid() and application_name = ''";
    sql.database.all(end, &[]).await;
    assert_ne!(sql.plain("streamed", me).await, first);
}
