-- The tasks of the REST and GraphQL face: create, list, get, retry, cancel, logs, stats. A task is a job of the core, of whichever queue.
--
-- An id is the decimal text of the job's key. Which tasks a list shows, and how many there are, is what task_page says; here
-- is what one of them looks like, and the sentences with which this face refuses.

-- A state as this face calls it.
create function millrace.task_status(p_state text, p_attempts int, p_retried boolean) returns text
language sql immutable
as $$
  select case p_state when 'queued' then case when p_attempts > 0 or p_retried then 'retrying' else 'pending' end
                      when 'running' then 'processing' when 'succeeded' then 'completed' when 'dead' then 'failed' else p_state end
$$;

-- The latest attempt of a job that has ended. Of a job that stands still its end is known, and with it the partition; a job that was withdrawn, or
-- waits for its next attempt, has to look for it.
create function millrace.latest_attempt(p_job_id bigint, p_ended timestamptz, p_from timestamptz, p_to timestamptz) returns millrace.attempt
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_attempt millrace.attempt;
begin
  select * into v_attempt from millrace.attempt a where a.job_id = p_job_id and a.finished_at = p_ended order by a.lease_id desc limit 1;
  if not found then
    select * into v_attempt from millrace.attempt a
     where a.job_id = p_job_id and a.finished_at >= p_from and a.finished_at < p_to order by a.lease_id desc limit 1;
  end if;
  return v_attempt;
end
$$;

-- One task as this face shows it, but for its payload or result where p_without names them. It must see one snapshot throughout, so it is stable.
create function millrace.task_json(p_job millrace.job, p_without text[]) returns jsonb
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
as $$
declare
  -- Between these lies whatever happened to the job, clocks that step a little included; partitions beyond are not looked at.
  v_from    constant timestamptz := p_job.enqueued_at - interval '1 day';
  v_to      constant timestamptz := millrace.clock() + interval '1 day';
  v_state   constant millrace.standing := millrace.standing(p_job.id, v_from, v_to);
  v_status  constant text := millrace.task_status(v_state.state, v_state.attempts, v_state.retried);
  v_queue   millrace.queue;
  v_attempt millrace.attempt;
begin
  select * into v_queue from millrace.queue q where q.id = p_job.queue_id;
  if v_status in ('retrying', 'completed', 'failed', 'cancelled') then
    v_attempt := millrace.latest_attempt(p_job.id, v_state.since, v_from, v_to);
  end if;

  return jsonb_build_object(
      'id', p_job.id::text, 'type', p_job.type, 'status', v_status, 'priority', p_job.priority, 'queue', v_queue.name,
      'attempts', v_state.attempts, 'maxAttempts', coalesce(p_job.max_attempts, v_queue.max_attempts), 'createdAt', p_job.enqueued_at)
    || jsonb_strip_nulls(jsonb_build_object(
      'startedAt', case v_status when 'processing' then v_state.since else v_attempt.started_at end,
      'completedAt', case v_status when 'completed' then v_state.since end,
      'failedAt', case v_status when 'failed' then v_state.since end,
      'error', case v_status when 'failed' then coalesce(v_state.error, v_state.error_code)
                             when 'retrying' then coalesce(v_attempt.error, v_attempt.error_code) end))
    -- These whole, the nulls inside them included.
    || case when 'payload' = any (p_without) then '{}' else jsonb_build_object('payload', p_job.payload) end
    || case when 'result' = any (p_without) or v_state.result is null then '{}' else jsonb_build_object('result', v_state.result) end;
end
$$;

-- The key that a decimal text spells; NULL where it is none, or no key could be so great.
create function millrace.decimal_key(p_text text) returns bigint
language sql immutable
as $$
  select case when p_text ~ '^[1-9][0-9]{0,18}$' and p_text::numeric <= 9223372036854775807 then p_text::bigint end
$$;

-- A text of a request as an answer repeats it: not at any length.
create function millrace.shortened(p_text text) returns text
language sql immutable
as $$ select case when length(p_text) > 100 then left(p_text, 100) || '…' else coalesce(p_text, 'null') end $$;

