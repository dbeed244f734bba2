-- The collab face's dead letters: which there are, and replaying one, or many at once.

-- The condition that a request's filters make on a dead letter `d`; its parameters are the request ($1) and the queue ($2). Only the filters
-- that are given are in it, so that their indexes serve them.
create function millrace.dead_letter_condition(p_request jsonb) returns text
language sql stable
as $$
  select concat_ws(' and ', 'true',
    case when p_request ->> 'type' is not null then '(select j.type from millrace.job j where j.id = d.job_id) = $1 ->> ''type''' end,
    case when p_request ->> 'reason' is not null then 'd.reason = $1 ->> ''reason''' end,
    case when p_request ->> 'from' is not null then 'd.dead_at >= ($1 ->> ''from'')::timestamptz' end,
    case when p_request ->> 'to' is not null then 'd.dead_at < ($1 ->> ''to'')::timestamptz' end,
    case when (p_request ->> 'retried')::boolean then 'd.retried_at is not null' end)
$$;

-- The part of that condition that an index serves.
create function millrace.dead_letter_range(p_request jsonb) returns text
language sql stable
as $$
  select concat_ws(' and ', 'd.id > $3 and d.id < $4',
    case when p_request ->> 'executorId' is not null then 'd.queue_id = $2' end,
    case when not (p_request ->> 'retried')::boolean then 'd.retried_at is null' end)
$$;

-- The keys between which the dead letters of the times from `from` on and before `to` lie; a minute more at either end, for keys and times
-- don't rise quite together.
create function millrace.dead_letter_bounds(p_request jsonb, out above bigint, out below bigint)
language plpgsql stable
as $$
begin
  above := case when p_request ->> 'from' is null then 0
                else millrace.first_since('dead_letter', 'id', 'dead_at', (p_request ->> 'from')::timestamptz - interval '1 minute') - 1 end;
  below := case when p_request ->> 'to' is null then 9223372036854775807
                else millrace.first_since('dead_letter', 'id', 'dead_at', (p_request ->> 'to')::timestamptz + interval '1 minute') end;
end
$$;

