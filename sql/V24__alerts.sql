-- Alerts: what somebody should know of, told once, again while it goes on, and once more when it is over.
--
--   dead_letters     jobs of a queue failed for good more than 10 minutes ago, and nobody has retried, replayed or acknowledged them
--   queue_age        a queue's oldest due job has waited longer than the queue's limit, and the queue is not paused
--   schedule_missed  a due time of a schedule was missed, seen late or refused, or the schedule is overdue: nobody enqueues what is due
--
-- An alert is one such condition of one queue or schedule, from when it is seen to hold until it no longer does; the history is kept.
-- What is said about it:
--
--   opened     it holds
--   more       since that was told, there are further dead letters or missed times (gathered for some minutes into one message)
--   repeated   it still holds, a day after the last word about it; of a schedule only while it is overdue
--   recovered  it no longer holds
--
-- A message tells of the alerts of one kind that have the same to say in one round, up to 200 of them, and names each: the others are told
-- by the next rounds. It is a job of the queue `millrace.alerts`, enqueued in the transaction that notes that it was told; so it is told once, and
-- delivery, with its retries and its dead letters, is the queue's business. Messages of one kind have one concurrency key, so they arrive in the
-- order in which they were made. Dead letters of that queue raise no alert, which would go the same way: they are in the list of dead letters
-- like any others.
--
-- A dead letter is counted in one message: an alert remembers until when its queue's dead letters were told (`told_until`), and the next message
-- has those that died after it. That is `dead_after` before the round, so one is passed over only if the transaction that wrote it went on for as
-- long as that; it still keeps the alert open, and is counted among those that wait. A due time that went amiss is noted on its row of history by
-- the statement whose answer opens the alert, so none is noted without one.
--
-- A round runs alone: another that comes meanwhile has nothing to do. That, the unique index on open alerts and the messages' idempotency
-- keys keep two rounds from telling the same.

create table millrace.alert_settings (
  one          boolean primary key default true check (one), -- one row
  dead_after   interval not null default '10 minutes' check (dead_after >= '0'),
  ready_after  interval not null default '15 minutes' check (ready_after > '0'),
  gather       interval not null default '5 minutes' check (gather >= '0'),
  repeat_after interval not null default '24 hours' check (repeat_after >= '1 minute'),
  kept         interval not null default '90 days' check (kept >= '1 day')
);
insert into millrace.alert_settings default values;

comment on table millrace.alert_settings is 'When alerts are raised and repeated; its owner updates the one row.';
comment on column millrace.alert_settings.dead_after is 'How long a job has been dead before somebody is told: time for those who look anyway.';
comment on column millrace.alert_settings.ready_after is 'How long a due job may wait, in queues that have no alert_age of their own.';
comment on column millrace.alert_settings.gather is 'How long the next dead letters of a queue, or missed times, are gathered before they are told of too.';
comment on column millrace.alert_settings.repeat_after is 'After how long without a word about an alert that still holds it is told of again.';
comment on column millrace.alert_settings.kept is 'How long alerts that are over are kept.';

create table millrace.alert (
  id               bigint generated always as identity primary key,
  kind             text not null check (kind in ('dead_letters', 'queue_age', 'schedule_missed')),
  subject_id       bigint not null, -- the queue, or the schedule
  subject          text not null,   -- its name, or its slug, when this was opened
  opened_at        timestamptz not null,
  missed_at        timestamptz,
  told             int not null default 0,
  last_told_at     timestamptz,
  told_until       timestamptz,
  resolved_at      timestamptz,
  recovery_told_at timestamptz
);

create unique index alert_open on millrace.alert (kind, subject_id) where resolved_at is null;
create index alert_recovered on millrace.alert (id) where resolved_at is not null and told > 0 and recovery_told_at is null;
create index alert_resolved on millrace.alert (resolved_at) where resolved_at is not null;

