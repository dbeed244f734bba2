-- Report and extend: a worker's word about its attempt, fenced by the lease.

create function millrace.check_worker(p_worker text) returns void
language plpgsql
as $$
begin
  if coalesce(p_worker !~ '[^[:space:]]', true) or length(p_worker) > 200 then
    perform millrace.refuse(400, 'worker_id_missing', 'the worker''s id is missing or blank, or longer than 200 characters');
  end if;
end
$$;

-- Why a worker's word about a job does not count; called only once it is known not to. A lease id that the
-- caller does not give is not checked, and neither is a worker that it does not name.
create function millrace.refusal(p_job_id bigint, p_lease_id bigint, p_worker text, p_type text, out code text, out message text)
language plpgsql
set enable_seqscan = off
as $$
declare
  v_job     millrace.job;
  v_lease   millrace.lease;
  v_attempt millrace.attempt;
begin
  select * into v_job from millrace.job j where j.id = p_job_id;
  if not found then
    code := 'job_not_found'; message := 'there is no such job';
    return;
  end if;
  if p_type <> v_job.type then
    code := 'type_mismatch'; message := 'the job is of another type';
    return;
  end if;
  select * into v_lease from millrace.lease e where e.job_id = p_job_id and (p_lease_id is null or e.lease_id = p_lease_id);
  if found then
    if p_worker <> v_lease.worker then
      code := 'not_lease_owner'; message := 'the lease belongs to another worker';
    elsif v_lease.expires_at <= millrace.clock() then
      code := 'lease_expired'; message := 'the lease has expired';
    else -- it was taken or extended between the two looks, or somebody has locked it
      code := 'try_again'; message := 'the job changed hands at this moment';
    end if;
    return;
  end if;

  select * into v_attempt from millrace.attempt a
   where a.job_id = p_job_id and (p_lease_id is null or a.lease_id = p_lease_id)
   order by a.lease_id desc limit 1;
  if not found and p_lease_id is null then
    code := 'not_leased'; message := 'the job has not been claimed';
  elsif not found then
    code := 'invalid_lease'; message := 'the job has no such lease';
  elsif p_worker <> v_attempt.worker then
    code := 'not_lease_owner'; message := 'the lease belonged to another worker';
  elsif v_attempt.outcome = 'lease_expired' then
    code := 'lease_expired'; message := 'the lease has expired';
  elsif v_attempt.outcome = 'cancelled' then
    code := 'cancelled'; message := 'the job was cancelled';
  else
    code := 'already_attempted'; message := 'the outcome of this attempt was reported before';
  end if;
end
$$;

