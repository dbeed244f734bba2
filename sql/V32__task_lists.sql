-- Which jobs a list of tasks shows, and how many there are in all: exactly, at any offset, and without counting them one by one.
--
-- The jobs of a status lie in a table that can be walked by key. Those of a type, priority or queue are the jobs of some lanes, and an index of
-- `job` walks a lane by key. Counters tell beforehand how many jobs there are of the status, in the lanes, and in both: a filter that holds for all
-- is left out, the cheapest way is taken, from the end that is nearer, and where there is nothing nothing is looked for.
-- It all must see one snapshot, so it is stable.

-- How many tasks there are of each queue, type, priority and status; a row where there is at least one.
create function millrace.task_counts() returns table (queue_id int, type text, priority smallint, status text, n bigint)
language sql stable
as $$
  select l.queue_id, l.type, l.priority, c.status, c.n
    from millrace.lane_counts() as c join millrace.lane l on l.id = c.lane_id
   where c.n <> 0
$$;

-- How many jobs there are to look among for a list of tasks.
create type millrace.task_sizes as (
  total     bigint, -- tasks of the list
  jobs      bigint, -- all there are
  in_status bigint, -- those of its status, be they of its lanes or not
  walked    bigint, -- those that who walks through its status passes: of another one too, where there is no index of this one alone
  in_lanes  bigint, -- those of its lanes, be they of its status or not
  lanes     int[]   -- the lanes that have tasks of the list
);

create function millrace.task_sizes(p_status text, p_type text, p_priority int, p_queue text) returns millrace.task_sizes
language plpgsql stable
as $$
declare
  v_queue  int;
  v_walked constant text[] := case p_status when 'pending' then '{pending,retrying}' when 'completed' then '{completed,cancelled}' else array[p_status] end;
  v_sizes  millrace.task_sizes;
begin
  select q.id into v_queue from millrace.queue q where q.name = p_queue;
  if v_queue is null and p_queue is not null then
    return row(0, 0, 0, 0, 0, null::int[])::millrace.task_sizes;
  end if;
  with lane as (
    select l.id, (v_queue is null or l.queue_id = v_queue) and (p_type is null or l.type = p_type)
                 and (p_priority is null or l.priority = p_priority) as named,
           sum(c.n) as jobs, coalesce(sum(c.n) filter (where p_status is null or c.status = p_status), 0) as fitting,
           coalesce(sum(c.n) filter (where p_status is null or c.status = any (v_walked)), 0) as walked
      from millrace.lane_counts(v_queue) as c join millrace.lane l on l.id = c.lane_id
     group by l.id
  )
  select coalesce(sum(l.fitting) filter (where l.named), 0), coalesce(sum(l.jobs), 0), coalesce(sum(l.fitting), 0), coalesce(sum(l.walked), 0),
         coalesce(sum(l.jobs) filter (where l.named and l.fitting > 0), 0), array_agg(l.id) filter (where l.named and l.fitting > 0)
    into v_sizes
    from lane l;
  if v_queue is not null and exists (select from millrace.lane l where l.queue_id <> v_queue) then
    -- What other queues have is only weighed, so the last fold's numbers will do; one more of each, lest the list be taken for all there is.
    select v_sizes.jobs + 1 + coalesce(sum(c.n), 0), v_sizes.in_status + 1 + coalesce(sum(c.n) filter (where p_status is null or c.status = p_status), 0),
           v_sizes.walked + 1 + coalesce(sum(c.n) filter (where p_status is null or c.status = any (v_walked)), 0)
      into v_sizes.jobs, v_sizes.in_status, v_sizes.walked
      from millrace.lane_counter c join millrace.lane l on l.id = c.lane_id
     where l.queue_id <> v_queue and c.n > 0;
  end if;
  return v_sizes;
end
$$;

-- The jobs of a status, s, as two parts of a query: where to walk through them by their key, `id`, and the condition which those that are passed
-- fulfil where they are of the status. Conditions stand outside of a union, since a part that has one of its own can't be walked in order.
create function millrace.task_status_source(p_status text, out source text, out fitting text)
language sql immutable
as $$
  select case
           when p_status in ('pending', 'retrying') then format(
             '(select w.* from (select r.job_id as id, r.lane_id as lane, r.attempts, r.retried from millrace.ready r
                                union all select p.job_id, p.lane_id, p.attempts, p.retried from millrace.parked p) as w where %s)',
             case p_status when 'pending' then 'true' else 'w.attempts > 0 or w.retried' end)
           when p_status = 'processing' then '(select e.job_id as id, e.lane_id as lane from millrace.lease e)'
           when p_status in ('completed', 'cancelled') then format(
             '(select f.job_id as id, f.outcome from millrace.finished f where %s)', case p_status when 'completed' then 'true' else 'f.outcome = ''cancelled''' end)
           when p_status = 'failed' then '(select d.job_id as id from millrace.dead_letter d)'
         end,
         case p_status when 'pending' then 'not (s.attempts > 0 or s.retried)' when 'completed' then 's.outcome = ''succeeded''' else 'true' end
