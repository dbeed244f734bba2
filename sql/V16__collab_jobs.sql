-- The collab face's readers: one job with its events and artifacts, the newest jobs, how many there are in which state.
--
-- Nothing here looks at more than a page of entries, however many jobs there are: counts come from the counters, and a list that
-- has examined 10,000 entries answers what it has found, with the place to go on from.

-- 400 in the form that functions give it: the field alone in the details, and with its reason in the sentence.
create function millrace.refuse_field(p_field text, p_reason text) returns void
language sql
as $$ select millrace.refuse(400, 'invalid_request', p_field || ': ' || p_reason, p_field) $$;

-- How many items a page may have: the request's `limit`, from 1 to p_most, else p_default.
create function millrace.page_size(p_request jsonb, p_default int, p_most int) returns int
language plpgsql
as $$
declare
  v_limit numeric := coalesce((p_request ->> 'limit')::numeric, p_default);
begin
  if v_limit not between 1 and p_most or v_limit <> trunc(v_limit) then
    perform millrace.refuse_field('limit', format('is not a whole number from 1 to %s', p_most));
  end if;
  return v_limit;
end
$$;

-- A state as this face calls it.
create function millrace.collab_status(p_state text) returns text
language sql immutable
as $$ select case p_state when 'dead' then 'failed' else p_state end $$;

-- Where a job stands, whichever table holds it.
create type millrace.standing as (
  state       text,        -- as millrace.job_state says it
  attempts    smallint,    -- those that count, the running one included
  since       timestamptz, -- of a running job the start of its attempt, of one that has ended its end; NULL of a queued one
  run_at      timestamptz,
  expires_at  timestamptz,
  worker      text,        -- of a running job
  result      jsonb,
  error_code  text,        -- of a dead one, as the next two
  error       text,
  replayed_as bigint,
  retried     boolean      -- of a queued one: its next start is not its first, whatever its attempts say
);

-- Where a job stands. What it ended with lies between p_from and p_to; partitions beyond are not looked at.
create function millrace.standing(p_job_id bigint, p_from timestamptz, p_to timestamptz) returns millrace.standing
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_standing millrace.standing;
begin
  -- The likeliest place first: the others are looked at only if the job is not there. What looks like a detour is none: for `=` the planner
  -- may take any index that has the column, and walk it all; an order that must not be sorted leaves it the key.
  select * into v_standing
    from (select f.outcome as state, f.attempts, f.finished_at as since, null::timestamptz as run_at, null::timestamptz as expires_at,
                 null::text as worker, f.result, null::text as error_code, null::text as error, null::bigint as replayed_as, null::boolean as retried
            from millrace.finished f where f.job_id = p_job_id and f.finished_at >= p_from and f.finished_at < p_to
          union all
          (select 'queued', r.attempts, null, r.run_at, null, null, null, null, null, null, r.retried
             from millrace.ready r where r.job_id between p_job_id and p_job_id order by r.job_id limit 1)
          union all
          select 'running', e.attempt, e.leased_at, null, e.expires_at, e.worker, null, null, null, null, null from millrace.lease e where e.job_id = p_job_id
          union all
          select 'dead', d.attempts, d.dead_at, null, null, null, null, d.reason, d.error, d.retried_job_id, null
            from millrace.dead_letter d where d.job_id = p_job_id
          union all
          (select 'queued', p.attempts, null, p.run_at, null, null, null, null, null, null, p.retried
             from millrace.parked p where p.job_id between p_job_id and p_job_id order by p.job_id limit 1)) as s
   limit 1;
  return v_standing;
end
$$;

-- One job as this face shows it. It must see one snapshot throughout, so it is stable.
create function millrace.job_json(p_job millrace.job) returns jsonb
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  -- Between these lies whatever happened to the job, clocks that step a little included; partitions beyond are not looked at.
  v_from   constant timestamptz := p_job.enqueued_at - interval '1 day';
  v_to     constant timestamptz := millrace.clock() + interval '1 day';
  v_queue  millrace.queue;
  v_state  constant millrace.standing := millrace.standing(p_job.id, v_from, v_to);
  v_worker text := v_state.worker;
  v_since  timestamptz := v_state.since;
  v_event  millrace.job_events;
