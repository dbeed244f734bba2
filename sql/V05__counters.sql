-- Counters: how many jobs are in each state, what became of attempts, and how long jobs waited and ran, without a
-- scan of jobs and without a hot row.
--
-- Every statement that moves jobs adds a row or two to `tally` (one per lane, kind and bucket), which makes nobody wait.
-- A fold, once a second as claims tend a queue or as housekeeping comes by, deletes the tallies that it sees and adds them to
-- `counter` and `lane_counter`; since that is one statement, each tally counts exactly once, and counters plus tally are true at any instant.

create table millrace.tally (
  queue_id int not null,
  lane_id  int,
  xid      xid8 not null default pg_current_xact_id(),
  kind     text not null,
  bucket   smallint not null default 0,
  n        bigint not null,
  seconds  double precision not null default 0,
  was      text,
  became   text,
  check (lane_id is not null or coalesce(was, became) is null)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create index tally_queue on millrace.tally (queue_id, xid);

comment on table millrace.tally is 'What has happened since the last fold: an enqueue, a claim, a report adds to it.';
comment on column millrace.tally.lane_id is 'The jobs'' own lane, also while they lie in the one beside it; NULL for what changes no status.';
comment on column millrace.tally.kind is 'The event, where it matters with the state the job was in: queued, started, succeeded, cancelled:running, …';
comment on column millrace.tally.bucket is 'Which bucket of the histogram `seconds` falls into (millrace.histogram_bounds()), from 1; 0 where nothing was timed.';
comment on column millrace.tally.seconds is 'Sum over n: from enqueue to start for `started` at a first attempt, from claim to its end for what ends an attempt.';
comment on column millrace.tally.was is 'The status that the jobs had, as tasks have it: pending, retrying (queued, but not for the first time), processing, completed, failed, cancelled. NULL where they had none or kept it.';
comment on column millrace.tally.became is 'The status that they have now; NULL where they were forgotten or kept theirs.';

-- The status, as tasks have it, of a job in ready or parked.
create function millrace.waiting_status(p_attempts smallint, p_retried boolean) returns text
language sql immutable parallel safe
as $$ select case when p_attempts > 0 or p_retried then 'retrying' else 'pending' end $$;

create table millrace.counter (
  queue_id int not null,
  kind     text not null,
  bucket   smallint not null,
  n        bigint not null,
  seconds  double precision not null,
  primary key (queue_id, kind, bucket)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table millrace.counter is 'The folded tallies since the queue was made. Read it through millrace.counts(), which adds those not yet folded.';

-- Apart from `counter`, so that neither kinds nor buckets of histograms multiply by lanes.
create table millrace.lane_counter (
  lane_id int not null,
  status  text not null,
  n       bigint not null,
  primary key (lane_id, status)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table millrace.lane_counter is 'How many jobs of each lane had each status of a task at the last fold. Read it through millrace.lane_counts(), which adds what has happened since.';

-- The upper bounds, in seconds and included, of the histograms' buckets but for the last one, which has none.
create function millrace.histogram_bounds() returns double precision[]
language sql immutable parallel safe
as $$ select '{0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,30,60,300,900,3600,21600}'::double precision[] $$;

-- The bucket, from 1, that so many seconds fall into. width_bucket() has its lower bounds included, hence the signs.
create function millrace.histogram_bucket(p_seconds double precision) returns smallint
language sql immutable parallel safe
as $$
  select (18 - width_bucket(-p_seconds, '{-21600,-3600,-900,-300,-60,-30,-10,-5,-2.5,-1,-0.5,-0.25,-0.1,-0.05,-0.025,-0.01,-0.005}'::double precision[]))::smallint
$$;

-- The tallies of a queue that no fold has counted yet. Those that one has deleted stay in the index until vacuum, which may not
-- remove them while somebody holds an old snapshot. So a fold remembers its snapshot, and this looks only at what that could not
-- see: transactions that began later, those that ran at the time, and the fold's own, which may have gone on after it.
create function millrace.unfolded(p_queue_id int) returns table (place tid, lane_id int, kind text, bucket smallint, n bigint, seconds double precision, was text, became text)
language plpgsql stable rows 100
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_seen pg_snapshot;
  v_own  xid8;
begin
  select c.folded, c.folded_by into v_seen, v_own from millrace.queue_clock c where c.queue_id = p_queue_id;
  if v_seen is null or pg_snapshot_xmax(v_seen) > pg_snapshot_xmax(pg_current_snapshot()) then
    v_seen := '1:1:'; -- a snapshot from the future is of another cluster, from which this database was restored
  end if;
  return query
    select t.ctid, t.lane_id, t.kind, t.bucket, t.n, t.seconds, t.was, t.became
      from millrace.tally t
     where t.queue_id = p_queue_id and t.xid >= pg_snapshot_xmax(v_seen)
    union all
    select t.ctid, t.lane_id, t.kind, t.bucket, t.n, t.seconds, t.was, t.became
      from (select pg_snapshot_xip(v_seen) union select v_own) as r (xid)
     cross join lateral (select i.ctid, i.* from millrace.tally i where i.queue_id = p_queue_id and i.xid = r.xid) as t
     where r.xid < pg_snapshot_xmax(v_seen);
end
$$;

-- Adds a queue's tallies to its counters, at most once in p_every. Whoever finds another one at it leaves it to that one.
create function millrace.fold(p_queue_id int, p_every interval default '5 seconds') returns void
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := millrace.clock();
begin
  perform from millrace.queue_clock c
    where c.queue_id = p_queue_id and c.folded_at not between v_now - p_every and v_now
      for update skip locked;
  if not found then
    return;
  end if;
  -- One statement, hence one snapshot: what it deletes is what it remembers to have seen.
  with gone as (
    delete from millrace.tally d
     where d.ctid = any (array(select u.place from millrace.unfolded(p_queue_id) as u))
    returning d.lane_id, d.kind, d.bucket, d.n, d.seconds, d.was, d.became
  ), added as (
    insert into millrace.counter as c (queue_id, kind, bucket, n, seconds)
    select p_queue_id, g.kind, g.bucket, sum(g.n), sum(g.seconds) from gone g group by g.kind, g.bucket
        on conflict (queue_id, kind, bucket) do update set n = c.n + excluded.n, seconds = c.seconds + excluded.seconds
  ), moved as (
    insert into millrace.lane_counter as c (lane_id, status, n)
    select g.lane_id, m.status, sum(m.n)
      from gone g
     cross join lateral (values (g.became, g.n), (g.was, -g.n)) as m (status, n)
     where m.status is not null
     group by g.lane_id, m.status
    having sum(m.n) <> 0
        on conflict (lane_id, status) do update set n = c.n + excluded.n
  )
  update millrace.queue_clock c
     set folded = pg_current_snapshot(), folded_by = pg_current_xact_id(), folded_at = v_now
   where c.queue_id = p_queue_id;
end
$$;

-- The queues that have tallies which no fold has counted yet, or the one that is named, whether it has or not. A probe or two of an index for each
-- queue are a fraction of what unfolded() costs where it finds nothing.
create function millrace.unfolded_queues(p_queue_id int default null) returns setof int
language plpgsql stable rows 10
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_next constant xid8 := pg_snapshot_xmax(pg_current_snapshot());
begin
  if p_queue_id is not null then
    return next p_queue_id;
    return;
  end if;
  return query
    select c.queue_id
      from (select i.queue_id, i.folded_by, case when pg_snapshot_xmax(i.folded) <= v_next then i.folded else '1:1:' end as seen
              from millrace.queue_clock i offset 0) as c
     where exists (select from millrace.tally t where t.queue_id = c.queue_id and t.xid >= pg_snapshot_xmax(c.seen))
        or exists (select from millrace.tally t where t.queue_id = c.queue_id and t.xid = c.folded_by)
        or exists (select from pg_snapshot_xip(c.seen) as r (xid)
                    cross join lateral (select from millrace.tally i where i.queue_id = c.queue_id and i.xid = r.xid limit 1) as t);
end
$$;

-- All counters, or those of one queue, with what is not folded yet.
create function millrace.counts(p_queue_id int default null)
returns table (queue_id int, kind text, bucket smallint, n bigint, seconds double precision)
language sql stable
as $$
  select c.queue_id, c.kind, c.bucket, sum(c.n)::bigint, sum(c.seconds)
    from (select k.* from millrace.counter k where p_queue_id is null or k.queue_id = p_queue_id
          union all
          select q.id, u.kind, u.bucket, u.n, u.seconds
            from millrace.unfolded_queues(p_queue_id) as q (id)
           cross join lateral millrace.unfolded(q.id) as u) as c
   group by c.queue_id, c.kind, c.bucket
$$;

-- How many jobs of each lane, or of each of one queue's, have each status of a task now. A job counts in its own lane, also while it lies in the one
-- beside it.
create function millrace.lane_counts(p_queue_id int default null) returns table (lane_id int, status text, n bigint)
language sql stable
as $$
  select c.lane_id, c.status, sum(c.n)::bigint
    from (select k.* from millrace.lane_counter k
           where p_queue_id is null or k.lane_id in (select l.id from millrace.lane l where l.queue_id = p_queue_id)
          union all
          select u.lane_id, m.status, m.n
            from millrace.unfolded_queues(p_queue_id) as q (id)
           cross join lateral millrace.unfolded(q.id) as u
           cross join lateral (values (u.became, u.n), (u.was, -u.n)) as m (status, n)
           where m.status is not null) as c
   group by c.lane_id, c.status
$$;

-- How many jobs of each queue are in each state now, and how many of the dead ones have been replayed.
create function millrace.queue_counts()
returns table (queue_id int, queued bigint, running bigint, succeeded bigint, cancelled bigint, dead bigint, replayed bigint)
language sql stable
as $$
  select c.queue_id,
         sum(case when c.kind in ('queued', 'retry_scheduled', 'postponed', 'retried:dead', 'retried:cancelled') then c.n
                  when c.kind in ('started', 'cancelled:queued') then -c.n else 0 end)::bigint,
         sum(case when c.kind = 'started' then c.n
                  when c.kind in ('succeeded', 'retry_scheduled', 'postponed', 'dead_lettered', 'cancelled:running') then -c.n else 0 end)::bigint,
         sum(case c.kind when 'succeeded' then c.n when 'forgotten:succeeded' then -c.n else 0 end)::bigint,
         sum(case when c.kind in ('cancelled:queued', 'cancelled:running') then c.n
                  when c.kind in ('retried:cancelled', 'forgotten:cancelled') then -c.n else 0 end)::bigint,
         sum(case when c.kind = 'dead_lettered' then c.n
                  when c.kind in ('retried:dead', 'forgotten:dead', 'forgotten:replayed') then -c.n else 0 end)::bigint,
         sum(case c.kind when 'replayed' then c.n when 'forgotten:replayed' then -c.n else 0 end)::bigint
    from millrace.counts() as c
   group by c.queue_id
$$;
