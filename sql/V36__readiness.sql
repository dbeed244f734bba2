-- Health: figures of the queues for anybody, and whether the database is as new as the functions need it.

-- {version} -> {status: 'ok', version, timestamp, queueCount, queues: [{name, paused, pending, processing, retrying, completed, failed, cancelled,
-- oldestPendingSeconds, workers}, …]}, by name, at most 1,000 of them. Nobody is asked who he is, so it costs no more for more jobs, and tells of
-- jobs and workers only how many there are; Millrace's own queues are left out.
create function millrace_api.health_figures(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off
as $$
begin
  return (
    select jsonb_build_object('status', 'ok', 'version', $1 -> 'version', 'timestamp', millrace.clock(),
             'queueCount', (select count(*) from millrace.queue i where not millrace.is_own_queue(i.name)),
             'queues', coalesce(jsonb_agg(jsonb_build_object(
               'name', q.name, 'paused', q.paused_at is not null,
               'pending', coalesce(c.pending, 0), 'processing', coalesce(c.processing, 0), 'retrying', coalesce(c.retrying, 0),
               'completed', coalesce(c.completed, 0), 'failed', coalesce(c.failed, 0), 'cancelled', coalesce(c.cancelled, 0),
               'oldestPendingSeconds', round(millrace.oldest_ready_age(q.id)::numeric, 3), 'workers', coalesce(w.n, 0)) order by q.name), '[]'))
      from (select i.* from millrace.queue i where not millrace.is_own_queue(i.name) order by i.name limit 1000) as q
      left join (select t.queue_id,
                        sum(t.n) filter (where t.status = 'pending') as pending, sum(t.n) filter (where t.status = 'processing') as processing,
                        sum(t.n) filter (where t.status = 'retrying') as retrying, sum(t.n) filter (where t.status = 'completed') as completed,
                        sum(t.n) filter (where t.status = 'failed') as failed, sum(t.n) filter (where t.status = 'cancelled') as cancelled
                   from millrace.task_counts() as t group by t.queue_id) as c on c.queue_id = q.id
      left join (select i.executor_id, count(*) as n from millrace.worker i
                  where i.seen_at > millrace.clock() - interval '20 seconds' group by i.executor_id) as w on w.executor_id = q.name);
end
$$;

-- {} -> {applied, readOnly}: the number of the newest migration that was applied (0 where there is no history), and whether this server takes no
-- writes. It is stable, so that a PostgREST calls it in a read-only transaction, which a standby can run; so the transaction's own mode says nothing.
create function millrace_api.readiness(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_applied int := 0;
begin
  if to_regclass('millrace.migration') is not null then -- the history that `millrace migrate` keeps
    select coalesce(max(m.version), 0) into v_applied from millrace.migration m;
  end if;
  return jsonb_build_object('applied', v_applied, 'readOnly', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean);
end
$$;
