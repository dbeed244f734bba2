-- The collab face: what the functions under /api/collab call. Each takes the request's JSON as it was sent
-- and returns the response's. Names inside a job are in snake case, as the contract has them.

create function millrace_api.collab_health(jsonb) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$ select jsonb_build_object('ok', true, 'timestamp', millrace.clock()) $$;

-- The core's names for one task.assign.
create function millrace.collab_request(p_task jsonb) returns jsonb
language sql immutable
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'queue', p_task -> 'executorId', 'type', p_task -> 'type', 'priority', p_task -> 'priority', 'run_at', p_task -> 'runAt',
    'delay_seconds', p_task -> 'delaySeconds', 'idempotency_key', p_task -> 'idempotencyKey',
    'concurrency_key', p_task -> 'concurrencyKey', 'limit_key', p_task -> 'limitKey', 'max_attempts', p_task -> 'maxAttempts', 'traceparent', p_task -> 'traceparent'))
    || jsonb_build_object('payload', p_task -> 'payload') -- whole, the nulls inside it included
$$;

-- Queues whose name begins with `millrace.` are Millrace's own: no key may put jobs into them or take any out.
create function millrace.is_own_queue(p_queue text) returns boolean
language sql immutable
as $$ select coalesce(starts_with(p_queue, 'millrace.'), false) $$;

create function millrace.refuse_own_queue(p_queue text) returns void
language plpgsql
as $$
begin
  if millrace.is_own_queue(p_queue) then
    perform millrace.refuse(400, 'invalid_request', 'executorId names a queue that is Millrace''s own');
  end if;
end
$$;

-- {type, executorId, payload?, …} -> {jobId, queued}, or {tasks: […]} -> {tasks: [{jobId, queued}, …]}
create function millrace_api.collab_assign(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tasks jsonb := case when $1 ? 'tasks' then $1 -> 'tasks' else jsonb_build_array($1) end;
  v_jobs  jsonb;
begin
  perform millrace.refuse_own_queue(t.task ->> 'executorId') from jsonb_array_elements(v_tasks) as t (task);
  select jsonb_agg(millrace.collab_request(t.task) order by t.ord) into v_jobs from jsonb_array_elements(v_tasks) with ordinality as t (task, ord);
  select jsonb_agg(jsonb_build_object('jobId', millrace.job_uuid(e.job_id), 'queued', e.queued) order by e.ord)
    into v_jobs
    from millrace.enqueue_many(coalesce(v_jobs, '[]')) as e;
  return case when $1 ? 'tasks' then jsonb_build_object('tasks', coalesce(v_jobs, '[]')) else v_jobs -> 0 end;
end
$$;

-- {executorId, workerId, leaseSeconds?, type? | typePrefix?} -> {job}, and with limit -> {jobs}
create function millrace_api.collab_claim(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_jobs jsonb;
begin
  perform millrace.refuse_own_queue($1 ->> 'executorId');
  select coalesce(jsonb_agg(jsonb_build_object(
           'id', millrace.job_uuid(c.job_id), 'type', c.job_type, 'status', 'running', 'executor_id', $1 ->> 'executorId',
           'worker_id', $1 ->> 'workerId', 'priority', c.priority, 'payload', c.payload, 'created_at', c.enqueued_at,
           'updated_at', c.leased_at, 'lease_id', c.lease_id, 'lease_expires_at', c.expires_at, 'attempt', c.attempt,
           'max_attempts', c.max_attempts) || jsonb_strip_nulls(jsonb_build_object('traceparent', c.traceparent))), '[]')
    into v_jobs
    from millrace.claim(
           queue => $1 ->> 'executorId', worker => $1 ->> 'workerId', max_jobs => coalesce(($1 ->> 'limit')::int, 1),
           type => $1 ->> 'type', type_prefix => $1 ->> 'typePrefix',
           lease => make_interval(secs => ($1 ->> 'leaseSeconds')::int)) as c;
  return case when $1 ? 'limit' then jsonb_build_object('jobs', v_jobs) else jsonb_build_object('job', v_jobs -> 0) end;
end
$$;

-- The core's names for one task.result.
create function millrace.collab_report(p_result jsonb) returns jsonb
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'job_id', millrace.job_id((p_result ->> 'jobId')::uuid), 'lease_id', p_result -> 'leaseId', 'worker', p_result -> 'workerId',
    'type', p_result -> 'type', 'succeeded', p_result -> 'ok', 'error_code', p_result -> 'errorCode', 'error', p_result -> 'error',
    'retry_after_seconds', p_result -> 'retryAfterSeconds', 'permanent', p_result -> 'permanent'))
    || jsonb_build_object('result', p_result -> 'result') -- whole, the nulls inside it included
$$;

