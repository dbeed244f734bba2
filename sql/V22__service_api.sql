-- The worker's face, service_api: fetch a task, report its result, ask for more time. The same three functions serve psql, the component
-- `rpc`, and a real PostgREST.
--
-- Refusals have the four fields of PostgREST's bodies: code P0001 (which it answers with 400), a message that names the call, details in words
-- and a hint for programs. A worker speaks of its job by job and lease id: who knows the lease and the worker that holds it needs no other
-- proof, so reports and extensions don't ask which queue the job is of.
--
-- Behind a PostgREST:
--
--   db-schemas     = "public, service_api"
--   db-pre-request = "service_api.pre_request"
--
--   grant millrace_client to authenticator;   -- the role that PostgREST logs in as
--
-- In a Supabase database, where there is no configuration file, `alter role authenticator set pgrst.db_pre_request = 'service_api.pre_request'`, the
-- schema added to the exposed ones in the API settings, and `notify pgrst, 'reload config'`. An application with a function of its own there calls
-- `perform service_api.pre_request()` in that.
--
-- Workers send a stored key with the scope `work` or `all` in `x-api-key`. (Not as a bearer: PostgREST takes that for a JWT and refuses it by
-- itself.) Without a good one the request keeps its role, anon for one, and no such role may call anything here. So nothing is open where the
-- configuration above was forgotten, and a service role needs none of it.

create schema service_api;

comment on schema service_api is 'Millrace for workers: fetch_next_task, report_task_result, extend_lease.';

-- Raises an error as this face speaks it.
create function millrace.refuse_service(p_message text, p_details text, p_hint text) returns void
language plpgsql
as $$
begin
  raise exception using errcode = 'P0001', message = p_message, detail = p_details, hint = p_hint;
end
$$;

-- Refuses a worker's id that can't be one; answers how long the lease is: a second at least, as the face has it, and a day at most, as the core has it.
create function millrace.service_lease(p_message text, p_worker_id text, p_lease_seconds int) returns interval
language plpgsql
as $$
begin
  if coalesce(p_worker_id !~ '[^[:space:]]', true) then
    perform millrace.refuse_service(p_message, 'Invalid Request', 'worker_id_missing');
  elsif length(p_worker_id) > 200 then
    perform millrace.refuse_service(p_message, 'Invalid Request', 'worker_id_too_long');
  end if;
  return make_interval(secs => least(86400, greatest(1, coalesce(p_lease_seconds, 60))));
end
$$;

-- Which of these queues to claim from first: by the first job that each would give, then the one that has been tended the longest ago. A hint
-- and no claim: by the time of the claim the job may be somebody else's.
create function millrace.queues_by_first_job(p_queues text[]) returns setof text
language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := millrace.clock();
begin
  return query
    select q.name
      from millrace.queue q
      join millrace.queue_clock c on c.queue_id = q.id
      left join lateral (
             select l.priority, h.run_at, h.job_id
               from millrace.lane l
              cross join lateral (select r.run_at, r.job_id from millrace.ready r
                                   where r.lane_id = l.id and r.run_at >= l.floor and r.run_at <= v_now
                                   order by r.run_at, r.job_id
                                   limit 1) as h
              where l.queue_id = q.id
              order by l.priority desc, h.run_at, h.job_id
              limit 1) as f on true
     where q.name = any (p_queues)
     order by f.priority desc nulls last, f.run_at, f.job_id, c.tended_at;
end
$$;

-- What a worker gets to do a job of a channel: its message, or the payload as it is where another face enqueued the job with all of it. Where
-- nothing is to be sent to the address, `suppressed` says why (V28).
create function millrace.channel_payload(p_channel text, p_job_id bigint, p_payload jsonb, out resource_id bigint, out payload jsonb)
language plpgsql stable
set enable_seqscan = off
as $$
begin
  if p_channel = 'email' then
    select m.id, jsonb_build_object('message_id', m.id, 'from_address', m.from_address, 'to_address', m.to_address,
                                    'subject', m.subject, 'html', m.html)
                 || jsonb_strip_nulls(jsonb_build_object('text', m.text, 'reply_to', m.reply_to))
      into resource_id, payload from comms.email_message m where m.job_id = p_job_id;
  else
    select m.id, jsonb_build_object('message_id', m.id, 'to_number', m.to_number, 'body', m.body)
      into resource_id, payload from comms.sms_message m where m.job_id = p_job_id;
  end if;
  payload := coalesce(payload, p_payload);
  if jsonb_typeof(payload) = 'object' then
    payload := payload || millrace.suppression_of(p_channel, payload ->> case p_channel when 'email' then 'to_address' else 'to_number' end);
  end if;