begin
  select * into v_queue from millrace.queue q where q.id = p_job.queue_id;
  if v_state.state = 'queued' then -- `ready` does not say since when; the latest event does, and why an attempt failed
    select * into v_event from millrace.job_events e
     where e.job_id = p_job.id and e.created_at >= v_from and e.created_at < v_to order by e.id desc limit 1;
    v_since := coalesce(v_event.created_at, p_job.enqueued_at);
  elsif v_state.state <> 'running' then -- the attempt that ended it, of the same instant
    select a.worker into v_worker from millrace.attempt a where a.job_id = p_job.id and a.finished_at = v_state.since limit 1;
  end if;

  return jsonb_build_object(
      'id', millrace.job_uuid(p_job.id), 'type', p_job.type, 'status', millrace.collab_status(v_state.state), 'executor_id', v_queue.name,
      'worker_id', v_worker, 'priority', p_job.priority, 'payload', p_job.payload, 'created_at', p_job.enqueued_at, 'updated_at', v_since,
      'attempt', v_state.attempts, 'max_attempts', coalesce(p_job.max_attempts, v_queue.max_attempts))
    || jsonb_strip_nulls(jsonb_build_object(
      'run_at', v_state.run_at, 'lease_expires_at', v_state.expires_at,
      'finished_at', case when v_state.state not in ('queued', 'running') then v_since end,
      'error_code', coalesce(v_state.error_code, v_event.payload ->> 'error_code'), 'error', coalesce(v_state.error, v_event.payload ->> 'error'),
      'replay_of', millrace.job_uuid(p_job.replay_of), 'replayed_as', millrace.job_uuid(v_state.replayed_as),
      'idempotency_key', p_job.idempotency_key, 'concurrency_key', p_job.concurrency_key, 'limit_key', p_job.limit_key, 'traceparent', p_job.traceparent))
    || case when v_state.result is null then '{}' else jsonb_build_object('result', v_state.result) end; -- whole, the nulls inside it included
end
$$;

-- The job that a request names; 404 where there is none.
create function millrace.named_job(p_request jsonb) returns millrace.job
language plpgsql stable
set enable_seqscan = off
as $$
declare
  v_job millrace.job;
begin
  select * into v_job from millrace.job j where j.id = millrace.job_id((p_request ->> 'jobId')::uuid);
  if not found then
    perform millrace.refuse(404, 'job_not_found', 'there is no such job');
  end if;
  return v_job;
end
$$;

-- The number that stands for a place in a list; 0, before everything, where the request names none.
create function millrace.numeric_cursor(p_request jsonb) returns bigint
language plpgsql
as $$
begin
  if p_request ->> 'cursor' !~ '^[0-9]{1,18}$' then
    perform millrace.refuse_field('cursor', 'is not the nextCursor of such a list');
  end if;
  return coalesce((p_request ->> 'cursor')::bigint, 0);
end
$$;

-- A page of p_limit items out of p_limit + 1, which come only if there are more: {items, count, nextCursor}. It ends early where its items
-- pass 8 MiB, so that an answer stays within a function's memory.
create function millrace.page(p_items jsonb, p_limit int) returns jsonb
language sql immutable
as $$
  select jsonb_build_object('items', coalesce(jsonb_agg(i.item order by i.ord) filter (where i.fits), '[]'), 'count', count(*) filter (where i.fits),
                            'nextCursor', case when not bool_and(i.fits) then (jsonb_agg(i.item -> 'id' order by i.ord desc) filter (where i.fits)) ->> 0 end)
    from (select e.item, e.ord, e.ord <= p_limit and sum(octet_length(e.item::text)) over (order by e.ord) - octet_length(e.item::text) < 8388608 as fits
            from jsonb_array_elements(p_items) with ordinality as e (item, ord)) as i
