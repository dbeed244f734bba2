-- What happens to a job when its attempt ends, however it ends: reported, expired or cancelled.

-- One ended attempt: the lease as it was, and what is said about it.
create type millrace.ended as (
  job_id      bigint,
  lease_id    bigint,
  queue_id    int,
  lane_id     int,
  worker      text,
  attempt     smallint,
  leased_at   timestamptz,
  resumed     boolean,
  outcome     text,     -- succeeded, failed, postponed or lease_expired
  result      jsonb,
  error_code  text,
  error       text,
  retry_after interval, -- the handler's own delay, instead of the queue's backoff; what it was postponed by
  permanent   boolean   -- the handler says: never again
);

-- The delay after attempt n: min(cap, base * 2^(n-1)), or base where the backoff is fixed; full jitter
-- draws evenly from 0 up to that.
create function millrace.backoff_delay(p_queue millrace.queue, p_attempt int) returns interval
language sql volatile
as $$
  select make_interval(secs => case when p_queue.backoff_jitter then random() else 1 end
           * case p_queue.backoff
               when 'fixed' then extract(epoch from p_queue.backoff_base)
               -- 2^60 times the least base is beyond the greatest cap, and stays a finite number
               else least(extract(epoch from p_queue.backoff_cap)::double precision,
                          extract(epoch from p_queue.backoff_base)::double precision * 2 ^ least(p_attempt - 1, 60))
             end)
$$;

-- The lane beside a job's own, for jobs whose last attempt was lost; NULL where none of its kind was lost before.
create function millrace.lane_alone(p_job millrace.job) returns int
language plpgsql stable
set enable_seqscan = off
as $$
begin
  return (select l.id from millrace.lane l where l.queue_id = p_job.queue_id and l.type = p_job.type and l.priority = p_job.priority and l.alone);
end
$$;

