-- Claim: takes leases on up to n due jobs of a queue, greatest priority first, then due time, then id.

-- Tends a queue as its claims come by, at most once a second: expires its leases and moves its floors.
-- So a queue that is being worked on needs no scheduler to recover what crashed workers held.
create function millrace.tend(p_queue_id int) returns void
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_due       constant interval := '1 second';
  v_noted_at  timestamptz;
  v_noted_xid xid8;
  v_clock     millrace.queue_clock;
begin
  -- tended_at lies ahead where the clock stepped back
  perform from millrace.queue_clock c
    where c.queue_id = p_queue_id and c.tended_at not between millrace.clock() - v_due and millrace.clock();
  if not found then
    return;
  end if;
  -- A note is the clock, then an id assigned after it: only a transaction that has none yet can take one.
  if pg_current_xact_id_if_assigned() is null then
    v_noted_at := millrace.clock();
    v_noted_xid := pg_current_xact_id();
  end if;

  select * into v_clock from millrace.queue_clock c
   where c.queue_id = p_queue_id and c.tended_at not between millrace.clock() - v_due and millrace.clock()
     for update skip locked;
  if not found then
    return; -- another claim is at it
  end if;
  if v_clock.tended_at > millrace.clock() then
    perform millrace.sweep_floors(p_queue_id);
    v_clock.noted_at := null; -- the note is of the time before
    v_clock.noted_xid := null;
  end if;

  perform millrace.expire_leases(p_queue_id, 100);
  perform millrace.move_lane_floors(v_clock);
  perform millrace.fold(p_queue_id);
  -- What a clock that stepped back unseen has left below a floor is looked for from the very beginning now and then.
  if v_clock.swept_at < millrace.clock() - interval '5 minutes' then
    perform millrace.sweep_floors(p_queue_id);
  end if;

  -- One update a second, not three: while an old snapshot is held every version of this row stays.
  update millrace.queue_clock c
     set tended_at = millrace.clock(),
         lease_floor = greatest(c.lease_floor, millrace.next_lease_floor(v_clock)),
         noted_at = case when t.takes_note then v_noted_at else v_clock.noted_at end,
         noted_xid = case when t.takes_note then v_noted_xid else v_clock.noted_xid end
    -- A note that has come true is used up. One that has not for minutes may never (a long writer, or a
    -- database restored into a cluster with other transaction ids), so it is replaced.
    from (select v_noted_xid is not null
                 and (v_clock.noted_xid is null or v_clock.noted_at < v_noted_at - interval '2 minutes'
                      or pg_snapshot_xmin(pg_current_snapshot()) >= v_clock.noted_xid) as takes_note) as t
   where c.queue_id = p_queue_id;
end
$$;

-- Moves the floors of a queue's lanes up to the noted instant, or to the first live entry if that is
-- earlier, once the note has come true. The condition and the probe share one statement, hence one snapshot.
create function millrace.move_lane_floors(p_clock millrace.queue_clock) returns void
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  update millrace.lane l
     set floor = f.floor
    from (select m.id,
                 coalesce((select least(r.run_at, p_clock.noted_at) from millrace.ready r
                            where r.lane_id = m.id and r.run_at >= m.floor order by r.run_at limit 1), p_clock.noted_at) as floor
            from millrace.lane m
           where m.queue_id = p_clock.queue_id and m.floor < p_clock.noted_at) as f
   where l.id = f.id and l.floor < f.floor
     and pg_snapshot_xmin(pg_current_snapshot()) >= p_clock.noted_xid;
end
$$;

-- How far up the floor of a queue's leases may move by the same rule; NULL while the note has not come true.
create function millrace.next_lease_floor(p_clock millrace.queue_clock) returns timestamptz
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  return (select coalesce((select least(e.expires_at, p_clock.noted_at) from millrace.lease e
                            where e.queue_id = c.queue_id and e.expires_at >= c.lease_floor
                            order by e.expires_at limit 1), p_clock.noted_at)
            from millrace.queue_clock c -- as it is now: a sweep may just have lowered its floor
           where c.queue_id = p_clock.queue_id and pg_snapshot_xmin(pg_current_snapshot()) >= p_clock.noted_xid);
