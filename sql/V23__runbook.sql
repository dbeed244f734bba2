-- The runbook: the core's queue `jobs` as the relations jobs_queue, job_runs and cron_tasks, and as the functions claim_next_job,
-- resolve_job and enqueue_cron_tasks.
--
-- They lie in `public`, so that they are called without a schema. Where that has something of one of these names already, or where nothing may be
-- made in it, they lie in the schema millrace_runbook instead, and a warning says so.
--
-- The relations are views: a job's row is made of where the job lies, nothing is stored twice. What may be written to them does what the core's
-- function for it does; anything else is refused and says which column it is about.

-- Its leases run for a quarter of an hour, since a worker here can't extend them, and a failure waits for five minutes, however it came about.
select millrace.configure_queue('jobs', max_attempts => 5, backoff => 'fixed', backoff_base => '5 minutes', backoff_jitter => false,
                                lease => '15 minutes');

-- Gives a job that waits another due time; one in the past is now. An event says so, since there they are looked up once it runs.
create function millrace.reschedule(p_job_id bigint, p_run_at timestamptz) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
  v_ready  millrace.ready;
  v_parked millrace.parked;
  v_now    timestamptz;
  v_run_at timestamptz;
begin
  if p_run_at is null or p_run_at > millrace.clock() + interval '3650 days' then
    perform millrace.refuse(400, 'invalid_request', 'the time is missing, or more than ten years ahead');
  end if;
  -- The job may leave its place behind another while this looks for it: then look again.
  for v_round in 1 .. 3 loop
    delete from millrace.ready r where r.job_id = p_job_id returning r.* into v_ready;
    exit when found;
    if exists (select from millrace.parked p where p.job_id = p_job_id) then -- the slot first, as in cancel
      perform millrace.lock_slots(array[p_job_id]);
      update millrace.parked p set run_at = greatest(p_run_at, millrace.clock()) where p.job_id = p_job_id returning p.* into v_parked;
      exit when found;
    end if;
  end loop;
  v_now := millrace.clock(); -- the delete gave this transaction its id
  v_run_at := coalesce(v_parked.run_at, greatest(p_run_at, v_now));
  if v_ready.job_id is not null then
    insert into millrace.ready (lane_id, run_at, job_id, attempts, retried, resumed)
    values (v_ready.lane_id, v_run_at, v_ready.job_id, v_ready.attempts, v_ready.retried, v_ready.resumed);
  elsif v_parked.job_id is null then
    perform millrace.refuse_transition(p_job_id, 'not_waiting', 'only a job that waits can be given another time');
  end if;
  insert into millrace.job_events (job_id, event_type, created_at, payload, queue_id)
  select j.id, case when coalesce(v_ready.attempts, v_parked.attempts) = 0 then 'queued' else 'retry_scheduled' end, v_now,
         jsonb_strip_nulls(jsonb_build_object('run_at', v_run_at, 'from', 'queued', 'traceparent', j.traceparent)), j.queue_id
    from millrace.job j where j.id = p_job_id;
  perform millrace.notify_channels(array(select j.queue_id from millrace.job j where j.id = p_job_id and v_run_at <= v_now));
end
$$;

-- An insert into jobs_queue. What only the queue may write must not be given, so that nobody believes it was taken.
create function millrace.insert_into_jobs_queue() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column text;
  v_job_id bigint;
begin
  select c.name into v_column
    from (values ('id', new.id is not null), ('status', new.status <> 'pending'), ('attempts', new.attempts <> 0),
                 ('locked_by', new.locked_by is not null), ('locked_at', new.locked_at is not null),
                 ('last_attempt_at', new.last_attempt_at is not null), ('last_error', new.last_error is not null)) as c (name, given)
   where c.given limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s of a new job is not for its maker to choose', v_column));
  elsif coalesce(btrim(new.job_type) = '' or length(new.job_type) > 200, true) then
    perform millrace.refuse(400, 'invalid_request', 'job_type is missing or blank, or longer than 200 characters');
  elsif new.scheduled_for > millrace.clock() + interval '3650 days' then
    perform millrace.refuse(400, 'invalid_request', 'scheduled_for is more than ten years ahead');
  end if;
  v_job_id := millrace.enqueue(queue => 'jobs', type => new.job_type, payload => new.payload, priority => coalesce(new.priority, 5),
                               run_at => new.scheduled_for, max_attempts => new.max_attempts);
  execute format('select q.* from %I.%I q where q.id = $1', tg_table_schema, tg_table_name) into new using v_job_id;
  return new;
