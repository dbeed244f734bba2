-- What a queue is set to, pausing it, and who is at work on it.

-- Makes the queue if it is not there yet, and changes the settings that are given. concurrency_limit, rate_limit or key_rate_limit 0 lifts the
-- limit, alert_age 0 goes back to the default of all queues. Where key_concurrency is raised, parked jobs follow as the next one of their key ends.
create function millrace.configure_queue(queue text, max_attempts int default null, backoff text default null,
  backoff_base interval default null, backoff_cap interval default null, backoff_jitter boolean default null,
  lease interval default null, concurrency_limit int default null, alert_age interval default null,
  rate_limit int default null, rate_interval interval default null, key_rate_limit int default null, key_rate_interval interval default null,
  key_concurrency int default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before millrace.queue;
  v_after  millrace.queue;
begin
  perform millrace.make_queue(configure_queue.queue);
  select * into v_before from millrace.queue q where q.name = configure_queue.queue for update;
  v_after := v_before;
  v_after.rate_limit := nullif(coalesce(configure_queue.rate_limit, v_before.rate_limit), 0);
  v_after.rate_interval := case when configure_queue.rate_limit is distinct from 0 then millrace.in_seconds(coalesce(configure_queue.rate_interval, v_before.rate_interval)) end;
  v_after.key_rate_limit := nullif(coalesce(configure_queue.key_rate_limit, v_before.key_rate_limit), 0);
  v_after.key_rate_interval := case when configure_queue.key_rate_limit is distinct from 0 then millrace.in_seconds(coalesce(configure_queue.key_rate_interval, v_before.key_rate_interval)) end;
  perform millrace.check_rate('rate', v_after.rate_limit, v_after.rate_interval);
  perform millrace.check_rate('key_rate', v_after.key_rate_limit, v_after.key_rate_interval);

  update millrace.queue q
     set max_attempts = coalesce(configure_queue.max_attempts, q.max_attempts),
         backoff = coalesce(configure_queue.backoff, q.backoff),
         backoff_base = coalesce(configure_queue.backoff_base, q.backoff_base),
         backoff_cap = coalesce(configure_queue.backoff_cap, q.backoff_cap),
         backoff_jitter = coalesce(configure_queue.backoff_jitter, q.backoff_jitter),
         lease = coalesce(configure_queue.lease, q.lease),
         concurrency_limit = nullif(coalesce(configure_queue.concurrency_limit, q.concurrency_limit), 0),
         alert_age = nullif(coalesce(configure_queue.alert_age, q.alert_age), '0'),
         rate_limit = v_after.rate_limit, rate_interval = v_after.rate_interval,
         key_rate_limit = v_after.key_rate_limit, key_rate_interval = v_after.key_rate_interval,
         key_concurrency = coalesce(configure_queue.key_concurrency, q.key_concurrency),
         keys_limited = q.keys_limited or v_after.key_rate_limit is not null
   where q.name = configure_queue.queue
  returning * into v_after;
  if (v_before.concurrency_limit, v_before.rate_limit, v_before.rate_interval)
     is distinct from (v_after.concurrency_limit, v_after.rate_limit, v_after.rate_interval) then
    perform millrace.fit_limits(v_after);
  end if;
  if (v_before.key_rate_limit, v_before.key_rate_interval) is distinct from (v_after.key_rate_limit, v_after.key_rate_interval) then
    perform millrace.leave_line(v_after.id);
  end if;
exception when check_violation then
  perform millrace.refuse(400, 'invalid_request', 'a setting is out of its range', sqlerrm);
end
$$;

comment on function millrace.configure_queue is 'Sets what is given of a queue''s limits, backoff, lease length and the age of which alerts tell. A rate has a limit and an interval.';

-- Refuses a rate that is not whole, naming its fields; p_name is `rate` or `key_rate`.
create function millrace.check_rate(p_name text, p_limit int, p_interval interval) returns void
language plpgsql
as $$
begin
  if (p_limit is null) <> (p_interval is null) then
    perform millrace.refuse(400, 'invalid_request', format('%1$s_limit and %1$s_interval go together', p_name));
  elsif p_limit not between 1 and 100000 then
    perform millrace.refuse(400, 'invalid_request', format('%s_limit is not from 1 to 100000', p_name));
  elsif p_interval not between '100 milliseconds' and '31 days' then
    perform millrace.refuse(400, 'invalid_request', format('%s_interval is not from 100 milliseconds to 31 days', p_name));
  end if;
end
$$;

-- Whole seconds and fractions instead of months and days, whose length depends on where they are counted from.
create function millrace.in_seconds(p_interval interval) returns interval
language sql immutable
as $$ select make_interval(secs => extract(epoch from p_interval)::double precision) $$;

-- These instants, none of them after p_last: when tokens come back once the interval is shorter.
create function millrace.none_after(p_instants timestamptz[], p_last timestamptz) returns timestamptz[]
language sql immutable
as $$ select array(select least(i.at, p_last) from unnest(p_instants) with ordinality as i (at, n) order by i.n) $$;

-- Makes the places and buckets that the limits of a queue ask for. What was taken stays taken where a row stays, so that right after a change no more
-- jobs start in an interval than the greater of both limits says.
create function millrace.fit_limits(p_queue millrace.queue) returns void
language sql
as $$
  insert into millrace.place (queue_id, n) select p_queue.id, n from generate_series(1, p_queue.concurrency_limit) as n on conflict do nothing;

  delete from millrace.bucket b where b.queue_id = p_queue.id and (p_queue.rate_limit is null or b.shard >= least(p_queue.rate_limit, 16));
  insert into millrace.bucket as b (queue_id, shard, size)
  select p_queue.id, s, p_queue.rate_limit / n + (s < p_queue.rate_limit % n)::int
    from (select least(p_queue.rate_limit, 16) as n where p_queue.rate_limit is not null) as m cross join lateral generate_series(0, n - 1) as s
      on conflict (queue_id, shard) do update
     set size = excluded.size, back_at = millrace.none_after(b.back_at, millrace.clock() + p_queue.rate_interval);
$$;

create function millrace.make_queue(p_queue text) returns void
language plpgsql
as $$
begin
  if p_queue is null or btrim(p_queue) = '' or length(p_queue) > 200 then
    perform millrace.refuse(400, 'invalid_request', 'queue is missing or blank, or longer than 200 characters');
  end if;
  insert into millrace.queue (name) values (p_queue) on conflict do nothing;
  insert into millrace.queue_clock (queue_id) select q.id from millrace.queue q where q.name = p_queue on conflict do nothing;
end
$$;

-- A paused queue takes jobs in and gives none out; what is running goes on. Pausing twice is no error.
create function millrace.pause(queue text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.make_queue(pause.queue);
  update millrace.queue q set paused_at = coalesce(q.paused_at, millrace.clock()) where q.name = pause.queue;
end
$$;

create function millrace.resume(queue text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.make_queue(resume.queue);
  update millrace.queue q set paused_at = null where q.name = resume.queue;
end
$$;

-- A worker's heartbeat: who it is, which queue it serves, what it has in hand. It extends no lease.
create function millrace.heartbeat(worker text, queue text, status text, running int default null, capacity int default null,
  version text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.check_worker(heartbeat.worker);
  if heartbeat.queue is null or btrim(heartbeat.queue) = '' or length(heartbeat.queue) > 200 then
    perform millrace.refuse(400, 'invalid_request', 'queue is missing or blank, or longer than 200 characters');
  elsif heartbeat.status is null or btrim(heartbeat.status) = '' or length(heartbeat.status) > 50 then
    perform millrace.refuse(400, 'invalid_request', 'status is missing or blank, or longer than 50 characters');
  elsif heartbeat.running < 0 or heartbeat.capacity < 0 then
    perform millrace.refuse(400, 'invalid_request', 'running and capacity are not below 0');
  elsif length(heartbeat.version) > 100 then
    perform millrace.refuse(400, 'invalid_request', 'version is longer than 100 characters');
  end if;
  insert into millrace.worker as w (agent_id, executor_id, status, running, capacity, version, seen_at)
  values (heartbeat.worker, heartbeat.queue, heartbeat.status, heartbeat.running, heartbeat.capacity, heartbeat.version, millrace.clock())
      on conflict (agent_id) do update
     set executor_id = excluded.executor_id, status = excluded.status, running = excluded.running, capacity = excluded.capacity,
         version = excluded.version, seen_at = excluded.seen_at;
end
$$;
