//! `cargo xtask bench --tasks N`: what lists of tasks, their totals and single tasks cost at N of them, over HTTP and in the database, beside what
//! plain SQL would have to do for the same list.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use millrace::database::connect;
use millrace_tests::keys::API_KEY;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::load::Stage;
use crate::reading::{Line, pages_read, rows_read};

/// How often each request is sent, but for so long at most; and how often each plain statement, which is slow.
const CALLS: usize = 1000;
const TIME: Duration = Duration::from_secs(6);
const PLAIN_CALLS: usize = 20;

/// How many tasks go through the queue in one statement while it is filled.
const BATCH: usize = 1000;

/// The tasks of a page.
const PAGE: usize = 50;

/// A list: its name, its filters, and how far from its newest task the page begins, as a share of the list.
struct List {
    name: &'static str,
    filters: &'static [(&'static str, &'static str)],
    depth: f64,
}

const LISTS: [List; 12] = [
    List::new("tasks", &[]),
    List::new("tasks, pending", &[("status", "pending")]),
    List::new("tasks, processing", &[("status", "processing")]),
    List::new("tasks, completed", &[("status", "completed")]),
    List::new("tasks, failed", &[("status", "failed")]),
    List::new("tasks, retrying", &[("status", "retrying")]),
    List::new("tasks of a type", &[("type", "t1")]),
    List::new(
        "tasks of a type, completed",
        &[("status", "completed"), ("type", "t1")],
    ),
    List::new(
        "tasks of a type, failed",
        &[("status", "failed"), ("type", "t1")],
    ),
    List {
        depth: 0.1,
        ..List::new("tasks, a tenth of the way down", &[])
    },
    List {
        depth: 0.5,
        ..List::new("tasks, half of the way down", &[])
    },
    List {
        depth: 0.5,
        ..List::new(
            "tasks of a type, completed, half of the way down",
            &[("status", "completed"), ("type", "t1")],
        )
    },
];

/// What answers the same by counting and sorting: its name, and a statement.
const PLAIN: [(&str, &str); 3] = [
    (
        "plain SQL: count(*) and a page of all",
        "select (select count(*) from millrace.job), array(select id from millrace.job order by id desc limit 50)",
    ),
    (
        "plain SQL: count(*) and a page of completed ones of a type",
        "select (select count(*) from millrace.job j join millrace.finished f on f.job_id = j.id where j.type = 't1' and f.outcome = 'succeeded'),
                array(select j.id from millrace.job j join millrace.finished f on f.job_id = j.id where j.type = 't1' and f.outcome = 'succeeded'
                       order by j.id desc limit 50)",
    ),
    (
        "plain SQL: the same, half of the way down",
        "select (select count(*) from millrace.job j join millrace.finished f on f.job_id = j.id where j.type = 't1' and f.outcome = 'succeeded'),
                array(select j.id from millrace.job j join millrace.finished f on f.job_id = j.id where j.type = 't1' and f.outcome = 'succeeded'
                       order by j.id desc limit 50
                      offset (select count(*) / 2 from millrace.job j join millrace.finished f on f.job_id = j.id where j.type = 't1' and f.outcome = 'succeeded'))",
    ),
];

impl List {
    const fn new(name: &'static str, filters: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            name,
            filters,
            depth: 0.0,
        }
    }

    async fn offset(&self, client: &Client) -> Result<i64> {
        let filter = |name| self.filters.iter().find(|f| f.0 == name).map(|f| f.1);
        let sql = "select floor(millrace.task_total($1, $2, null, null) * $3::float8)::bigint";
        let parameters = [filter("status"), filter("type")];
        let row = client
            .query_one(sql, &[&parameters[0], &parameters[1], &self.depth])
            .await?;
        Ok(row.get(0))
    }
}

/// One thing that is asked: a path for each call, and the SQL function behind it with a request for each.
struct Question<'a> {
    name: &'static str,
    path: &'a dyn Fn(usize) -> String,
    function: &'static str,
    request: &'a dyn Fn(usize) -> Value,
}

