-- Enqueue: one statement takes up to 1,000 jobs. A call inside an application's own transaction
-- commits, or rolls back, with that transaction's other writes.

-- Refuses the first malformed request of the batch, naming its place and its field.
create function millrace.check_requests(p_jobs jsonb) returns void
language plpgsql
as $$
declare
  v_fields constant text[] := '{queue,type,payload,priority,run_at,delay_seconds,max_attempts,lease_seconds,idempotency_key,concurrency_key,limit_key,replay_of,traceparent}';
  v_bad    record;
begin
  if jsonb_typeof(p_jobs) is distinct from 'array' then
    perform millrace.refuse(400, 'invalid_request', 'the jobs to enqueue are not an array');
  end if;
  if jsonb_array_length(p_jobs) > 1000 then
    perform millrace.refuse(400, 'invalid_request', 'more than 1000 jobs in one call');
  end if;

  -- A mistyped key must not pass for one that was left out.
  select j.ordinality - 1 as place, case when jsonb_typeof(j.job) = 'object' then (select min(k) from jsonb_object_keys(j.job - v_fields) as k) else 'a job that is no object' end as field
    into v_bad
    from jsonb_array_elements(p_jobs) with ordinality as j (job, ordinality)
   where case when jsonb_typeof(j.job) = 'object' then j.job - v_fields <> '{}' else true end
   order by j.ordinality
   limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s is not known', v_bad.field),
                            format('in job %s of the call, counted from 0', v_bad.place));
  end if;

  select r.ordinality - 1 as place, f.field, f.reason
    into v_bad
    from rows from (jsonb_to_recordset(p_jobs) as (
           queue text, type text, payload jsonb, priority numeric, run_at timestamptz, delay_seconds numeric, max_attempts numeric,
           lease_seconds numeric, idempotency_key text, concurrency_key text, limit_key text, traceparent text)) with ordinality as r
   cross join lateral (values
           ('queue', 'is missing or blank, or longer than 200 characters',
              r.queue is null or btrim(r.queue) = '' or length(r.queue) > 200),
           ('type', 'is missing or blank, or longer than 200 characters',
              r.type is null or btrim(r.type) = '' or length(r.type) > 200),
           ('payload', 'is larger than 2 MiB', octet_length(r.payload::text) > 2097152),
           ('priority', 'is not a whole number from -100 to 100', r.priority <> trunc(r.priority) or abs(r.priority) > 100),
           ('run_at', 'is more than ten years ahead', r.run_at > millrace.clock() + interval '3650 days'),
           ('delay_seconds', 'is not from 0 to 315360000 (ten years)', r.delay_seconds not between 0 and 315360000),
           ('max_attempts', 'is not a whole number from 1 to 1000',
              r.max_attempts <> trunc(r.max_attempts) or r.max_attempts not between 1 and 1000),
           ('lease_seconds', 'is not from 1 to 86400', r.lease_seconds not between 1 and 86400),
           ('idempotency_key', 'is blank or longer than 200 characters',
              btrim(r.idempotency_key) = '' or length(r.idempotency_key) > 200),
           ('concurrency_key', 'is blank or longer than 200 characters',
              btrim(r.concurrency_key) = '' or length(r.concurrency_key) > 200),
           ('limit_key', 'is blank or longer than 200 characters', btrim(r.limit_key) = '' or length(r.limit_key) > 200),
           ('traceparent', 'is not a traceparent of W3C Trace Context, version 00',
              r.traceparent !~ '^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$')
         ) as f (field, reason, wrong)
   where f.wrong
   order by r.ordinality
   limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s %s', v_bad.field, v_bad.reason),
                            format('in job %s of the call, counted from 0', v_bad.place));
  end if;
end
$$;