end
$$;

-- Locks a job where its status says that it lies, until the transaction ends; false where it has left that status.
create function millrace.hold_job(p_job_id bigint, p_status text) returns boolean
language plpgsql
set enable_seqscan = off
as $$
begin
  case p_status
    when 'processing' then
      perform from millrace.lease e where e.job_id = p_job_id for update;
    when 'failed' then
      perform from millrace.dead_letter d where d.job_id = p_job_id for update;
    when 'completed', 'cancelled' then
      perform from millrace.finished f
        where f.job_id = p_job_id and f.outcome = case p_status when 'completed' then 'succeeded' else p_status end for update;
    else
      -- It may leave its place behind another meanwhile, and still wait: then look again.
      for v_round in 1 .. 3 loop
        perform from millrace.ready r where r.job_id = p_job_id and (r.attempts > 0) = (p_status = 'retry') for update;
        if found then
          return true;
        end if;
        if exists (select from millrace.parked p where p.job_id = p_job_id) then -- the slot first, as in cancel
          perform millrace.lock_slots(array[p_job_id]);
          perform from millrace.parked p where p.job_id = p_job_id and (p.attempts > 0) = (p_status = 'retry') for update;
          if found then
            return true;
          end if;
        end if;
      end loop;
      return false;
  end case;
  return found;
end
$$;

-- An update of jobs_queue: another status or another time.
--
--   status = 'pending'    a failed or cancelled job is queued again with all its attempts before it; attempts = 0 may be said with it.
--                         One that waits for its retry is due now; its attempts stay as they are, and so its status is retry still
--   status = 'retry'      a failed or cancelled job is queued again with the attempts that it has made, and one more
--   status = 'cancelled'  it is withdrawn, also while it runs
--   scheduled_for         of a job that waits
--
-- A job that has left the status which the statement saw is passed over, as a table's row would be that its condition fits no more.
create function millrace.update_jobs_queue() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column text;
begin
  select n.key into v_column
    from jsonb_each(to_jsonb(new)) as n
   where n.value is distinct from to_jsonb(old) -> n.key
     and n.key <> all ('{status,scheduled_for}')
     and not (n.key = 'attempts' and new.attempts = 0 and new.status = 'pending' and old.status not in ('pending', 'retry'))
   order by n.key
   limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s of a job can''t be changed', v_column),
                            'status may become pending, retry or cancelled, and a job that waits may get another scheduled_for');
  end if;
  if new.status is distinct from old.status and new.status in ('pending', 'retry', 'cancelled') is not true then
    perform millrace.refuse(400, 'invalid_request', format('status of a job can''t be set to %s', coalesce(new.status, 'null')),
                            'it may become pending, retry or cancelled');
  end if;
  if (new.status, new.scheduled_for) is distinct from (old.status, old.scheduled_for) and not millrace.hold_job(old.id, old.status) then
    return null;
  end if;
  if old.status = 'retry' and new.status = 'pending' then
    if new.scheduled_for is not distinct from old.scheduled_for then
      perform millrace.reschedule(old.id, millrace.clock());
    end if;
  elsif new.status is distinct from old.status then
    if new.status = 'cancelled' then
      perform millrace.cancel(old.id);
    else
      perform millrace.retry(old.id, reset_attempts => new.status = 'pending');
    end if;
  end if;
  if new.scheduled_for is distinct from old.scheduled_for then
    perform millrace.reschedule(old.id, new.scheduled_for);
  end if;
  execute format('select q.* from %I.%I q where q.id = $1', tg_table_schema, tg_table_name) into new using old.id;
  return new;
