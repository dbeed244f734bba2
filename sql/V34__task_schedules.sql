-- The jobs of the REST and GraphQL face, which are the core's schedules. Their name is the slug, their id the decimal text of the key.

-- One schedule as this face shows it, without the fields named, which are not read. It ran last when it last made a task; it has no next run while it is
-- paused, or where none is due any more.
create function millrace.schedule_json(p_schedule millrace.schedule, p_without text[] default '{}') returns jsonb
language sql stable
as $$
  select (jsonb_build_object(
           'id', p_schedule.id::text, 'name', p_schedule.slug, 'type', p_schedule.type, 'schedule', p_schedule.expression,
           'payload', case when 'payload' <> all (p_without) then p_schedule.payload end,
           'status', case when p_schedule.paused_at is not null then 'paused' when p_schedule.last_error is not null then 'failed' else 'active' end,
           'createdAt', p_schedule.created_at, 'updatedAt', p_schedule.updated_at, 'queue', p_schedule.queue, 'timeZone', p_schedule.time_zone,
           'nextRun', nullif(p_schedule.next_run_at, 'infinity'))
         || case when p_schedule.last_enqueued_at is null then '{}' else jsonb_build_object('lastRun', p_schedule.last_enqueued_at) end)
         - p_without
$$;

create function millrace.refuse_unknown_schedule(p_id text) returns void
language sql
as $$ select millrace.refuse(404, 'schedule_not_found', format('Job with ID %s not found', millrace.shortened(p_id))) $$;

-- The schedule that a request names; 404 where there is none.
create function millrace.named_schedule(p_request jsonb) returns millrace.schedule
language plpgsql stable
set enable_seqscan = off
as $$
declare
  v_schedule millrace.schedule;
begin
  select * into v_schedule from millrace.schedule s where s.id = millrace.decimal_key(p_request ->> 'jobId');
  if not found then
    perform millrace.refuse_unknown_schedule(p_request ->> 'jobId');
  end if;
  return v_schedule;
end
$$;

-- The slug of the schedule that a request names, which is locked: nobody renames or deletes it before this transaction ends.
create function millrace.locked_slug(p_request jsonb) returns text
language plpgsql
set enable_seqscan = off
as $$
declare
  v_slug text;
begin
  select s.slug into v_slug from millrace.schedule s where s.id = millrace.decimal_key(p_request ->> 'jobId') for update;
  if not found then
    perform millrace.refuse_unknown_schedule(p_request ->> 'jobId');
  end if;
  return v_slug;
end
$$;

-- Refuses the first field of a job to be that is malformed, by this face's names for them. The expression and the zone are for check_cron to say.
create function millrace.check_named_schedule(p_request jsonb) returns void
language plpgsql stable
as $$
begin
  perform millrace.refuse_field(f.field, f.reason)
     from jsonb_to_record(p_request) as r (name text, type text, schedule text, queue text, payload jsonb, priority numeric, "maxAttempts" numeric)
    cross join lateral (values
           ('name', 'is missing or blank, or longer than 200 characters', r.name is null or btrim(r.name) = '' or length(r.name) > 200),
           ('type', 'is missing or blank, or longer than 200 characters', r.type is null or btrim(r.type) = '' or length(r.type) > 200),
           ('schedule', 'is missing', r.schedule is null),
           ('queue', 'is missing or blank, or longer than 200 characters', r.queue is null or btrim(r.queue) = '' or length(r.queue) > 200),
           ('queue', 'is Millrace''s own', millrace.is_own_queue(r.queue)),
           ('payload', 'is larger than 2 MiB', octet_length(r.payload::text) > 2097152),
           ('priority', 'is not a whole number from 1 to 20', r.priority <> trunc(r.priority) or r.priority not between 1 and 20),
           ('maxAttempts', 'is not a whole number from 1 to 1000', r."maxAttempts" <> trunc(r."maxAttempts") or r."maxAttempts" not between 1 and 1000)
         ) as f (field, reason, wrong)
    where f.wrong
    limit 1;
