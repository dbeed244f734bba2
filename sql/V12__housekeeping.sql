-- Partitions made ahead of time, retention, and the round of housekeeping that any scheduler may call.

create table millrace.retention (
  one           boolean primary key default true check (one), -- one row
  finished      interval not null default '30 days' check (finished >= '1 day'),
  events        interval not null default '30 days' check (events >= '1 day'),
  dead_letters  interval not null default '90 days' check (dead_letters >= '1 day'),
  schedule_runs interval not null default '30 days' check (schedule_runs >= '1 day'),
  workers       interval not null default '1 day' check (workers >= '1 minute')
);
insert into millrace.retention default values;

comment on table millrace.retention is 'How long history is kept: finished jobs with their payload, events and attempts, dead letters, what became of schedules'' due times, heartbeats.';

-- Makes the weekly partition of one table that holds p_time, if it is not there yet. Rows that fell into
-- the default partition meanwhile move over. Returns whether it made one.
create function millrace.make_partition(p_table text, p_column text, p_time timestamptz) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_from timestamptz := date_trunc('week', p_time);
  v_to   timestamptz := v_from + interval '7 days';
  v_name text := p_table || '_' || to_char(v_from, 'YYYYMMDD');
  v_role name;
begin
  if to_regclass('millrace.' || quote_ident(v_name)) is not null then
    return false;
  end if;
  -- No writer may add to the default partition between the move and the attaching, which would fail then.
  execute format('lock table only millrace.%I in share update exclusive mode', p_table);
  execute format('lock table millrace.%I in access exclusive mode', p_table || '_default');
  execute format('create table millrace.%I (like millrace.%I including all)', v_name, p_table);
  execute format('with moved as (delete from millrace.%I where %I >= %L and %I < %L returning *) insert into millrace.%I select * from moved',
                 p_table || '_default', p_column, v_from, p_column, v_to, v_name);
  execute format('alter table millrace.%I attach partition millrace.%I for values from (%L) to (%L)', p_table, v_name, v_from, v_to);
  -- Who may read the whole table may read its parts; whoever decodes the log looks at those alone.
  for v_role in select pg_get_userbyid(a.grantee) from pg_class c cross join lateral aclexplode(c.relacl) as a
                 where c.oid = ('millrace.' || quote_ident(p_table))::regclass and a.grantee not in (0, c.relowner) and a.privilege_type = 'SELECT' loop
    execute format('grant select on millrace.%I to %I', v_name, v_role);
  end loop;
  return true;
end
$$;

-- Lets a role read events, those of weeks to come too: what a listener to a publication needs.
create function millrace.grant_events(to_role name) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table text;
begin
  execute format('grant usage on schema millrace to %I', to_role);
  for v_table in select t.relid::regclass::text from pg_partition_tree('millrace.job_events') as t loop
    execute format('grant select on %s to %I', v_table, to_role);
  end loop;
end
$$;

comment on function millrace.grant_events is 'Lets a role read millrace.job_events and all its partitions, later ones too.';

-- Makes the partitions of this week, of the weeks ahead, and of any week that has rows in a default partition; safe to
-- call at any time and by many at once. Returns how many it made.
create function millrace.make_partitions(p_weeks_ahead int default 8) returns int
language plpgsql
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_table  text;
  v_column text;
  v_time   timestamptz;
  v_made   int := 0;
