-- A person's word about a job: where it stands, cancel it, retry it, replay its dead letter.

-- The state of a job: queued, running, succeeded, cancelled or dead; NULL where there is no such job.
create function millrace.job_state(job_id bigint) returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
  select case
    when exists (select from millrace.ready r where r.job_id = $1) or exists (select from millrace.parked p where p.job_id = $1) then 'queued'
    when exists (select from millrace.lease e where e.job_id = $1) then 'running'
    when exists (select from millrace.dead_letter d where d.job_id = $1) then 'dead'
    else (select f.outcome from millrace.finished f where f.job_id = $1)
  end
$$;

-- Withdraws a job that is queued or running. A running job's lease ends with it, so its worker's next word
-- is refused with the code `cancelled`.
create function millrace.cancel(job_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
  v_now      timestamptz;
  v_attempts smallint;
  v_retried  boolean;
  v_lease    millrace.lease;
begin
  -- The job may move on while this looks for it, from ready to lease or back: then look again.
  for v_round in 1 .. 3 loop
    delete from millrace.ready r where r.job_id = cancel.job_id returning r.attempts, r.retried into v_attempts, v_retried;
    exit when found;
    delete from millrace.lease e where e.job_id = cancel.job_id returning e.* into v_lease;
    v_attempts := v_lease.attempt;
    exit when found;
    -- A slot is locked before a job parked behind it is taken, but after a lease: the order of whoever ends an attempt.
    if exists (select from millrace.parked p where p.job_id = cancel.job_id) then
      perform millrace.lock_slots(array[cancel.job_id]);
      delete from millrace.parked p where p.job_id = cancel.job_id returning p.attempts, p.retried into v_attempts, v_retried;
      exit when found;
    end if;
  end loop;
  if v_attempts is null then
    perform millrace.refuse_transition(cancel.job_id, 'not_cancellable', 'only a queued or running job can be cancelled');
  end if;

  v_now := millrace.clock();
  if v_lease.job_id is not null then
    insert into millrace.attempt (job_id, lease_id, attempt, worker, started_at, finished_at, outcome)
    values (v_lease.job_id, v_lease.lease_id, v_lease.attempt, v_lease.worker, v_lease.leased_at, v_now, 'cancelled');
  end if;
  insert into millrace.finished (job_id, finished_at, outcome, attempts) values (cancel.job_id, v_now, 'cancelled', v_attempts);
  if v_lease.job_id is null then
    perform millrace.note_transition(cancel.job_id, 'cancelled', 'queued', '{}', millrace.waiting_status(v_attempts, v_retried), 'cancelled');
  else
    perform millrace.note_transition(cancel.job_id, 'cancelled', 'running', '{}', 'processing', 'cancelled');
  end if;
  perform millrace.pass_on_slots(array[cancel.job_id]);
end
$$;

comment on function millrace.cancel is 'Withdraws a queued or running job.';

-- Writes the event of a transition that a person asked for, and counts it with the state that the job was in and with the statuses between which it
-- moves, as tasks have them.
create function millrace.note_transition(p_job_id bigint, p_event_type text, p_from text, p_payload jsonb, p_was text, p_became text) returns void
language sql
as $$
  insert into millrace.job_events (job_id, event_type, created_at, payload, queue_id)
  select j.id, p_event_type, millrace.clock(), jsonb_strip_nulls(jsonb_build_object('from', p_from, 'traceparent', j.traceparent) || p_payload), j.queue_id
    from millrace.job j where j.id = p_job_id;

  insert into millrace.tally (queue_id, lane_id, kind, n, was, became)
  select j.queue_id, j.lane_id, case p_event_type when 'cancelled' then 'cancelled:' else 'retried:' end || p_from, 1, p_was, p_became
    from millrace.job j where j.id = p_job_id;
$$;

-- Says why a job can't make this transition: it does not exist, or it is in another state.
create function millrace.refuse_transition(p_job_id bigint, p_code text, p_rule text) returns void
language plpgsql
as $$
declare
  v_state text := millrace.job_state(p_job_id);
begin
  if v_state is null then
    perform millrace.refuse(404, 'job_not_found', 'there is no such job');
  elsif (p_code = 'not_cancellable' and v_state in ('queued', 'running')) or (p_code = 'not_waiting' and v_state = 'queued') then
    perform millrace.refuse(503, 'try_again', 'the job changed hands at this moment');
  end if;
  perform millrace.refuse(409, p_code, p_rule, format('the job is %s', v_state));
end
$$;

-- Queues a dead or cancelled job again under its own id. With reset_attempts it has all of its attempts before it
-- again, otherwise one more. A dead letter that was replayed already stays: its replay is under way.
create function millrace.retry(job_id bigint, reset_attempts boolean default true) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
  v_job      millrace.job;
  v_attempts smallint;
  v_from     text := 'dead';
  v_resumed  boolean;
  v_lane     int;
  v_now      timestamptz;
  v_holds    boolean;
begin
  delete from millrace.dead_letter d where d.job_id = retry.job_id and d.retried_at is null returning d.attempts into v_attempts;
  if not found then
    v_from := 'cancelled';
    delete from millrace.finished f where f.job_id = retry.job_id and f.outcome = 'cancelled' returning f.attempts into v_attempts;
  end if;
  if v_attempts is null then
    perform millrace.refuse_transition(retry.job_id, 'not_retryable', 'only a cancelled job, or a dead one not replayed yet, can be retried');
  end if;
  if retry.reset_attempts then
    v_attempts := 0;
  end if;

  select * into v_job from millrace.job j where j.id = retry.job_id;
  -- A job that may have acted says so. One whose last attempt was lost is still tried alone; a cancelled or postponed one after it told nothing new.
  v_resumed := exists (select from millrace.attempt a where a.job_id = v_job.id and a.outcome in ('lease_expired', 'cancelled'));
  v_lane := coalesce(case (select a.outcome from millrace.attempt a where a.job_id = v_job.id and a.outcome not in ('postponed', 'cancelled')
                            order by a.lease_id desc limit 1)
                       when 'lease_expired' then millrace.lane_alone(v_job) end, v_job.lane_id);
  v_now := millrace.clock(); -- the delete gave this transaction its id
  if v_job.concurrency_key is not null then
    -- The update changes nothing; it locks and returns the row that is there already.
    insert into millrace.concurrency_slot as s (queue_id, key, holders) values (v_job.queue_id, v_job.concurrency_key, array[v_job.id])
        on conflict (queue_id, key) do update set holders = s.holders
    returning v_job.id = any (s.holders) into v_holds;
    if not v_holds then
      update millrace.concurrency_slot s set holders = s.holders || v_job.id
       where s.queue_id = v_job.queue_id and s.key = v_job.concurrency_key
         and cardinality(s.holders) < (select q.key_concurrency from millrace.queue q where q.id = v_job.queue_id)
         and not exists (select from millrace.parked p where p.queue_id = v_job.queue_id and p.key = v_job.concurrency_key);
      v_holds := found;
    end if;
  end if;
  if coalesce(v_holds, true) then
    insert into millrace.ready (lane_id, run_at, job_id, attempts, retried, resumed) values (v_lane, v_now, v_job.id, v_attempts, true, v_resumed);
  else
    insert into millrace.parked (job_id, queue_id, key, lane_id, run_at, attempts, retried, resumed)
    values (v_job.id, v_job.queue_id, v_job.concurrency_key, v_lane, v_now, v_attempts, true, v_resumed);
  end if;
  perform millrace.note_transition(v_job.id, 'replayed', v_from, jsonb_build_object('attempts', v_attempts),
                                   case v_from when 'dead' then 'failed' else 'cancelled' end, 'retrying');
  perform millrace.notify_channels(array[v_job.queue_id]);
end
$$;

comment on function millrace.retry is 'Queues a dead or cancelled job again under its own id.';

-- Moves jobs that the caller has just made to the lane of those that are tried alone: what they are replays of has died of its workers.
create function millrace.set_apart(p_jobs bigint[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
begin
  if p_jobs = '{}' then
    return;
  end if;
  -- Where there is no such lane yet, it was a worker that named this reason.
  update millrace.ready r set lane_id = millrace.lane_alone(j::millrace.job)
    from millrace.job j where r.job_id = any (p_jobs) and j.id = r.job_id and millrace.lane_alone(j::millrace.job) is not null;
  update millrace.parked p set lane_id = millrace.lane_alone(j::millrace.job)
    from millrace.job j where p.job_id = any (p_jobs) and j.id = p.job_id and millrace.lane_alone(j::millrace.job) is not null;
end
$$;

-- Makes new jobs of those of up to 1,000 dead letters that were not replayed yet, and links both ways. A new job has the payload and the
-- limits of the old one, but not its idempotency key, which still stands for the old one. What another replay has in hand is passed
-- over, so two at once share the work; and it stops at 8 MiB of payloads, though never before the first.
create function millrace.replay_many(dead_letter_ids bigint[]) returns table (dead_letter_id bigint, job_id bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_dead millrace.dead_letter[];
  v_jobs jsonb;
  v_new  bigint[];
  v_now  timestamptz;
begin
  if cardinality(replay_many.dead_letter_ids) > 1000 then
    perform millrace.refuse(400, 'invalid_request', 'more than 1000 dead letters in one call');
  end if;
  v_dead := array(select d from millrace.dead_letter d
                   where d.id = any (replay_many.dead_letter_ids) and d.retried_at is null order by d.id for update skip locked);

  with waiting as (
    select d.ord, j.*, q.name as queue_name, sum(j.payload_size) over (order by d.ord) - j.payload_size < 8388608 as fits
      from unnest(v_dead) with ordinality as d (id, job_id, queue_id, attempts, reason, error, dead_at, retried_at, retried_job_id, acknowledged_at, ord)
     cross join lateral (select * from millrace.job i where i.id = d.job_id limit 1) as j
     cross join lateral (select * from millrace.queue u where u.id = d.queue_id limit 1) as q
  )
  select jsonb_agg(jsonb_build_object(
           'queue', w.queue_name, 'type', w.type, 'payload', w.payload, 'priority', w.priority, 'max_attempts', w.max_attempts,
           'lease_seconds', extract(epoch from w.lease), 'concurrency_key', w.concurrency_key, 'limit_key', w.limit_key, 'replay_of', w.id,
           'traceparent', w.traceparent) order by w.ord)
    into v_jobs
    from waiting w
   where w.fits;
  v_new := array(select e.job_id from millrace.enqueue_many(coalesce(v_jobs, '[]')) as e order by e.ord);
  v_dead := v_dead[:cardinality(v_new)];
  perform millrace.set_apart(array(select n.job_id from unnest(v_dead) with ordinality
                                     as d (id, job_id, queue_id, attempts, reason, error, dead_at, retried_at, retried_job_id, acknowledged_at, ord)
                                     join unnest(v_new) with ordinality as n (job_id, ord) on n.ord = d.ord
                                    where d.reason = 'lease_expired'));

  v_now := millrace.clock();
  with made as materialized (
    select d.id, d.job_id, n.job_id as new_id, d.queue_id
      from unnest(v_dead) with ordinality as d (id, job_id, queue_id, attempts, reason, error, dead_at, retried_at, retried_job_id, acknowledged_at, ord)
      join unnest(v_new) with ordinality as n (job_id, ord) on n.ord = d.ord
  ), marked as (
    update millrace.dead_letter d set retried_at = v_now, retried_job_id = m.new_id from made m where d.id = m.id
  ), event as (
    insert into millrace.job_events (job_id, event_type, created_at, payload, queue_id)
    select m.job_id, 'replayed', v_now,
           jsonb_strip_nulls(jsonb_build_object('job_id', millrace.job_uuid(m.new_id), 'from', 'dead', 'traceparent', j.traceparent)), m.queue_id
      from made m
     cross join lateral (select * from millrace.job i where i.id = m.job_id limit 1) as j
  )
  insert into millrace.tally (queue_id, kind, n) select m.queue_id, 'replayed', count(*) from made m group by m.queue_id;

  return query
  select d.id, n.job_id
    from unnest(v_dead) with ordinality as d (id, job_id, queue_id, attempts, reason, error, dead_at, retried_at, retried_job_id, acknowledged_at, ord)
    join unnest(v_new) with ordinality as n (job_id, ord) on n.ord = d.ord
   order by d.ord;
end
$$;

comment on function millrace.replay_many is 'Makes new jobs of those of these dead letters that were not replayed yet; answers which, and their keys.';

-- Makes a new job of one dead letter and returns its key. A dead letter is replayed once.
create function millrace.replay(dead_letter_id bigint) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
  v_dead millrace.dead_letter;
begin
  select * into v_dead from millrace.dead_letter d where d.id = replay.dead_letter_id for update;
  if not found then
    perform millrace.refuse(404, 'dead_letter_not_found', 'there is no such dead letter');
  elsif v_dead.retried_at is not null then
    perform millrace.refuse(409, 'already_replayed', 'the dead letter was replayed before', millrace.job_uuid(v_dead.retried_job_id)::text);
  end if;
  return (select m.job_id from millrace.replay_many(array[v_dead.id]) as m);
end
$$;

comment on function millrace.replay is 'Makes a new job of a dead letter, once, and returns its key.';