end
$$;

-- What can't be written at all; the trigger's argument says what to do instead.
create function millrace.refuse_write() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.refuse(405, 'read_only', format('there is no %s in %s', lower(tg_op), tg_table_name), tg_argv[0]);
end
$$;

-- Refuses what only the queue may write to cron_tasks.
create function millrace.refuse_schedule_column(p_column text) returns void
language plpgsql
as $$
begin
  if p_column is not null then
    perform millrace.refuse(400, 'invalid_request', format('%s of a cron task is not for you to set', p_column));
  end if;
end
$$;

create function millrace.insert_into_cron_tasks() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  perform millrace.refuse_schedule_column((
    select c.name
      from (values ('id', new.id is not null), ('last_enqueued_at', new.last_enqueued_at is not null), ('created_at', new.created_at is not null),
                   ('next_run_at', new.next_run_at is not null)) as c (name, given)
     where c.given limit 1));
  v_id := millrace.create_schedule(slug => new.slug, expression => new.cron_schedule, queue => 'jobs', type => new.job_type,
                                   payload => new.payload, time_zone => new.timezone, description => new.description);
  if not new.active then
    perform millrace.pause_schedule(new.slug);
  end if;
  execute format('select t.* from %I.%I t where t.id = $1', tg_table_schema, tg_table_name) into new using v_id;
  return new;
end
$$;

create function millrace.update_cron_tasks() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.refuse_schedule_column((
    select n.key
      from jsonb_each(to_jsonb(new)) as n
     where n.value is distinct from to_jsonb(old) -> n.key and n.key in ('id', 'last_enqueued_at', 'created_at', 'next_run_at')
     order by n.key limit 1));
  -- For update_schedule null is "as it was"; in a row it is null, which a schedule has no use for but in its description.
  if (new.slug, new.job_type, new.payload, new.cron_schedule, new.timezone, new.active) is not null is not true then
    perform millrace.refuse(400, 'invalid_request', 'slug, job_type, payload, cron_schedule, timezone and active of a cron task are not null');
  end if;
  if (new.slug, new.description, new.job_type, new.payload, new.cron_schedule, new.timezone)
     is distinct from (old.slug, old.description, old.job_type, old.payload, old.cron_schedule, old.timezone) then
    perform millrace.update_schedule(slug => old.slug, new_slug => new.slug, expression => new.cron_schedule, type => new.job_type,
                                     payload => new.payload, time_zone => new.timezone, description => coalesce(new.description, ''));
  end if;
  if old.active and not new.active then
    perform millrace.pause_schedule(new.slug);
  elsif new.active and not old.active then
    perform millrace.resume_schedule(new.slug);
  end if;
  execute format('select t.* from %I.%I t where t.id = $1', tg_table_schema, tg_table_name) into new using old.id;
  return new;
end
$$;

create function millrace.delete_from_cron_tasks() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.delete_schedule(old.slug);
  return old;
end
$$;

-- Which schema: from here on names without one are made in it. Somebody else may have made things there too, and an operator or a function of
-- theirs that fits its operands more closely than the catalogue's would be taken. So what stands in the views is of exactly the types that the
-- catalogue has, and the blocks below do their work with the catalogue alone in the path.
do $$
declare
  v_taken text;