-- {jobId, type, ok, …} -> {ok: true}, or {results: […]} -> {ok: true, results: [{jobId, ok} | {jobId, ok: false, code, error}, …]}
create function millrace_api.collab_result(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_results jsonb := case when $1 ? 'results' then $1 -> 'results' else jsonb_build_array($1) end;
  v_answers jsonb;
begin
  -- A UUID that is none of ours names no job; 0 is the key of none, so the report is refused as such.
  select jsonb_agg(jsonb_build_object('job_id', -t.ord) || millrace.collab_report(t.result) order by t.ord)
    into v_answers
    from jsonb_array_elements(v_results) with ordinality as t (result, ord);

  select jsonb_agg(case when a.code is null then jsonb_build_object('jobId', t.result -> 'jobId', 'ok', true)
                        else jsonb_build_object('jobId', t.result -> 'jobId', 'ok', false, 'code', a.code, 'error', a.message) end order by a.ord)
    into v_answers
    from millrace.report_many(coalesce(v_answers, '[]')) as a
    join jsonb_array_elements(v_results) with ordinality as t (result, ord) on t.ord = a.ord;

  if not $1 ? 'results' and v_answers #>> '{0,code}' is not null then
    perform millrace.refuse(millrace.refusal_status(v_answers #>> '{0,code}'), v_answers #>> '{0,code}', v_answers #>> '{0,error}');
  end if;
  perform millrace.collab_artifacts(v_results, v_answers);
  return case when $1 ? 'results' then jsonb_build_object('ok', true, 'results', coalesce(v_answers, '[]')) else '{"ok": true}' end;
end
$$;

-- Records the artifacts of the results that counted.
create function millrace.collab_artifacts(p_results jsonb, p_answers jsonb) returns void
language sql
as $$
  insert into millrace.artifact (job_id, name, url, path, size, mime, sha256, created_at)
  select millrace.job_id((t.result ->> 'jobId')::uuid), a.name, a.url, a.path, a.size, a.mime, a.sha256, millrace.clock()
    from jsonb_array_elements(p_results) with ordinality as t (result, ord)
   cross join lateral jsonb_to_recordset(coalesce(t.result -> 'artifacts', '[]')
                || case when t.result ? 'artifact' then jsonb_build_array(t.result -> 'artifact') else '[]' end)
                as a (name text, url text, path text, size bigint, mime text, sha256 text)
   where p_answers #> array[(t.ord - 1)::text, 'ok'] = 'true'
$$;

-- The core's names for leases: [{jobId, leaseId}] or, as channels say it, [{id, leaseId}]. A UUID that is none of ours names no job.
create function millrace.core_leases(p_leases jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(jsonb_build_object('job_id', millrace.job_id(coalesce(l.lease ->> 'jobId', l.lease ->> 'id')::uuid),
                                               'lease_id', l.lease -> 'leaseId') order by l.ord), '[]')
    from jsonb_array_elements(p_leases) with ordinality as l (lease, ord)
$$;

-- {agentId, executorId, status, running?, capacity?, version?} -> {ok: true}. With leases: [{jobId, leaseId}], what the worker has in hand, and
-- leaseSeconds?, each of them is extended -> {ok: true, leases: [{jobId, leaseId, held: true, leaseExpiresAt} | {jobId, leaseId, held: false, code, message}]}:
-- so a worker learns that a job of its was cancelled, or taken over.
create function millrace_api.collab_heartbeat(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_answer jsonb := '{"ok": true}';
begin
  -- Leases first, the worker's row then: the order of housekeeping.
  if $1 ? 'leases' then
    select v_answer || jsonb_build_object('leases', coalesce(jsonb_agg(
             l.lease || case when e.code is null then jsonb_build_object('held', true, 'leaseExpiresAt', e.expires_at)
                             else jsonb_build_object('held', false, 'code', e.code, 'message', e.message) end order by l.ord), '[]'))
      into v_answer
      from millrace.extend_many($1 ->> 'agentId', millrace.core_leases($1 -> 'leases'), make_interval(secs => ($1 ->> 'leaseSeconds')::int)) as e
      join jsonb_array_elements($1 -> 'leases') with ordinality as l (lease, ord) on l.ord = e.ord;
  end if;
  perform millrace.heartbeat(worker => $1 ->> 'agentId', queue => $1 ->> 'executorId', status => $1 ->> 'status',
                             running => ($1 ->> 'running')::int, capacity => ($1 ->> 'capacity')::int, version => $1 ->> 'version');
  return v_answer;
end
$$;

-- The workers seen within the last 20 seconds, the newest first; {executorId?} picks those of one queue.
create function millrace_api.collab_workers_active(jsonb) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
  select jsonb_build_object('items', coalesce(jsonb_agg(to_jsonb(a) order by a.last_seen_at desc, a.agent_id), '[]'),
                            'count', count(*), 'ts', millrace.clock())
    from (select w.agent_id, w.executor_id, w.status, w.running, w.capacity, w.version, w.seen_at as last_seen_at
            from millrace.worker w
           where w.seen_at > millrace.clock() - interval '20 seconds'
             and ($1 ->> 'executorId' is null or w.executor_id = $1 ->> 'executorId')
           order by w.seen_at desc
           limit 1000) as a
$$;