-- Takes an array of {job_id, lease_id, worker, type, succeeded, result, error_code, error, retry_after_seconds, permanent, postponed_seconds} and
-- answers each by its place (from 1): code is NULL where the word counted. lease_id, worker and type are checked where
-- they are given; a report without a lease_id speaks of the job's current lease. An expired lease never counts,
-- even if nobody has taken the job over yet. With postponed_seconds the job was not tried at all: it is due again after so long, and the attempt
-- does not count.
create function millrace.report_many(p_reports jsonb)
returns table (ord bigint, job_id bigint, code text, message text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now   timestamptz := millrace.clock();
  v_ended millrace.ended[];
  v_held  bigint[];
begin
  perform millrace.check_reports(p_reports);

  with told as materialized (
    select e.*, r.succeeded, r.result, r.error_code, r.error, r.retry_after_seconds, coalesce(r.permanent, false) as permanent,
           r.postponed_seconds
      from (select * from jsonb_to_recordset(p_reports)
              as s (job_id bigint, lease_id bigint, worker text, type text, succeeded boolean, result jsonb, error_code text, error text,
                    retry_after_seconds double precision, permanent boolean, postponed_seconds double precision)
             order by s.job_id) as r -- leases are locked in one order everywhere, against deadlock
     cross join lateral ( -- lateral with a limit: one probe of the key for each report, whatever the statistics say
           select l.job_id, l.lease_id, l.queue_id, l.lane_id, l.worker, l.attempt, l.leased_at, l.resumed
             from millrace.lease l
            where l.job_id = r.job_id
              and (r.lease_id is null or l.lease_id = r.lease_id)
              and (r.worker is null or l.worker = r.worker)
              and (r.type is null or r.type = (select j.type from millrace.job j where j.id = r.job_id))
              and l.expires_at > v_now
            limit 1
              for update) as e
  ), ended as (
    -- By key and not by ctid: an extension may have moved the row while this waited for its lock.
    delete from millrace.lease d where d.job_id = any (array(select t.job_id from told t))
  )
  select array_agg((t.job_id, t.lease_id, t.queue_id, t.lane_id, t.worker, t.attempt, t.leased_at, t.resumed,
                    case when t.succeeded then 'succeeded' when t.postponed_seconds is not null then 'postponed' else 'failed' end, t.result,
                    case when not t.succeeded then coalesce(t.error_code, case when t.postponed_seconds is null then 'failed' else 'postponed' end) end, case when not t.succeeded then t.error end,
                    make_interval(secs => coalesce(t.postponed_seconds, t.retry_after_seconds)), t.permanent)::millrace.ended),
         array_agg(t.job_id)
    into v_ended, v_held
    from told t;

  if v_ended is not null then
    perform millrace.settle(v_ended);
  end if;

  -- refusal() is asked about the others alone: the two halves keep it from being called for every report.
  return query
  select r.ordinality, r.job_id, null::text, null::text
    from rows from (jsonb_to_recordset(p_reports) as (job_id bigint)) with ordinality as r
   where r.job_id = any (v_held)
  union all
  select r.ordinality, r.job_id, f.code, f.message
    from rows from (jsonb_to_recordset(p_reports) as (job_id bigint, lease_id bigint, worker text, type text)) with ordinality as r
   cross join lateral millrace.refusal(r.job_id, r.lease_id, r.worker, r.type) as f
   where r.job_id <> all (coalesce(v_held, '{}'))
   order by 1;
end
$$;

-- Refuses the first malformed report of the batch, naming its place and its field.
create function millrace.check_reports(p_reports jsonb) returns void
language plpgsql
as $$
declare
  v_bad record;
begin
  if jsonb_typeof(p_reports) is distinct from 'array' then
    perform millrace.refuse(400, 'invalid_request', 'the reports are not an array');
  end if;
  if jsonb_array_length(p_reports) > 1000 then
    perform millrace.refuse(400, 'invalid_request', 'more than 1000 reports in one call');
  end if;

  select r.ordinality - 1 as place, f.field, f.reason
    into v_bad
    from (select *, count(*) over (partition by s.job_id) as times
            from rows from (jsonb_to_recordset(p_reports) as (
                   job_id bigint, succeeded boolean, result jsonb, error_code text, error text, retry_after_seconds numeric,
                   permanent boolean, postponed_seconds numeric
                 )) with ordinality as s) as r
   cross join lateral (values
           ('job_id', 'is missing', r.job_id is null),
           ('job_id', 'is reported twice in one call', r.times > 1),
           ('succeeded', 'is missing', r.succeeded is null),
           ('result', 'is larger than 2 MiB', octet_length(r.result::text) > 2097152),
           ('error_code', 'is blank or longer than 200 characters', btrim(r.error_code) = '' or length(r.error_code) > 200),
           ('error', 'is longer than 10000 characters', length(r.error) > 10000),
           ('retry_after_seconds', 'is not from 0 to 31536000 (a year)', r.retry_after_seconds not between 0 and 31536000),
           ('postponed_seconds', 'is not from 0 to 31536000 (a year)', r.postponed_seconds not between 0 and 31536000),
           ('postponed_seconds', 'goes with no outcome, delay or permanence of an attempt',
              r.postponed_seconds is not null and (r.succeeded or r.permanent or r.retry_after_seconds is not null))
         ) as f (field, reason, wrong)
   where f.wrong
   order by r.ordinality
   limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s %s', v_bad.field, v_bad.reason),
                            format('in report %s of the call, counted from 0', v_bad.place));
  end if;
end
$$;

-- The HTTP status of a refusal.
create function millrace.refusal_status(p_code text) returns int
language sql immutable
as $$ select case p_code when 'job_not_found' then 404 when 'try_again' then 503 else 409 end $$;

-- One report, with named arguments; a word that does not count raises.
create function millrace.report(job_id bigint, lease_id bigint, worker text, succeeded boolean, result jsonb default null,
  error_code text default null, error text default null, retry_after interval default null, permanent boolean default false,
  postponed interval default null)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer record;
