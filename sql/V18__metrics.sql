-- What there is to measure, queue by queue, for whoever renders it.

-- The age in seconds of the oldest entry that is due and not claimed: a probe for each lane, from its floor on. 0 where there is none.
create function millrace.oldest_ready_age(p_queue_id int) returns double precision
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := millrace.clock();
begin
  return (select coalesce(extract(epoch from v_now - least(v_now, min(r.run_at))), 0)
            from millrace.lane l
           cross join lateral (select i.run_at from millrace.ready i
                                where i.lane_id = l.id and i.run_at >= l.floor order by i.run_at limit 1) as r
           where l.queue_id = p_queue_id);
end
$$;

-- What has happened in one queue since it was made: totals by kind, and two histograms, whose buckets count all that took at most so long.
create function millrace.queue_totals(p_queue_id int) returns jsonb
language plpgsql stable
as $$
begin
  return (
    with counted as materialized (
      select c.kind, c.bucket, c.n, c.seconds from millrace.counts(p_queue_id) as c
    ), kinds as (
      select split_part(c.kind, ':', 1) as kind, sum(c.n) as n from counted c group by 1
    ), timed as (
      select case c.kind when 'started' then 'wait' else 'run' end as name, c.bucket, c.n, c.seconds
        from counted c where c.kind in ('started', 'succeeded', 'retry_scheduled', 'dead_lettered') and c.bucket > 0
    )
    select jsonb_build_object('totals', (select coalesce(jsonb_object_agg(k.kind, k.n), '{}') from kinds k))
           || jsonb_object_agg(h.name, jsonb_build_object(
                'buckets', (select jsonb_agg((select coalesce(sum(t.n), 0) from timed t where t.name = h.name and t.bucket <= b.ord) order by b.ord)
                              from unnest(millrace.histogram_bounds()) with ordinality as b (bound, ord)),
                'count', (select coalesce(sum(t.n), 0) from timed t where t.name = h.name),
                'sum', (select coalesce(sum(t.seconds), 0) from timed t where t.name = h.name)))
      from (values ('wait'), ('run')) as h (name));
end
$$;

-- -> {bounds, queues: [{queue, paused, concurrency_limit?, rate_limit?, tokens?, held, queued, running, succeeded, cancelled, dead, waiting, oldest_ready_age, workers, totals, wait, run}, …]}.
-- `waiting` are the dead letters that nobody has replayed; `wait` is the time from enqueue to the first start, `run` from a claim to its end;
-- bounds, ages and sums are in seconds. Beside them is what millrace.channel_metrics has (see the calendar).
create function millrace_api.collab_metrics(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off
as $$
begin
  return (
    select millrace.channel_metrics() || jsonb_build_object('bounds', to_jsonb(millrace.histogram_bounds()), 'queues', coalesce(jsonb_agg(
             jsonb_strip_nulls(jsonb_build_object(
               'queue', q.name, 'paused', q.paused_at is not null, 'concurrency_limit', q.concurrency_limit,
               'rate_limit', q.rate_limit, 'tokens', millrace.queue_tokens(q), 'held', coalesce(q.held_until > millrace.clock(), false),
               'queued', coalesce(c.queued, 0), 'running', coalesce(c.running, 0), 'succeeded', coalesce(c.succeeded, 0),
               'cancelled', coalesce(c.cancelled, 0), 'dead', coalesce(c.dead, 0), 'waiting', coalesce(c.dead - c.replayed, 0),
               'oldest_ready_age', millrace.oldest_ready_age(q.id), 'workers', coalesce(w.n, 0)))
             || millrace.queue_totals(q.id) order by q.name), '[]'))
      from millrace.queue q
      left join millrace.queue_counts() as c on c.queue_id = q.id
      left join (select i.executor_id, count(*) as n from millrace.worker i
                  where i.seen_at > millrace.clock() - interval '20 seconds' group by i.executor_id) as w on w.executor_id = q.name);
end
$$;
