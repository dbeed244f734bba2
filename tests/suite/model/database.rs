//! The SQL side of a sequence: an empty queue whose clock is a setting of the session.

use millrace_tests::database::Database;
use tokio_postgres::{Client, Error};

use super::memory::Micros;

/// Where the queue's clock begins in every sequence: a fixed instant, so that a seed says everything.
pub const BEGIN: &str = "2030-01-07 12:00:00+00";

/// Moves the queue's clock to so many microseconds after the beginning.
pub async fn set_clock(sql: &Client, now: Micros) -> Result<(), Error> {
    sql.execute("select set_config('test.clock', ($1::text::timestamptz + $2 * interval '1 microsecond')::text, false)", &[&BEGIN, &(now as f64)])
        .await?;
    Ok(())
}

/// A database whose clock is a setting of the session, with views that show the state as the model shows it.
pub async fn prepare() -> Database {
    let database = Database::fresh().await;
    // One partition instead of nine: every comparison would have to look into all of them.
    database
        .rewrite_function(
            "millrace.housekeep()",
            "make_partitions()",
            "make_partitions(0)",
        )
        .await;
    database
        .run(&format!(
            "do $$ declare v_partition regclass; begin
               for v_partition in select inhrelid from pg_inherits where inhrelid::regclass::text ~ '_[0-9]{{8}}$' loop
                 execute format('drop table %s', v_partition);
               end loop;
             end $$;
             set timezone = 'UTC';
             alter table millrace.queue alter backoff_jitter set default false;
             create or replace function millrace.clock() returns timestamptz language sql volatile parallel safe
               as 'select current_setting(''test.clock'')::timestamptz';
             create schema test;
             create function test.micros(timestamptz) returns bigint language sql as
               $$ select (extract(epoch from $1 - timestamptz '{BEGIN}') * 1000000)::bigint $$;
             create view test.job_lines as
               select j.id, format('%s %s | %s', j.id, coalesce(
                 (select format('ready %s %s %s %s', test.micros(r.run_at), r.attempts, l.alone, r.resumed)
                    from millrace.ready r join millrace.lane l on l.id = r.lane_id where r.job_id = j.id),
                 (select format('parked %s %s %s %s', test.micros(p.run_at), p.attempts, l.alone, p.resumed)
                    from millrace.parked p join millrace.lane l on l.id = p.lane_id where p.job_id = j.id),
                 (select format('running %s %s %s %s %s %s', e.lease_id, e.worker, e.attempt, test.micros(e.expires_at), l.alone, e.resumed)
                    from millrace.lease e join millrace.lane l on l.id = e.lane_id where e.job_id = j.id),
                 (select format('%s %s', f.outcome, f.attempts) from millrace.finished f where f.job_id = j.id),
                 (select format('dead %s %s %s', d.attempts, d.reason, coalesce(d.retried_job_id, 0))
                    from millrace.dead_letter d where d.job_id = j.id)),
                 (select string_agg(v.event_type, ' ' order by v.id) from millrace.job_events v where v.job_id = j.id)) as line
                 from millrace.job j;
             create view test.slot_lines as
               select q.name, s.key, format('%s %s %s', q.name, s.key, array_to_string(s.holders, ',')) as line
                 from millrace.concurrency_slot s join millrace.queue q on q.id = s.queue_id;
             create view test.attempt_lines as
               select job_id, lease_id, format('%s %s %s %s', job_id, lease_id, worker, outcome) as line from millrace.attempt;"
        ))
        .await;
    database
}

/// Empties every table that a sequence fills. Deleting a few rows is much faster than truncating.
pub async fn begin(sql: &Client) -> Result<(), Error> {
    sql.batch_execute(
        "delete from millrace.ready; delete from millrace.parked; delete from millrace.lease; delete from millrace.finished;
         delete from millrace.dead_letter; delete from millrace.attempt; delete from millrace.job_events; delete from millrace.job;
         delete from millrace.idempotency_key; delete from millrace.concurrency_slot; delete from millrace.lane;
         delete from millrace.tally; delete from millrace.counter; delete from millrace.lane_counter; delete from millrace.queue_clock; delete from millrace.queue;",
    )
    .await?;
    set_clock(sql, 0).await
}