create function millrace.refuse_unknown_task(p_id text) returns void
language sql
as $$ select millrace.refuse(404, 'task_not_found', format('Task with ID %s not found', millrace.shortened(p_id))) $$;

-- The task that a request names; 404 where there is none.
create function millrace.named_task(p_request jsonb) returns millrace.job
language plpgsql stable
set enable_seqscan = off
as $$
declare
  v_job millrace.job;
begin
  select * into v_job from millrace.job j where j.id = millrace.decimal_key(p_request ->> 'taskId');
  if not found then
    perform millrace.refuse_unknown_task(p_request ->> 'taskId');
  end if;
  return v_job;
end
$$;

-- Which of a task's fields a request wants left out: of `without` those that can be large.
create function millrace.task_without(p_request jsonb) returns text[]
language plpgsql immutable
as $$
declare
  v_without constant jsonb := coalesce(p_request -> 'without', '[]');
begin
  if not v_without <@ '["payload", "result"]' then
    perform millrace.refuse_field('without', 'names other fields than payload and result');
  end if;
  return array(select e.name from jsonb_array_elements_text(v_without) as e (name));
end
$$;

-- Refuses the first field of a task to be that is malformed, by this face's names for them.
create function millrace.check_task(p_request jsonb) returns void
language plpgsql stable
as $$
begin
  perform millrace.refuse_field(f.field, f.reason)
     from jsonb_to_record(p_request) as r (type text, queue text, payload jsonb, priority numeric, "maxAttempts" numeric, "delaySeconds" numeric,
                                           "runAt" timestamptz, "idempotencyKey" text)
    cross join lateral (values
           ('type', 'is missing or blank, or longer than 200 characters', r.type is null or btrim(r.type) = '' or length(r.type) > 200),
           ('queue', 'is missing or blank, or longer than 200 characters', r.queue is null or btrim(r.queue) = '' or length(r.queue) > 200),
           ('queue', 'is Millrace''s own', millrace.is_own_queue(r.queue)),
           ('payload', 'is larger than 2 MiB', octet_length(r.payload::text) > 2097152),
           ('priority', 'is not a whole number from 1 to 20', r.priority <> trunc(r.priority) or r.priority not between 1 and 20),
           ('maxAttempts', 'is not a whole number from 1 to 1000', r."maxAttempts" <> trunc(r."maxAttempts") or r."maxAttempts" not between 1 and 1000),
           ('delaySeconds', 'is not from 0 to 315360000 (ten years)', r."delaySeconds" not between 0 and 315360000),
           ('runAt', 'is more than ten years ahead', r."runAt" > millrace.clock() + interval '3650 days'),
           ('runAt', 'excludes delaySeconds', r."runAt" is not null and r."delaySeconds" is not null),
           ('idempotencyKey', 'is blank or longer than 200 characters', btrim(r."idempotencyKey") = '' or length(r."idempotencyKey") > 200)
         ) as f (field, reason, wrong)
    where f.wrong
    limit 1;
end
$$;