end
$$;

-- Lowers floors to the earliest live entry below them, and those that lie in the future to the very beginning. Only a
-- stepped-back clock makes that necessary.
create function millrace.sweep_floors(p_queue_id int) returns void
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := millrace.clock();
begin
  update millrace.lane l
     set floor = case when l.floor > v_now then '-infinity' else f.run_at end
    from (select m.id, (select r.run_at from millrace.ready r where r.lane_id = m.id order by r.run_at limit 1) as run_at
            from millrace.lane m where m.queue_id = p_queue_id) as f
   where l.id = f.id and (f.run_at < l.floor or l.floor > v_now);

  update millrace.queue_clock c
     set swept_at = v_now,
         lease_floor = case when c.lease_floor > v_now then '-infinity'
                            else least(c.lease_floor, (select e.expires_at from millrace.lease e
                                                        where e.queue_id = p_queue_id order by e.expires_at limit 1)) end
   where c.queue_id = p_queue_id;
end
$$;

-- Takes up to p_limit due entries out of `ready`, best first, passing over those that other claims hold.
-- The lanes come best priority first. `ctid = any (array(…))` keeps the plan to index probes: a join with a limited
-- subquery let the planner assume a tenth of the table and scan it.
create function millrace.take_ready(p_lanes int[], p_priorities smallint[], p_floors timestamptz[], p_now timestamptz, p_limit int)
returns setof millrace.ready
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_peek  int := p_limit + 32; -- more than wanted, for some will be held by other claims
  v_left  int := p_limit;
  v_taken int;
  v_seen  int;
begin
  if cardinality(p_lanes) = 1 then
    return query
      delete from millrace.ready d
       where d.ctid = any (array(
               select r.ctid from millrace.ready r
                where r.lane_id = p_lanes[1] and r.run_at >= p_floors[1] and r.run_at <= p_now
                order by r.run_at, r.job_id
                limit p_limit
                  for update skip locked))
      returning d.*;
    return;
  end if;

  loop
    return query
      delete from millrace.ready d
       where d.ctid = any (array(
               select r.ctid from millrace.ready r
                where r.ctid = any (array(
                        select c.ctid
                          from unnest(p_lanes, p_priorities, p_floors) as l (id, priority, floor)
                         cross join lateral (select h.ctid, h.run_at, h.job_id from millrace.ready h
                                              where h.lane_id = l.id and h.run_at >= l.floor and h.run_at <= p_now
                                              order by h.run_at, h.job_id
                                              limit v_peek) as c
                         order by l.priority desc, c.run_at, c.job_id
                         limit v_peek))
                order by p_priorities[array_position(p_lanes, r.lane_id)] desc, r.run_at, r.job_id
                limit v_left
                  for update skip locked))
      returning d.*;
    get diagnostics v_taken = row_count;
    v_left := v_left - v_taken;
    exit when v_left = 0;

    -- Not enough: because there is no more, or because others hold what was looked at? Then look further.
    select count(*) into v_seen
      from unnest(p_lanes, p_floors) as l (id, floor)
     cross join lateral (select from millrace.ready h
                          where h.lane_id = l.id and h.run_at >= l.floor and h.run_at <= p_now
                          order by h.run_at, h.job_id
                          limit v_peek) as c;
    exit when v_seen < v_peek or v_peek > 10000;
    v_peek := v_peek * 4;
  end loop;
end
$$;

-- Whether a claim in isolation is to take a job whose last attempt was lost, one alone, or others. It takes what is first in order. But where both
-- kinds are due, of those that are first and go alone every other turn, by chance, is given to the others: or ten thousand jobs, lost
-- with a crashed host, would have all that came after them wait until they had been tried one by one.
create function millrace.turn_of_alone(p_queue_id int, p_type text, p_type_prefix text) returns boolean
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now   timestamptz := millrace.clock();
  v_heads boolean[]; -- the kinds that have something due, the one with the first job first