begin
  perform pg_advisory_xact_lock(hashtext('millrace.make_partitions'));
  for v_table, v_column in values ('finished', 'finished_at'), ('attempt', 'finished_at'), ('job_events', 'created_at') loop
    for v_time in execute format('select millrace.clock() + w * interval ''7 days'' from generate_series(0, $1) as w
                                  union select distinct date_trunc(''week'', %I) from millrace.%I', v_column, v_table || '_default')
                    using p_weeks_ahead loop
      v_made := v_made + millrace.make_partition(v_table, v_column, v_time)::int;
    end loop;
  end loop;
  return v_made;
end
$$;

-- The partitions of one table that end before p_before, oldest first.
create function millrace.partitions_before(p_table text, p_before timestamptz) returns setof text
language sql stable
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
  select c.relname::text
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
   where i.inhparent = ('millrace.' || quote_ident(p_table))::regclass
     and c.relname ~ ('^' || p_table || '_[0-9]{8}$')
     and to_date(right(c.relname, 8), 'YYYYMMDD') + 7 <= p_before
   order by c.relname
$$;

-- Deletes jobs, and what hangs on them, whose history is no longer kept.
create function millrace.forget_jobs(p_jobs bigint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from millrace.idempotency_key k using millrace.job j
   where j.id = any (p_jobs) and k.queue_id = j.queue_id and k.key = j.idempotency_key and k.job_id = j.id;
  delete from millrace.artifact a where a.job_id = any (p_jobs);
  perform millrace.forget_messages(p_jobs); -- see messages
  delete from millrace.dead_letter d where d.job_id = any (p_jobs);
  delete from millrace.job j where j.id = any (p_jobs);
end
$$;

-- Forgets the jobs whose history is older than millrace.retention says, oldest first, at most p_limit of them; as many rows of the
-- history of schedules; and workers not heard of for long. Returns how many jobs it forgot.
create function millrace.retire_jobs(p_limit int default 10000) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keep      millrace.retention;
  v_now       timestamptz := millrace.clock();
  v_partition text;
  v_jobs      bigint[];
  v_forgotten int := 0;
begin
  select * into v_keep from millrace.retention;
  for v_partition in select millrace.partitions_before('finished', v_now - v_keep.finished) loop
    execute format('with gone as (
                      delete from millrace.%1$I where ctid = any (array(select ctid from millrace.%1$I limit $1)) returning job_id, outcome
                    ), tally as (
                      insert into millrace.tally (queue_id, lane_id, kind, n, was)
                      select j.queue_id, j.lane_id, ''forgotten:'' || g.outcome, count(*), case g.outcome when ''succeeded'' then ''completed'' else g.outcome end
                        from gone g join millrace.job j on j.id = g.job_id group by j.queue_id, j.lane_id, g.outcome
                    )
                    select coalesce(array_agg(job_id), ''{}'') from gone', v_partition)
       into v_jobs using p_limit - v_forgotten;
    perform millrace.forget_jobs(v_jobs);
    v_forgotten := v_forgotten + cardinality(v_jobs);
    exit when v_forgotten >= p_limit;
  end loop;

  -- Deleted before its job is forgotten, so that nobody can retry it meanwhile.
  with gone as (
    delete from millrace.dead_letter
     where id = any (array(select d.id from millrace.dead_letter d where d.dead_at < v_now - v_keep.dead_letters
                            order by d.id limit p_limit - v_forgotten for update skip locked))
    returning job_id, queue_id, retried_at
  ), tally as (
    insert into millrace.tally (queue_id, lane_id, kind, n, was)
    select g.queue_id, j.lane_id, case when g.retried_at is null then 'forgotten:dead' else 'forgotten:replayed' end, count(*), 'failed'
      from gone g join millrace.job j on j.id = g.job_id group by 1, 2, 3
  )
  select coalesce(array_agg(g.job_id), '{}') into v_jobs from gone g;
  perform millrace.forget_jobs(v_jobs);

  perform millrace.retire_schedule_runs(v_now - v_keep.schedule_runs, p_limit);
  delete from millrace.worker w where w.seen_at < v_now - v_keep.workers;
  return v_forgotten + cardinality(v_jobs);
end
$$;

-- Drops the weeks of events and attempts that are no longer kept, and of finished jobs once all their jobs are
-- forgotten. Returns how many partitions it dropped.
create function millrace.drop_partitions() returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keep      millrace.retention;
  v_now       timestamptz := millrace.clock();
  v_partition text;
  v_in_use    boolean;
  v_dropped   int := 0;
begin
  select * into v_keep from millrace.retention;
  for v_partition in select millrace.partitions_before('job_events', v_now - v_keep.events)
                     union all select millrace.partitions_before('attempt', v_now - v_keep.events)
                     union all select millrace.partitions_before('finished', v_now - v_keep.finished) loop
    execute format('select %L and exists (select from millrace.%I)', v_partition like 'finished%', v_partition) into v_in_use;
    if not v_in_use then
      execute format('drop table millrace.%I', v_partition);
      v_dropped := v_dropped + 1;
    end if;
  end loop;
  return v_dropped;
end
$$;

-- One round of housekeeping: expired leases, retention, partitions. It tolerates running twice, late, or in many
-- places at once. Claims tend their own queue, so what this adds is the queues that nobody claims from.
create function millrace.housekeep() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
as $$
declare
  v_did   jsonb;
  v_count int := 0;
  v_queue int;
begin
  -- Retention first: it waits for idempotency keys, which must not happen with slots of concurrency keys in hand.
  begin
    v_did := jsonb_build_object('jobs_retired', millrace.retire_jobs());
  exception when lock_not_available or deadlock_detected then
    v_did := '{"jobs_retired": "busy"}';
  end;
  for v_queue in select q.id from millrace.queue q order by q.id loop
    v_count := v_count + millrace.expire_leases(v_queue);
    perform millrace.fold(v_queue);
  end loop;
  perform millrace.forget_idle_keys();
  v_did := v_did || jsonb_build_object('leases_expired', v_count);
  perform millrace.sweep_previews();
  -- Last, since these lock whole tables until the end; and not at the price of a long wait, behind which everybody
  -- else would queue: the next round tries again.
  begin
    v_did := v_did || jsonb_build_object('partitions_dropped', millrace.drop_partitions(), 'partitions_made', millrace.make_partitions());
  exception when lock_not_available or deadlock_detected then
    v_did := v_did || '{"partitions": "busy"}';
  end;
  return v_did;
end
$$;

comment on function millrace.housekeep is 'One round of housekeeping; call it every minute or so from any scheduler.';

-- Jobs that are not in exactly one state. Always empty: the tests ask, and so may anyone who doubts.
create function millrace.misplaced_jobs() returns table (job_id bigint, places text[])
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(j.id, p.job_id), array_agg(p.place) filter (where p.place is not null)
    from millrace.job j
    full join (select r.job_id, 'ready' from millrace.ready r
               union all select r.job_id, 'parked' from millrace.parked r
               union all select r.job_id, 'lease' from millrace.lease r
               union all select r.job_id, 'finished' from millrace.finished r
               union all select r.job_id, 'dead_letter' from millrace.dead_letter r) as p (job_id, place) on p.job_id = j.id
   group by coalesce(j.id, p.job_id)
  having count(p.place) <> 1 or count(j.id) = 0
$$;

select millrace.make_partitions();
