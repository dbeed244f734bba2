-- Circuit breakers: whether somebody else's service is to be called at all, kept here, since the components that call it end after a second
-- of rest and run in several places at once.
--
--   closed     it is called. `threshold` failures in a row open it
--   open       nobody calls until open_until
--   half-open  open, and open_until has passed: one call is let through, the probe. It moves open_until on first, so there is one
--              probe in each interval however many ask, and one that is never heard of again keeps nobody out for longer than `probe`
--
-- A probe that succeeds closes the breaker; one that fails doubles the interval, up to `cap`. Only the current probe's word counts while a
-- breaker is open: its permit is a fencing token, so a call that began before the service went away changes nothing.
--
-- What counts as a failure is the service's own: no connection, a timeout, a 5xx. Its refusal of one call is a success here.
--
-- A call may pass several breakers, the wider one first: {google, google/WORKSPACE}. While the wider one is not closed a failure
-- says nothing about the narrower one, and is not held against it.
--
-- Excuses: whether a job's attempt is to count where the service failed. It does not, so an outage costs no attempts; unless somebody
-- else's call succeeded after this very job's last failure (then the job is the one that fails), or the job was excused `excuses` times.

create table millrace.circuit_settings (
  one       boolean primary key default true check (one), -- one row
  threshold int not null default 5 check (threshold between 1 and 1000),
  first     interval not null default '30 seconds' check (first between '1 second' and '1 day'),
  cap       interval not null default '15 minutes' check (cap between '1 second' and '1 day'),
  probe     interval not null default '30 seconds' check (probe between '1 second' and '1 hour'),
  excuses   int not null default 100 check (excuses >= 0)
);
insert into millrace.circuit_settings default values;

comment on table millrace.circuit_settings is 'What all circuit breakers go by.';
comment on column millrace.circuit_settings.threshold is 'So many failures in a row open a breaker.';
comment on column millrace.circuit_settings.first is 'For how long it opens first; doubled by each probe that fails, up to `cap`.';
comment on column millrace.circuit_settings.probe is 'How long a probe may take before another one is sent.';
comment on column millrace.circuit_settings.excuses is 'How often one job may fail with its service and have the attempt not counted.';