/// Fills the queue with `tasks` tasks: about eight in ten completed, one in twenty failed and as many to be retried, a tenth pending, 500 running.
/// Then asks for each list, for single tasks and for figures.
pub async fn measure(stage: &Stage, tasks: usize) -> Result<Vec<Line>> {
    eprintln!("==> {tasks} tasks, enqueued, claimed and reported");
    let client = connect(&stage.database_url).await?;
    fill(stage, tasks).await?;
    let mut lines = Vec::new();
    for list in &LISTS {
        let offset = list.offset(&client).await?;
        let mut request = json!({ "limit": PAGE, "offset": offset });
        let mut path = format!("/api/tasks?limit={PAGE}&offset={offset}");
        for (name, value) in list.filters {
            request[*name] = json!(value);
            path.push_str(&format!("&{name}={value}"));
        }
        let question = Question {
            name: list.name,
            path: &|_| path.clone(),
            function: "task_list",
            request: &|_| request.clone(),
        };
        lines.push(ask(stage, &client, &question).await?);
    }
    lines.push(
        ask(
            stage,
            &client,
            &Question {
                name: "tasks/stats/summary",
                path: &|_| "/api/tasks/stats/summary".to_owned(),
                function: "task_stats",
                request: &|_| json!({}),
            },
        )
        .await?,
    );
    let ids = ids(&client).await?;
    lines.push(
        ask(
            stage,
            &client,
            &Question {
                name: "tasks/:id",
                path: &|n| format!("/api/tasks/{}", ids[n % ids.len()]),
                function: "task_get",
                request: &|n| json!({ "taskId": ids[n % ids.len()] }),
            },
        )
        .await?,
    );
    for (name, sql) in PLAIN {
        lines.push(plain(&client, name, sql).await?);
    }
    Ok(lines)
}

async fn fill(stage: &Stage, tasks: usize) -> Result<()> {
    let fillers = (0..2).map(|filler| async move {
        let client = connect(&stage.database_url).await?;
        let rounds = tasks / BATCH / 2;
        let sql = format!(
            "do $$ declare v_reports jsonb; v_queue text; begin
               for v_round in 1 .. {rounds} loop
                 v_queue := 'q' || ({filler} + 2 * (v_round % 4));
                 perform millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', v_queue, 'type', 't' || n % 5, 'priority', (array[1, 5, 9])[1 + n % 3],
                           'payload', jsonb_build_object('padding', repeat('x', 150)))) from generate_series(1, {BATCH}) n));
                 if v_round <= {rounds} * 9 / 10 then
                   select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w', 'succeeded', c.job_id / 5 % 20 > 1,
                                                       'permanent', c.job_id / 5 % 20 = 1, 'retry_after_seconds', case c.job_id / 5 % 20 when 0 then 864000 end))
                     into v_reports from millrace.claim(v_queue, 'w', {BATCH}) as c;
                   perform millrace.report_many(v_reports);
                 end if;
                 commit;
               end loop;
             end $$"
        );
        client.batch_execute(&sql).await.context("filling the queue")
    });
    try_join_all(fillers).await?;
    let client = connect(&stage.database_url).await?;
    // `vacuum` may not share a call, which is a transaction, with anything else.
    for sql in [
        "select count(*) from millrace.claim('q1', 'w', 500, lease => '1 day')",
        "select millrace.housekeep()",
        "vacuum analyze",
    ] {
        client.batch_execute(sql).await?;
    }
    Ok(())
}

/// Tasks from all over the table.
async fn ids(client: &Client) -> Result<Vec<String>> {
    let sql = "select j.id::text from generate_series(1, (select max(id) from millrace.job), greatest((select max(id) from millrace.job) / 997, 1)) as k (id)
                 join millrace.job j on j.id = k.id";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn ask(stage: &Stage, client: &Client, question: &Question<'_>) -> Result<Line> {
    eprintln!("==> {}", question.name);
    let http = reqwest::Client::new();
    let mut latencies = Vec::with_capacity(CALLS);
    let begun = Instant::now();
    for call in (0..CALLS).take_while(|_| begun.elapsed() < TIME) {
        let url = format!("{}{}", stage.base, (question.path)(call));
        let started = Instant::now();
        let request = http.get(url).header("x-api-key", API_KEY);
        request.send().await?.error_for_status()?.bytes().await?;
        latencies.push(started.elapsed());
    }
    latencies.sort_unstable();
    let (mut rows, mut pages) = (0, 0);
    for call in 0..10 {
        let request = (question.request)(call * 97);
        rows = rows.max(rows_read(client, question.function, &request).await?);
        pages = pages.max(pages_read(client, question.function, &request).await?);
    }
    Ok(Line {
        name: question.name,
        latencies,
        rows,
        pages,
    })
}

async fn plain(client: &Client, name: &'static str, sql: &str) -> Result<Line> {
    eprintln!("==> {name}");
    let mut latencies: Vec<Duration> = Vec::with_capacity(PLAIN_CALLS);
    for _ in 0..PLAIN_CALLS {
        let started = Instant::now();
        client.query_one(sql, &[]).await?;
        latencies.push(started.elapsed());
    }
    latencies.sort_unstable();
    Ok(Line {
        name,
        latencies,
        rows: 0,
        pages: 0,
    })
}