-- {type, payload?, priority?, queue, maxAttempts?, delaySeconds?, runAt?, idempotencyKey?, traceparent?} -> {task, created}. The task is
-- an earlier one, and `created` false, where the queue knows the idempotency key.
create function millrace_api.task_create(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off
as $$
declare
  v_made record;
  v_job  millrace.job;
begin
  perform millrace.check_task($1);
  select e.job_id, e.queued into v_made
    from millrace.enqueue_many(jsonb_build_array(
           jsonb_strip_nulls(jsonb_build_object(
             'queue', $1 -> 'queue', 'type', $1 -> 'type', 'priority', $1 -> 'priority', 'max_attempts', $1 -> 'maxAttempts',
             'delay_seconds', $1 -> 'delaySeconds', 'run_at', $1 -> 'runAt', 'idempotency_key', $1 -> 'idempotencyKey', 'traceparent', $1 -> 'traceparent'))
           || jsonb_build_object('payload', $1 -> 'payload'))) as e; -- whole, the nulls inside it included
  select * into v_job from millrace.job j where j.id = v_made.job_id;
  return jsonb_build_object('task', millrace.task_json(v_job, '{}'), 'created', v_made.queued);
end
$$;

-- How many items of a list to pass over: the request's `offset`.
create function millrace.page_offset(p_request jsonb) returns bigint
language plpgsql immutable
as $$
declare
  v_offset constant numeric := coalesce((p_request ->> 'offset')::numeric, 0);
begin
  if v_offset <> trunc(v_offset) or v_offset not between 0 and 9007199254740991 then
    perform millrace.refuse_field('offset', 'is not a whole number from 0 to 9007199254740991');
  end if;
  return v_offset;
end
$$;

-- What a list of tasks asks for, read and checked.
create function millrace.task_filters(p_request jsonb, out status text, out type text, out priority int, out queue text, out page_limit int, out page_offset bigint, out before bigint)
language plpgsql stable
as $$
declare
  v_priority constant numeric := p_request ->> 'priority';
begin
  if p_request ->> 'status' not in ('pending', 'processing', 'completed', 'failed', 'cancelled', 'retrying') then
    perform millrace.refuse_field('status', 'is not one of pending, processing, completed, failed, cancelled and retrying');
  elsif v_priority <> trunc(v_priority) or abs(v_priority) > 100 then -- tasks of other faces have others than 1 to 20
    perform millrace.refuse_field('priority', 'is not a whole number from -100 to 100');
  elsif p_request ->> 'before' is not null and millrace.decimal_key(p_request ->> 'before') is null then
    perform millrace.refuse_field('before', 'is not the id of a task');
  end if;
  status := p_request ->> 'status';
  type := p_request ->> 'type';
  priority := v_priority;
  queue := p_request ->> 'queue';
  page_limit := millrace.page_size(p_request, 50, 1000);
  page_offset := millrace.page_offset(p_request);
  before := millrace.decimal_key(p_request ->> 'before');
end
$$;

-- {status?, type?, priority?, queue?, limit?, offset?, before?, without?} -> {tasks, total, limit, offset}, newest first. `before` is the id of the last
-- task that was read: a page found by it stays where it is while tasks arrive. A page is never short of the limit that it answers, and of at most 8 MiB:
-- where the request names a limit that is too many for that, it is refused; where it names none, the limit is as many as that holds.
create function millrace_api.task_list(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_without constant text[] := millrace.task_without($1);
  v_asked record;
  v_page  record;
  v_key   bigint;
  v_job   millrace.job;
  v_task  jsonb;
  v_tasks jsonb[] := '{}';
  v_size  bigint := 0;
begin
  select * into v_asked from millrace.task_filters($1);
  select * into v_page
    from millrace.task_page(v_asked.status, v_asked.type, v_asked.priority, v_asked.queue, v_asked.before, v_asked.page_limit, v_asked.page_offset);
  foreach v_key in array v_page.keys loop
    select * into v_job from millrace.job j where j.id = v_key;
    v_task := millrace.task_json(v_job, v_without);
    v_size := v_size + octet_length(v_task::text);
    if v_size > 8388608 and cardinality(v_tasks) > 0 then
      if $1 ->> 'limit' is not null then
        perform millrace.refuse_field('limit', format('is too large here: the first %s of these tasks are more than 8 MiB together', cardinality(v_tasks) + 1));
      end if;
      v_asked.page_limit := cardinality(v_tasks);
      exit;
    end if;
    v_tasks := v_tasks || v_task;
  end loop;
  return jsonb_build_object('tasks', to_jsonb(v_tasks), 'total', v_page.total, 'limit', v_asked.page_limit, 'offset', v_asked.page_offset);
end
$$;

-- {taskId, without?} -> the task
create function millrace_api.task_get(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
begin
  return millrace.task_json(millrace.named_task($1), millrace.task_without($1));
end
$$;

-- Refuses, as this face does, what the core would not do to a task in the state that it is in. Returns where the task has come into a state
-- since in which the core would do it.
create function millrace.refuse_task_transition(p_job millrace.job, p_code text, p_allowed text[], p_rule text) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
  v_task   constant jsonb := millrace.task_json(p_job, '{payload,result}');
  v_replay bigint;
begin
  if v_task ->> 'status' is null then -- retention has taken it
    perform millrace.refuse_unknown_task(p_job.id::text);
  end if;
  select d.retried_job_id into v_replay from millrace.dead_letter d where d.job_id = p_job.id and d.retried_at is not null;
  if found and p_code = 'not_retryable' then
    perform millrace.refuse(409, 'already_replayed', format('Task with ID %s was retried before, as task %s.', p_job.id, v_replay), v_replay::text);
  elsif v_task ->> 'status' <> all (p_allowed) then
    perform millrace.refuse(400, p_code, format('Task with status %s %s', v_task ->> 'status', p_rule));
  end if;
end
$$;

-- {taskId, resetAttempts?, without?} -> the task, queued again under its own id with one more attempt before it, or with resetAttempts all of them.
create function millrace_api.task_retry(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_job     constant millrace.job := millrace.named_task($1);
  v_without constant text[] := millrace.task_without($1);
begin
  for v_round in 1 .. 3 loop
    begin
      perform millrace.retry(v_job.id, coalesce(($1 ->> 'resetAttempts')::boolean, false));
      return millrace.task_json(v_job, v_without);
    exception
      when sqlstate 'PT409' then
        perform millrace.refuse_task_transition(v_job, 'not_retryable', '{failed,cancelled}', 'cannot be retried. Only failed or cancelled tasks can be retried.');
      when sqlstate 'PT404' then
        perform millrace.refuse_unknown_task($1 ->> 'taskId');
    end;
  end loop;
  perform millrace.refuse(503, 'try_again', 'the task changed hands at this moment');
end
$$;

-- {taskId, without?} -> the task, withdrawn. A running one's lease ends with it, so its worker's next word is refused with the code `cancelled`.
create function millrace_api.task_cancel(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_job     constant millrace.job := millrace.named_task($1);
  v_without constant text[] := millrace.task_without($1);
begin
  for v_round in 1 .. 3 loop
    begin
      perform millrace.cancel(v_job.id);
      return millrace.task_json(v_job, v_without);
    exception
      when sqlstate 'PT409' then
        perform millrace.refuse_task_transition(v_job, 'not_cancellable', '{pending,processing,retrying}',
                                                'cannot be cancelled. Only pending or processing tasks can be cancelled.');
      when sqlstate 'PT404' then
        perform millrace.refuse_unknown_task($1 ->> 'taskId');
    end;
  end loop;
  perform millrace.refuse(503, 'try_again', 'the task changed hands at this moment');
end
$$;

-- One event of a task as a line of its log: a sentence, how bad it is, and what of the event a program may want.
create function millrace.task_log_line(p_event millrace.job_events) returns jsonb
language sql stable
as $$
  select jsonb_build_object('timestamp', p_event.created_at, 'level', l.level, 'message', l.message)
         || case when l.metadata = '{}' then '{}' else jsonb_build_object('metadata', l.metadata) end
    from (select p_event.payload as p, p_event.payload ->> 'attempt' as attempt, p_event.payload ->> 'worker' as worker,
                 coalesce(p_event.payload ->> 'run_at', to_jsonb(p_event.created_at) #>> '{}') as due, p_event.payload ->> 'from' as came_from,
                 coalesce(': ' || coalesce(p_event.payload ->> 'error', p_event.payload ->> 'error_code'), '') as why,
                 millrace.job_id((p_event.payload ->> 'job_id')::uuid)::text as replay, millrace.job_id((p_event.payload ->> 'replay_of')::uuid)::text as replay_of) as e
   cross join lateral (
           select case when p_event.event_type = 'dead_lettered' then 'error'
                       when p_event.event_type in ('retry_scheduled', 'lease_expired') and e.came_from is null then 'warn' else 'info' end as level,
                  case p_event.event_type
                    when 'started' then format('Attempt %s started by worker %s', e.attempt, e.worker)
                    when 'succeeded' then format('Attempt %s succeeded', e.attempt)
                    when 'dead_lettered' then format('Attempt %s failed, and the task will not be tried again%s', e.attempt, e.why)
                    when 'lease_expired' then format('Attempt %s was lost, for its lease ran out before worker %s reported', e.attempt, e.worker)
                    when 'postponed' then format('Attempt %s was postponed until %s%s', e.attempt, e.due, e.why)
                    when 'cancelled' then format('Task cancelled while %s', case e.came_from when 'running' then 'it was processed' else 'it was waiting' end)
                    when 'replayed' then case when e.replay is not null then format('Task retried as task %s', e.replay)
                                              else format('Task queued again after it %s', case e.came_from when 'dead' then 'had failed' else 'was cancelled' end) end
                    when 'retry_scheduled' then case when e.came_from = 'queued' then format('Task moved, due at %s', e.due)
                                                     else format('Attempt %s failed, and the next one is due at %s%s', e.attempt, e.due, e.why) end
                    else case when e.came_from = 'queued' then format('Task moved, due at %s', e.due)
                              when e.replay_of is not null then format('Task queued as a retry of task %s, due at %s', e.replay_of, e.due)
                              else format('Task queued, due at %s', e.due) end
                  end as message,
                  jsonb_strip_nulls(jsonb_build_object(
                    'attempt', e.p -> 'attempt', 'attempts', e.p -> 'attempts', 'worker', e.worker, 'leaseId', e.p -> 'lease_id', 'waited', e.p -> 'waited',
                    'ran', e.p -> 'ran', 'runAt', e.p -> 'run_at', 'errorCode', e.p -> 'error_code', 'from', millrace.task_status(nullif(e.came_from, 'queued'), 0, false),
                    'taskId', e.replay, 'retryOf', e.replay_of, 'traceparent', e.p -> 'traceparent')) as metadata) as l
$$;

-- {taskId, limit?, offset?} -> {taskId, logs: [{timestamp, level: info | warn | error, message, metadata?}], total}, in the order in which it happened.
create function millrace_api.task_logs(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_job   constant millrace.job := millrace.named_task($1);
  -- Between these lies whatever happened to the job, clocks that step a little included; partitions beyond are not looked at.
  v_from  constant timestamptz := v_job.enqueued_at - interval '1 day';
  v_to    constant timestamptz := millrace.clock() + interval '1 day';
  v_limit constant int := millrace.page_size($1, 100, 1000);
  v_logs  jsonb;
begin
  select coalesce(jsonb_agg(millrace.task_log_line(e) order by e.id), '[]') into v_logs
    from (select i.* from millrace.job_events i
           where i.job_id = v_job.id and i.created_at >= v_from and i.created_at < v_to order by i.id offset millrace.page_offset($1) limit v_limit) as e;
  if octet_length(v_logs::text) > 8388608 and v_limit > 1 then
    perform millrace.refuse_field('limit', 'is too large here: these lines are more than 8 MiB together');
  end if;
  return jsonb_build_object('taskId', v_job.id::text, 'logs', v_logs,
                            'total', (select count(*) from millrace.job_events i
                                       where i.job_id = v_job.id and i.created_at >= v_from and i.created_at < v_to));
end
$$;

-- -> {total, byStatus: {status: n} with all six, byPriority: {priority: n}}
create function millrace_api.task_stats(jsonb) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
  with counted as materialized (
    select c.status, c.priority, sum(c.n)::bigint as n from millrace.task_counts() as c group by c.status, c.priority
  )
  select jsonb_build_object(
           'total', (select coalesce(sum(c.n), 0) from counted c),
           'byStatus', (select jsonb_object_agg(s.status, coalesce((select sum(c.n) from counted c where c.status = s.status), 0))
                          from unnest('{pending,processing,completed,failed,cancelled,retrying}'::text[]) as s (status)),
           'byPriority', (select coalesce(jsonb_object_agg(p.priority, p.n), '{}')
                            from (select c.priority, sum(c.n) as n from counted c group by c.priority having sum(c.n) > 0) as p))
$$;