-- Makes the queues and lanes that the batch names and that are not there yet. Until its transaction commits, others that
-- need the very same new one wait for it. A queue has at most 1,000 lanes, so that a claim can always look at all of them.
create function millrace.make_lanes(p_jobs jsonb) returns void
language plpgsql
set enable_seqscan = off
as $$
begin
  insert into millrace.queue (name)
  select distinct r.queue from jsonb_to_recordset(p_jobs) as r (queue text)
   where not exists (select from millrace.queue q where q.name = r.queue)
   order by 1
      on conflict do nothing;

  insert into millrace.queue_clock (queue_id)
  select q.id from millrace.queue q
   where q.name in (select r.queue from jsonb_to_recordset(p_jobs) as r (queue text))
     and not exists (select from millrace.queue_clock c where c.queue_id = q.id)
   order by 1
      on conflict do nothing;

  insert into millrace.lane (queue_id, type, priority)
  select distinct q.id, r.type, coalesce(r.priority, 5)::smallint
    from jsonb_to_recordset(p_jobs) as r (queue text, type text, priority numeric)
    join millrace.queue q on q.name = r.queue
   where not exists (select from millrace.lane l
                      where l.queue_id = q.id and l.type = r.type and l.priority = coalesce(r.priority, 5)::smallint and not l.alone)
   order by 1, 2, 3
      on conflict do nothing;
  if found and exists (select from millrace.lane l
                        where l.queue_id in (select q.id from millrace.queue q
                                              where q.name in (select r.queue from jsonb_to_recordset(p_jobs) as r (queue text)))
                          and not l.alone
                        group by l.queue_id having count(*) > 1000) then
    perform millrace.refuse(409, 'too_many_lanes', 'the queue has more than 1000 combinations of type and priority');
  end if;
end
$$;

-- One job to enqueue, its queue and lane found and its key drawn.
create type millrace.request as (
  ord             bigint, -- its place in the call, from 1
  id              bigint,
  queue_id        int,
  lane_id         int,
  type            text,
  priority        smallint,
  payload         jsonb,
  max_attempts    int,
  lease           interval,
  idempotency_key text,
  concurrency_key text,
  limit_key       text,
  replay_of       bigint,
  traceparent     text,
  run_at          timestamptz
);

