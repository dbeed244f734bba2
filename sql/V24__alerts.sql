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
-- A message tells of all alerts of one kind that have the same to say in one round. It is a job of the queue `alerts`, enqueued in the
-- transaction that notes that it was told; so it is told once, and delivery, with its retries and its dead letters, is the queue's business.
-- Messages of one kind have one concurrency key, so they arrive in the order in which they were made. Dead letters of `alerts` raise no
-- alert, which would go the same way: they are in the list of dead letters like any others.
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
  subject          text not null, -- the queue's name, or the schedule's slug
  opened_at        timestamptz not null,
  told             int not null default 0,
  last_told_at     timestamptz,
  resolved_at      timestamptz,
  recovery_told_at timestamptz
);

create unique index alert_open on millrace.alert (kind, subject) where resolved_at is null;
create index alert_recovered on millrace.alert (id) where resolved_at is not null and told > 0 and recovery_told_at is null;
create index alert_resolved on millrace.alert (resolved_at) where resolved_at is not null;

comment on table millrace.alert is 'What was, or is, to be told: one row for each time that a condition held.';
comment on column millrace.alert.told is 'How many messages have told that it holds; none were made while nobody was there to be told.';

alter table millrace.schedule_run add column alerted_at timestamptz;
comment on column millrace.schedule_run.alerted_at is 'When a round of alerts took note of it, where it was missed, refused or more than a minute late.';
create index schedule_run_amiss on millrace.schedule_run (schedule_id, due_at)
  where alerted_at is null and outcome <> 'manual' and (outcome in ('missed', 'refused') or seen_at - due_at > interval '1 minute');

-- Where alerts go. A webhook that is down for a day costs no message; paused, the queue keeps them all.
select millrace.configure_queue('alerts', max_attempts => 150, backoff_base => '15 seconds', backoff_cap => '10 minutes');

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

-- Whether the queue has dead letters, dead before p_before, that nobody has dealt with; with p_untold only such as no alert told of.
create function millrace.has_dead_letters(p_queue_id int, p_before timestamptz, p_untold boolean) returns boolean
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  if p_untold then
    return exists (select from millrace.dead_letter d
                    where d.queue_id = p_queue_id and d.retried_at is null and d.acknowledged_at is null and d.alerted_at is null and d.dead_at <= p_before);
  end if;
  return exists (select from millrace.dead_letter d
                  where d.queue_id = p_queue_id and d.retried_at is null and d.acknowledged_at is null and d.dead_at <= p_before);
end
$$;

-- Whether the queue's oldest due job has waited too long.
create function millrace.is_queue_late(p_queue millrace.queue) returns boolean
language sql stable
as $$
  select p_queue.paused_at is null
         and millrace.oldest_ready_age(p_queue.id) > extract(epoch from coalesce(p_queue.alert_age, (select s.ready_after from millrace.alert_settings s)))
$$;

-- Whether what the schedule has due was not enqueued in time, and still is not.
create function millrace.is_overdue(p_schedule millrace.schedule) returns boolean
language sql stable
as $$ select coalesce(p_schedule.next_run_at < millrace.clock() - greatest(p_schedule.grace, interval '1 minute'), false) $$;

-- The schedules with due times that went amiss and that no round of alerts has taken note of.
create function millrace.missed_schedules() returns setof bigint
language sql stable
set enable_seqscan = off
as $$
  select distinct s.id
    from millrace.schedule_run r
    join millrace.schedule s on s.id = r.schedule_id
   where r.alerted_at is null and r.outcome <> 'manual' and (r.outcome in ('missed', 'refused') or r.seen_at - r.due_at > interval '1 minute')
     and (r.outcome in ('missed', 'refused') or r.seen_at - r.due_at > s.grace) and s.paused_at is null
$$;

-- Opens an alert for every condition that holds and has none. Returns how many.
create function millrace.open_alerts(p_now timestamptz) returns int
language plpgsql
set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_settings millrace.alert_settings;
  v_count    int;
begin
  select * into v_settings from millrace.alert_settings;
  insert into millrace.alert (kind, subject, opened_at)
  select c.kind, c.subject, p_now
    from (select 'dead_letters' as kind, q.name as subject from millrace.queue q
           where q.name <> 'alerts' and millrace.has_dead_letters(q.id, p_now - v_settings.dead_after, false)
          union all
          select 'queue_age', q.name from millrace.queue q where q.name <> 'alerts' and millrace.is_queue_late(q)
          union all
          select 'schedule_missed', s.slug from millrace.schedule s where s.next_run_at < p_now and millrace.is_overdue(s)
          union -- a schedule may be both
          select 'schedule_missed', s.slug from millrace.schedule s where s.id in (select millrace.missed_schedules())) as c
      on conflict (kind, subject) where resolved_at is null do nothing;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- Whether the condition of an alert still holds. Dead letters: as long as there is any, however young. A schedule: until it is paused or
