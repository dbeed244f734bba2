-- What a queue is set to, pausing it, and who is at work on it.

-- Makes the queue if it is not there yet, and changes the settings that are given. concurrency_limit 0 lifts the limit, alert_age 0 goes
-- back to the default of all queues.
create function millrace.configure_queue(queue text, max_attempts int default null, backoff text default null,
  backoff_base interval default null, backoff_cap interval default null, backoff_jitter boolean default null,
  lease interval default null, concurrency_limit int default null, alert_age interval default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.make_queue(configure_queue.queue);
  update millrace.queue q
     set max_attempts = coalesce(configure_queue.max_attempts, q.max_attempts),
         backoff = coalesce(configure_queue.backoff, q.backoff),
         backoff_base = coalesce(configure_queue.backoff_base, q.backoff_base),
         backoff_cap = coalesce(configure_queue.backoff_cap, q.backoff_cap),
         backoff_jitter = coalesce(configure_queue.backoff_jitter, q.backoff_jitter),
         lease = coalesce(configure_queue.lease, q.lease),
         concurrency_limit = nullif(coalesce(configure_queue.concurrency_limit, q.concurrency_limit), 0),
         alert_age = nullif(coalesce(configure_queue.alert_age, q.alert_age), '0')
   where q.name = configure_queue.queue;
exception when check_violation then
  perform millrace.refuse(400, 'invalid_request', 'a setting is out of its range', sqlerrm);
end
$$;

comment on function millrace.configure_queue is 'Sets what is given of a queue''s limits, backoff, lease length and the age of which alerts tell.';

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
