-- Schedules: each makes jobs at the due times of a cron expression, and each due time makes at most one job, however many
-- callers of millrace.enqueue_due() race and whenever one of them is killed.
--
-- How: a schedule's next_run_at is the first due time that was not dealt with. A call locks the schedules that are due, passing over
-- those that another call has in hand, and in that one transaction writes the jobs, the history and the new next_run_at. A call that
-- dies leaves none of the three. What was dealt with is looked up in schedule_run, whose primary key is (schedule_id, due_at), so there is no second
-- job for the same due time even where next_run_at went back (a clock that stepped back, and then somebody paused and resumed).
-- A clock that steps back alone does nothing: next_run_at decides, and it is simply not due yet.
--
-- Missed: a due time that is seen later than `grace` after it was due. While none was missed, every due time makes a job: a tick each
-- minute still gives a schedule of every 10 seconds its six. Once one was missed, catch_up decides:
--
--   none  those within grace make their jobs, the others are recorded as missed
--   one   the latest due time makes a job, and all before it are recorded as missed
--   all   every one makes a job, a bounded number in each call
--
-- Overlap, where the schedule's last job is still queued or running when the next is due:
--
--   allow  it makes a job all the same
--   skip   it makes none, and is recorded as skipped
--   queue  it makes a job that waits for the one before: they have a concurrency key, schedule:ID, which holds within one queue. A
--          schedule that is moved to another queue while its last job waits starts there at once
--
-- Only the schedule's newest job counts as the last one.
--
-- Times that are missed or skipped in a row are one row of history, so a week's outage of a schedule of every second is one row too.