-- deleted, or a later round saw a due time of its in time and none amiss; not only until it is no longer overdue, or it would recover in
-- the round that noticed.
create function millrace.alert_holds(p_alert millrace.alert) returns boolean
language plpgsql stable
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_schedule millrace.schedule;
begin
  case p_alert.kind
    when 'dead_letters' then
      return (select millrace.has_dead_letters(q.id, 'infinity', false) from millrace.queue q where q.name = p_alert.subject);
    when 'queue_age' then
      return (select millrace.is_queue_late(q) from millrace.queue q where q.name = p_alert.subject);
    else
      select * into v_schedule from millrace.schedule s where s.slug = p_alert.subject and s.paused_at is null;
      return found and (millrace.is_overdue(v_schedule) or v_schedule.id in (select millrace.missed_schedules())
                        or not exists (select from millrace.schedule_run r
                                        where r.schedule_id = v_schedule.id and r.due_at >= p_alert.opened_at - greatest(v_schedule.grace, interval '1 minute')
                                          and r.seen_at > p_alert.opened_at and r.outcome in ('enqueued', 'skipped')
                                          and r.seen_at - r.due_at <= greatest(v_schedule.grace, interval '1 minute')));
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
  update millrace.alert a set resolved_at = p_now where a.resolved_at is null and millrace.alert_holds(a) is not true;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- Which alerts have something to say now, and what.
create function millrace.alerts_to_tell(p_now timestamptz) returns table (id bigint, kind text, subject text, told int, event text)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_settings millrace.alert_settings;
begin
  select * into v_settings from millrace.alert_settings;
  return query
  select a.id, a.kind, a.subject, a.told, e.event
    from (select * from millrace.alert o where o.resolved_at is null
          union all
          select * from millrace.alert r where r.resolved_at is not null and r.told > 0 and r.recovery_told_at is null) as a
   cross join lateral (select
           case when a.resolved_at is not null then 'recovered'
                when a.told = 0 then 'opened'
                when a.last_told_at <= p_now - v_settings.gather
                     and case a.kind
                           when 'dead_letters' then (select millrace.has_dead_letters(q.id, p_now - v_settings.dead_after, true)
                                                       from millrace.queue q where q.name = a.subject)
                           when 'schedule_missed' then (select s.id from millrace.schedule s where s.slug = a.subject)
                                                       in (select millrace.missed_schedules())
                         end then 'more'
                when a.last_told_at <= p_now - v_settings.repeat_after
                     and (a.kind <> 'schedule_missed'
                          or (select millrace.is_overdue(s) from millrace.schedule s where s.slug = a.subject)) then 'repeated'
           end) as e (event)
   where e.event is not null;
end
$$;

-- Marks the dead letters of these queues that are to be told of now, so that no other message tells of them: up to 1,000 of a queue and
-- 10,000 in all, the others are for the next message. What somebody is just replaying is passed over. Answers how many there are, and the
-- first 20 as a message shows them.
create function millrace.take_dead_letters(p_queues text[], p_now timestamptz) returns jsonb
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
as $$
declare
  v_before timestamptz := p_now - (select s.dead_after from millrace.alert_settings s);
  v_taken  bigint[];
begin
  v_taken := array(select d.id
                     from unnest(p_queues) as n (name)
                    cross join lateral (select * from millrace.queue i where i.name = n.name limit 1) as q
                    cross join lateral (select i.id, i.dead_at from millrace.dead_letter i
                                         where i.queue_id = q.id and i.retried_at is null and i.acknowledged_at is null and i.alerted_at is null
                                           and i.dead_at <= v_before
                                         order by i.dead_at limit 1000) as d
                    order by d.dead_at, d.id
                    limit 10000);
  v_taken := array(select d.id from millrace.dead_letter d
                    where d.id = any (v_taken) and d.retried_at is null and d.acknowledged_at is null and d.alerted_at is null
                    order by d.dead_at, d.id
                      for update skip locked);
  update millrace.dead_letter d set alerted_at = p_now where d.id = any (v_taken);
  return jsonb_build_object('count', cardinality(v_taken), 'items', (
    select coalesce(jsonb_agg(jsonb_build_object(
             'id', d.id, 'queue', q.name, 'type', j.type, 'jobId', millrace.job_uuid(d.job_id), 'attempts', d.attempts, 'reason', d.reason,
             'error', left(d.error, 500), 'deadAt', d.dead_at) order by t.ord), '[]')
      from unnest(v_taken[:20]) with ordinality as t (id, ord)
     cross join lateral (select * from millrace.dead_letter i where i.id = t.id limit 1) as d
     cross join lateral (select * from millrace.job i where i.id = d.job_id limit 1) as j
     cross join lateral (select * from millrace.queue i where i.id = d.queue_id limit 1) as q));