begin
  select string_agg(t.name, ', ' order by t.name) into v_taken
    from (select c.relname::text from pg_class c where c.relnamespace = to_regnamespace('public')
          union select y.typname::text from pg_type y where y.typnamespace = to_regnamespace('public')
          union select p.proname::text from pg_proc p where p.pronamespace = to_regnamespace('public')) as t (name)
   where t.name in ('jobs_queue', 'job_runs', 'cron_tasks', 'claim_next_job', 'resolve_job', 'enqueue_cron_tasks');
  if v_taken is null and coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'create'), false) then
    set local search_path = public;
  else
    create schema if not exists millrace_runbook;
    comment on schema millrace_runbook is 'Millrace''s runbook (jobs_queue, job_runs, cron_tasks and their functions), which had no place in public.';
    set local search_path = millrace_runbook;
    raise warning 'the runbook is in the schema millrace_runbook, since public %',
      coalesce('has ' || v_taken || ' already', 'is not there, or nothing may be made in it')
      using hint = 'Name the schema, or put it on the search_path.';
  end if;
end
$$;

-- A branch for each status, so that a condition on the status reads its own branch alone, and one on the id probes keys. Each branch looks its jobs
-- up one by one, by their key (lateral with a limit): where a table has not been analysed since it grew, the planner takes a join of the whole of
-- job for cheap, and it is quadratic.
--
-- Who reads the views has no right to the tables below, and must see nothing of other queues, also not by a function of his own that the planner
-- takes for cheaper than the condition on the queue. Hence security_barrier: conditions go in only where they can't leak, which comparisons with = < >
-- can't. A condition that joins another relation does not go in either.
create view jobs_queue with (security_barrier = true) as
  select s.job_id as id, s.type as job_type, s.payload, s.status, s.priority::int as priority,
         coalesce(s.run_at,
                  (select coalesce((e.payload ->> text 'run_at')::timestamptz, e.created_at) from millrace.job_events e
                    where e.job_id = s.job_id and e.event_type in ('queued', 'retry_scheduled', 'postponed', 'replayed') and not e.payload ? text 'job_id'
                    order by e.id desc limit 1),
                  s.enqueued_at) as scheduled_for,
         s.attempts::int as attempts,
         coalesce(s.max_attempts, (select q.max_attempts from millrace.queue q where q.name = 'jobs')) as max_attempts,
         -- other faces' workers have names of other forms
         case when s.worker ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then s.worker::uuid end as locked_by,
         s.leased_at as locked_at,
         coalesce(s.leased_at, (select max(a.started_at) from millrace.attempt a where a.job_id = s.job_id)) as last_attempt_at,
         case when s.status <> 'completed' then
           coalesce(s.error, (select coalesce(a.error, a.error_code) from millrace.attempt a
                               where a.job_id = s.job_id and a.outcome in ('failed', 'lease_expired') order by a.lease_id desc limit 1)) end as last_error
    from (select r.job_id, 'pending' as status, r.run_at, r.attempts, null::text as worker, null::timestamptz as leased_at, null::text as error,
                 l.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.ready r join millrace.lane l on l.id = r.lane_id
           cross join lateral (select * from millrace.job i where i.id = r.job_id limit 1) as j
           where r.attempts = 0
          union all
          select r.job_id, 'retry', r.run_at, r.attempts, null, null, null, l.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.ready r join millrace.lane l on l.id = r.lane_id
           cross join lateral (select * from millrace.job i where i.id = r.job_id limit 1) as j
           where r.attempts > 0
          union all
          select p.job_id, 'pending', p.run_at, p.attempts, null, null, null, p.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.parked p
           cross join lateral (select * from millrace.job i where i.id = p.job_id limit 1) as j
           where p.attempts = 0
          union all
          select p.job_id, 'retry', p.run_at, p.attempts, null, null, null, p.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.parked p
           cross join lateral (select * from millrace.job i where i.id = p.job_id limit 1) as j
           where p.attempts > 0
          union all
          select e.job_id, 'processing', null, e.attempt, e.worker, e.leased_at, null, e.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.lease e
           cross join lateral (select * from millrace.job i where i.id = e.job_id limit 1) as j
          union all
          select f.job_id, 'completed', null, f.attempts, null, null, null, j.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.finished f
           cross join lateral (select * from millrace.job i where i.id = f.job_id limit 1) as j
           where f.outcome = 'succeeded'
          union all
          select f.job_id, 'cancelled', null, f.attempts, null, null, null, j.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.finished f
           cross join lateral (select * from millrace.job i where i.id = f.job_id limit 1) as j
           where f.outcome = 'cancelled'
          union all
          select d.job_id, 'failed', null, d.attempts, null, null, coalesce(d.error, d.reason), d.queue_id, j.type, j.payload, j.priority, j.max_attempts, j.enqueued_at
            from millrace.dead_letter d
           cross join lateral (select * from millrace.job i where i.id = d.job_id limit 1) as j) as s
   where s.queue_id = (select q.id from millrace.queue q where q.name = 'jobs');

