-- Channels: queues whose worker is a function of ours, the drain composed with a handler. What a drain asks of the database is here:
-- a claim, reports, longer leases, and the note that there is somebody who drains the queue.
--
-- A drain's claim isolates: a job whose last attempt was lost comes alone (see millrace.claim), and `alone` tells the drain so, since it may
-- have others in hand. Names inside the answers are in camel case, as the collab face has them.

-- One channel, as its drain last said.
create table millrace.channel (
  queue   text collate "C" primary key check (btrim(queue) <> '' and length(queue) <= 200),
  state   text not null check (state in ('ready', 'idle', 'misconfigured')),
  detail  text check (length(detail) <= 2000),
  seen_at timestamptz not null
);

comment on table millrace.channel is 'The queues that a drain works for, and what it said last. A row here makes enqueues into that queue notify.';
comment on column millrace.channel.seen_at is 'When its drain last looked, to the minute.';

-- Refuses what can't be a channel: Millrace's own queues are worked on by cron-enqueue.
create function millrace.check_channel(p_queue text) returns void
language plpgsql
as $$
begin
  if coalesce(btrim(p_queue) = '', true) or length(p_queue) > 200 then
    perform millrace.refuse(400, 'invalid_request', 'the channel''s queue is missing, blank or longer than 200 characters');
  elsif millrace.is_own_queue(p_queue) then
    perform millrace.refuse(400, 'invalid_request', 'the queue is Millrace''s own');
  end if;
end
$$;

-- Notes what a drain says, at most once a minute while it says the same: every run passes here.
create function millrace.note_channel(p_queue text, p_state text, p_detail text) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
  v_now timestamptz := millrace.clock();
begin
  perform from millrace.channel c
    where c.queue = p_queue and c.state = p_state and c.detail is not distinct from left(p_detail, 2000)
      and c.seen_at between v_now - interval '1 minute' and v_now;
  if found then
    return;
  end if;
  insert into millrace.channel as c (queue, state, detail, seen_at) values (p_queue, p_state, left(p_detail, 2000), v_now)
      on conflict (queue) do update set state = excluded.state, detail = excluded.detail, seen_at = excluded.seen_at;
end
$$;

