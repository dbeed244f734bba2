//! The queue's typed SQL functions, called the way an application's own SQL would.

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Error};

/// How many connections tests with crowds of workers may hold together: the server takes 200, and others run beside them.
static CROWDS: Semaphore = Semaphore::const_new(130);

/// Waits until a test may open `connections` connections at once; they are its own until the permit is dropped.
pub async fn crowd(connections: u32) -> SemaphorePermit<'static> {
    CROWDS
        .acquire_many(connections)
        .await
        .expect("the semaphore is never closed")
}

/// One job as a claim hands it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub job_id: i64,
    pub lease_id: i64,
    pub job_type: String,
    pub priority: i32,
    pub attempt: i32,
    pub max_attempts: i32,
    /// An earlier attempt ended without a word about what it had done.
    pub resumed: bool,
    pub worker: String,
}

/// What a worker asks for.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    pub queue: &'a str,
    pub worker: &'a str,
    pub max_jobs: i32,
    pub job_type: Option<&'a str>,
    pub type_prefix: Option<&'a str>,
    /// The lease's length in seconds; none follows the job, then the queue.
    pub lease: Option<f64>,
    /// A job whose last attempt was lost is to come alone.
    pub isolate: bool,
}

impl<'a> Want<'a> {
    /// Up to `max_jobs` jobs of any type, under the queue's own lease length.
    pub fn any(queue: &'a str, worker: &'a str, max_jobs: i32) -> Self {
        Self {
            queue,
            worker,
            max_jobs,
            job_type: None,
            type_prefix: None,
            lease: None,
            isolate: false,
        }
    }
}

/// Claims what is wanted, in the order in which the queue gives it.
pub async fn try_claim(client: &Client, want: Want<'_>) -> Result<Vec<Claimed>, Error> {
    let rows = client
        .query(
            "select job_id, lease_id, job_type, priority, attempt, max_attempts, resumed from millrace.claim(queue => $1, worker => $2, \
             max_jobs => $3, type => $4, type_prefix => $5, lease => make_interval(secs => $6), isolate => $7)",
            &[&want.queue, &want.worker, &want.max_jobs, &want.job_type, &want.type_prefix, &want.lease, &want.isolate],
        )
        .await?;
    let claimed = rows.iter().map(|row| Claimed {
        job_id: row.get(0),
        lease_id: row.get(1),
        job_type: row.get(2),
        priority: row.get(3),
        attempt: row.get(4),
        max_attempts: row.get(5),
        resumed: row.get(6),
        worker: want.worker.to_owned(),
    });
    Ok(claimed.collect())
}

/// Claims up to `max_jobs` jobs of any type.
pub async fn claim(client: &Client, queue: &str, worker: &str, max_jobs: i32) -> Vec<Claimed> {
    try_claim(client, Want::any(queue, worker, max_jobs))
        .await
        .expect("a claim")
}

/// Claims one job that must be there.
pub async fn claim_one(client: &Client, queue: &str, worker: &str) -> Claimed {
    claim(client, queue, worker, 1)
        .await
        .pop()
        .expect("a job to claim")
}