$$;

-- The lane that a job of a status, s, lies in, as a part of a query.
create function millrace.task_status_lane(p_status text) returns text
language sql immutable
as $$
  select case when p_status in ('pending', 'retrying', 'processing') then 's.lane' else '(select j.lane_id from millrace.job j where j.id = s.id)' end
$$;

-- The ways to a list: walk `all` jobs or those of the `status`; the `newest` of each lane; all of its `lanes`, gathered and sorted; jobs of the `status
-- within lanes`, looking up each one's lane; those of the `lanes within status`, looking up whether each has it; or `both`, merged.
--
-- p_wanted tasks from the end that is nearer, p_newest from the new end. An entry of an index counts 1, looking up a lane 6, a status 100 (it may
-- lie in any week's partition); tasks of the list are taken to be spread evenly among those that are walked.
create function millrace.task_way(p_status text, p_sizes millrace.task_sizes, p_wanted bigint, p_newest bigint) returns text
language plpgsql immutable
as $$
declare
  v_status_cost constant numeric := p_wanted * (5.0 * p_sizes.in_status + p_sizes.walked) / p_sizes.total;
  v_lanes_cost  constant numeric := p_sizes.in_lanes + 100.0 * p_wanted * p_sizes.in_lanes / p_sizes.total;
begin
  return case
    when p_sizes.total = p_sizes.jobs then 'all'
    when p_sizes.total = p_sizes.in_lanes and cardinality(p_sizes.lanes) * p_newest < p_sizes.in_lanes then 'newest'
    when p_sizes.total = p_sizes.in_status and p_status is not null then 'status'
    when p_sizes.total = p_sizes.in_lanes then 'lanes'
    when least(v_status_cost, v_lanes_cost) > p_sizes.walked + p_sizes.in_lanes then 'both'
    when v_status_cost < v_lanes_cost then 'status within lanes'
    else 'lanes within status'
  end;
end
$$;

-- Walks a way from one end: up to p_limit keys after the first p_offset. Through a status it looks at p_most entries at most, of any number where that
-- is NULL, and answers NULL where it then has not found enough. The settings must not surround a look at the counters: its plans are kept for the
-- session, and without nested loops they would be others.
create function millrace.walk_tasks(p_way text, p_status text, p_lanes int[], p_upward boolean, p_before bigint, p_offset bigint, p_limit bigint, p_most bigint)
returns bigint[]
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_nestloop = off set jit = off
as $$
declare
  v_walk   constant record := millrace.task_status_source(p_status);
  v_status constant text := format('select s.id from %s as s where %s', v_walk.source, v_walk.fitting);
  v_passed constant text := format('select s.* from %s as s where s.id < $1 order by s.id %s limit $5', v_walk.source, case when p_upward then 'asc' else 'desc' end);
  v_gather constant text := 'select g.id from unnest(array(select j.id from millrace.job j where j.lane_id = any ($2) and j.id < $1)) as g (id)';
  v_order  constant text := case when p_upward then 'asc' else 'desc' end;
  v_source text;
  v_walked bigint;
  v_keys   bigint[];
begin
  v_source := case p_way
    when 'all' then 'select j.id from millrace.job j where j.id < $1'
    when 'status' then format('select s.id from (%s) as s where %s', v_passed, v_walk.fitting)
    when 'lanes' then v_gather
    -- sorted first, so that only those are looked up that come before the page's end
    when 'lanes within status' then format('select k.id from (%s order by id %s offset 0) as k
                                             where (select s.id from (%s) as s where s.id between k.id and k.id order by s.id limit 1) is not null',
                                           v_gather, v_order, v_status)
    when 'both' then format('select s.id from (%s) as s join (%s) as k on k.id = s.id where s.id < $1', v_status, v_gather)
    when 'status within lanes' then format('select s.id from (%s) as s where %s and %s = any ($2)', v_passed, v_walk.fitting, millrace.task_status_lane(p_status))
  end;
  execute format('select array(select w.id from (%s) as w order by w.id %s offset $3 limit $4)', v_source, v_order)
     into v_keys using p_before, p_lanes, p_offset, p_limit, p_most;
  if p_way like 'status%' and p_most is not null and cardinality(v_keys) < p_limit then
    execute format('select count(*) from (%s) as w', v_passed) into v_walked using p_before, p_lanes, p_offset, p_limit, p_most;
    if v_walked = p_most then
      return null;
    end if;
  end if;
  return case when p_upward then array(select k.id from unnest(v_keys) with ordinality as k (id, ord) order by k.ord desc) else v_keys end;
end
$$;

-- Walks through a status a little way, then further, from either end, as long as all would be much more: what fits may lie where nobody would expect
-- it, all of it behind many that are retrying or were cancelled. NULL where that was not enough. p_newest tasks of the list would have to be met from
-- the new end, p_oldest from the old one (NULL where that is not known).
create function millrace.walk_status(p_way text, p_status text, p_lanes int[], p_sizes millrace.task_sizes, p_before bigint, p_newest bigint, p_oldest bigint, p_limit bigint)
returns bigint[]
language plpgsql stable
as $$
declare
  v_nearer constant boolean := coalesce(p_oldest < p_newest, false); -- upward from the old end
  v_most   bigint := 1000;
  v_upward boolean;
  v_met    bigint;
  v_keys   bigint[];
begin
  while v_most * 8 <= p_sizes.walked loop
    foreach v_upward in array array[v_nearer, not v_nearer] loop
      v_met := case when v_upward then p_oldest else p_newest end;
      if v_met <= v_most then
        v_keys := millrace.walk_tasks(p_way, p_status, p_lanes, v_upward, p_before, v_met - p_limit, p_limit, v_most);
      end if;
      if v_keys is not null then
        return v_keys;
      end if;
    end loop;
    v_most := v_most * 8;
  end loop;
  return null;
end
$$;

-- A page of a list of tasks, newest first (the order of keys), and how many tasks the list has. A filter that is NULL holds for all. With p_before
-- the page begins below that key, and p_offset counts from there. A page is shorter than p_limit at the end of the list alone.
create function millrace.task_page(p_status text, p_type text, p_priority int, p_queue text, p_before bigint, p_limit int, p_offset bigint,
  out keys bigint[], out total bigint)
language plpgsql stable
set jit = off
as $$
declare
  v_sizes  constant millrace.task_sizes := millrace.task_sizes(p_status, p_type, p_priority, p_queue);
  v_before constant bigint := coalesce(p_before, 9223372036854775807);
  v_limit  constant bigint := least(p_limit, v_sizes.total - p_offset);
  v_newest constant bigint := p_offset + v_limit; -- this many from the new end, or from p_before
  v_oldest constant bigint := case when p_before is null then v_sizes.total - p_offset end; -- and this many from the old one
  v_upward constant boolean := coalesce(v_newest > v_oldest, false);
  v_skip   bigint := p_offset;
  v_way    text;
  v_lanes  int[]; -- those of the list, and the lanes beside them
begin
  total := v_sizes.total;
  if coalesce(v_limit, 0) <= 0 then
    keys := '{}';
    return;
  elsif v_upward then
    v_skip := v_sizes.total - v_newest;
  end if;
  v_way := millrace.task_way(p_status, v_sizes, v_skip + v_limit, v_newest);
  if v_way = 'newest' then
    keys := (millrace.newest_of_lanes(v_sizes.lanes, v_before, v_newest::int))[p_offset + 1:];
    return;
  end if;
  v_lanes := array(select l.id from millrace.lane k join millrace.lane l on l.queue_id = k.queue_id and l.type = k.type and l.priority = k.priority
                    where k.id = any (v_sizes.lanes));
  if v_way like 'status%' then
    keys := millrace.walk_status(v_way, p_status, v_lanes, v_sizes, v_before, v_newest, v_oldest, v_limit);
  end if;
  if keys is null and v_way = 'status within lanes' then
    keys := millrace.walk_tasks(v_way, p_status, v_lanes, v_upward, v_before, v_skip, v_limit,
                                greatest(1000, 4 * (v_skip + v_limit) * v_sizes.walked / v_sizes.total));
    v_way := 'both'; -- it was mistaken about how tasks are spread
  end if;
  if keys is null then
    keys := millrace.walk_tasks(v_way, p_status, v_lanes, v_upward, v_before, v_skip, v_limit, null);
  end if;
end
$$;

-- The page alone.
create function millrace.task_keys(p_status text, p_type text, p_priority int, p_queue text, p_before bigint, p_limit int, p_offset bigint)
returns bigint[]
language sql stable
as $$ select p.keys from millrace.task_page(p_status, p_type, p_priority, p_queue, p_before, p_limit, p_offset) as p $$;

-- The number alone: it touches no job.
create function millrace.task_total(p_status text, p_type text, p_priority int, p_queue text) returns bigint
language sql stable
as $$ select (millrace.task_sizes(p_status, p_type, p_priority, p_queue)).total $$;