-- Makes such lanes for these jobs where they are not there yet. Once in the life of a lane somebody may wait here, for another one
-- that makes the very same.
create function millrace.make_lanes_alone(p_jobs bigint[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
begin
  insert into millrace.lane (queue_id, type, priority, alone)
  select distinct j.queue_id, j.type, j.priority, true
    from unnest(p_jobs) as h (job_id)
   cross join lateral (select * from millrace.job i where i.id = h.job_id limit 1) as j
   where millrace.lane_alone(j::millrace.job) is null
   order by 1, 2, 3
      on conflict do nothing;
end
$$;

-- Moves each job whose lease the caller has just deleted to where it belongs now: finished, ready
-- (for its next attempt) or dead_letter; writes the attempt and its events; frees concurrency keys.
--
-- A job whose lease ran out goes to the lane of those that are to be tried alone. A word about an attempt brings it back to its own lane, but
-- for a postponement, which says nothing about what an attempt would do. A postponed attempt does not count.
create function millrace.settle(p_ended millrace.ended[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now  timestamptz := millrace.clock(); -- the deleted leases gave this transaction its id
  v_free bigint[];
begin
  with ended as materialized (
    select e.*, j.lane_id as own_lane, j.concurrency_key, j.traceparent, date_part('epoch', v_now - e.leased_at) as ran,
           case e.outcome when 'lease_expired' then coalesce(millrace.lane_alone(j::millrace.job), j.lane_id) when 'postponed' then e.lane_id else j.lane_id end as next_lane,
           case when e.outcome in ('succeeded', 'postponed') then e.outcome
                when e.permanent or e.attempt >= coalesce(j.max_attempts, q.max_attempts) then 'dead_lettered'
                else 'retry_scheduled' end as next,
           v_now + coalesce(e.retry_after, millrace.backoff_delay(q::millrace.queue, e.attempt)) as run_at
      from unnest(p_ended) as e
     -- lateral with a limit: one probe of the key for each, whatever the statistics say
     cross join lateral (select * from millrace.job i where i.id = e.job_id limit 1) as j
     cross join lateral (select * from millrace.queue u where u.id = e.queue_id limit 1) as q
  ), attempt as (
    insert into millrace.attempt (job_id, lease_id, attempt, worker, started_at, finished_at, outcome, error_code, error)
    select e.job_id, e.lease_id, e.attempt, e.worker, e.leased_at, v_now, e.outcome, e.error_code, e.error from ended e
  ), done as (
    insert into millrace.finished (job_id, finished_at, outcome, attempts, result)
    select e.job_id, v_now, 'succeeded', e.attempt, e.result from ended e where e.next = 'succeeded'
  ), again as (
    insert into millrace.ready (lane_id, run_at, job_id, attempts, retried, resumed)
    select e.next_lane, e.run_at, e.job_id, e.attempt - (e.next = 'postponed')::int, e.next = 'postponed', e.resumed or e.outcome = 'lease_expired'
      from ended e where e.next in ('retry_scheduled', 'postponed')
  ), dead as (
    insert into millrace.dead_letter (job_id, queue_id, attempts, reason, error, dead_at)
    select e.job_id, e.queue_id, e.attempt, e.error_code, e.error, v_now from ended e where e.next = 'dead_lettered' order by e.job_id
  ), event as (
    insert into millrace.job_events (job_id, event_type, created_at, payload, queue_id)
    select e.job_id, t.event_type, v_now, jsonb_strip_nulls(t.payload), e.queue_id
      from ended e
     cross join lateral (
             select 1, 'lease_expired', jsonb_build_object('attempt', e.attempt, 'lease_id', e.lease_id, 'worker', e.worker, 'traceparent', e.traceparent)
              where e.outcome = 'lease_expired'
             union all
             select 2, e.next, jsonb_build_object('attempt', e.attempt, 'error_code', e.error_code, 'error', e.error, 'ran', e.ran,
                                 'run_at', case when e.next in ('retry_scheduled', 'postponed') then e.run_at end, 'traceparent', e.traceparent)
           ) as t (place, event_type, payload)
     order by e.job_id, t.place
  ), tally as (
    insert into millrace.tally (queue_id, lane_id, kind, bucket, n, seconds, was, became)
    -- how long it took to postpone an attempt would tell nothing about how long attempts take
    select e.queue_id, e.own_lane, e.next, case when e.next = 'postponed' then 0 else millrace.histogram_bucket(e.ran) end, count(*),
           sum(case when e.next = 'postponed' then 0 else e.ran end),
           'processing', case e.next when 'succeeded' then 'completed' when 'dead_lettered' then 'failed' else 'retrying' end
      from ended e group by 1, 2, 3, 4
  )
  select array_agg(e.job_id) into v_free from ended e where e.concurrency_key is not null and e.next not in ('retry_scheduled', 'postponed');

  if v_free is not null then
    perform millrace.pass_on_slots(v_free);
  end if;
end
$$;

-- Gives the concurrency keys that these ended jobs hold to the oldest jobs parked behind each: as many as may run at once.
-- The slot is locked first, in one order everywhere, and only then is parked read with a new snapshot:
-- whoever parks a job has locked the slot too, so no job can be parked unseen behind a freed key.
create function millrace.pass_on_slots(p_holders bigint[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz;
begin
  perform millrace.lock_slots(p_holders);
  v_now := millrace.clock();
  with slot as materialized (
    select s.queue_id, s.key, array(select i.job_id from unnest(s.holders) as i (job_id) where i.job_id <> all (array_agg(j.id))) as stay
      from unnest(p_holders) as h (job_id)
     cross join lateral (select * from millrace.job i where i.id = h.job_id limit 1) as j
     cross join lateral (select * from millrace.concurrency_slot c
                          where c.queue_id = j.queue_id and c.key = j.concurrency_key and j.id = any (c.holders) limit 1) as s
     group by s.queue_id, s.key, s.holders
  ), turn as materialized (
    select s.queue_id, s.key, s.stay,
           array(select p.job_id from millrace.parked p
                  where p.queue_id = s.queue_id and p.key = s.key order by p.job_id limit greatest(0, q.key_concurrency - cardinality(s.stay))) as next
      from slot s
     cross join lateral (select * from millrace.queue i where i.id = s.queue_id limit 1) as q
  ), freed as (
    delete from millrace.concurrency_slot d using turn t
     where t.stay || t.next = '{}' and d.queue_id = t.queue_id and d.key = t.key
  ), passed as (
    update millrace.concurrency_slot u set holders = t.stay || t.next from turn t
     where t.stay || t.next <> '{}' and u.queue_id = t.queue_id and u.key = t.key
  ), unparked as (
    delete from millrace.parked p where p.job_id = any (array(select n.job_id from turn t cross join lateral unnest(t.next) as n (job_id)))
    returning p.lane_id, p.run_at, p.job_id, p.attempts, p.retried, p.resumed
  )
  insert into millrace.ready (lane_id, run_at, job_id, attempts, retried, resumed)
  select u.lane_id, greatest(u.run_at, v_now), u.job_id, u.attempts, u.retried, u.resumed from unparked u;
end
$$;

-- Locks the slots of these jobs' concurrency keys, in the order that enqueue uses, against deadlock.
create function millrace.lock_slots(p_jobs bigint[]) returns void
language sql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
  select from millrace.job j
    join millrace.concurrency_slot s on s.queue_id = j.queue_id and s.key = j.concurrency_key
   where j.id = any (p_jobs)
   order by s.queue_id, s.key
     for update of s
$$;

-- Which of these jobs can be settled without waiting: those without a concurrency key, and those whose slot is not locked
-- by somebody else, such as an application's long transaction that enqueued with the same key. Locks the slots.
create function millrace.without_waiting(p_jobs bigint[]) returns bigint[]
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_held bigint[];
begin
  -- Locks belong to one statement's rows, so they are taken by themselves and asked about afterwards.
  v_held := array(select j.id
                    from unnest(p_jobs) as h (job_id)
                   cross join lateral (select * from millrace.job i where i.id = h.job_id limit 1) as j
                   cross join lateral (select from millrace.concurrency_slot s
                                        where s.queue_id = j.queue_id and s.key = j.concurrency_key limit 1 for update skip locked) as s);
  return array(select h.job_id
                 from unnest(p_jobs) as h (job_id)
                cross join lateral (select * from millrace.job i where i.id = h.job_id limit 1) as j
                where j.concurrency_key is null or j.id = any (v_held));
end
$$;

-- Ends the attempts whose leases have run out: each counts as an attempt with the error code lease_expired,
-- so a job that kills its workers ends among the dead letters. It waits for nobody: what is locked is left to the next
-- round. Returns how many leases it ended.
create function millrace.expire_leases(p_queue_id int, p_limit int default 1000) returns int
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now   timestamptz := millrace.clock();
  v_floor timestamptz;
  v_due   bigint[];
  v_ended millrace.ended[];
begin
  select c.lease_floor into v_floor from millrace.queue_clock c where c.queue_id = p_queue_id;
  v_due := array(select e.job_id from millrace.lease e
                  where e.queue_id = p_queue_id and e.expires_at >= v_floor and e.expires_at <= v_now
                  order by e.expires_at
                  limit p_limit);
  if v_due = '{}' then
    return 0;
  end if;
  v_due := millrace.without_waiting(v_due);
  with taken as (
    delete from millrace.lease d
     where d.ctid = any (array(
             select e.ctid from millrace.lease e
              where e.job_id = any (v_due) and e.expires_at <= v_now
                for update skip locked))
    returning d.*
  )
  select array_agg((t.job_id, t.lease_id, t.queue_id, t.lane_id, t.worker, t.attempt, t.leased_at, t.resumed, 'lease_expired', null,
                    'lease_expired', 'the lease ran out before the worker reported', null, false)::millrace.ended)
    into v_ended
    from taken t;
  if v_ended is null then
    return 0;
  end if;
  perform millrace.make_lanes_alone(v_due);
  perform millrace.settle(v_ended);
  insert into millrace.tally (queue_id, kind, n) values (p_queue_id, 'lease_expired', cardinality(v_ended));
  return cardinality(v_ended);
end
$$;