-- {queue, state: ready | idle | misconfigured, detail} -> {}
create function millrace_api.channel_seen(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.check_channel($1 ->> 'queue');
  perform millrace.note_channel($1 ->> 'queue', $1 ->> 'state', $1 ->> 'detail');
  return '{}';
end
$$;

-- In how many milliseconds a job of the queue may start, by its first entry, its hold and its tokens: 0 where that is now and none was to be had (a
-- limit that says no time, another claim), NULL where there is none or the queue is paused. A hint and no promise.
create function millrace.due_in(p_queue text) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now   timestamptz := millrace.clock();
  v_queue millrace.queue;
  v_first timestamptz;
  v_token timestamptz;
begin
  select * into v_queue from millrace.queue q where q.name = p_queue;
  if not found or v_queue.paused_at is not null then
    return null;
  end if;
  v_first := (select min(h.run_at)
                from millrace.lane l
               cross join lateral (select r.run_at from millrace.ready r
                                    where r.lane_id = l.id and r.run_at >= l.floor order by r.run_at, r.job_id limit 1) as h
               where l.queue_id = v_queue.id);
  if v_first is null then
    return null;
  end if;
  if v_queue.rate_limit is not null and millrace.queue_tokens(v_queue) = 0 then
    v_token := (select min(t.at) from millrace.bucket b cross join lateral unnest(b.back_at) as t (at)
                 where b.queue_id = v_queue.id and t.at > v_now);
  end if;
  return ceil(extract(epoch from greatest(v_first, v_queue.held_until, v_token, v_now) - v_now) * 1000); -- greatest() passes over nulls
end
$$;

-- {queue, workerId, limit, leaseSeconds, detail} -> {jobs: [{id, leaseId, type, attempt, maxAttempts, payload, traceparent?, resumed}], alone, dueInMs}.
-- The payload is what the channel's worker needs: for an email its message, not the message's name. `alone`: the one job is to be run with no
-- other beside it. `dueInMs` is said where fewer were had than asked for. The answer is bounded as every claim's is, since a message counts with its
-- job (see messages).
create function millrace_api.channel_claim(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set enable_seqscan = off
as $$
declare
  v_queue constant text := $1 ->> 'queue';
  v_limit constant int := ($1 ->> 'limit')::int;
  v_jobs  jsonb;
  v_first bigint;
  v_alone boolean := false;
begin
  perform millrace.check_channel(v_queue);
  select jsonb_agg(jsonb_build_object(
           'id', millrace.job_uuid(c.job_id), 'leaseId', c.lease_id, 'type', c.job_type, 'attempt', c.attempt, 'maxAttempts', c.max_attempts,
           'payload', case when v_queue in ('email', 'sms') then (millrace.channel_payload(v_queue, c.job_id, c.payload)).payload else c.payload end,
           'traceparent', c.traceparent, 'resumed', c.resumed)), min(c.job_id)
    into v_jobs, v_first
    from millrace.claim(queue => v_queue, worker => $1 ->> 'workerId', max_jobs => v_limit, isolate => true,
                        lease => make_interval(secs => ($1 ->> 'leaseSeconds')::int)) as c;
  if jsonb_array_length(v_jobs) = 1 then
    select l.alone into v_alone from millrace.lease e join millrace.lane l on l.id = e.lane_id where e.job_id = v_first;
  end if;
  perform millrace.note_channel(v_queue, 'ready', $1 ->> 'detail'); -- after the claim, which does its best as the first to write
  return jsonb_build_object('jobs', coalesce(v_jobs, '[]'), 'alone', coalesce(v_alone, false),
                            'dueInMs', case when coalesce(jsonb_array_length(v_jobs), 0) < v_limit then millrace.due_in(v_queue) end);
end
$$;

-- The core's names for one outcome: done with what is kept as the result, retry, dead or postpone.
create function millrace.channel_outcome(p_worker text, p_outcome jsonb) returns jsonb
language sql stable
as $$
  select jsonb_build_object(
           'job_id', millrace.job_id((p_outcome ->> 'id')::uuid), 'lease_id', p_outcome -> 'leaseId', 'worker', p_worker,
           'succeeded', p_outcome ->> 'outcome' = 'done',
           'result', nullif(jsonb_strip_nulls(jsonb_build_object('id', p_outcome -> 'receipt'))
                            || case when p_outcome ? 'details' then jsonb_build_object('details', p_outcome -> 'details') else '{}' end, '{}'),
           'error_code', p_outcome -> 'code', 'error', p_outcome -> 'message', 'permanent', p_outcome ->> 'outcome' = 'dead')
         || case p_outcome ->> 'outcome'
              when 'retry' then jsonb_build_object('retry_after_seconds', d.seconds)
              when 'postpone' then jsonb_build_object('postponed_seconds', coalesce(d.seconds, 0))
              else '{}' end
    from (select case when p_outcome ->> 'delayMs' is not null
                      then least(31536000, (p_outcome ->> 'delayMs')::numeric / 1000) end as seconds) as d -- a year at most, as the core has it; least() passes over a null
$$;

-- {workerId, outcomes: [{id, leaseId, outcome, receipt?, details?, code?, message?, delayMs?}]} -> {refused: [{id, code}]}: those whose
-- word came too late. A job may be named once. An application's open transaction may hold the slot of a concurrency key: that is waited for a
-- short while, then nothing of the call counts (try_again), so that one job keeps neither the others' outcomes nor their leases waiting.
create function millrace_api.channel_report(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
as $$
declare
  v_reports jsonb;
  v_refused jsonb;
begin
  perform millrace.check_worker($1 ->> 'workerId');
  select jsonb_agg(millrace.channel_outcome($1 ->> 'workerId', o.outcome) order by o.ord) into v_reports
    from jsonb_array_elements($1 -> 'outcomes') with ordinality as o (outcome, ord);
  select jsonb_agg(jsonb_build_object('id', millrace.job_uuid(r.job_id), 'code', r.code) order by r.ord) into v_refused
    from millrace.report_many(coalesce(v_reports, '[]')) as r
   where r.code is not null;
  return jsonb_build_object('refused', coalesce(v_refused, '[]'));
end
$$;

-- {workerId, leaseSeconds, leases: [{id, leaseId}]} -> {lost: [id], busy: [id]}: each lease ends so many seconds from now; one that is lost stays lost,
-- and one that somebody has locked at this moment is not extended.
create function millrace_api.channel_extend(jsonb) returns jsonb
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('lost', coalesce(jsonb_agg(l.lease -> 'id' order by l.ord) filter (where e.code <> 'try_again'), '[]'),
                            'busy', coalesce(jsonb_agg(l.lease -> 'id' order by l.ord) filter (where e.code = 'try_again'), '[]'))
    from millrace.extend_many($1 ->> 'workerId', millrace.core_leases($1 -> 'leases'), make_interval(secs => ($1 ->> 'leaseSeconds')::int)) as e
    join jsonb_array_elements($1 -> 'leases') with ordinality as l (lease, ord) on l.ord = e.ord
$$;

-- Wake-up: which channels have something due, for whoever calls the drains.
--
-- Two ways lead to a drain. The functions call it themselves, once they have answered (functions/kit/src/wake.rs). Everybody else who enqueues by
-- SQL notifies, and a host that listens calls it. What neither wakes is found by the tick, whose round asks due_channels as well.

-- {channels: [queue]} -> {channels: [queue]}: those of the channels named, and of those that have run already, that have something due, or will
-- within a second: a run waits that long for what comes, so what a rate limit spreads goes on from one run to the next.
create function millrace_api.due_channels(jsonb) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('channels', coalesce(jsonb_agg(k.queue order by k.queue), '[]'))
    from (select c.queue from millrace.channel c union select jsonb_array_elements_text($1 -> 'channels')) as k
   where millrace.due_in(k.queue) <= 1000
$$;

-- Tells whoever listens which of these queues are channels. Not where the session is a function's: that calls the drain itself, and transactions
-- that notify take turns at their commits, all over the server, which is a price that only those should pay who have no other way.
-- By the role's oid and not its name, which as a regrole would have to be quoted. Who may only grant the role, as who made it may since
-- Postgres 16, is no function.
create function millrace.notify_channels(p_queues int[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_channels text[];
begin
  select array_agg(c.queue) into v_channels
    from unnest(p_queues) as q (id)
   cross join lateral (select * from millrace.queue i where i.id = q.id limit 1) as n
   cross join lateral (select * from millrace.channel i where i.queue = n.name limit 1) as c;
  if v_channels is null
     or exists (select from pg_auth_members m join pg_roles r on r.oid = m.member
                 where r.rolname = session_user and m.roleid = 'millrace_functions'::regrole and not m.admin_option) then
    return;
  end if;
  perform pg_notify('millrace_wake', c) from unnest(v_channels) as c;
end
$$;