/// Enqueues an array of requests; answers each with its job and whether it was made now.
pub async fn enqueue_many(client: &Client, requests: &Value) -> Result<Vec<(i64, bool)>, Error> {
    let rows = client
        .query(
            "select job_id, queued from millrace.enqueue_many($1) order by ord",
            &[requests],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Enqueues one request (an object as `enqueue_many` takes it) and returns its job.
pub async fn enqueue(client: &Client, request: Value) -> i64 {
    enqueue_many(client, &json!([request]))
        .await
        .expect("an enqueue")[0]
        .0
}

/// What a worker says at the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    Succeeded,
    Failed,
    /// Failed, and never again.
    Permanent,
    /// Failed, again after so many seconds.
    RetryAfter(f64),
    /// Not tried at all; due again after so many seconds.
    Postponed(f64),
}

impl Outcome {
    /// The report of this outcome, as `report_many` takes it.
    pub fn report(self, job_id: i64, lease_id: i64, worker: &str) -> Value {
        let mut report = json!({ "job_id": job_id, "lease_id": lease_id, "worker": worker, "succeeded": self == Self::Succeeded });
        match self {
            Self::Permanent => report["permanent"] = json!(true),
            Self::RetryAfter(seconds) => report["retry_after_seconds"] = json!(seconds),
            Self::Postponed(seconds) => report["postponed_seconds"] = json!(seconds),
            Self::Succeeded | Self::Failed => {}
        }
        report
    }
}

/// Reports under `lease` through the typed function.
pub async fn report(client: &Client, lease: &Claimed, outcome: Outcome) -> Result<(), Error> {
    let (retry_after, postponed) = match outcome {
        Outcome::RetryAfter(seconds) => (Some(seconds), None),
        Outcome::Postponed(seconds) => (None, Some(seconds)),
        Outcome::Succeeded | Outcome::Failed | Outcome::Permanent => (None, None),
    };
    client
        .execute(
            "select millrace.report(job_id => $1, lease_id => $2, worker => $3, succeeded => $4, \
             retry_after => make_interval(secs => $5), permanent => $6, postponed => make_interval(secs => $7))",
            &[
                &lease.job_id,
                &lease.lease_id,
                &lease.worker,
                &(outcome == Outcome::Succeeded),
                &retry_after,
                &(outcome == Outcome::Permanent),
                &postponed,
            ],
        )
        .await?;
    Ok(())
}

/// Reports a batch; answers each by its place with the code of its refusal, or none where it counted.
pub async fn report_many(client: &Client, reports: &Value) -> Result<Vec<Option<String>>, Error> {
    let rows = client
        .query(
            "select code from millrace.report_many($1) order by ord",
            &[reports],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Where a job stands: queued, running, succeeded, cancelled or dead; none where there is no such job.
pub async fn state(client: &Client, job_id: i64) -> Option<String> {
    client
        .query_one("select millrace.job_state($1)", &[&job_id])
        .await
        .expect("a job's state")
        .get(0)
}

/// The types of a job's events, in their order.
pub async fn events(client: &Client, job_id: i64) -> Vec<String> {
    let rows = client
        .query(
            "select event_type from millrace.job_events where job_id = $1 order by id",
            &[&job_id],
        )
        .await;
    rows.expect("a job's events")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Answers a line for each queue, and for each kind of task, whose counters are not what the tables say, all seen at one instant.
pub const UNTRUE_COUNTS: &str = "with truth as (
                 select j.queue_id, count(r.job_id) + count(p.job_id) as queued, count(e.job_id) as running,
                        count(*) filter (where f.outcome = 'succeeded') as succeeded, count(*) filter (where f.outcome = 'cancelled') as cancelled,
                        count(d.job_id) as dead, count(d.retried_at) as replayed
                   from millrace.job j
                   left join millrace.ready r on r.job_id = j.id left join millrace.parked p on p.job_id = j.id
                   left join millrace.lease e on e.job_id = j.id left join millrace.finished f on f.job_id = j.id
                   left join millrace.dead_letter d on d.job_id = j.id
                  group by j.queue_id),
               task_truth as (
                 select j.queue_id, j.type, j.priority, s.status, count(*) as n
                   from millrace.job j
                   left join (select r.job_id, case when r.attempts > 0 or r.retried then 'retrying' else 'pending' end as status from millrace.ready r
                              union all select p.job_id, case when p.attempts > 0 or p.retried then 'retrying' else 'pending' end from millrace.parked p
                              union all select e.job_id, 'processing' from millrace.lease e
                              union all select f.job_id, case f.outcome when 'succeeded' then 'completed' else 'cancelled' end from millrace.finished f
                              union all select d.job_id, 'failed' from millrace.dead_letter d) as s on s.job_id = j.id
                  group by j.queue_id, j.type, j.priority, s.status)
               select format('tasks counted %s, in the tables %s', to_json(c), to_json(t))
                 from task_truth t full join millrace.task_counts() c using (queue_id, type, priority, status)
                where t.n is distinct from c.n
               union all
               select format('counted %s, in the tables %s', to_json(c), to_json(t))
                 from truth t full join millrace.queue_counts() c on c.queue_id = t.queue_id
                where (coalesce(t.queued, 0), coalesce(t.running, 0), coalesce(t.succeeded, 0), coalesce(t.cancelled, 0), coalesce(t.dead, 0), coalesce(t.replayed, 0))
                   is distinct from
                      (coalesce(c.queued, 0), coalesce(c.running, 0), coalesce(c.succeeded, 0), coalesce(c.cancelled, 0), coalesce(c.dead, 0), coalesce(c.replayed, 0))";

/// How many transactions ran anywhere on the server, at most, while a queue was folded: each is one more place to look for tallies that are not.
pub async fn transactions_beside_folds(client: &Client) -> i64 {
    let sql = "select coalesce(max((select count(*) from pg_snapshot_xip(c.folded))), 0) from millrace.queue_clock c";
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

/// What [`UNTRUE_COUNTS`] answers; empty where all are true.
pub async fn untrue_counts(client: &Client) -> Vec<String> {
    let rows = client.query(UNTRUE_COUNTS, &[]).await;
    rows.expect("counters and tables")
        .iter()
        .map(|row| row.get(0))
        .collect()
}