-- The one way in. Takes an array of {queue, type, payload, priority, run_at | delay_seconds, idempotency_key,
-- concurrency_key, limit_key, max_attempts, lease_seconds, replay_of, traceparent} and returns, for each by its place (from 1), the job
-- that now stands for it and whether this call made it: false where the idempotency key was known already.
create function millrace.enqueue_many(p_jobs jsonb)
returns table (ord bigint, job_id bigint, queued boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now      timestamptz;
  v_requests millrace.request[];
  v_known    jsonb; -- the requests that an earlier job stands for: place -> its key
begin
  perform millrace.check_requests(p_jobs);
  perform pg_current_xact_id(); -- before the clock is read: see millrace.queue_clock
  v_now := millrace.clock();
  perform millrace.make_lanes(p_jobs);

  select array_agg((r.ordinality, nextval('millrace.job_id_seq'), q.id, l.id, r.type, l.priority, coalesce(r.payload, '{}'), r.max_attempts::int,
                    make_interval(secs => r.lease_seconds), r.idempotency_key, r.concurrency_key, r.limit_key, r.replay_of, r.traceparent,
                    greatest(v_now, coalesce(r.run_at, v_now + make_interval(secs => coalesce(r.delay_seconds, 0)))))::millrace.request
                   order by r.ordinality)
    into v_requests
    from rows from (jsonb_to_recordset(p_jobs) as (
           queue text, type text, payload jsonb, priority numeric, run_at timestamptz, delay_seconds double precision,
           max_attempts numeric, lease_seconds double precision, idempotency_key text, concurrency_key text, limit_key text, replay_of bigint, traceparent text
         )) with ordinality as r
   cross join lateral (select * from millrace.queue i where i.name = r.queue limit 1) as q
   cross join lateral (select * from millrace.lane i
                        where i.queue_id = q.id and i.type = r.type and i.priority = coalesce(r.priority, 5)::smallint and not i.alone limit 1) as l;

  if coalesce(cardinality(v_requests), 0) <> jsonb_array_length(p_jobs) then
    perform millrace.refuse(503, 'try_again', 'a queue was removed at this moment'); -- rather than lose a job
  end if;

  v_known := millrace.claim_idempotency_keys(v_requests);
  if v_known <> '{}' then
    v_requests := array(select r from unnest(v_requests) as r where not v_known ? r.ord::text order by r.ord);
  end if;
  perform millrace.write_jobs(v_requests, v_now);

  return query
  select r.ord, r.id, true from unnest(v_requests) as r
  union all
  select k.key::bigint, k.value::bigint, false from jsonb_each_text(v_known) as k
  order by 1;
end
$$;

-- Takes the idempotency keys of the requests that have one. Answers those that an earlier job stands for, be it one of
-- before or one of this very call, as {place: key of that job}.
create function millrace.claim_idempotency_keys(p_requests millrace.request[]) returns jsonb
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_known jsonb;
begin
  if not exists (select from unnest(p_requests) as r where r.idempotency_key is not null) then
    return '{}';
  end if;
  with keyed as materialized (
    -- The update changes nothing; it locks and returns the row that is there already.
    insert into millrace.idempotency_key as k (queue_id, key, job_id)
    select distinct on (r.queue_id, r.idempotency_key) r.queue_id, r.idempotency_key, r.id
      from unnest(p_requests) as r
     where r.idempotency_key is not null
     order by r.queue_id, r.idempotency_key, r.ord
        on conflict (queue_id, key) do update set job_id = k.job_id
    returning k.queue_id, k.key, k.job_id
  )
  select coalesce(jsonb_object_agg(r.ord, k.job_id), '{}') into v_known
    from unnest(p_requests) as r
    join keyed k on k.queue_id = r.queue_id and k.key = r.idempotency_key
   where k.job_id <> r.id;
  return v_known;
end
$$;

-- Writes new jobs and puts each into its first state: ready, or parked behind another job of its concurrency key.
create function millrace.write_jobs(p_requests millrace.request[], p_now timestamptz) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_parked bigint[] := '{}';
begin
  insert into millrace.job (id, queue_id, lane_id, type, priority, payload, payload_size, max_attempts, lease, idempotency_key,
                            concurrency_key, limit_key, replay_of, traceparent, enqueued_at)
  select r.id, r.queue_id, r.lane_id, r.type, r.priority, r.payload, octet_length(r.payload::text), r.max_attempts, r.lease, r.idempotency_key,
         r.concurrency_key, r.limit_key, r.replay_of, r.traceparent, p_now
    from unnest(p_requests) as r;

  if exists (select from unnest(p_requests) as r where r.concurrency_key is not null) then
    v_parked := millrace.park_behind_holders(p_requests);
  end if;

  insert into millrace.ready (lane_id, run_at, job_id, attempts)
  select r.lane_id, r.run_at, r.id, 0 from unnest(p_requests) as r where r.id <> all (v_parked);

  insert into millrace.job_events (job_id, event_type, created_at, payload, queue_id)
  select r.id, 'queued', p_now,
         jsonb_strip_nulls(jsonb_build_object('run_at', r.run_at, 'replay_of', millrace.job_uuid(r.replay_of), 'traceparent', r.traceparent)),
         r.queue_id
    from unnest(p_requests) as r;

  insert into millrace.tally (queue_id, lane_id, kind, n, became)
  select r.queue_id, r.lane_id, 'queued', count(*), 'pending' from unnest(p_requests) as r group by r.queue_id, r.lane_id;
  perform millrace.notify_channels(array(select distinct r.queue_id from unnest(p_requests) as r where r.run_at <= p_now));
end
$$;

-- Takes the free slots of the requests' concurrency keys and parks the jobs whose key is held. Returns those.
create function millrace.park_behind_holders(p_requests millrace.request[]) returns bigint[]
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_holders bigint[];
  v_parked  bigint[];
begin
  with slot as (
    -- The update changes nothing; it locks and returns the row that is there already.
    insert into millrace.concurrency_slot as s (queue_id, key, holders)
    select distinct on (r.queue_id, r.concurrency_key) r.queue_id, r.concurrency_key, array[r.id]
      from unnest(p_requests) as r
     where r.concurrency_key is not null
     order by r.queue_id, r.concurrency_key, r.ord
        on conflict (queue_id, key) do update set holders = s.holders
    returning s.holders
  )
  select array_agg(h.job_id) into v_holders from slot s cross join lateral unnest(s.holders) as h (job_id);
  v_holders := v_holders || millrace.join_holders(array(
    select r from unnest(p_requests) as r where r.concurrency_key is not null and r.id not in (select h.job_id from unnest(v_holders) as h (job_id))));

  with parked as (
    insert into millrace.parked (job_id, queue_id, key, lane_id, run_at, attempts)
    select r.id, r.queue_id, r.concurrency_key, r.lane_id, r.run_at, 0
      from unnest(p_requests) as r
     where r.concurrency_key is not null and r.id not in (select h.job_id from unnest(v_holders) as h (job_id))
    returning job_id
  )
  select coalesce(array_agg(p.job_id), '{}') into v_parked from parked p;
  return v_parked;
end
$$;

-- Where several jobs of a key may run at once: adds as many of these jobs to the holders of their keys as there is room for, and returns
-- them. The slots are locked. There is none where jobs are parked, for those are older.
create function millrace.join_holders(p_requests millrace.request[]) returns bigint[]
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_joined bigint[];
begin
  if not exists (select from unnest(p_requests) as r cross join lateral (select * from millrace.queue i where i.id = r.queue_id limit 1) as q
                  where q.key_concurrency > 1) then
    return '{}';
  end if;
  with ranked as materialized (
    select r.id, r.queue_id, r.concurrency_key, row_number() over (partition by r.queue_id, r.concurrency_key order by r.ord) as place
      from unnest(p_requests) as r
  ), room as materialized (
    select k.queue_id, k.concurrency_key, q.key_concurrency - cardinality(s.holders) as places
      from (select distinct r.queue_id, r.concurrency_key from ranked r) as k
     cross join lateral (select * from millrace.queue i where i.id = k.queue_id limit 1) as q
     cross join lateral (select * from millrace.concurrency_slot i where i.queue_id = k.queue_id and i.key = k.concurrency_key limit 1) as s
     where not exists (select from millrace.parked p where p.queue_id = k.queue_id and p.key = k.concurrency_key)
  ), joined as materialized (
    select r.queue_id, r.concurrency_key, array_agg(r.id order by r.place) as jobs
      from ranked r join room m on m.queue_id = r.queue_id and m.concurrency_key = r.concurrency_key
     where r.place <= m.places
     group by r.queue_id, r.concurrency_key
  ), held as (
    update millrace.concurrency_slot s set holders = s.holders || j.jobs from joined j
     where s.queue_id = j.queue_id and s.key = j.concurrency_key
  )
  select coalesce(array_agg(i.job_id), '{}') into v_joined from joined j cross join lateral unnest(j.jobs) as i (job_id);
  return v_joined;
end
$$;

-- One job, with named arguments: returns its key. The queue is made if it is not there yet.
create function millrace.enqueue(queue text, type text, payload jsonb default '{}', priority int default 5,
  run_at timestamptz default null, delay interval default null, idempotency_key text default null, concurrency_key text default null,
  max_attempts int default null, lease interval default null, traceparent text default null, limit_key text default null) returns bigint
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
  select e.job_id from millrace.enqueue_many(jsonb_build_array(jsonb_build_object(
    'queue', queue, 'type', type, 'payload', payload, 'priority', priority, 'run_at', run_at,
    'delay_seconds', extract(epoch from delay), 'idempotency_key', idempotency_key, 'concurrency_key', concurrency_key,
    'max_attempts', max_attempts, 'lease_seconds', extract(epoch from lease), 'traceparent', traceparent, 'limit_key', limit_key))) as e
$$;

comment on function millrace.enqueue is 'Enqueues one job and returns its key; with an idempotency key that is known, the first job''s key.';