$$;

-- The first p_limit events of a job after p_after, or with p_latest the last ones, in their order; as an array.
create function millrace.job_events_json(p_job millrace.job, p_after bigint, p_limit int, p_latest boolean default false) returns jsonb
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_from constant timestamptz := p_job.enqueued_at - interval '1 day'; -- older partitions are not looked at
begin
  if p_latest then
    return (select jsonb_agg(l.item order by l.id) filter (where l.size < 8388608) -- so that the answer stays within a function's memory
              from (select e.id, millrace.event_json(e) as item, sum(octet_length(e.payload::text)) over (order by e.id desc) as size
                      from (select i.* from millrace.job_events i
                             where i.job_id = p_job.id and i.created_at >= v_from order by i.id desc limit p_limit) as e) as l);
  end if;
  return (select jsonb_agg(millrace.event_json(e) order by e.id)
            from (select i.* from millrace.job_events i
                   where i.job_id = p_job.id and i.id > p_after and i.created_at >= v_from order by i.id limit p_limit) as e);
end
$$;

-- The first p_limit artifacts of a job after p_after, as an array.
create function millrace.job_artifacts_json(p_job_id bigint, p_after bigint, p_limit int) returns jsonb
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
as $$
begin
  return (select jsonb_agg(jsonb_build_object('id', a.id, 'job_id', millrace.job_uuid(a.job_id), 'name', a.name, 'created_at', a.created_at)
                           || jsonb_strip_nulls(jsonb_build_object('url', a.url, 'path', a.path, 'size', a.size, 'mime', a.mime, 'sha256', a.sha256))
                           order by a.id)
            from (select i.* from millrace.artifact i
                   where (i.job_id, i.id) > (p_job_id, p_after) and i.job_id <= p_job_id order by i.job_id, i.id limit p_limit) as a);
end
$$;