create table millrace.schedule (
  id               bigint generated always as identity primary key,
  slug             text not null unique check (btrim(slug) <> '' and length(slug) <= 200),
  description      text,
  queue            text not null,
  type             text not null,
  payload          jsonb not null,
  priority         smallint not null,
  max_attempts     int check (max_attempts between 1 and 1000),
  expression       text not null,
  time_zone        text not null,
  catch_up         text not null check (catch_up in ('none', 'one', 'all')),
  overlap          text not null check (overlap in ('allow', 'skip', 'queue')),
  grace            interval not null check (grace between '0' and '365 days'),
  paused_at        timestamptz,
  next_run_at      timestamptz,
  last_due_at      timestamptz,
  last_enqueued_at timestamptz,
  last_job_id      bigint,
  last_error       text,
  last_error_at    timestamptz,
  created_at       timestamptz not null,
  updated_at       timestamptz not null,
  check ((paused_at is null) = (next_run_at is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- Serves the search for what is due. A paused schedule has no next_run_at.
create index schedule_due on millrace.schedule (next_run_at, id) where next_run_at is not null;

comment on column millrace.schedule.slug is 'Its name, chosen by whoever makes it.';
comment on column millrace.schedule.max_attempts is 'Of each of its jobs; NULL follows the queue.';
comment on column millrace.schedule.grace is 'How late a due time may be seen before it counts as missed.';
comment on column millrace.schedule.next_run_at is 'The first due time not dealt with; NULL while it is paused, infinity where there is none any more.';
comment on column millrace.schedule.last_due_at is 'The due time that made its last job.';
comment on column millrace.schedule.last_enqueued_at is 'When its last job was made, at a due time or by hand.';
comment on column millrace.schedule.last_error is 'Why its last due time made no job though it should have; NULL once one did again.';

create table millrace.schedule_run (
  schedule_id bigint not null,
  due_at      timestamptz not null,
  until       timestamptz,
  seen_at     timestamptz not null,
  outcome     text not null check (outcome in ('enqueued', 'skipped', 'missed', 'refused', 'manual')),
  job_id      bigint,
  error       text,
  primary key (schedule_id, due_at),
  check ((job_id is not null) = (outcome in ('enqueued', 'manual')))
);

-- Serves retention.
create index schedule_run_seen on millrace.schedule_run (seen_at);

comment on table millrace.schedule_run is 'What became of each due time of each schedule, and the runs that were started by hand. It outlives its schedule.';
comment on column millrace.schedule_run.until is 'Where the row stands for all due times from due_at on: up to, and without, this instant.';
comment on column millrace.schedule_run.seen_at is 'When a call of enqueue_due came by.';
comment on column millrace.schedule_run.outcome is 'refused: the queue would not take the job, or the expression could not be evaluated; error says why.';

-- Refuses a schedule with a malformed field, naming it.
create function millrace.check_schedule(p_schedule millrace.schedule) returns void
language plpgsql
as $$
declare
  v_reason text;
begin
  select format('%s %s', f.field, f.reason) into v_reason
    from (values
           ('slug', 'is missing or blank, or longer than 200 characters',
              p_schedule.slug is null or btrim(p_schedule.slug) = '' or length(p_schedule.slug) > 200),
           ('description', 'is longer than 2000 characters', length(p_schedule.description) > 2000),
           ('queue', 'is missing or blank, or longer than 200 characters',
              p_schedule.queue is null or btrim(p_schedule.queue) = '' or length(p_schedule.queue) > 200),
           ('queue', 'is Millrace''s own', millrace.is_own_queue(p_schedule.queue)),
           ('type', 'is missing or blank, or longer than 200 characters',
              p_schedule.type is null or btrim(p_schedule.type) = '' or length(p_schedule.type) > 200),
           ('payload', 'is larger than 2 MiB', octet_length(p_schedule.payload::text) > 2097152),
           ('priority', 'is not a whole number from -100 to 100', abs(p_schedule.priority) > 100),
           ('max_attempts', 'is not a whole number from 1 to 1000', p_schedule.max_attempts not between 1 and 1000),
           ('expression', 'is missing', p_schedule.expression is null),
           ('catch_up', 'is not none, one or all', p_schedule.catch_up not in ('none', 'one', 'all')),
           ('overlap', 'is not allow, skip or queue', p_schedule.overlap not in ('allow', 'skip', 'queue')),
           ('grace', 'is not from 0 to 365 days', p_schedule.grace not between '0' and '365 days')
         ) as f (field, reason, wrong)
   where f.wrong
   limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', v_reason);
  end if;
  perform millrace.check_cron(p_schedule.expression, p_schedule.time_zone);
end
$$;

-- The first due time after p_after.
create function millrace.next_due(p_schedule millrace.schedule, p_after timestamptz) returns timestamptz
language sql stable
as $$ select coalesce(millrace.cron_next(p_schedule.expression, p_after, p_schedule.time_zone), 'infinity') $$;

-- Makes the queue and the lane that the schedule's jobs go to. A round that found them missing would make them, and others would wait for it.
create function millrace.make_lane_of(p_schedule millrace.schedule) returns void
language sql
as $$
  select millrace.make_lanes(jsonb_build_array(jsonb_build_object(
           'queue', p_schedule.queue, 'type', p_schedule.type, 'priority', p_schedule.priority)))
$$;

-- The schedule of that slug, locked: a round passes over it, and waits for nobody.
create function millrace.lock_schedule(p_slug text) returns millrace.schedule
language plpgsql
set enable_seqscan = off
as $$
declare
  v_schedule millrace.schedule;
begin
  select * into v_schedule from millrace.schedule s where s.slug = p_slug for update;
  if not found then
    perform millrace.refuse(404, 'schedule_not_found', 'there is no such schedule');
  end if;
  return v_schedule;
end
$$;

create function millrace.create_schedule(slug text, expression text, queue text, type text, payload jsonb default '{}',
  time_zone text default 'UTC', priority int default 5, max_attempts int default null, catch_up text default 'one',
  overlap text default 'allow', grace interval default null, description text default null) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_new millrace.schedule;
  v_now timestamptz := millrace.clock();
begin
  v_new.slug := create_schedule.slug;
  v_new.description := create_schedule.description;
  v_new.queue := create_schedule.queue;
  v_new.type := create_schedule.type;
  v_new.payload := coalesce(create_schedule.payload, '{}');
  v_new.priority := least(greatest(coalesce(create_schedule.priority, 5), -101), 101); -- a smallint; beyond 100 it is refused
  v_new.max_attempts := create_schedule.max_attempts;
  v_new.expression := create_schedule.expression;
  v_new.time_zone := coalesce(create_schedule.time_zone, 'UTC');
  v_new.catch_up := coalesce(create_schedule.catch_up, 'one');
  v_new.overlap := coalesce(create_schedule.overlap, 'allow');
  v_new.grace := coalesce(create_schedule.grace, '2 minutes');
  perform millrace.check_schedule(v_new);
  perform millrace.make_lane_of(v_new);

  insert into millrace.schedule as s (slug, description, queue, type, payload, priority, max_attempts, expression, time_zone, catch_up, overlap,
                                      grace, next_run_at, created_at, updated_at)
  values (v_new.slug, v_new.description, v_new.queue, v_new.type, v_new.payload, v_new.priority, v_new.max_attempts, v_new.expression, v_new.time_zone,
          v_new.catch_up, v_new.overlap, v_new.grace, millrace.next_due(v_new, v_now), v_now, v_now)
      on conflict on constraint schedule_slug_key do nothing
  returning s.id into v_new.id;
  if v_new.id is null then
    perform millrace.refuse(409, 'schedule_exists', 'there is a schedule of this slug already');
  end if;
  return v_new.id;
end
$$;

comment on function millrace.create_schedule is 'Makes a schedule and returns its id. A bad expression is refused with the position of its fault.';

-- Changes what is given and leaves the rest as it is; max_attempts 0 goes back to following the queue. With another expression or zone
-- the next time is counted from now, and what was due under the old one and not yet dealt with is dropped.
create function millrace.update_schedule(slug text, expression text default null, queue text default null, type text default null,
  payload jsonb default null, time_zone text default null, priority int default null, max_attempts int default null,
  catch_up text default null, overlap text default null, grace interval default null, description text default null,
  new_slug text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old millrace.schedule := millrace.lock_schedule(update_schedule.slug);
  v_new millrace.schedule := v_old;
  v_now timestamptz := millrace.clock();
begin
  v_new.slug := coalesce(update_schedule.new_slug, v_old.slug);
  v_new.description := coalesce(update_schedule.description, v_old.description);
  v_new.queue := coalesce(update_schedule.queue, v_old.queue);
  v_new.type := coalesce(update_schedule.type, v_old.type);
  v_new.payload := coalesce(update_schedule.payload, v_old.payload);
  v_new.priority := least(greatest(coalesce(update_schedule.priority, v_old.priority), -101), 101);
  v_new.max_attempts := nullif(coalesce(update_schedule.max_attempts, v_old.max_attempts), 0);
  v_new.expression := coalesce(update_schedule.expression, v_old.expression);
  v_new.time_zone := coalesce(update_schedule.time_zone, v_old.time_zone);
  v_new.catch_up := coalesce(update_schedule.catch_up, v_old.catch_up);
  v_new.overlap := coalesce(update_schedule.overlap, v_old.overlap);
  v_new.grace := coalesce(update_schedule.grace, v_old.grace);
  perform millrace.check_schedule(v_new);
  perform millrace.make_lane_of(v_new);
  if v_old.paused_at is null and (v_new.expression, v_new.time_zone) <> (v_old.expression, v_old.time_zone) then
    v_new.next_run_at := millrace.next_due(v_new, v_now);
  end if;

  update millrace.schedule s
     set slug = v_new.slug, description = v_new.description, queue = v_new.queue, type = v_new.type, payload = v_new.payload,
         priority = v_new.priority, max_attempts = v_new.max_attempts, expression = v_new.expression, time_zone = v_new.time_zone,
         catch_up = v_new.catch_up, overlap = v_new.overlap, grace = v_new.grace, next_run_at = v_new.next_run_at, updated_at = v_now
   where s.id = v_old.id;
exception when unique_violation then
  perform millrace.refuse(409, 'schedule_exists', 'there is a schedule of this slug already');
end
$$;

comment on function millrace.update_schedule is 'Changes what is given of a schedule.';

-- Answers whether it was running before: pausing twice is no error.
create function millrace.pause_schedule(slug text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_schedule millrace.schedule := millrace.lock_schedule(pause_schedule.slug);
  v_now      timestamptz := millrace.clock();
begin
  update millrace.schedule s set paused_at = v_now, next_run_at = null, updated_at = v_now where s.id = v_schedule.id and s.paused_at is null;
  return found;
end
$$;

comment on function millrace.pause_schedule is 'From now on the schedule makes no jobs; those it made stay.';

-- Answers whether it was paused before. The next time is counted from now: a pause is not a miss.
create function millrace.resume_schedule(slug text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_schedule millrace.schedule := millrace.lock_schedule(resume_schedule.slug);
  v_now      timestamptz := millrace.clock();
begin
  update millrace.schedule s
     set paused_at = null, next_run_at = millrace.next_due(v_schedule, v_now), updated_at = v_now
   where s.id = v_schedule.id and s.paused_at is not null;
  return found;
end
$$;

comment on function millrace.resume_schedule is 'The schedule makes jobs again, from its next time on.';

-- Its jobs stay, and so does its history until retention takes it.
create function millrace.delete_schedule(slug text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_schedule millrace.schedule := millrace.lock_schedule(delete_schedule.slug);
begin
  delete from millrace.schedule s where s.id = v_schedule.id;
end
$$;

comment on function millrace.delete_schedule is 'Ends a schedule; the jobs that it made stay.';

-- One job of the schedule, as enqueue_many takes it.
create function millrace.job_request(p_schedule millrace.schedule) returns jsonb
language sql stable
as $$
  select jsonb_build_object(
    'queue', p_schedule.queue, 'type', p_schedule.type, 'payload', p_schedule.payload, 'priority', p_schedule.priority,
    'max_attempts', p_schedule.max_attempts,
    'concurrency_key', case p_schedule.overlap when 'queue' then 'schedule:' || p_schedule.id end)
$$;

-- Whether the schedule's last job has not ended yet.
create function millrace.is_running(p_schedule millrace.schedule) returns boolean
language sql stable
as $$ select coalesce(millrace.job_state(p_schedule.last_job_id) in ('queued', 'running'), false) $$;

-- Makes one job of the schedule now, paused or not, and returns its key. Its due times come as if nothing had happened.
create function millrace.run_schedule(slug text) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
  v_schedule millrace.schedule := millrace.lock_schedule(run_schedule.slug);
  v_at       timestamptz := millrace.clock();
  v_job_id   bigint;
begin
  if v_schedule.overlap = 'skip' and millrace.is_running(v_schedule) then
    perform millrace.refuse(409, 'schedule_running', 'the schedule''s last job has not ended, and its jobs may not overlap');
  end if;
  -- A due time is a whole second, so a run by hand never stands in the place of one.
  while v_at = date_trunc('second', v_at)
        or exists (select from millrace.schedule_run r where r.schedule_id = v_schedule.id and r.due_at = v_at) loop
    v_at := v_at + interval '1 microsecond';
  end loop;
  v_job_id := (select e.job_id from millrace.enqueue_many(jsonb_build_array(millrace.job_request(v_schedule))) as e);
  insert into millrace.schedule_run (schedule_id, due_at, seen_at, outcome, job_id) values (v_schedule.id, v_at, v_at, 'manual', v_job_id);
  update millrace.schedule s set last_enqueued_at = v_at, last_job_id = v_job_id where s.id = v_schedule.id;
  return v_job_id;
end
$$;

comment on function millrace.run_schedule is 'Makes one job of the schedule now, by hand, and returns its key.';

create function millrace.schedules(slug text default null) returns setof millrace.schedule
language sql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
  select s.* from millrace.schedule s where s.slug = $1
  union all
  select s.* from millrace.schedule s where $1 is null
   order by slug
$$;

comment on function millrace.schedules is 'All schedules by slug, or the one of that slug: what each is set to, when it runs next, and how it went last.';

create function millrace.schedule_history(slug text, max_rows int default 100, before timestamptz default 'infinity')
returns table (due_at timestamptz, until timestamptz, seen_at timestamptz, outcome text, job_id bigint, job_state text, error text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_schedule_id bigint;
begin
  select s.id into v_schedule_id from millrace.schedule s where s.slug = schedule_history.slug;
  if not found then
    perform millrace.refuse(404, 'schedule_not_found', 'there is no such schedule');
  elsif schedule_history.max_rows is null or schedule_history.max_rows not between 1 and 1000 then
    perform millrace.refuse(400, 'invalid_request', 'max_rows is not from 1 to 1000');
  end if;
  return query
    select r.due_at, r.until, r.seen_at, r.outcome, r.job_id, millrace.job_state(r.job_id), r.error
      from millrace.schedule_run r
     where r.schedule_id = v_schedule_id and r.due_at < schedule_history.before
     order by r.due_at desc
     limit schedule_history.max_rows;
end
$$;

comment on function millrace.schedule_history is 'What became of a schedule''s due times, latest first; page on with before => the last row''s due_at.';

-- One row of history to be: what becomes of a due time, or of all from due_at until `until`.
create type millrace.planned_run as (
  schedule_id bigint,
  due_at      timestamptz,
  until       timestamptz,
  outcome     text,
  error       text,
  request     jsonb -- the job to make of it
);

-- The last due time that is not after p_now; p_first is a due time already. By halves, not step by step: a schedule of every
-- second after a week's outage takes 20 steps. Due times are whole seconds.
create function millrace.last_due(p_schedule millrace.schedule, p_first timestamptz, p_now timestamptz) returns timestamptz
language plpgsql stable
as $$
declare
  v_last timestamptz := p_first; -- a due time
  v_none timestamptz := p_now;   -- after this, up to now, there is none
  v_half timestamptz := p_first; -- the next one first: mostly it is ahead
  v_next timestamptz;
begin
  while v_none - v_last >= interval '1 second' loop
    v_next := millrace.next_due(p_schedule, v_half);
    if v_next <= p_now then
      v_last := v_next;
    else
      v_none := v_half;
    end if;
    v_half := v_last + (v_none - v_last) / 2;
  end loop;
  return v_last;
end
$$;

-- What becomes of the due times of one schedule up to p_now, at most p_most jobs, and when it is due again.
create function millrace.plan_round(p_schedule millrace.schedule, p_now timestamptz, p_most int,
  out runs millrace.planned_run[], out next_run_at timestamptz)
language plpgsql
as $$
declare
  v_in_time constant timestamptz := p_now - p_schedule.grace; -- what was due before this is missed
  v_instant constant interval := '1 microsecond';             -- cron_times and cron_next begin after their bound
  v_most    constant int := case p_schedule.overlap when 'skip' then 2 else p_most end;
  v_id      constant bigint := p_schedule.id;
  v_due     timestamptz[] := '{}'; -- those that make a job, if nothing overlaps
  v_first   timestamptz;
  v_missed  timestamptz;
begin
  runs := '{}';
  if p_schedule.catch_up = 'all' or p_schedule.next_run_at >= v_in_time then
    v_due := array(select t from millrace.cron_times(p_schedule.expression, p_schedule.next_run_at - v_instant, p_now, p_schedule.time_zone, v_most) as t);
  else
    v_first := millrace.next_due(p_schedule, p_schedule.next_run_at - v_instant);
    if p_schedule.catch_up = 'none' then
      v_due := array(select t from millrace.cron_times(p_schedule.expression, v_in_time - v_instant, p_now, p_schedule.time_zone, v_most) as t);
      v_missed := v_in_time;
    elsif v_first <= p_now then
      v_due := array[millrace.last_due(p_schedule, v_first, p_now)];
      v_missed := v_due[1];
    end if;
    if v_first < v_missed then
      runs := runs || (v_id, v_first, v_missed, 'missed', null, null)::millrace.planned_run;
    end if;
  end if;

  -- No due time lies between the last one found and now, unless there were too many: then the next call goes on from there.
  next_run_at := millrace.next_due(p_schedule, case when p_schedule.overlap = 'skip' then p_now else coalesce(v_due[cardinality(v_due)], p_now) end);

  if p_schedule.overlap = 'skip' then
    if not millrace.is_running(p_schedule) then
      runs := runs || array(select (v_id, t, null, 'enqueued', null, millrace.job_request(p_schedule))::millrace.planned_run from unnest(v_due[:1]) as t);
      v_due := v_due[2:];
    end if;
    runs := runs || array(select (v_id, t, next_run_at, 'skipped', null, null)::millrace.planned_run from unnest(v_due) as t order by t limit 1);
  else
    runs := runs || array(select (v_id, t, null, 'enqueued', null, millrace.job_request(p_schedule))::millrace.planned_run from unnest(v_due) as t order by t);
  end if;
end
$$;

-- Writes a round: its jobs in one call of enqueue_many, the history, and when each schedule is due again. Returns how many jobs.
create function millrace.write_round(p_schedules bigint[], p_next timestamptz[], p_runs millrace.planned_run[], p_now timestamptz) returns int
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_requests jsonb;
  v_jobs     bigint[] := '{}';
begin
  select jsonb_agg(r.request order by r.place) into v_requests
    from unnest(p_runs) with ordinality as r (schedule_id, due_at, until, outcome, error, request, place)
   where r.request is not null;
  if v_requests is not null then
    v_jobs := array(select e.job_id from millrace.enqueue_many(v_requests) as e order by e.ord);
  end if;

  insert into millrace.schedule_run (schedule_id, due_at, until, seen_at, outcome, job_id, error)
  select r.schedule_id, r.due_at, r.until, p_now, r.outcome, case when r.request is not null then v_jobs[count(r.request) over (order by r.place)] end, r.error
    from unnest(p_runs) with ordinality as r (schedule_id, due_at, until, outcome, error, request, place);

  update millrace.schedule s
     set next_run_at = n.next_run_at,
         last_due_at = case n.outcome when 'enqueued' then n.due_at else s.last_due_at end,
         last_enqueued_at = case n.outcome when 'enqueued' then p_now else s.last_enqueued_at end,
         last_job_id = case n.outcome when 'enqueued' then n.job_id else s.last_job_id end,
         last_error = case n.outcome when 'enqueued' then null when 'refused' then n.error else s.last_error end,
         last_error_at = case n.outcome when 'refused' then p_now else s.last_error_at end
    from (select p.id, p.next_run_at, r.due_at, r.outcome, r.job_id, r.error
            from unnest(p_schedules, p_next) as p (id, next_run_at)
           cross join lateral (select i.next_run_at from millrace.schedule i where i.id = p.id limit 1) as o
            left join lateral (select * from millrace.schedule_run i
                                where i.schedule_id = p.id and i.due_at >= o.next_run_at and i.outcome in ('enqueued', 'refused')
                                order by i.due_at desc limit 1) as r on true) as n
   where s.id = n.id;
  return cardinality(v_jobs);
end
$$;

-- Whether an error may be gone by the next call, so that the whole of this one should rather be undone and tried again.
create function millrace.is_transient(p_sqlstate text) returns boolean
language sql immutable
as $$ select left(p_sqlstate, 2) in ('40', '53', '55', '57', '58') or p_sqlstate = 'PT503' $$;

-- One batch: of the schedules that are due up to 500, those due for longest first. Returns how many jobs it enqueued, and NULL where nothing is
-- due that another call has not in hand. No schedule gets more than its share of a batch, so one with a long backlog doesn't keep the others
-- waiting. A batch also ends at 8 MiB of payloads.
--
-- A schedule that is refused (its queue has too many lanes, its time zone is gone) must not keep the others from running. So when a batch is
-- refused its schedules are written one by one, and the one that is refused by itself has its due times recorded as such.
create function millrace.enqueue_batch(p_max_jobs int) returns int
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_most_bytes constant bigint := 8388608;
  v_now        constant timestamptz := millrace.clock();
  v_due        bigint[];
  v_id         bigint;
  v_schedule   millrace.schedule;
  v_share      int;
  v_size       bigint;
  v_bytes      bigint := 0;
  v_own        millrace.planned_run[];
  v_next       timestamptz;
  v_run        millrace.planned_run;
  v_done       bigint[] := '{}'; -- the schedules of this round,
  v_nexts      timestamptz[] := '{}'; -- when each is due again,
  v_runs       millrace.planned_run[] := '{}'; -- and what becomes of their due times
begin
  v_due := array(select s.id from millrace.schedule s
                  where s.next_run_at <= v_now
                  order by s.next_run_at, s.id
                  limit least(p_max_jobs, 500)
                    for update skip locked);
  if v_due = '{}' then
    return null;
  end if;
  v_share := greatest(1, p_max_jobs / cardinality(v_due));

  foreach v_id in array v_due loop
    exit when v_bytes >= v_most_bytes;
    select * into v_schedule from millrace.schedule s where s.id = v_id;
    v_size := octet_length(v_schedule.payload::text);
    begin
      select p.runs, p.next_run_at into v_own, v_next
        from millrace.plan_round(v_schedule, v_now, least(v_share, greatest(1, (v_most_bytes - v_bytes) / v_size))::int) as p;
    exception when others then
      if millrace.is_transient(sqlstate) then
        raise;
      end if;
      v_next := v_now + interval '1 hour'; -- looked at again then
      v_own := array[(v_id, v_schedule.next_run_at, v_next, 'refused', sqlerrm, null)::millrace.planned_run];
    end;
    v_done := v_done || v_id;
    v_nexts := v_nexts || v_next;
    foreach v_run in array v_own loop
      -- What is in the history was dealt with: next_run_at may have gone back with the clock.
      if (select r.due_at = v_run.due_at or r.until > v_run.due_at
            from millrace.schedule_run r
           where r.schedule_id = v_id and r.due_at <= v_run.due_at and r.outcome <> 'manual'
           order by r.due_at desc limit 1) is not true then
        v_runs := v_runs || v_run;
        v_bytes := v_bytes + case when v_run.request is null then 0 else v_size end;
      end if;
    end loop;
  end loop;

  begin
    return millrace.write_round(v_done, v_nexts, v_runs, v_now);
  exception when others then
    if millrace.is_transient(sqlstate) then
      raise;
    end if;
  end;
  return millrace.write_one_by_one(v_done, v_nexts, v_runs, v_now);
end
$$;

-- The same without the jobs: in their place the first of them stands as refused, for all until p_next.
create function millrace.refused(p_runs millrace.planned_run[], p_next timestamptz, p_error text) returns millrace.planned_run[]
language sql immutable
as $$
  select array(select r from unnest(p_runs) as r where r.request is null)
         || array(select (r.schedule_id, r.due_at, p_next, 'refused', p_error, null)::millrace.planned_run
                    from unnest(p_runs) as r where r.request is not null order by r.due_at limit 1)
$$;

-- Writes a round's schedules each by itself; those that are refused have that recorded, and go on to their next time.
create function millrace.write_one_by_one(p_schedules bigint[], p_next timestamptz[], p_runs millrace.planned_run[], p_now timestamptz) returns int
language plpgsql
as $$
declare
  v_jobs int := 0;
  v_own  millrace.planned_run[];
begin
  for v_place in 1 .. cardinality(p_schedules) loop
    v_own := array(select r from unnest(p_runs) as r where r.schedule_id = p_schedules[v_place] order by r.due_at);
    begin
      v_jobs := v_jobs + millrace.write_round(p_schedules[v_place:v_place], p_next[v_place:v_place], v_own, p_now);
    exception when others then
      if millrace.is_transient(sqlstate) then
        raise;
      end if;
      perform millrace.write_round(p_schedules[v_place:v_place], p_next[v_place:v_place],
                                   millrace.refused(v_own, p_next[v_place], sqlerrm), p_now);
    end;
  end loop;
  return v_jobs;
end
$$;

-- One round: enqueues what is due, at most max_jobs jobs (1 to 1000), and returns how many it enqueued. Call it from as many places as you
-- like; whoever wants everything calls until it answers 0. A batch in which every schedule only skips or misses its time makes no job, and then the next
-- one is looked at, up to 20 of them.
create function millrace.enqueue_due(max_jobs int default 1000) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_jobs int;
begin
  if enqueue_due.max_jobs is null or enqueue_due.max_jobs not between 1 and 1000 then
    perform millrace.refuse(400, 'invalid_request', 'max_jobs is not from 1 to 1000');
  end if;
  for v_batch in 1 .. 20 loop
    v_jobs := millrace.enqueue_batch(enqueue_due.max_jobs);
    exit when v_jobs is null or v_jobs > 0;
  end loop;
  return coalesce(v_jobs, 0);
end
$$;

comment on function millrace.enqueue_due is 'Enqueues what schedules have due, each due time once whoever calls; returns how many jobs. Call it every minute or more often.';

-- Forgets the rows of history that were written before p_before, at most p_limit of them. No guard goes with them: due times of before come no more.
create function millrace.retire_schedule_runs(p_before timestamptz, p_limit int) returns void
language sql
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
  delete from millrace.schedule_run
   where ctid = any (array(select r.ctid from millrace.schedule_run r where r.seen_at < p_before
                            order by r.seen_at limit p_limit for update skip locked))
$$;

-- {limit?} -> {enqueued}: one round.
create function millrace_api.enqueue_due(jsonb) returns jsonb
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select jsonb_build_object('enqueued', millrace.enqueue_due(coalesce(($1 ->> 'limit')::int, 1000))) $$;