end
$$;

-- {name, type, schedule, payload?, queue, timeZone?, priority?, maxAttempts?} -> the job
create function millrace_api.schedule_create(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set enable_seqscan = off
as $$
declare
  v_id   bigint;
  v_code text;
  v_why  text;
begin
  perform millrace.check_named_schedule($1);
  begin
    v_id := millrace.create_schedule(
      slug => $1 ->> 'name', expression => $1 ->> 'schedule', queue => $1 ->> 'queue', type => $1 ->> 'type', payload => nullif($1 -> 'payload', 'null'),
      time_zone => $1 ->> 'timeZone', priority => ($1 ->> 'priority')::numeric::int, max_attempts => ($1 ->> 'maxAttempts')::numeric::int);
  exception
    when sqlstate 'PT409' then
      get stacked diagnostics v_code = pg_exception_hint, v_why = message_text;
      perform millrace.refuse(409, v_code, case v_code when 'schedule_exists' then format('Job with name %s already exists', $1 ->> 'name') else v_why end);
    when sqlstate 'PT400' then
      get stacked diagnostics v_code = pg_exception_hint, v_why = message_text;
      perform millrace.refuse_field(case v_code when 'invalid_time_zone' then 'timeZone' else 'schedule' end, v_why);
  end;
  return millrace.schedule_json(millrace.named_schedule(jsonb_build_object('jobId', v_id)));
end
$$;

-- {limit?, offset?, without?} -> [the job, …], newest first; all of them where no limit is given. More than 8 MiB are refused, so that none is left out unsaid.
create function millrace_api.schedule_list(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_without  constant text[] := millrace.task_without($1);
  v_limit    constant int := case when $1 ->> 'limit' is not null then millrace.page_size($1, 1000, 1000) end;
  v_schedule millrace.schedule;
  v_job      jsonb;
  v_jobs     jsonb[] := '{}';
  v_size     bigint := 0;
begin
  for v_schedule in select * from millrace.schedule s order by s.id desc limit v_limit offset millrace.page_offset($1) loop
    v_job := millrace.schedule_json(v_schedule, v_without);
    v_jobs := v_jobs || v_job;
    v_size := v_size + octet_length(v_job::text);
    if v_size > 8388608 and cardinality(v_jobs) > 1 then
      perform millrace.refuse_field('limit', format(case when v_limit is null then 'is needed here, of less than %1$s' else 'must be less than %1$s here' end
                                                    || ': the first %1$s of these jobs are more than 8 MiB together; ask for fewer with limit', cardinality(v_jobs)));
    end if;
  end loop;
  return to_jsonb(v_jobs);
end
$$;

-- {jobId, without?} -> the job
create function millrace_api.schedule_get(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
begin
  return millrace.schedule_json(millrace.named_schedule($1), millrace.task_without($1));
end
$$;

-- {jobId} -> the job, which makes no tasks from now on
create function millrace_api.schedule_pause(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
begin
  if not millrace.pause_schedule(millrace.locked_slug($1)) then
    perform millrace.refuse(400, 'already_paused', 'Job is already paused');
  end if;
  return millrace.schedule_json(millrace.named_schedule($1));
end
$$;

-- {jobId} -> the job, which makes tasks again, from its next time on
create function millrace_api.schedule_resume(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
begin
  if not millrace.resume_schedule(millrace.locked_slug($1)) then
    perform millrace.refuse(400, 'not_paused', 'Job is not paused');
  end if;
  return millrace.schedule_json(millrace.named_schedule($1));
end
$$;

-- {jobId} -> {message}. The tasks that the job made stay.
create function millrace_api.schedule_delete(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
begin
  perform millrace.delete_schedule(millrace.locked_slug($1));
  return jsonb_build_object('message', format('Job %s deleted successfully', $1 ->> 'jobId'));
end
$$;