end
$$;

-- Leases the best due job of the channel task_type, or of all channels, to the worker.
create function service_api.fetch_next_task(worker_id text, lease_seconds int default 60, task_type text default null) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_channels text[] := '{email,sms}';
  v_lease    interval;
  v_channel  text;
  v_job      record;
  v_message  record;
begin
  v_lease := millrace.service_lease('Fetch Next Task Failed', fetch_next_task.worker_id, fetch_next_task.lease_seconds);
  if fetch_next_task.task_type <> all (v_channels) then
    perform millrace.refuse_service('Fetch Next Task Failed', 'Invalid Request', 'task_type_unknown');
  elsif fetch_next_task.task_type is not null then
    v_channels := array[fetch_next_task.task_type];
  end if;

  for v_channel in select millrace.queues_by_first_job(v_channels) loop
    select * into v_job
      from millrace.claim(queue => v_channel, worker => fetch_next_task.worker_id, lease => v_lease);
    continue when not found;

    v_message := millrace.channel_payload(v_channel, v_job.job_id, v_job.payload);
    return jsonb_build_object(
      'job', jsonb_build_object('job_id', v_job.job_id, 'lease_id', v_job.lease_id, 'task_type', v_channel,
                                'resource_id', v_message.resource_id, 'priority', v_job.priority,
                                'scheduled_at', millrace.due_at(v_job.job_id)),
      'payload', v_message.payload);
  end loop;
  return '{"job": null}';
end
$$;

comment on function service_api.fetch_next_task is 'Leases the next email or sms job to a worker: {job, payload}, or {job: null}. Report it by its lease_id before the lease ends.';

-- Raises what the core says against a worker's word, in the words of this face.
create function millrace.refuse_word(p_message text, p_code text) returns void
language plpgsql
as $$
begin
  perform millrace.refuse_service(p_message,
    case p_code when 'invalid_lease' then 'Invalid Lease'
                when 'job_not_found' then 'Invalid Lease' -- there is no such lease of that job
                when 'not_lease_owner' then 'Not Lease Owner'
                when 'lease_expired' then 'Lease Expired'
                when 'already_attempted' then 'Already Attempted'
                when 'cancelled' then 'Job Cancelled'
                when 'try_again' then 'Job Changed Hands'
                else 'Invalid Request' end,
    case p_code when 'job_not_found' then 'invalid_lease' else p_code end);
end
$$;

-- The delay that this face gives to a retry: base * 2^(n-1) seconds, n being the attempts with this one; a year at most, as the core has it.
create function millrace.service_delay(p_base_seconds int, p_attempt int) returns double precision
language sql immutable
as $$ select least(31536000, greatest(1, coalesce(p_base_seconds, 30))::double precision * 2 ^ least(greatest(p_attempt, 1) - 1, 60)) $$;

-- Ends an attempt: completed, or failed with a retry as long as attempts are left. A retry is the same job, so its id stays.
create function service_api.report_task_result(worker_id text, job_id bigint, lease_id bigint, succeeded boolean, error_code text default null,
  error_message text default null, base_delay_seconds int default 30) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set enable_seqscan = off
as $$
declare
  v_attempt int;
  v_answer  record;
  v_run_at  timestamptz;
begin
  perform millrace.service_lease('Task Result Failed', report_task_result.worker_id, null);
  if report_task_result.job_id is null then
    perform millrace.refuse_service('Task Result Failed', 'Invalid Request', 'job_id_missing');
  elsif report_task_result.lease_id is null then
    perform millrace.refuse_service('Task Result Failed', 'Invalid Request', 'lease_id_missing');
  elsif report_task_result.succeeded is null then
    perform millrace.refuse_service('Task Result Failed', 'Invalid Request', 'succeeded_missing');
  end if;

  select e.attempt into v_attempt from millrace.lease e
   where e.job_id = report_task_result.job_id and e.lease_id = report_task_result.lease_id;
  -- What a worker says about an error is for people to read: cut to its bounds rather than lost with the report.
  select * into v_answer
    from millrace.report_many(jsonb_build_array(jsonb_build_object(
           'job_id', report_task_result.job_id, 'lease_id', report_task_result.lease_id, 'worker', report_task_result.worker_id,
           'succeeded', report_task_result.succeeded,
           'error_code', nullif(btrim(left(report_task_result.error_code, 200)), ''),
           'error', left(report_task_result.error_message, 10000),
           'retry_after_seconds', millrace.service_delay(report_task_result.base_delay_seconds, v_attempt))));
  if v_answer.code is not null then
    perform millrace.refuse_word('Task Result Failed', v_answer.code);
  end if;

  select r.run_at into v_run_at from millrace.ready r where r.job_id = report_task_result.job_id and not report_task_result.succeeded;
  return jsonb_build_object('completed', report_task_result.succeeded, 'scheduled_retry', v_run_at is not null,
                            'next_job_id', case when v_run_at is not null then report_task_result.job_id end,
                            'next_scheduled_at', v_run_at);