-- {limit?, cursor?, executorId?, type?, reason?, from?, to?, retried?} -> {items, count, nextCursor, ts}, newest first. A page has fewer than `limit`
-- items where these pass 8 MiB, or where 10,000 entries were examined; nextCursor is null at the end only.
create function millrace_api.collab_dlq_list(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
declare
  v_limit  int := millrace.page_size($1, 20, 100);
  v_cursor bigint := millrace.numeric_cursor($1);
  v_queue  int := (select q.id from millrace.queue q where q.name = $1 ->> 'executorId');
  v_bounds record;
  v_found  bigint[];
  v_next   bigint;
  v_key    bigint;
  v_item   jsonb;
  v_items  jsonb[] := '{}';
  v_size   bigint := 0;
begin
  select b.above, case when v_cursor = 0 then b.below else least(b.below, v_cursor) end as below into v_bounds from millrace.dead_letter_bounds($1) as b;
  execute format('select array(select d.id from (select * from millrace.dead_letter d where %s order by d.id desc limit 10000) as d where %s limit $5)',
                 millrace.dead_letter_range($1), millrace.dead_letter_condition($1))
     into v_found using $1, v_queue, v_bounds.above, v_bounds.below, v_limit + 1;
  if cardinality(v_found) <= v_limit then
    execute format('select d.id from millrace.dead_letter d where %s order by d.id desc offset 9999 limit 1', millrace.dead_letter_range($1))
       into v_next using $1, v_queue, v_bounds.above, v_bounds.below;
  end if;
  foreach v_key in array v_found loop
    if cardinality(v_items) = v_limit or v_size > 8388608 then
      v_next := (v_item ->> 'id')::bigint; -- the last one on this page: there is more
      exit;
    end if;
    v_item := millrace.dead_letter_json(v_key);
    v_items := v_items || v_item;
    v_size := v_size + octet_length(v_item::text);
  end loop;
  return jsonb_build_object('items', to_jsonb(v_items), 'count', cardinality(v_items), 'nextCursor', v_next::text, 'ts', millrace.clock());
end
$$;

-- One dead letter as this face shows it.
create function millrace.dead_letter_json(p_id bigint) returns jsonb
language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
begin
  return (select jsonb_build_object(
                   'id', d.id, 'job_id', millrace.job_uuid(d.job_id), 'executor_id', q.name, 'type', j.type, 'reason', d.reason, 'error', d.error,
                   'payload', j.payload, 'created_at', d.dead_at, 'retries', d.attempts, 'retried_at', d.retried_at,
                   'retried_job_id', millrace.job_uuid(d.retried_job_id))
            from millrace.dead_letter d
            join millrace.job j on j.id = d.job_id
            join millrace.queue q on q.id = d.queue_id
           where d.id = p_id);
end
$$;

-- {dlqId} -> {jobId}, or {all: true, executorId?, type?, reason?, from?, to?, cursor?, limit?} -> {retried, jobs: [{dlqId, jobId}, …], more, nextCursor}.
-- Many are replayed only by saying so.
create function millrace_api.collab_dlq_retry(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  v_other text := (select min(k) from jsonb_object_keys($1) as k where k <> 'dlqId');
begin
  if $1 ? 'dlqId' and v_other is not null then
    perform millrace.refuse_field(v_other, 'cannot be given together with dlqId, which names one dead letter');
  elsif $1 ? 'dlqId' then
    return jsonb_build_object('jobId', millrace.job_uuid(millrace.replay(($1 ->> 'dlqId')::bigint)));
  elsif ($1 ->> 'all')::boolean is not true then
    perform millrace.refuse_field('all', 'must be true to retry all dead letters that fit, unless dlqId names one');
  end if;
  return millrace.collab_replay_batch($1);
end
$$;

-- Replays a batch of the dead letters that fit and were not replayed yet, oldest first. Where there may be more, nextCursor is behind the last one
-- that this has looked at: it examines 10,000 at most.
create function millrace.collab_replay_batch(p_request jsonb) returns jsonb
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
declare
  v_request constant jsonb := p_request || '{"retried": false}';
  v_limit  int := millrace.page_size(p_request, 100, 1000);
  v_queue  int := (select q.id from millrace.queue q where q.name = p_request ->> 'executorId');
  v_bounds record;
  v_next   bigint;
  v_found  bigint[];
  v_jobs   jsonb;
  v_last   bigint;
begin
  select greatest(b.above, millrace.numeric_cursor(p_request)) as above, b.below into v_bounds from millrace.dead_letter_bounds(p_request) as b;
  execute format('select d.id from millrace.dead_letter d where %s order by d.id offset 9999 limit 1', millrace.dead_letter_range(v_request))
     into v_next using v_request, v_queue, v_bounds.above, v_bounds.below;
  -- One more than wanted tells whether there is more.
  execute format('select array(select d.id from millrace.dead_letter d where %s and %s order by d.id limit $5 for update skip locked)',
                 millrace.dead_letter_range(v_request), millrace.dead_letter_condition(v_request))
     into v_found using v_request, v_queue, v_bounds.above, coalesce(v_next + 1, v_bounds.below), v_limit + 1;

  select coalesce(jsonb_agg(jsonb_build_object('dlqId', m.dead_letter_id, 'jobId', millrace.job_uuid(m.job_id)) order by m.dead_letter_id), '[]'),
         max(m.dead_letter_id)
    into v_jobs, v_last
    from millrace.replay_many(v_found[:v_limit]) as m;
  if v_last < v_found[cardinality(v_found)] then
    v_next := v_last; -- it stopped at the limit, or at 8 MiB of payloads
  end if;
  return jsonb_build_object('retried', jsonb_array_length(v_jobs), 'jobs', v_jobs, 'more', v_next is not null, 'nextCursor', v_next::text);
end
$$;