-- {jobId} -> {job}
create function millrace_api.collab_job(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
begin
  return jsonb_build_object('job', millrace.job_json(millrace.named_job($1)));
end
$$;

-- {jobId} -> {job, artifacts, events}: the first 1,000 artifacts and the latest 1,000 events.
create function millrace_api.collab_job_summary(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_job millrace.job := millrace.named_job($1);
begin
  return jsonb_build_object('job', millrace.job_json(v_job), 'artifacts', coalesce(millrace.job_artifacts_json(v_job.id, 0, 1000), '[]'),
                            'events', coalesce(millrace.job_events_json(v_job, 0, 1000, p_latest => true), '[]'));
end
$$;

-- {jobId, limit?, cursor?} -> {items, count, nextCursor}, in the order in which they happened
create function millrace_api.collab_job_events(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_limit int := millrace.page_size($1, 1000, 1000);
  v_after bigint := millrace.numeric_cursor($1);
begin
  return millrace.page(millrace.job_events_json(millrace.named_job($1), v_after, v_limit + 1), v_limit);
end
$$;

-- {jobId, limit?, cursor?} -> {items, count, nextCursor}, in the order in which they were recorded
create function millrace_api.collab_job_artifacts(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_limit int := millrace.page_size($1, 1000, 1000);
  v_after bigint := millrace.numeric_cursor($1);
begin
  return millrace.page(millrace.job_artifacts_json((millrace.named_job($1)).id, v_after, v_limit + 1), v_limit);
end
$$;

-- The least key from which on rows have a time of p_since or later, by bisecting the key. Keys and times rise together, but for
-- transactions that overlap: close to the border a row may lie on the wrong side.
create function millrace.first_since(p_table text, p_key text, p_time text, p_since timestamptz) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
  v_low    bigint := 0; -- below this all are earlier
  v_high   bigint;      -- from this on none is
  v_middle bigint;
  v_key    bigint;
  v_time   timestamptz;
begin
  execute format('select coalesce(max(%I) + 1, 0) from millrace.%I', p_key, p_table) into v_high;
  while v_low < v_high loop
    v_middle := v_low + (v_high - v_low) / 2;
    execute format('select %1$I, %2$I from millrace.%3$I where %1$I >= $1 order by %1$I limit 1', p_key, p_time, p_table)
       into v_key, v_time using v_middle;
    if v_time < p_since then
      v_low := v_key + 1;
    else
      v_high := v_middle;
    end if;
  end loop;
  return v_low;
end
$$;

-- A page's end as text: the job's time in UTC with six digits of a second's fraction, and its key as 19 more. So it is an ISO time, as
-- clients expect it, and yet exact among jobs enqueued at the same instant.
create function millrace.job_cursor(p_job_id bigint) returns text
language plpgsql stable
set enable_seqscan = off
as $$
declare
  v_at timestamptz;
begin
  select j.enqueued_at into v_at from millrace.job j where j.id = p_job_id;
  return to_char(coalesce(v_at, 'epoch') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || lpad(p_job_id::text, 19, '0') || 'Z';
end
$$;

-- What a cursor stands for: the key below which to go on. A plain time, with at most nine digits of a fraction, stands for the jobs enqueued
-- before it; `since` is that time. Without a cursor everything is below.
create function millrace.read_job_cursor(p_text text, out before bigint, out since timestamptz)
language plpgsql stable
as $$
begin
  before := 9223372036854775807;
  if p_text ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{25}Z$' then
    before := substr(p_text, 27, 19)::numeric::bigint;
  elsif p_text ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$' then
    since := p_text;
    before := millrace.first_since('job', 'id', 'enqueued_at', since);
  elsif p_text is not null then
    raise data_exception;
  end if;
exception when data_exception then
  perform millrace.refuse_field('cursor', 'is neither a nextCursor nor a time with an offset, such as 2030-01-31T09:30:00Z');
end
$$;

-- The newest p_limit jobs of some lanes with keys below p_before. Ordered by both columns, so that the index of both is the only one that
-- can serve it: a walk down the key past other lanes' jobs would look cheap to the planner wherever few lanes are known.
create function millrace.newest_of_lanes(p_lanes int[], p_before bigint, p_limit int) returns bigint[]
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_lanes int[];
  v_heads bigint[];
  v_least bigint;
begin
  select array_agg(l.id order by h.id desc), array_agg(h.id order by h.id desc) into v_lanes, v_heads
    from unnest(p_lanes) as l (id)
   cross join lateral (select j.id from millrace.job j where (j.lane_id, j.id) < (l.id, p_before) and j.lane_id >= l.id
                         order by j.lane_id desc, j.id desc limit 1) as h;
  -- p_limit jobs are known to be at least as new as this one, so in the other lanes there is nothing to look for.
  v_least := coalesce(v_heads[p_limit], 0);
  return array(select j.id
                 from unnest(v_lanes[:p_limit]) as l (id)
                cross join lateral (select i.id from millrace.job i
                                     where (i.lane_id, i.id) < (l.id, p_before) and (i.lane_id, i.id) >= (l.id, v_least)
                                     order by i.lane_id desc, i.id desc limit p_limit) as j
                order by j.id desc
                limit p_limit);
end
$$;

-- The newest p_limit jobs of a status with keys below p_before, found among all jobs of some lanes; `examined` as below.
create function millrace.newest_among_lanes(p_status text, p_lanes int[], p_before bigint, p_limit int, out jobs bigint[], out examined bigint)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_to    constant timestamptz := millrace.clock() + interval '1 day';
  v_width constant int := greatest(1, cardinality(p_lanes));
  v_take  int := p_limit;
  v_cost  int := 0;
  v_block bigint[];
begin
  jobs := '{}';
  loop
    v_block := millrace.newest_of_lanes(p_lanes, coalesce(examined, p_before), v_take);
    jobs := jobs || array(
      select b.id
        from unnest(v_block) with ordinality as b (id, ord)
       cross join lateral (select i.enqueued_at from millrace.job i where i.id = b.id limit 1) as j
       where case p_status
               when 'queued' then (select r.job_id from millrace.ready r where r.job_id between b.id and b.id order by r.job_id limit 1) is not null
                              or (select p.job_id from millrace.parked p where p.job_id between b.id and b.id order by p.job_id limit 1) is not null
               when 'running' then exists (select from millrace.lease e where e.job_id = b.id)
               when 'failed' then exists (select from millrace.dead_letter d where d.job_id = b.id)
               else exists (select from millrace.finished f
                             where f.job_id = b.id and f.outcome = p_status
                               and f.finished_at >= j.enqueued_at - interval '1 day' and f.finished_at < v_to)
             end
       order by b.ord
       limit p_limit - cardinality(jobs));
    examined := case when cardinality(v_block) = v_take then v_block[v_take] end;
    v_cost := v_cost + least(v_width, v_take) * v_take;
    exit when examined is null or cardinality(jobs) = p_limit or v_cost >= 4000;
    v_take := greatest(v_take, least(v_take * 4, 4000 / v_width));
  end loop;
end
$$;

-- The newest p_limit jobs of a status with keys below p_before, and if p_lanes are given of these, found among all jobs of that status. Where fewer
-- were found, `examined` is how far down this has looked, or NULL if there is no more.
create function millrace.newest_in_status(p_status text, p_lanes int[], p_before bigint, p_limit int, out jobs bigint[], out examined bigint)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_sort = off
as $$
declare
  v_most constant int := case when p_lanes is null then 10000 else 5000 end;
  v_source text; -- what to walk by key, newest first, and which of it fits
begin
  v_source := case coalesce(p_status, 'any')
    when 'any' then 'select j.id as job_id, true as fits from millrace.job j where j.id < $1'
    when 'queued' then 'select r.job_id, $2 is null or r.lane_id = any ($2) as fits
                          from (select i.job_id, i.lane_id from millrace.ready i union all select p.job_id, p.lane_id from millrace.parked p) as r
                         where r.job_id < $1'
    when 'running' then 'select e.job_id, $2 is null or e.lane_id = any ($2) as fits from millrace.lease e where e.job_id < $1'
    when 'failed' then 'select d.job_id, $2 is null or (select j.lane_id from millrace.job j where j.id = d.job_id) = any ($2) as fits
                          from millrace.dead_letter d where d.job_id < $1'
    when 'cancelled' then 'select f.job_id, $2 is null or (select j.lane_id from millrace.job j where j.id = f.job_id) = any ($2) as fits
                             from millrace.finished f where f.outcome = ''cancelled'' and f.job_id < $1'
    when 'succeeded' then 'select f.job_id, f.outcome = ''succeeded'' and ($2 is null or (select j.lane_id from millrace.job j where j.id = f.job_id) = any ($2))
                                  as fits
                             from millrace.finished f where f.job_id < $1'
  end;
  if v_source is null then
    perform millrace.refuse_field('status', 'is none of queued, running, succeeded, failed, cancelled');
  end if;
  execute format('select array(select w.job_id from (select s.job_id, s.fits from (%s) as s order by s.job_id desc limit $4) as w where w.fits limit $3)', v_source)
     into jobs using p_before, p_lanes, p_limit, v_most;
  if cardinality(jobs) < p_limit then
    execute format('select s.job_id from (%s) as s order by s.job_id desc offset $3 - 1 limit 1', v_source) into examined using p_before, p_lanes, v_most;
  end if;
end
$$;

-- The newest p_limit jobs of a status (NULL: of any) and of some lanes (NULL: of all) with keys below p_before; `examined` as above. Where status and
-- lanes are asked for, one of them may be common and the other one rare, so it looks both ways and takes what has come further.
create function millrace.newest_jobs(p_status text, p_lanes int[], p_before bigint, p_limit int, out jobs bigint[], out examined bigint)
language plpgsql stable
as $$
declare
  v_other record;
begin
  if p_lanes = '{}' then
    jobs := '{}';
    return;
  elsif p_status is null and p_lanes is not null then
    jobs := millrace.newest_of_lanes(p_lanes, p_before, p_limit);
    return;
  end if;
  select s.jobs, s.examined into jobs, examined from millrace.newest_in_status(p_status, p_lanes, p_before, p_limit) as s;
  if p_lanes is not null and examined is not null then
    select * into v_other from millrace.newest_among_lanes(p_status, p_lanes, p_before, p_limit);
    if cardinality(v_other.jobs) = p_limit or coalesce(v_other.examined, 0) < examined then
      jobs := v_other.jobs;
      examined := v_other.examined;
    end if;
  end if;
end
$$;

-- The lanes of an executor's jobs, or of a type's, or both; NULL where the request names neither.
create function millrace.named_lanes(p_request jsonb) returns int[]
language plpgsql stable
set enable_seqscan = off
as $$
begin
  if p_request ->> 'executorId' is not null then
    return array(select l.id from millrace.lane l
                  where l.queue_id = (select q.id from millrace.queue q where q.name = p_request ->> 'executorId')
                    and (p_request ->> 'type' is null or l.type = p_request ->> 'type'));
  elsif p_request ->> 'type' is not null then
    return array(select l.id from millrace.lane l where l.type = p_request ->> 'type'); -- lanes are few, as queues and types are
  end if;
  return null;
end
$$;

-- {limit?, status?, executorId?, type?, cursor?} -> {items, count, nextCursor}, newest first: the order of the keys, which are drawn at the
-- enqueue. A page has fewer than `limit` items where these pass 8 MiB, or where 10,000 entries were examined; nextCursor is null at the end only.
create function millrace_api.collab_recent(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_limit int := millrace.page_size($1, 20, 100);
  v_start record;
  v_found record;
  v_key   bigint;
  v_last  bigint; -- the last job that this page is about
  v_job   millrace.job;
  v_item  jsonb;
  v_items jsonb[] := '{}';
  v_size  bigint := 0;
begin
  select * into v_start from millrace.read_job_cursor($1 ->> 'cursor');
  select * into v_found from millrace.newest_jobs($1 ->> 'status', millrace.named_lanes($1), v_start.before, v_limit + 1);
  foreach v_key in array v_found.jobs loop
    if cardinality(v_items) = v_limit or v_size > 8388608 then
      v_found.examined := v_last; -- there is more
      exit;
    end if;
    v_last := v_key;
    select * into v_job from millrace.job j where j.id = v_key;
    continue when v_job.enqueued_at >= v_start.since; -- the border of times is not exact
    v_item := millrace.job_json(v_job);
    v_items := v_items || v_item;
    v_size := v_size + octet_length(v_item::text);
  end loop;
  if cardinality(v_found.jobs) > v_limit then
    v_found.examined := v_last; -- some were passed over, so there may be more although the page is not full
  end if;
  return jsonb_build_object('items', to_jsonb(v_items), 'count', cardinality(v_items),
                            'nextCursor', case when v_found.examined is not null then millrace.job_cursor(v_found.examined) end);
end
$$;

-- -> {ok, counts: {queued, running, succeeded, failed, cancelled}, latest: the newest job without its payload and result, ts}
create function millrace_api.collab_overview(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off
as $$
declare
  v_counts jsonb;
  v_latest millrace.job;
begin
  select jsonb_build_object('queued', coalesce(sum(c.queued), 0), 'running', coalesce(sum(c.running), 0), 'succeeded', coalesce(sum(c.succeeded), 0),
                            'failed', coalesce(sum(c.dead), 0), 'cancelled', coalesce(sum(c.cancelled), 0))
    into v_counts
    from millrace.queue_counts() as c;
  select * into v_latest from millrace.job j order by j.id desc limit 1;
  return jsonb_build_object('ok', true, 'counts', v_counts, 'ts', millrace.clock(),
                            'latest', case when v_latest.id is not null then millrace.job_json(v_latest) - '{payload,result}'::text[] end);
end
$$;