comment on view jobs_queue is 'The jobs of the queue `jobs`. Insert one (job_type, payload, priority, scheduled_for, max_attempts); update its status to pending, retry or cancelled. '
  'A condition on id (= or in a list) or on status reads little; any other, and an order by scheduled_for or last_attempt_at without a status, reads every job that is kept; '
  'a join on id does too, so say id = any (array(select …)). For roles that read it often: alter role … set jit = off.';

create trigger insert_into_jobs_queue instead of insert on jobs_queue for each row execute function millrace.insert_into_jobs_queue();
create trigger update_jobs_queue instead of update on jobs_queue for each row execute function millrace.update_jobs_queue();
create trigger refuse_delete instead of delete on jobs_queue for each row
  execute function millrace.refuse_write('cancel the job: update its status to cancelled; retention takes it in time');

create view job_runs with (security_barrier = true) as
  select r.lease_id as id, r.job_id, r.attempt::int as attempt_number,
         case when r.worker ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then r.worker::uuid end as worker_id,
         r.status, r.error as error_message, r.started_at, r.finished_at
    from (select e.lease_id, e.job_id, e.attempt, e.worker, 'processing' as status, null::text as error, e.leased_at as started_at,
                 null::timestamptz as finished_at
            from millrace.lease e
          union all
          select a.lease_id, a.job_id, a.attempt, a.worker, 'completed', null, a.started_at, a.finished_at
            from millrace.attempt a where a.outcome = 'succeeded'
          union all
          select a.lease_id, a.job_id, a.attempt, a.worker, 'failed', coalesce(a.error, a.error_code), a.started_at, a.finished_at
            from millrace.attempt a where a.outcome in ('failed', 'lease_expired')
          union all
          select a.lease_id, a.job_id, a.attempt, a.worker, 'cancelled', null, a.started_at, a.finished_at
            from millrace.attempt a where a.outcome = 'cancelled'
          union all
          select a.lease_id, a.job_id, a.attempt, a.worker, 'postponed', coalesce(a.error, a.error_code), a.started_at, a.finished_at
            from millrace.attempt a where a.outcome = 'postponed') as r
   cross join lateral (select i.queue_id from millrace.job i where i.id = r.job_id limit 1) as j
   where j.queue_id = (select q.id from millrace.queue q where q.name = 'jobs');

comment on view job_runs is 'Each attempt at a job of the queue `jobs`, the running ones included. Its id is that of the lease. '
  'A condition on job_id (= or in a list) reads little, any other every attempt that is kept.';

create trigger refuse_write instead of insert or update or delete on job_runs for each row
  execute function millrace.refuse_write('it is history, written as claim_next_job and resolve_job are called');

create view cron_tasks with (security_barrier = true) as
  select s.id, s.slug, nullif(s.description, '') as description, s.type as job_type, s.payload, s.expression as cron_schedule,
         s.time_zone as timezone, s.paused_at is null as active, s.last_enqueued_at, s.created_at, s.updated_at, s.next_run_at
    from millrace.schedule s
   where s.queue = 'jobs';

comment on view cron_tasks is 'The schedules of the queue `jobs`. Insert (slug, job_type, cron_schedule, and what else there is to say), update, delete. A view has no ON CONFLICT: update the row that is there.';