begin
  if not exists (select from millrace.lane l where l.queue_id = p_queue_id and l.alone) then
    return false;
  end if;
  with head as (
    select distinct on (l.alone) l.alone, l.priority, h.run_at, h.job_id
      from millrace.lane l
     cross join lateral (select r.run_at, r.job_id from millrace.ready r
                          where r.lane_id = l.id and r.run_at >= l.floor and r.run_at <= v_now
                          order by r.run_at, r.job_id limit 1) as h
     where l.queue_id = p_queue_id
       and (p_type is null or l.type = p_type)
       and (p_type_prefix is null or starts_with(l.type, p_type_prefix))
     order by l.alone, l.priority desc, h.run_at, h.job_id
  )
  select array_agg(h.alone order by h.priority desc, h.run_at, h.job_id) into v_heads from head h;
  return coalesce(v_heads[1] and (cardinality(v_heads) = 1 or random() < 0.5), false);
end
$$;

-- Takes up to p_limit due jobs of a queue out of `ready`; in isolation those whose last attempts were lost, p_alone of them at most, or others.
-- It runs under the settings of claim: setting them here again would cost every claim some of its time.
create function millrace.take_jobs(p_queue_id int, p_type text, p_type_prefix text, p_isolate boolean, p_limit int, p_alone int default 1,
  out jobs millrace.ready[], out alone boolean)
language plpgsql
as $$
declare
  v_lanes      int[];
  v_priorities smallint[];
  v_floors     timestamptz[];
begin
  if p_isolate then
    alone := millrace.turn_of_alone(p_queue_id, p_type, p_type_prefix);
  end if;
  for v_round in 1 .. 2 loop
    select array_agg(l.id order by l.priority desc, l.id), array_agg(l.priority order by l.priority desc, l.id),
           array_agg(l.floor order by l.priority desc, l.id)
      into v_lanes, v_priorities, v_floors
      from millrace.lane l
     where l.queue_id = p_queue_id
       and (p_type is null or l.type = p_type)
       and (p_type_prefix is null or starts_with(l.type, p_type_prefix))
       and (take_jobs.alone is null or l.alone = take_jobs.alone);
    if v_lanes is not null then
      select array_agg(t) into jobs
        from millrace.take_ready(v_lanes, v_priorities, v_floors, millrace.clock(), case when alone then p_alone else p_limit end) as t;
    end if;
    exit when jobs is not null or alone is null;
    alone := not alone; -- other claims have all of that kind in hand
  end loop;
end
$$;

-- The claim. A type or a type prefix selects lanes, not rows. A paused queue, or one that does not exist, has nothing
-- to give; a claim stops at 8 MiB of payloads, though never before its first job. The lease runs for p_lease, else for what the job says, else for what the queue says.
-- With isolate a job whose last attempt was lost comes alone, so that one that kills its worker takes no others with it. `resumed` says that an
-- earlier attempt ended without a word about what it had done.
create function millrace.claim(queue text, worker text, max_jobs int default 1, type text default null, type_prefix text default null,
  lease interval default null, isolate boolean default false)