comment on table millrace.alert is 'What was, or is, to be told: one row for each time that a condition held.';
comment on column millrace.alert.missed_at is 'When a round last saw a due time that went amiss.';
comment on column millrace.alert.told_until is 'The dead letters of the queue that died until then were told of.';
comment on column millrace.alert.told is 'How many messages have told that it holds; none were made while nobody was there to be told.';

alter table millrace.schedule_run add column alerted_at timestamptz;
comment on column millrace.schedule_run.alerted_at is 'When a round of alerts took note of it, where it was missed, refused or more than a minute late.';
create index schedule_run_amiss on millrace.schedule_run (schedule_id, due_at)
  where alerted_at is null and outcome <> 'manual' and (outcome in ('missed', 'refused') or seen_at - due_at > interval '1 minute');

-- Where alerts go. Without jitter 300 attempts take two days, so a webhook that is down for a day costs no message; paused, the queue keeps them all.
select millrace.configure_queue('millrace.alerts', max_attempts => 300, backoff_base => '15 seconds', backoff_cap => '10 minutes', backoff_jitter => false);

-- A person says of a dead letter that he knows of it: no alert tells of it any more. It stays in the list and may still be replayed.
create function millrace.acknowledge(dead_letter_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
  update millrace.dead_letter d set acknowledged_at = coalesce(d.acknowledged_at, millrace.clock()) where d.id = acknowledge.dead_letter_id;
  if not found then
    perform millrace.refuse(404, 'dead_letter_not_found', 'there is no such dead letter');
  end if;
end
$$;

comment on function millrace.acknowledge is 'Says that somebody knows of a dead letter: no alert tells of it any more.';

-- Of all dead letters that a queue has now; those that come later are told of again. Returns how many.
create function millrace.acknowledge_queue(queue text) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
  v_count bigint;
begin
  update millrace.dead_letter d set acknowledged_at = millrace.clock()
   where d.queue_id = (select q.id from millrace.queue q where q.name = acknowledge_queue.queue)
     and d.retried_at is null and d.acknowledged_at is null;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function millrace.acknowledge_queue is 'Acknowledges all dead letters that a queue has now; returns how many.';

-- Whether the queue has dead letters that nobody has dealt with, dead after p_after and not after p_until.
create function millrace.has_dead_letters(p_queue_id bigint, p_after timestamptz, p_until timestamptz) returns boolean
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  return exists (select from millrace.dead_letter d
                  where d.queue_id = p_queue_id and d.retried_at is null and d.acknowledged_at is null and d.dead_at > p_after and d.dead_at <= p_until);
end
$$;

-- How many there are, counted no further than a reader cares: to 10,000.
create function millrace.count_dead_letters(p_queue_id bigint, p_after timestamptz, p_until timestamptz) returns int
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  return (select count(*) from (select from millrace.dead_letter d
                                 where d.queue_id = p_queue_id and d.retried_at is null and d.acknowledged_at is null
                                   and d.dead_at > p_after and d.dead_at <= p_until
                                 limit 10000) as d);
end
$$;

-- How long the queue's oldest due job may wait, in seconds.
create function millrace.age_limit(p_queue millrace.queue) returns numeric
language sql stable
as $$ select extract(epoch from coalesce(p_queue.alert_age, (select s.ready_after from millrace.alert_settings s))) $$;

-- Whether the queue's oldest due job waits for longer than that share of its limit.
create function millrace.is_queue_late(p_queue millrace.queue, p_share numeric) returns boolean
language sql stable
as $$ select p_queue.paused_at is null and millrace.oldest_ready_age(p_queue.id) > millrace.age_limit(p_queue) * p_share $$;

-- Whether what the schedule has due was not enqueued in time, and still is not.
create function millrace.is_overdue(p_schedule millrace.schedule) returns boolean
language sql stable
as $$ select coalesce(p_schedule.next_run_at < millrace.clock() - greatest(p_schedule.grace, interval '1 minute'), false) $$;

-- Takes note of due times that went amiss, up to 10,000 in a round, and answers with the schedules to be told of for them: not those that are
-- paused, nor those of which they came within grace.
create function millrace.note_missed_runs(p_now timestamptz) returns bigint[]
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_missed bigint[];
begin
  with noted as (
    update millrace.schedule_run r set alerted_at = p_now
     where r.ctid = any (array(
             select i.ctid from millrace.schedule_run i
              where i.alerted_at is null and i.outcome <> 'manual' and (i.outcome in ('missed', 'refused') or i.seen_at - i.due_at > interval '1 minute')
              limit 10000
                for update skip locked))
    returning r.schedule_id, r.outcome, r.seen_at - r.due_at as late
  )
  select array_agg(distinct s.id) into v_missed
    from noted n
   cross join lateral (select * from millrace.schedule i where i.id = n.schedule_id limit 1) as s
   where (n.outcome in ('missed', 'refused') or n.late > s.grace) and s.paused_at is null;
  return coalesce(v_missed, '{}');
end
$$;

-- Opens an alert for every condition that holds and has none. Returns how many. A queue that was late until just now is given the time in which
-- messages are gathered.
create function millrace.open_alerts(p_now timestamptz) returns int
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_settings millrace.alert_settings;
  v_missed   bigint[] := millrace.note_missed_runs(p_now);
  v_count    int;
begin
  select * into v_settings from millrace.alert_settings;
  update millrace.alert a set missed_at = p_now where a.kind = 'schedule_missed' and a.subject_id = any (v_missed) and a.resolved_at is null;
  insert into millrace.alert (kind, subject_id, subject, opened_at, missed_at)
  select c.kind, c.id, c.subject, p_now, c.missed_at
    from (select 'dead_letters' as kind, q.id::bigint as id, q.name as subject, null::timestamptz as missed_at from millrace.queue q
           where q.name <> 'millrace.alerts' and millrace.has_dead_letters(q.id, '-infinity', p_now - v_settings.dead_after)
          union all
          select 'queue_age', q.id, q.name, null from millrace.queue q
           where q.name <> 'millrace.alerts' and millrace.is_queue_late(q, 1)
             and not exists (select from millrace.alert a
                              where a.resolved_at > p_now - v_settings.gather and a.kind = 'queue_age' and a.subject_id = q.id)
          union all
          select 'schedule_missed', s.id, s.slug, case when s.id = any (v_missed) then p_now end
            from (select i.id from millrace.schedule i where i.next_run_at < p_now and millrace.is_overdue(i)
                  union -- a schedule may be both
                  select v from unnest(v_missed) as v) as l (id)
           cross join lateral (select * from millrace.schedule i where i.id = l.id limit 1) as s) as c
      on conflict (kind, subject_id) where resolved_at is null do nothing;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- Whether the condition of an alert still holds. Dead letters: as long as there is any, however young. A queue: until its oldest due job has waited for
-- less than half of its limit, so that one at the limit does not come and go. A schedule: until it is paused or deleted, or a due time of its was seen in
-- time since the last one that was amiss, and that one was told; not only until it is no longer overdue, or it would recover in the round that noticed.
create function millrace.alert_holds(p_alert millrace.alert, p_now timestamptz) returns boolean
language plpgsql stable
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_schedule millrace.schedule;
  v_since    timestamptz := greatest(p_alert.opened_at, p_alert.missed_at);
  v_late     interval;
begin
  case p_alert.kind
    when 'dead_letters' then
      return millrace.has_dead_letters(p_alert.subject_id, '-infinity', 'infinity');
    when 'queue_age' then
      return (select millrace.is_queue_late(q, 0.5) from millrace.queue q where q.id = p_alert.subject_id);
    else
      select * into v_schedule from millrace.schedule s where s.id = p_alert.subject_id and s.paused_at is null;
      v_late := greatest(v_schedule.grace, interval '1 minute');
      return found and (millrace.is_overdue(v_schedule)
                        or (p_alert.missed_at > p_alert.last_told_at and p_alert.missed_at > p_now - (select s.gather from millrace.alert_settings s))
                        or not exists (select from millrace.schedule_run r
                                        where r.schedule_id = v_schedule.id and r.due_at >= v_since - v_late
                                          and r.seen_at > v_since and r.outcome in ('enqueued', 'skipped') and r.seen_at - r.due_at <= v_late));
  end case;
end
$$;

-- Ends the alerts whose condition no longer holds. Returns how many.
create function millrace.resolve_alerts(p_now timestamptz) returns int
language plpgsql
set enable_seqscan = off
as $$
declare
  v_count int;
begin
  update millrace.alert a set resolved_at = p_now where a.resolved_at is null and millrace.alert_holds(a, p_now) is not true;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- Which alerts have something to say now, and what: of each kind and event the first 200.
create function millrace.alerts_to_tell(p_now timestamptz) returns table (kind text, event text, ids bigint[])
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_settings millrace.alert_settings;
begin
  select * into v_settings from millrace.alert_settings;
  return query
  with having_news as (
    select a.id, a.kind, e.event, row_number() over (partition by a.kind, e.event order by a.id) as place
      from (select * from millrace.alert o where o.resolved_at is null
            union all
            select * from millrace.alert r where r.resolved_at is not null and r.told > 0 and r.recovery_told_at is null) as a
     cross join lateral (select
             case when a.resolved_at is not null then 'recovered'
                  when a.told = 0 then 'opened'
                  when a.last_told_at <= p_now - v_settings.gather
                       and case a.kind
                             when 'dead_letters' then millrace.has_dead_letters(a.subject_id, coalesce(a.told_until, '-infinity'), p_now - v_settings.dead_after)
                             when 'schedule_missed' then a.missed_at > a.last_told_at
                           end then 'more'
                  when a.last_told_at <= p_now - v_settings.repeat_after
                       and (a.kind <> 'schedule_missed'
                            or (select millrace.is_overdue(s) from millrace.schedule s where s.id = a.subject_id)) then 'repeated'
             end) as e (event)
     where e.event is not null
  )
  select n.kind, n.event, array_agg(n.id order by n.id)
    from having_news n where n.place <= 200
   group by n.kind, n.event
   order by n.event = 'recovered', n.kind, n.event;
end
$$;

-- What a message says of the dead letters of these alerts that were not told of yet and died until p_until: how many there are in each queue, and the
-- first 20. `told` are the alerts that have any; somebody may have dealt with them just now.
create function millrace.describe_dead_letters(p_alerts bigint[], p_until timestamptz, out told bigint[], out data jsonb)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
as $$
begin
  with counted as materialized (
    select a.id, q.id as queue_id, q.name, a.after, n.untold, millrace.count_dead_letters(q.id, '-infinity', 'infinity') as waiting
      from unnest(p_alerts) as t (id)
     cross join lateral (select i.id, i.subject_id, coalesce(i.told_until, '-infinity') as after from millrace.alert i where i.id = t.id limit 1) as a
     cross join lateral (select * from millrace.queue i where i.id = a.subject_id limit 1) as q
     cross join lateral (select millrace.count_dead_letters(q.id, a.after, p_until) as untold) as n
     where n.untold > 0
  ), shown as (
    select d.*, c.name
      from counted c
     cross join lateral (select * from millrace.dead_letter i
                          where i.queue_id = c.queue_id and i.retried_at is null and i.acknowledged_at is null
                            and i.dead_at > c.after and i.dead_at <= p_until
                          order by i.dead_at limit 20) as d
     order by d.dead_at, d.id
     limit 20
  )
  select coalesce(array_agg(c.id order by c.id), '{}'),
         jsonb_build_object(
           'count', sum(c.untold), 'capped', nullif(bool_or(c.untold = 10000), false),
           'subjects', jsonb_agg(jsonb_build_object('queue', c.name, 'count', c.untold, 'waiting', c.waiting,
                                                    'capped', nullif(c.waiting = 10000, false)) order by c.untold desc, c.id),
           'items', (select jsonb_agg(jsonb_build_object(
                              'id', s.id, 'queue', s.name, 'type', j.type, 'jobId', millrace.job_uuid(s.job_id), 'attempts', s.attempts,
                              'reason', s.reason, 'error', left(s.error, 500), 'deadAt', s.dead_at) order by s.dead_at, s.id)
                       from shown s
                      cross join lateral (select * from millrace.job i where i.id = s.job_id limit 1) as j))
    into told, data
    from counted c;
end
$$;

-- What a message says about the queue or the schedule of an alert.
create function millrace.alert_item(p_alert bigint) returns jsonb
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_alert millrace.alert;
begin
  select * into v_alert from millrace.alert a where a.id = p_alert;
  return case v_alert.kind
    when 'dead_letters' then (
      select jsonb_build_object('queue', q.name, 'waiting', n.waiting, 'capped', nullif(n.waiting = 10000, false))
        from millrace.queue q
       cross join lateral (select millrace.count_dead_letters(q.id, '-infinity', 'infinity') as waiting) as n
       where q.id = v_alert.subject_id)
    when 'queue_age' then (
      select jsonb_build_object('queue', q.name, 'oldestReadySeconds', floor(millrace.oldest_ready_age(q.id)),
               'limitSeconds', millrace.age_limit(q)::int, 'paused', q.paused_at is not null)
        from millrace.queue q where q.id = v_alert.subject_id)
    else coalesce((
      select jsonb_build_object('schedule', s.slug, 'queue', s.queue, 'type', s.type, 'overdue', millrace.is_overdue(s),
               'paused', s.paused_at is not null,
               'nextRunAt', case when isfinite(s.next_run_at) then s.next_run_at end,
               'missed', ( -- the first of what the latest round that saw any saw amiss
                 select jsonb_build_object('dueAt', l.due_at, 'until', l.until, 'outcome', l.outcome, 'error', left(l.error, 500))
                   from (select * from millrace.schedule_run r
                          where r.schedule_id = s.id and r.outcome <> 'manual'
                            and (r.outcome in ('missed', 'refused') or r.seen_at - r.due_at > greatest(s.grace, interval '1 minute'))
                          order by r.due_at desc limit 20) as l
                  order by l.seen_at desc, l.due_at limit 1))
        from millrace.schedule s where s.id = v_alert.subject_id),
      jsonb_build_object('schedule', v_alert.subject, 'deleted', true))
  end;
end
$$;

-- What a message says about these alerts: it names all, and says more of the first 20.
create function millrace.describe_alerts(p_alerts bigint[]) returns jsonb
language sql stable
as $$
  select jsonb_build_object('count', count(*), 'subjects', jsonb_agg(case when i.item ? 'schedule' then jsonb_build_object('schedule', i.item -> 'schedule')
                                                                          else i.item - 'paused' end order by t.ord),
                            'items', jsonb_agg(i.item order by t.ord) filter (where t.ord <= 20))
    from unnest(p_alerts) with ordinality as t (id, ord)
   cross join lateral (select millrace.alert_item(t.id) as item offset 0) as i
$$;

-- Makes messages of what there is to tell: one for each kind and event. Returns how many.
create function millrace.tell_alerts(p_now timestamptz) returns int
language plpgsql
set timezone = 'UTC'
as $$
declare
  v_until    timestamptz := p_now - (select s.dead_after from millrace.alert_settings s);
  v_group    record;
  v_told     bigint[];
  v_data     jsonb;
  v_messages jsonb := '[]';
begin
  for v_group in select * from millrace.alerts_to_tell(p_now) loop
    if v_group.kind = 'dead_letters' and v_group.event in ('opened', 'more') then
      select d.told, d.data into v_told, v_data from millrace.describe_dead_letters(v_group.ids, v_until) as d;
      continue when v_told = '{}';
    else
      v_told := v_group.ids;
      v_data := millrace.describe_alerts(v_told);
    end if;
    v_messages := v_messages || jsonb_build_object(
      'queue', 'millrace.alerts', 'type', 'alert', 'concurrency_key', v_group.kind,
      'idempotency_key', format('%s:%s:%s', v_group.event, v_told[1], (select a.told + 1 from millrace.alert a where a.id = v_told[1])),
      'payload', jsonb_build_object('id', 'msg_' || replace(gen_random_uuid()::text, '-', ''), 'type', v_group.kind || '.' || v_group.event,
                                    'timestamp', p_now, 'data', jsonb_strip_nulls(v_data)));
    update millrace.alert a
       set told = a.told + (v_group.event <> 'recovered')::int,
           told_until = case when v_group.kind = 'dead_letters' and v_group.event in ('opened', 'more') then v_until else a.told_until end,
           last_told_at = case when v_group.event = 'recovered' then a.last_told_at else p_now end,
           recovery_told_at = case when v_group.event = 'recovered' then p_now end
     where a.id = any (v_told);
  end loop;
  if exists (select from millrace.enqueue_many(v_messages) as e where not e.queued) then
    raise 'a message of alerts was not enqueued: another has its idempotency key'; -- what it tells must not count as told
  end if;
  return jsonb_array_length(v_messages);
end
$$;

-- One round. With `tell` false, where nobody is there to be told, alerts open and end all the same; those that are still open are told of
-- when somebody is. Call it from as many places as you like.
create function millrace.raise_alerts(tell boolean default true) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_now timestamptz := millrace.clock();
  v_did jsonb;
begin
  if not pg_try_advisory_xact_lock(hashtext('millrace.raise_alerts')) then
    return jsonb_build_object('opened', 0, 'resolved', 0, 'told', 0, 'ts', v_now); -- another round is at it
  end if;
  -- What is amiss now is noted first: it keeps open what is.
  v_did := jsonb_build_object('opened', millrace.open_alerts(v_now));
  v_did := v_did || jsonb_build_object('resolved', millrace.resolve_alerts(v_now));
  v_did := v_did || jsonb_build_object('told', case when raise_alerts.tell then millrace.tell_alerts(v_now) else 0 end, 'ts', v_now);
  delete from millrace.alert
   where id = any (array(select a.id from millrace.alert a
                          where a.resolved_at < v_now - (select s.kept from millrace.alert_settings s) order by a.resolved_at limit 1000));
  return v_did;
end
$$;

comment on function millrace.raise_alerts is 'One round of alerts: opens, ends and, as jobs of the queue millrace.alerts, tells them; returns how many.';

-- {tell} -> {opened, resolved, told, ts}
create function millrace_api.raise_alerts(jsonb) returns jsonb
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select millrace.raise_alerts(coalesce(($1 ->> 'tell')::boolean, false)) $$;

-- {limit, leaseSeconds, workerId} -> {jobs: [{id, lease_id, backoff_seconds, payload}, …]}: messages to deliver. backoff_seconds is what the queue
-- waits if this attempt fails.
create function millrace_api.claim_alerts(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_queue millrace.queue;
  v_jobs  jsonb;
begin
  select * into v_queue from millrace.queue q where q.name = 'millrace.alerts';
  select jsonb_agg(jsonb_build_object('id', millrace.job_uuid(c.job_id), 'lease_id', c.lease_id, 'payload', c.payload,
                                      'backoff_seconds', ceil(extract(epoch from millrace.backoff_delay(v_queue, c.attempt))))) into v_jobs
    from millrace.claim(queue => v_queue.name, worker => $1 ->> 'workerId', max_jobs => ($1 ->> 'limit')::int, type => 'alert',
                        lease => make_interval(secs => ($1 ->> 'leaseSeconds')::int)) as c;
  return jsonb_build_object('jobs', coalesce(v_jobs, '[]'));
end
$$;

-- -> {jobsRetired, leasesExpired, partitionsDropped, partitionsMade}: what housekeep() did; null is what another was at.
create function millrace_api.housekeep(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_did jsonb := millrace.housekeep();
begin
  return jsonb_build_object('jobsRetired', nullif(v_did -> 'jobs_retired', '"busy"'), 'leasesExpired', v_did -> 'leases_expired',
                            'partitionsDropped', v_did -> 'partitions_dropped', 'partitionsMade', v_did -> 'partitions_made');
end
$$;