create table millrace.circuit_breaker (
  name        text primary key check (btrim(name) <> '' and length(name) <= 200),
  failures    int not null default 0,
  open_until  timestamptz,
  open_for    interval,
  permit      bigint not null default 0,
  opened_at   timestamptz,
  held_until  timestamptz,
  held_before timestamptz,
  healed_at   timestamptz,
  opened      bigint not null default 0,
  probes      bigint not null default 0,
  check ((open_until is null) = (open_for is null))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table millrace.circuit_breaker is 'Breakers that have ever seen a failure; one without a row is closed. A success writes only where there was a failure.';
comment on column millrace.circuit_breaker.failures is 'In a row, up to now.';
comment on column millrace.circuit_breaker.open_until is 'When the next probe may be sent; NULL while it is closed.';
comment on column millrace.circuit_breaker.permit is 'The number of the last probe: only its word counts.';
comment on column millrace.circuit_breaker.held_until is 'Until when a queue or a limit key was last held because of it: another hold is somebody else''s.';
comment on column millrace.circuit_breaker.held_before is 'Somebody else''s hold in whose place that one is.';
comment on column millrace.circuit_breaker.healed_at is 'When a success last ended a row of failures.';

create table millrace.circuit_excuse (
  job_id bigint primary key,
  n      int not null,
  at     timestamptz not null
);

comment on table millrace.circuit_excuse is 'How often a job failed with its service without an attempt being counted, and when last.';

-- Whether a call that passes these breakers may be made now. `wait` says after how long to ask again where it may not; `permits` is to be handed to
-- note_call: {breaker: permit} of those breakers whose probe this call is.
create function millrace.admit_call(breakers text[], out admitted boolean, out wait interval, out permits jsonb)
language plpgsql
as $$
declare
  v_now timestamptz := millrace.clock();
begin
  admitted := true;
  permits := '{}';
  -- Without a lock first: nearly always everything is closed, or one is open and not due.
  wait := (select max(b.open_until) - v_now from millrace.circuit_breaker b where b.name = any (breakers) and b.open_until > v_now);
  if wait is null and exists (select from millrace.circuit_breaker b where b.name = any (breakers) and b.open_until is not null) then
    perform from millrace.circuit_breaker b where b.name = any (breakers) order by b.name for update;
    v_now := millrace.clock();
    wait := (select max(b.open_until) - v_now from millrace.circuit_breaker b where b.name = any (breakers) and b.open_until > v_now);
    if wait is null then
      with probe as (
        update millrace.circuit_breaker b
           set open_until = v_now + s.probe, permit = b.permit + 1, probes = b.probes + 1
          from millrace.circuit_settings s
         where b.name = any (breakers) and b.open_until is not null
        returning b.name, b.permit
      )
      select coalesce(jsonb_object_agg(p.name, p.permit), '{}') into permits from probe p;
    end if;
  end if;
  if wait is not null then
    admitted := false;
  end if;
end
$$;

comment on function millrace.admit_call is 'Whether a call that passes these circuit breakers may be made now; note its outcome with note_call.';

-- What became of an admitted call: whether the service worked. Where it did not, `excused` says whether the job's attempt is not to
-- count, and `wait` after how long to try again.
create function millrace.note_call(breakers text[], permits jsonb, worked boolean, job_id bigint default null, out excused boolean, out wait interval)
language plpgsql
as $$
begin
  excused := false;
  if worked then
    perform millrace.close_breakers(breakers, permits);
    return;
  end if;
  perform millrace.count_failure(breakers, permits);
  select e.excused, e.wait into note_call.excused, note_call.wait from millrace.excuse(note_call.job_id, breakers) as e;
  -- A second later than the next probe is due, so that another job is it, if there is one: this one may fail by its own fault.
  wait := coalesce((select greatest(max(b.open_until) - millrace.clock(), '0') + interval '1 second' from millrace.circuit_breaker b
                     where b.name = any (breakers) and b.open_until is not null), wait);
end
$$;

comment on function millrace.note_call is 'Notes whether the service that these circuit breakers stand for worked, once for each admitted call.';

-- Ends the rows of failures that this success may end. It writes nothing where there was no failure, so successes don't meet in one row.
create function millrace.close_breakers(p_breakers text[], p_permits jsonb) returns void
language plpgsql
as $$
declare
  v_names text[];
begin
  v_names := array(select b.name from millrace.circuit_breaker b
                    where b.name = any (p_breakers)
                      and case when b.open_until is null then b.failures > 0 else b.permit = (p_permits ->> b.name)::bigint end
                    order by b.name
                      for update);
  if v_names = '{}' then
    return;
  end if;
  update millrace.circuit_breaker b
     set failures = 0, open_until = null, open_for = null, opened_at = null, healed_at = millrace.clock()
   where b.name = any (v_names);
  delete from millrace.circuit_excuse e where e.at < millrace.clock() - interval '7 days';
end
$$;

-- Adds a failure to the widest breaker, and to the next one only if that was closed.
create function millrace.count_failure(p_breakers text[], p_permits jsonb) returns void
language plpgsql
as $$
declare
  v_set     millrace.circuit_settings;
  v_breaker millrace.circuit_breaker;
  v_name    text;
  v_for     interval;
begin
  select * into v_set from millrace.circuit_settings;
  foreach v_name in array p_breakers loop
    insert into millrace.circuit_breaker (name) values (v_name) on conflict do nothing;
    select * into v_breaker from millrace.circuit_breaker b where b.name = v_name for update;
    if v_breaker.open_until is null then
      v_for := case when v_breaker.failures + 1 >= v_set.threshold then v_set.first end;
      update millrace.circuit_breaker b
         set failures = b.failures + 1, open_for = v_for, open_until = millrace.clock() + v_for,
             opened_at = case when v_for is not null then millrace.clock() end,
             opened = b.opened + (v_for is not null)::int
       where b.name = v_name;
    else
      update millrace.circuit_breaker b
         set failures = b.failures + 1, open_for = least(v_set.cap, b.open_for * 2), open_until = millrace.clock() + least(v_set.cap, b.open_for * 2)
       where b.name = v_name and b.permit = (p_permits ->> v_name)::bigint;
      return;
    end if;
  end loop;
end
$$;

-- Whether a job that failed with its service is excused; see above.
create function millrace.excuse(p_job_id bigint, p_breakers text[], out excused boolean, out wait interval)
language plpgsql
as $$
declare
  v_set    millrace.circuit_settings;
  v_excuse millrace.circuit_excuse;
begin
  select * into v_set from millrace.circuit_settings;
  select * into v_excuse from millrace.circuit_excuse e where e.job_id = p_job_id;
  excused := p_job_id is not null and coalesce(v_excuse.n, 0) < v_set.excuses
             and not exists (select from millrace.circuit_breaker b where b.name = any (p_breakers) and b.healed_at > v_excuse.at);
  if excused then
    insert into millrace.circuit_excuse as e (job_id, n, at) values (p_job_id, 1, millrace.clock())
        on conflict on constraint circuit_excuse_pkey do update set n = e.n + 1, at = excluded.at;
    wait := least(v_set.first, make_interval(secs => 2 ^ least(coalesce(v_excuse.n, 0), 20)));
  end if;
end
$$;

-- The state of a breaker for people: closed, open, or half_open (its next probe is due, or under way).
create function millrace.circuit_state(breaker text) returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select case when b.open_until is null then 'closed' when b.open_until > millrace.clock() then 'open' else 'half_open' end
                     from millrace.circuit_breaker b where b.name = breaker), 'closed')
$$;

comment on function millrace.circuit_state is 'closed, open, or half_open: its next probe is due.';