end
$$;

comment on function service_api.report_task_result is 'Ends an attempt: {completed, scheduled_retry, next_job_id, next_scheduled_at}. A failed job is retried while it has attempts left.';

-- Gives a running attempt lease_seconds from now; a lease is never made shorter.
create function service_api.extend_lease(worker_id text, job_id bigint, lease_id bigint, lease_seconds int default 60) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_lease      interval;
  v_expires_at timestamptz;
  v_code       text;
begin
  v_lease := millrace.service_lease('Extend Lease Failed', extend_lease.worker_id, extend_lease.lease_seconds);
  if extend_lease.job_id is null then
    perform millrace.refuse_service('Extend Lease Failed', 'Invalid Request', 'job_id_missing');
  elsif extend_lease.lease_id is null then
    perform millrace.refuse_service('Extend Lease Failed', 'Invalid Request', 'lease_id_missing');
  end if;
  begin
    v_expires_at := millrace.extend_lease(job_id => extend_lease.job_id, lease_id => extend_lease.lease_id,
                                          worker => extend_lease.worker_id, lease => v_lease);
  exception when sqlstate 'PT404' or sqlstate 'PT409' or sqlstate 'PT503' then
    get stacked diagnostics v_code = pg_exception_hint;
    perform millrace.refuse_word('Extend Lease Failed', v_code);
  end;
  return jsonb_build_object('lease_id', extend_lease.lease_id, 'expires_at', v_expires_at);
end
$$;

comment on function service_api.extend_lease is 'Moves the end of a lease to lease_seconds from now: {lease_id, expires_at}.';

-- Checks the key that a request to PostgREST shows. Anybody may call it, since it says no more than a request with that key would.
create function service_api.check_key() returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text := nullif(current_setting('request.headers', true), '')::json ->> 'x-api-key';
begin
  if coalesce(btrim(v_key) = '', true) then
    raise exception using errcode = 'PT401', message = 'Service API Failed', detail = 'the header x-api-key has no key', hint = 'missing_api_key';
  end if;
  perform millrace_api.rpc_admit(jsonb_build_object('key', encode(sha256(convert_to(v_key, 'UTF8')), 'hex'), 'scope', 'work'));
end
$$;

comment on function service_api.check_key is 'Raises unless the PostgREST request at hand shows a stored key of the scope work in x-api-key.';

-- What PostgREST calls before each request, as the role of that request and with the request's schema first in the search path. A request to
-- service_api that shows a good key goes on as millrace_client, until its transaction ends. One without a key may be a service role's, which has its
-- own rights. All others pass untouched: those to other schemas, and those that may write nothing and so could call nothing here.
--
-- Not a definer, since that could not change the role; hence nothing here is looked up by the caller's search path but operators
-- of exactly their own types, where the catalogue goes first.
create function service_api.pre_request() returns void
language plpgsql
as $$
begin
  if pg_catalog.current_schema() is distinct from 'service_api' or pg_catalog.current_setting('transaction_read_only') = 'on' then
    return;
  elsif pg_catalog.has_function_privilege('service_api.fetch_next_task(text, int, text)', 'execute')
        and not coalesce(nullif(pg_catalog.current_setting('request.headers', true), '')::pg_catalog.jsonb ? text 'x-api-key', false) then
    return;
  end if;
  perform service_api.check_key();
  perform pg_catalog.set_config('role', 'millrace_client', true);
end
$$;

comment on function service_api.pre_request is 'For PostgREST''s db-pre-request: lets requests to service_api in by their stored key, as millrace_client.';

select millrace.leave_to_clients(array[
  'service_api.fetch_next_task(text, int, text)',
  'service_api.report_task_result(text, bigint, bigint, boolean, text, text, int)',
  'service_api.extend_lease(text, bigint, bigint, int)']::regprocedure[]);

-- PostgREST runs pre_request as whatever role a request has, so everybody may look in here, and call that.
grant usage on schema service_api to public;
grant execute on function service_api.pre_request(), service_api.check_key() to public;