returns table (job_id bigint, lease_id bigint, job_type text, priority int, payload jsonb, attempt int, max_attempts int,
               enqueued_at timestamptz, leased_at timestamptz, expires_at timestamptz, traceparent text, resumed boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_queue      millrace.queue;
  v_limit      int := claim.max_jobs;
  v_places     int[];            -- of the queue's, as many as v_limit
  v_tokens     record;           -- those of the queue, and the buckets that they are in
  v_taken      millrace.ready[];
  v_count      int;
  v_now        timestamptz;
begin
  perform millrace.check_worker(claim.worker);
  if v_limit is null or v_limit not between 1 and 1000 then
    perform millrace.refuse(400, 'invalid_request', 'max_jobs is not from 1 to 1000');
  elsif claim.lease not between '1 second' and '1 day' then
    perform millrace.refuse(400, 'invalid_request', 'lease is not from 1 second to 1 day');
  elsif claim.type is not null and claim.type_prefix is not null then
    perform millrace.refuse(400, 'invalid_request', 'type and type_prefix exclude each other');
  end if;

  select * into v_queue from millrace.queue q where q.name = claim.queue;
  if not found then
    return;
  end if;
  perform millrace.tend(v_queue.id); -- also when paused: what runs may still crash
  if v_queue.paused_at is not null or v_queue.held_until > millrace.clock() then
    return;
  end if;
  if v_queue.concurrency_limit is not null then
    v_places := millrace.take_places(v_queue.id, v_queue.concurrency_limit, v_limit);
    v_limit := cardinality(v_places);
  end if;
  if v_queue.rate_limit is not null and v_limit > 0 then
    select * into v_tokens from millrace.lock_buckets(v_queue, v_limit);
    v_limit := least(v_limit, v_tokens.tokens);
  end if;
  if v_limit = 0 then
    return;
  end if;

  if v_queue.keys_limited then
    v_taken := millrace.take_jobs_of_keys(v_queue, claim.type, claim.type_prefix, claim.isolate, v_limit);
  else
    select t.jobs into v_taken from millrace.take_jobs(v_queue.id, claim.type, claim.type_prefix, claim.isolate, v_limit) as t;
  end if;
  if v_taken is null then
    return;
  end if;
  v_now := millrace.clock(); -- read after the delete gave this transaction its id: the floor of leases depends on it

  return query
  with taken as materialized (
    select t.job_id, t.lane_id, t.run_at, t.attempts, t.retried, t.resumed, t.in_line, v_now + coalesce(claim.lease, j.lease, v_queue.lease) as expires_at,
           j.lane_id as own_lane, j.type, j.priority, j.payload, coalesce(j.max_attempts, v_queue.max_attempts) as max_attempts, j.enqueued_at, j.traceparent,
           case when t.attempts = 0 and not t.retried then date_part('epoch', v_now - j.enqueued_at) end as waited,
           sum(j.payload_size) over o - j.payload_size < 8388608 as fits, v_places[row_number() over o] as place
      from unnest(v_taken) as t
     cross join lateral (select * from millrace.job i where i.id = t.job_id limit 1) as j -- a probe of the key, whatever the statistics say
    window o as (order by j.priority desc, t.run_at, t.job_id)
  ), kept as materialized (
    select t.*, t.attempts + 1 as attempt, nextval('millrace.lease_id_seq') as lease_id from taken t where t.fits
  ), put_back as (
    -- Beyond 8 MiB of payloads an answer grows too large for a function's memory. Their run_at may stay what it was:
    -- until this commits, everybody else still sees the old entry, so no floor can have passed it.
    insert into millrace.ready (lane_id, run_at, job_id, attempts, retried, resumed, in_line)
    select t.lane_id, t.run_at, t.job_id, t.attempts, t.retried, t.resumed, t.in_line from taken t where not t.fits
  ), leased as (
    insert into millrace.lease (job_id, lease_id, queue_id, lane_id, worker, attempt, leased_at, expires_at, resumed, place)
    select k.job_id, k.lease_id, v_queue.id, k.lane_id, claim.worker, k.attempt, v_now, k.expires_at, k.resumed, k.place from kept k
  ), event as (
    insert into millrace.job_events (job_id, event_type, created_at, payload, queue_id)
    select k.job_id, 'started', v_now,
           jsonb_strip_nulls(jsonb_build_object('attempt', k.attempt, 'lease_id', k.lease_id, 'worker', claim.worker, 'waited', k.waited,
                                                'traceparent', k.traceparent)),
           v_queue.id
      from kept k
  ), tally as (
    insert into millrace.tally (queue_id, lane_id, kind, bucket, n, seconds, was, became)
    select v_queue.id, k.own_lane, 'started', coalesce(millrace.histogram_bucket(k.waited), 0), count(*), coalesce(sum(k.waited), 0),
           millrace.waiting_status(k.attempts, k.retried), 'processing'
      from kept k group by 2, 4, 7
  )
  select k.job_id, k.lease_id, k.type, k.priority::int, k.payload, k.attempt, k.max_attempts, k.enqueued_at, v_now, k.expires_at, k.traceparent, k.resumed
    from kept k
   order by k.priority desc, k.run_at, k.job_id;
  if v_queue.rate_limit is not null then
    get diagnostics v_count = row_count;
    perform millrace.take_tokens(v_queue, v_tokens.buckets, v_count, v_now);
  end if;
end
$$;

comment on function millrace.claim is 'Leases up to max_jobs due jobs of a queue to a worker; each must be reported under its lease_id before expires_at.';