end
$$;

-- What a message says about a queue or a schedule.
create function millrace.alert_item(p_kind text, p_subject text) returns jsonb
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  return case p_kind
    when 'dead_letters' then (
      -- Counted no further than a reader cares.
      select jsonb_build_object('queue', q.name, 'waiting', (
               select count(*) from (select from millrace.dead_letter d
                                      where d.queue_id = q.id and d.retried_at is null and d.acknowledged_at is null limit 10000) as d))
        from millrace.queue q where q.name = p_subject)
    when 'queue_age' then (
      select jsonb_build_object('queue', q.name, 'oldestReadySeconds', floor(millrace.oldest_ready_age(q.id)),
               'limitSeconds', extract(epoch from coalesce(q.alert_age, (select s.ready_after from millrace.alert_settings s)))::int,
               'paused', q.paused_at is not null)
        from millrace.queue q where q.name = p_subject)
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
        from millrace.schedule s where s.slug = p_subject),
      jsonb_build_object('schedule', p_subject, 'deleted', true))
  end;
end
$$;

-- Takes note of the due times that went amiss, so that they raise no alert again.
create function millrace.note_missed_runs(p_now timestamptz) returns void
language sql
set enable_seqscan = off
as $$
  update millrace.schedule_run r set alerted_at = p_now
   where r.alerted_at is null and r.outcome <> 'manual' and (r.outcome in ('missed', 'refused') or r.seen_at - r.due_at > interval '1 minute')
     and not exists (select from millrace.schedule s -- those are gathered for the next message
                       join millrace.alert a on a.kind = 'schedule_missed' and a.subject = s.slug and a.resolved_at is null
                      where s.id = r.schedule_id and a.last_told_at < p_now and a.last_told_at > p_now - (select g.gather from millrace.alert_settings g))
$$;

-- Makes a message of all that there is to tell: one for each kind and event. Returns how many.
create function millrace.tell_alerts(p_now timestamptz) returns int
language plpgsql
set timezone = 'UTC'
as $$
declare
  v_group    record;
  v_data     jsonb;
  v_messages jsonb := '[]';
begin
  for v_group in select t.kind, t.event, array_agg(t.id order by t.id) as ids, array_agg(t.subject order by t.id) as subjects,
                        (array_agg(t.told order by t.id))[1] as told
                   from millrace.alerts_to_tell(p_now) as t group by t.kind, t.event order by t.event = 'recovered', t.kind, t.event loop
    if v_group.kind = 'dead_letters' and v_group.event in ('opened', 'more') then
      v_data := millrace.take_dead_letters(v_group.subjects, p_now);
      continue when v_data -> 'count' = '0'; -- somebody has them in hand at this moment
    else
      v_data := jsonb_build_object('count', cardinality(v_group.subjects), 'items',
                                   (select jsonb_agg(millrace.alert_item(v_group.kind, s.subject) order by s.ord)
                                      from unnest(v_group.subjects[:20]) with ordinality as s (subject, ord)));
    end if;
    v_messages := v_messages || jsonb_build_object(
      'queue', 'alerts', 'type', 'alert', 'concurrency_key', v_group.kind,
      'idempotency_key', format('%s:%s:%s', v_group.event, v_group.ids[1], v_group.told + 1),
      'payload', jsonb_build_object('id', 'msg_' || replace(gen_random_uuid()::text, '-', ''), 'type', v_group.kind || '.' || v_group.event,
                                    'timestamp', p_now, 'data', jsonb_strip_nulls(v_data)));
    update millrace.alert a
       set told = a.told + (v_group.event <> 'recovered')::int,
           last_told_at = case when v_group.event = 'recovered' then a.last_told_at else p_now end,
           recovery_told_at = case when v_group.event = 'recovered' then p_now end
     where a.id = any (v_group.ids);
  end loop;
  if v_messages <> '[]' then
    perform millrace.enqueue_many(v_messages);
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
  v_did := jsonb_build_object('resolved', millrace.resolve_alerts(v_now), 'opened', millrace.open_alerts(v_now));
  v_did := v_did || jsonb_build_object('told', case when raise_alerts.tell then millrace.tell_alerts(v_now) else 0 end, 'ts', v_now);
  perform millrace.note_missed_runs(v_now);
  delete from millrace.alert
   where id = any (array(select a.id from millrace.alert a
                          where a.resolved_at < v_now - (select s.kept from millrace.alert_settings s) order by a.resolved_at limit 1000));
  return v_did;
end
$$;

comment on function millrace.raise_alerts is 'One round of alerts: opens, ends and, as jobs of the queue alerts, tells them; returns how many.';

-- {tell} -> {opened, resolved, told, ts}
create function millrace_api.raise_alerts(jsonb) returns jsonb
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select millrace.raise_alerts(coalesce(($1 ->> 'tell')::boolean, false)) $$;

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