create trigger insert_into_cron_tasks instead of insert on cron_tasks for each row execute function millrace.insert_into_cron_tasks();
create trigger update_cron_tasks instead of update on cron_tasks for each row execute function millrace.update_cron_tasks();
create trigger delete_from_cron_tasks instead of delete on cron_tasks for each row execute function millrace.delete_from_cron_tasks();

-- Made with the schema's name written in, for when it runs it must look nowhere that its caller can choose.
do $$
declare
  v_schema constant name := pg_catalog.current_schema();
begin
  set local search_path = pg_catalog;
  execute format($function$
    create function %1$I.claim_next_job(worker_id uuid, job_type text default null) returns setof %1$I.jobs_queue
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $body$
    declare
      v_job_id bigint;
    begin
      v_job_id := (select c.job_id from millrace.claim(queue => 'jobs', worker => claim_next_job.worker_id::text, type => claim_next_job.job_type) as c);
      return query select q.* from %1$I.jobs_queue q where q.id = v_job_id;
    end
    $body$
  $function$, v_schema);
  perform set_config('search_path', quote_ident(v_schema), true);
end
$$;

comment on function claim_next_job is 'Leases the best due job, of a type if one is named, to the worker: its row, or none. Resolve it within 15 minutes.';

-- Ends the attempt that the worker has in hand. A worker that does not hold the job is refused: its lease may have run out, and another worker may have
-- the job by now.
create function resolve_job(job_id bigint, worker_id uuid, success boolean, error text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
  v_answer record;
begin
  perform millrace.check_worker(resolve_job.worker_id::text);
  if resolve_job.success is null then
    perform millrace.refuse(400, 'invalid_request', 'success is missing');
  end if;
  if not exists (select from millrace.job j join millrace.queue q on q.id = j.queue_id where j.id = resolve_job.job_id and q.name = 'jobs') then
    perform millrace.refuse(404, 'job_not_found', 'there is no such job in jobs_queue');
  end if;
  -- An error is for people to read: cut to its bounds rather than lost with the report.
  select * into v_answer
    from millrace.report_many(jsonb_build_array(jsonb_build_object(
           'job_id', resolve_job.job_id, 'worker', resolve_job.worker_id, 'succeeded', resolve_job.success,
           'error', left(resolve_job.error, 10000))));
  if v_answer.code is not null then
    perform millrace.refuse(millrace.refusal_status(v_answer.code), v_answer.code, v_answer.message);
  end if;
end
$$;

comment on function resolve_job is 'Ends the worker''s attempt: completed, or failed, which is tried again after 5 minutes while it has attempts left.';

create function enqueue_cron_tasks() returns integer
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select millrace.enqueue_due() $$;

comment on function enqueue_cron_tasks is 'Enqueues what schedules have due, each due time once whoever calls; returns how many jobs. Call it once a minute or more often.';

select millrace.leave_to_clients(array['claim_next_job(uuid, text)', 'resolve_job(bigint, uuid, boolean, text)', 'enqueue_cron_tasks()']::regprocedure[]);

-- The relations likewise, for the same roles: who works the queue from SQL may look at it too. In a Supabase database everything in public is the
-- browsers' as soon as it is made.
do $$
declare
  v_schema   constant name := pg_catalog.current_schema();
  v_relation regclass;
  v_rights   text;
  v_role     text;
begin
  set local search_path = pg_catalog;
  for v_relation, v_rights in select format('%I.%I', v_schema, r.name), r.rights
                                from (values ('jobs_queue', 'select, insert, update'), ('job_runs', 'select'),
                                             ('cron_tasks', 'select, insert, update, delete')) as r (name, rights) loop
    perform millrace.leave_to_owner(v_relation);
    for v_role in select quote_ident(r.rolname) from pg_roles r where r.rolname in ('millrace_client', 'service_role') loop
      execute format('grant %s on %s to %s', v_rights, v_relation, v_role);
      if v_schema <> 'public' then
        execute format('grant usage on schema %I to %s', v_schema, v_role);
      end if;
    end loop;
  end loop;
end
$$;