begin
  perform millrace.check_worker(report.worker);
  if report.lease_id is null then
    perform millrace.refuse(400, 'invalid_request', 'lease_id is missing');
  end if;
  select * into v_answer from millrace.report_many(jsonb_build_array(jsonb_build_object(
    'job_id', report.job_id, 'lease_id', report.lease_id, 'worker', report.worker, 'succeeded', report.succeeded, 'result', report.result,
    'error_code', report.error_code, 'error', report.error, 'retry_after_seconds', extract(epoch from report.retry_after),
    'permanent', report.permanent, 'postponed_seconds', extract(epoch from report.postponed))));
  if v_answer.code is not null then
    perform millrace.refuse(millrace.refusal_status(v_answer.code), v_answer.code, v_answer.message);
  end if;
end
$$;

comment on function millrace.report is 'Ends an attempt: succeeded, or failed with an error code; retried, or dead-lettered when attempts are used up. '
  'With postponed the job was not tried: it is due again after so long, and the attempt does not count.';

-- Takes an array of {job_id, lease_id}, leases that p_worker holds, and moves the end of each to p_lease from now, or by the length that the
-- job or else its queue has. Answers each by its place (from 1): `expires_at` is when it ends now; a lease that is lost has the code and the
-- message that a report about it would be refused with, and stays lost. To name one twice does no harm. Nothing is waited for: who has locked a lease
-- may himself wait for long, as a cancel does for the slot of a concurrency key, and the others would run out meanwhile. Such a one is not extended and
-- has the code `try_again`.
create function millrace.extend_many(p_worker text, p_leases jsonb, p_lease interval default null)
returns table (ord bigint, expires_at timestamptz, code text, message text)
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now  timestamptz;
  v_jobs bigint[]; -- the leases that are held, and when each ends
  v_kept bigint[];
  v_ends timestamptz[];
begin
  perform millrace.check_worker(p_worker);
  if p_lease not between '1 second' and '1 day' then
    perform millrace.refuse(400, 'invalid_request', 'lease is not from 1 second to 1 day');
  end if;
  perform pg_current_xact_id(); -- before the clock is read: see millrace.queue_clock
  v_now := millrace.clock(); -- true until the end, since there is no wait
  with told as materialized (
    select e.job_id, e.lease_id, coalesce(p_lease, j.lease, q.lease) as length
      from (select * from jsonb_to_recordset(p_leases) as s (job_id bigint, lease_id bigint)
             order by s.job_id) as l -- leases are locked in one order everywhere, against deadlock
     cross join lateral ( -- lateral with a limit: one probe of the key for each, whatever the statistics say
           select i.job_id, i.lease_id, i.queue_id from millrace.lease i
            where i.job_id = l.job_id and i.lease_id = l.lease_id and i.worker = p_worker and i.expires_at > v_now
            limit 1
              for update skip locked) as e
     cross join lateral (select i.lease from millrace.job i where i.id = e.job_id limit 1) as j
     cross join lateral (select i.lease from millrace.queue i where i.id = e.queue_id limit 1) as q
  ), kept as (
    -- greatest(): an extension never shortens a lease
    update millrace.lease e set expires_at = greatest(e.expires_at, v_now + t.length)
      from told t where e.job_id = t.job_id and e.lease_id = t.lease_id
    returning e.job_id, e.lease_id, e.expires_at
  )
  select array_agg(k.job_id), array_agg(k.lease_id), array_agg(k.expires_at) into v_jobs, v_kept, v_ends from kept k;

  return query
  select l.ordinality, k.expires_at, f.code, f.message
    from rows from (jsonb_to_recordset(p_leases) as (job_id bigint, lease_id bigint)) with ordinality as l
    left join lateral (select v_ends[p] as expires_at from array_position(v_kept, l.lease_id) as p where v_jobs[p] = l.job_id) as k on true
    left join lateral millrace.refusal(l.job_id, coalesce(l.lease_id, 0), p_worker, null) as f on k.expires_at is null
   order by l.ordinality;
end
$$;

-- Moves a lease's end to p_lease from now and returns it. Refused for the same reasons as a report.
create function millrace.extend_lease(job_id bigint, lease_id bigint, worker text, lease interval default null) returns timestamptz
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer record;
begin
  select * into v_answer from millrace.extend_many(extend_lease.worker,
    jsonb_build_array(jsonb_build_object('job_id', extend_lease.job_id, 'lease_id', extend_lease.lease_id)), extend_lease.lease);
  if v_answer.code is not null then
    perform millrace.refuse(millrace.refusal_status(v_answer.code), v_answer.code, v_answer.message);
  end if;
  return v_answer.expires_at;
end
$$;

comment on function millrace.extend_lease is 'Gives a running attempt more time, counted from now; returns when the lease ends.';
