-- Limits: how many jobs run at once, and how many start in an interval, per queue and per key; and holds. All of them are kept by millrace.claim, so
-- every face's claim keeps them, and a claim of a queue without limits does nothing for them.
--
--   running per queue   concurrency_limit   places 1 … n. A claim locks rows of millrace.place that nobody has in hand and leaves their numbers in the
--                                           leases; a place is free again as its lease is gone, however that came about
--   running per key     key_concurrency     the holders of a concurrency key's slot (see jobs); the rest are parked
--   starts per queue    rate_limit          tokens in millrace.bucket, up to 16 rows a queue, so that claims lock different ones
--   starts per key      key_rate_limit      tokens in millrace.limited_key, a row a key; a job names its key as limit_key
--   holds               held_until          a queue, or a key, without tokens until an instant
--
-- A token comes back when its interval is over, counted from the start that took it. So in no interval of that length do more jobs start than the
-- limit says: there is no burst beyond it, and nothing adds up while nobody claims. For limits above 20 (of a bucket, or of a key) tokens come
-- back in twentieths of the interval, up to a twentieth late, so that there are few instants to remember; that costs at most 5 % of the rate.
-- A start is a claim: what a worker does then may reach the provider a little earlier or later than its claim says.
--
-- Claims wait for nobody here: what another one has locked counts as taken. They must see what was committed before they got a lock,
-- so a queue with limits is claimed from at READ COMMITTED.

create table millrace.limited_key (
  queue_id      int not null,
  key           text not null check (btrim(key) <> '' and length(key) <= 200),
  rate_limit    int check (rate_limit between 1 and 100000),
  rate_interval interval check (rate_interval between '100 milliseconds' and '31 days'),
  held_until    timestamptz not null default '-infinity',
  line_end      timestamptz not null default '-infinity',
  back_at       timestamptz[] not null default '{}',
  back          int[] not null default '{}',
  primary key (queue_id, key),
  check ((rate_limit is null) = (rate_interval is null))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

comment on table millrace.limited_key is 'The state of limit keys that claims have met, and the limits of single keys that differ from their queue''s.';
comment on column millrace.limited_key.rate_limit is 'This key''s own limit; NULL follows the queue''s key_rate_limit.';
comment on column millrace.limited_key.line_end is 'The first instant that was not given to a job yet which waits for a token.';

-- The claim's statements see what was committed before they got a lock; the one snapshot of a stricter isolation level would hide that.
create function millrace.require_read_committed() returns void
language plpgsql
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform millrace.refuse(400, 'isolation_level', 'a queue with limits is claimed from at READ COMMITTED');
  end if;
end
$$;

-- Places -----------------------------------------------------------------------------------------------------------------------

-- The places that the running jobs of a queue have; NULL for one that started while the queue had no limit.
create function millrace.places_in_use(p_queue_id int) returns int[]
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  return array(select e.place from millrace.lease e
                where e.queue_id = p_queue_id
                  and e.expires_at >= (select c.lease_floor from millrace.queue_clock c where c.queue_id = p_queue_id));
end
$$;

-- Up to which number places may be given. All of them, but where more jobs run beyond the limit than it allows for (it was lowered, or is new): each
-- of those keeps one of the last places empty, so that never more jobs run than the limit, or than ran when it was set. NULL is none.
create function millrace.last_place(p_limit int, p_in_use int[]) returns int
language plpgsql immutable
as $$
begin
  if not exists (select from unnest(p_in_use) as u (n) where u.n is null or u.n > p_limit) then
    return p_limit;
  end if;
  return (select max(m) from generate_series(0, p_limit) as m
           where (select count(*) from unnest(p_in_use) as u (n) where u.n is null or u.n > m) <= p_limit - m);
end
$$;

-- Takes up to p_wanted free places and answers their numbers; they stay locked until the transaction ends.
create function millrace.take_places(p_queue_id int, p_limit int, p_wanted int) returns int[]
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_in_use int[];
  v_last   int;
  v_locked int[];
  v_places int[] := '{}';
begin
  perform millrace.require_read_committed();
  for v_round in 1 .. 3 loop
    v_in_use := millrace.places_in_use(p_queue_id);
    v_last := millrace.last_place(p_limit, v_in_use);
    v_locked := array(select p.n from millrace.place p
                       where p.queue_id = p_queue_id and p.n <= v_last
                         and p.n not in (select u.n from unnest(v_in_use || v_places) as u (n) where u.n is not null)
                       order by p.n
                       limit p_wanted - cardinality(v_places)
                         for update skip locked);
    exit when v_locked = '{}';
    -- Another claim may have given one of these away and committed between the look and the lock.
    v_in_use := millrace.places_in_use(p_queue_id);
    v_last := millrace.last_place(p_limit, v_in_use);
    v_places := v_places || array(select l.n from unnest(v_locked) as l (n)
                                   where l.n <= v_last and l.n not in (select u.n from unnest(v_in_use) as u (n) where u.n is not null));
    exit when cardinality(v_places) = p_wanted;
  end loop;
  return v_places;
end
$$;

-- Tokens -----------------------------------------------------------------------------------------------------------------------

-- How many tokens are free, of which some come back at p_back_at, so many each time. An instant beyond the interval is of a clock that stepped back.
create function millrace.free_tokens(p_limit int, p_interval interval, p_back_at timestamptz[], p_back int[], p_now timestamptz) returns int
language plpgsql immutable
as $$
declare
  v_free int := p_limit;
  v_last constant timestamptz := p_now + p_interval * 1.1;
begin
  for v_i in 1 .. coalesce(cardinality(p_back_at), 0) loop
    if p_back_at[v_i] > p_now and p_back_at[v_i] <= v_last then
      v_free := v_free - p_back[v_i];
    end if;
  end loop;
  return greatest(0, v_free);
end
$$;

-- When a token that is taken now comes back.
create function millrace.token_back_at(p_limit int, p_interval interval, p_now timestamptz) returns timestamptz
language sql immutable
as $$
  select case when p_limit <= 20 then p_now + p_interval
              else date_bin(p_interval / 20, p_now, timestamptz '2000-01-01') + p_interval / 20 + p_interval end
$$;

-- The tokens on their way back once p_taken more have been taken.
create function millrace.note_tokens(p_back_at timestamptz[], p_back int[], p_now timestamptz, p_at timestamptz, p_taken int,
  out back_at timestamptz[], out back int[])
language plpgsql immutable
as $$
begin
  back_at := '{}';
  back := '{}';
  for v_i in 1 .. coalesce(cardinality(p_back_at), 0) loop -- an instant beyond p_at is of a clock that stepped back
    if p_back_at[v_i] > p_now and p_back_at[v_i] < p_at then
      back_at := back_at || p_back_at[v_i];
      back := back || p_back[v_i];
    elsif p_back_at[v_i] = p_at then
      p_taken := p_taken + p_back[v_i];
    end if;
  end loop;
  if p_taken > 0 then
    back_at := back_at || p_at;
    back := back || p_taken;
  end if;
end
$$;

-- Locks buckets of a queue until p_wanted tokens are at hand, or there are no more that nobody else has locked.
create function millrace.lock_buckets(p_queue millrace.queue, p_wanted int, out buckets millrace.bucket[], out tokens int)
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_now    timestamptz := millrace.clock();
  v_bucket millrace.bucket;
  v_last   int := -1;
begin
  perform millrace.require_read_committed();
  tokens := 0;
  while tokens < p_wanted loop
    select * into v_bucket from millrace.bucket b
     where b.queue_id = p_queue.id and b.shard > v_last and millrace.free_tokens(b.size, p_queue.rate_interval, b.back_at, b.back, v_now) > 0
     order by b.shard limit 1
       for update skip locked;
    exit when not found;
    v_last := v_bucket.shard;
    buckets := array_append(buckets, v_bucket);
    tokens := tokens + millrace.free_tokens(v_bucket.size, p_queue.rate_interval, v_bucket.back_at, v_bucket.back, v_now);
  end loop;
end
$$;

-- Takes p_taken tokens, as of p_now, out of the buckets that were locked.
create function millrace.take_tokens(p_queue millrace.queue, p_buckets millrace.bucket[], p_taken int, p_now timestamptz) returns void
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_bucket millrace.bucket;
  v_left   int := p_taken;
  v_taken  int;
  v_noted  record;
begin
  foreach v_bucket in array p_buckets loop
    exit when v_left = 0;
    v_taken := least(v_left, millrace.free_tokens(v_bucket.size, p_queue.rate_interval, v_bucket.back_at, v_bucket.back, p_now));
    v_noted := millrace.note_tokens(v_bucket.back_at, v_bucket.back, p_now, millrace.token_back_at(v_bucket.size, p_queue.rate_interval, p_now), v_taken);
    update millrace.bucket b set back_at = v_noted.back_at, back = v_noted.back where b.queue_id = p_queue.id and b.shard = v_bucket.shard;
    v_left := v_left - v_taken;
  end loop;
end
$$;

-- Limit keys -------------------------------------------------------------------------------------------------------------------
--
-- A job whose key has no token is moved in `ready` to a later time instead of being looked at over and over. There is one line a key: a job gets the first
-- instant in it that nobody has, one interval / limit after the last, and whoever comes later gets in behind it, whether there is a
-- token at that moment or not. If its instant comes and the tokens are gone all the same (nobody had claimed for a while, and now
-- several instants are past), it moves to when the next ones come back, before those that have just come.

-- Takes due jobs as millrace.take_jobs does, those alone for whose key there is a token. It moves some thousands of others at most, so
-- it may find nothing this time where tens of thousands of one key are due at once.
create function millrace.take_jobs_of_keys(p_queue millrace.queue, p_type text, p_type_prefix text, p_isolate boolean, p_limit int) returns millrace.ready[]
language plpgsql
as $$
declare
  v_wanted int := p_limit;
  v_taken  record;
  v_sorted record;
  v_kept   millrace.ready[] := '{}';
  v_back   millrace.ready[] := '{}'; -- put back in the end: this transaction would find them again
  v_moved  int := 0;
  v_bytes  bigint := 0;
  v_alone  boolean := false;
begin
  perform millrace.require_read_committed();
  for v_round in 1 .. 20 loop
    select * into v_taken from millrace.take_jobs(p_queue.id, p_type, p_type_prefix, p_isolate, v_wanted, case when v_round = 1 then 1 else v_wanted end);
    exit when v_taken.jobs is null;
    if v_taken.alone and cardinality(v_kept) > 0 then -- a lost one became due meanwhile
      v_back := v_back || v_taken.jobs;
      exit;
    end if;
    v_alone := coalesce(v_taken.alone, false);
    select * into v_sorted
      from millrace.sort_by_tokens(p_queue, v_taken.jobs, case when v_alone then 1 else p_limit - cardinality(v_kept) end, v_bytes, v_round = 1);
    v_kept := v_kept || v_sorted.kept;
    v_back := v_back || v_sorted.back;
    v_moved := v_moved + v_sorted.moved;
    v_bytes := v_bytes + v_sorted.bytes;
    -- There may be others where those that go alone have come to an end.
    exit when (not v_alone and cardinality(v_taken.jobs) < v_wanted) or (v_alone and v_kept <> '{}') or cardinality(v_kept) = p_limit
           or v_bytes >= 8388608 or cardinality(v_back) >= 1000 or v_moved >= case when v_kept = '{}' then 5000 else 500 end;
    v_wanted := case when v_sorted.moved = 0 then p_limit else greatest(p_limit, 500) end;
  end loop;

  if v_back <> '{}' then
    -- Their run_at may stay what it was: until this commits, everybody else still sees the old entry, so no floor can have passed it.
    insert into millrace.ready select b.* from unnest(v_back) as b;
  end if;
  return nullif(v_kept, '{}');
end
$$;

-- Sorts jobs that were taken out of `ready` by the tokens of their keys: up to p_limit, and 8 MiB of payloads, are kept and their tokens taken; the others
-- are moved to later times, or are for the caller to put back: those that are too many, and those whose key another claim has locked, or has no
-- row yet. Rows are made only while no other is locked: two claims that made them in different orders would wait for each other, and so would
-- a claim and whoever sets limits of several keys.
create function millrace.sort_by_tokens(p_queue millrace.queue, p_jobs millrace.ready[], p_limit int, p_bytes bigint, p_make_keys boolean,
  out kept millrace.ready[], out back millrace.ready[], out moved int, out bytes bigint)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_keys   text[];
  v_locked millrace.limited_key[];
  v_now    timestamptz;
begin
  v_keys := array(select distinct j.limit_key
                    from unnest(p_jobs) as t
                   cross join lateral (select i.limit_key from millrace.job i where i.id = t.job_id limit 1) as j
                   where j.limit_key is not null
                   order by 1);
  if p_make_keys then
    perform millrace.make_limited_keys(p_queue.id, v_keys);
  end if;
  select array_agg(l::millrace.limited_key) into v_locked
    from unnest(v_keys) as k (key)
   cross join lateral (select * from millrace.limited_key i where i.queue_id = p_queue.id and i.key = k.key limit 1 for update skip locked) as l;
  v_now := millrace.clock(); -- the caller's delete gave this transaction its id

  with locked as materialized (
    -- apart: what one job has of the line, at the rate that tokens come back with
    select l.*, t.token_at, t.tokens, l.every * case when l.most > 20 then 1.05 else 1 end / l.most as apart,
           greatest(l.held_until, coalesce((select min(b.at) from unnest(l.back_at) as b (at) where b.at > v_now), t.token_at), v_now) as next_at
      from (select i.*, coalesce(i.rate_limit, p_queue.key_rate_limit) as most, coalesce(i.rate_interval, p_queue.key_rate_interval) as every
              from unnest(v_locked) as i) as l
     cross join lateral (select millrace.token_back_at(l.most, l.every, v_now) as token_at,
                                case when l.held_until > v_now then 0 when l.most is null then 2147483647
                                     else millrace.free_tokens(l.most, l.every, l.back_at, l.back, v_now) end as tokens) as t
  ), taken as materialized (
    -- `turn` is the place among the jobs of the key; those that have waited in its line go first
    select t.*, j.limit_key, j.payload_size, j.priority, j.limit_key is null or l.key is not null as known, l.tokens, l.next_at, l.line_end, l.apart,
           row_number() over (partition by j.limit_key order by t.in_line desc, j.priority desc, t.run_at, t.job_id) as turn,
           row_number() over (order by j.priority desc, t.run_at, t.job_id) as place
      from unnest(p_jobs) as t
     cross join lateral (select i.limit_key, i.payload_size, i.priority from millrace.job i where i.id = t.job_id limit 1) as j
      left join locked l on l.key = j.limit_key
  ), judged as materialized (
    select t.*, coalesce(t.turn <= t.tokens and (t.in_line or t.line_end <= v_now or t.apart is null), t.known) as may_start from taken t
  ), counted as materialized (
    select g.*,
           g.may_start and g.known and count(*) filter (where g.may_start and g.known) over o <= p_limit
             and (p_bytes + sum(g.payload_size) filter (where g.may_start and g.known) over o - g.payload_size < 8388608) as starts,
           row_number() over (partition by g.limit_key, g.may_start, g.in_line order by g.place) - 1 as behind
      from judged g
    window o as (order by g.place)
  ), later as materialized (
    -- those that were in line before to the next tokens, the others to the end of the line; a key that is only held has no line
    select c.*, least(case when c.apart is null then c.next_at
                           when c.in_line then c.next_at + c.apart * c.behind
                           when c.tokens > 0 and c.line_end > v_now then c.line_end + c.apart * c.behind
                           else greatest(c.next_at, c.line_end) + c.apart * c.behind end, v_now + interval '3650 days') as later_at
      from counted c where c.known and not c.may_start
  ), put as (
    insert into millrace.ready (lane_id, run_at, job_id, attempts, retried, resumed, in_line)
    select l.lane_id, greatest(l.later_at, v_now), l.job_id, l.attempts, l.retried, l.resumed, true from later l
  ), used as (
    select k.key, k.token_at, k.back_at, k.back, (select count(*) from counted c where c.limit_key = k.key and c.starts)::int as started,
           (select max(l.later_at) + l.apart from later l where l.limit_key = k.key and not l.in_line group by l.apart) as line_end
      from locked k
  ), noted as (
    update millrace.limited_key u
       set (back_at, back) = (select n.back_at, n.back
                                from millrace.note_tokens(s.back_at, s.back, v_now, s.token_at, case when s.token_at is null then 0 else s.started end) as n),
           line_end = coalesce(s.line_end, u.line_end)
      from used s
     where (s.started > 0 or s.line_end is not null) and u.queue_id = p_queue.id and u.key = s.key
  )
  select coalesce(array_agg((c.lane_id, c.run_at, c.job_id, c.attempts, c.retried, c.resumed, c.in_line)::millrace.ready) filter (where c.starts), '{}'),
         coalesce(array_agg((c.lane_id, c.run_at, c.job_id, c.attempts, c.retried, c.resumed, c.in_line)::millrace.ready)
                    filter (where not c.starts and (c.may_start or not c.known)), '{}'),
         count(*) filter (where c.known and not c.may_start), coalesce(sum(c.payload_size) filter (where c.starts), 0)
    into kept, back, moved, bytes
    from counted c;
end
$$;

-- Makes the rows of keys that have none yet. In one order, since somebody who makes the very same is waited for.
create function millrace.make_limited_keys(p_queue_id int, p_keys text[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
begin
  insert into millrace.limited_key (queue_id, key)
  select p_queue_id, k.key from unnest(p_keys) as k (key)
   where not exists (select from millrace.limited_key i where i.queue_id = p_queue_id and i.key = k.key)
   order by k.key
      on conflict do nothing;
end
$$;

-- Makes jobs that wait in a line due now, of one key or of all: its limit has changed, or its hold was lifted, so that the next claims
-- find them their times again.
create function millrace.leave_line(p_queue_id int, p_key text default null) returns void
language plpgsql
set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_left millrace.ready[];
begin
  update millrace.limited_key k
     set line_end = '-infinity', back_at = millrace.none_after(k.back_at, millrace.clock() + coalesce(k.rate_interval, q.key_rate_interval))
    from millrace.queue q
   where k.queue_id = p_queue_id and q.id = p_queue_id and (p_key is null or k.key = p_key);
  with gone as (
    delete from millrace.ready r
     where r.ctid = any (array(
             select w.ctid
               from millrace.lane l
              cross join lateral (select i.ctid from millrace.ready i
                                   where i.lane_id = l.id and i.run_at > millrace.clock() and i.in_line
                                     and (p_key is null or (select j.limit_key from millrace.job j where j.id = i.job_id) = p_key)
                                     for update skip locked) as w
              where l.queue_id = p_queue_id))
    returning r.*
  )
  select array_agg(g) into v_left from gone g;
  insert into millrace.ready (lane_id, run_at, job_id, attempts, retried, resumed)
  select l.lane_id, millrace.clock(), l.job_id, l.attempts, l.retried, l.resumed from unnest(v_left) as l;
end
$$;

-- Settings and state -----------------------------------------------------------------------------------------------------------

-- Gives one limit key of a queue a rate of its own; with rate_limit NULL it follows the queue's key_rate_limit again.
create function millrace.configure_key(queue text, limit_key text, rate_limit int default null, rate_interval interval default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue_id int;
begin
  perform millrace.check_limit_key(configure_key.limit_key);
  perform millrace.check_rate('rate', configure_key.rate_limit, configure_key.rate_interval);
  v_queue_id := millrace.queue_of_keys(configure_key.queue);
  insert into millrace.limited_key as k (queue_id, key, rate_limit, rate_interval)
  values (v_queue_id, configure_key.limit_key, configure_key.rate_limit, millrace.in_seconds(configure_key.rate_interval))
      on conflict (queue_id, key) do update set rate_limit = excluded.rate_limit, rate_interval = excluded.rate_interval;
  perform millrace.leave_line(v_queue_id, configure_key.limit_key);
end
$$;

comment on function millrace.configure_key is 'Gives one limit key of a queue a rate of its own; with rate_limit NULL it follows the queue''s again.';

-- Lets nothing of a queue start until an instant, or no job of one limit key; NULL lifts that.
create function millrace.hold(queue text, limit_key text default null, until timestamptz default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue_id int;
  v_before   timestamptz;
begin
  if hold.until > millrace.clock() + interval '3650 days' then
    perform millrace.refuse(400, 'invalid_request', 'until is more than ten years ahead');
  end if;
  if hold.limit_key is null then
    perform millrace.make_queue(hold.queue);
    update millrace.queue q set held_until = hold.until where q.name = hold.queue;
    return;
  end if;
  perform millrace.check_limit_key(hold.limit_key);
  v_queue_id := millrace.queue_of_keys(hold.queue);
  select k.held_until into v_before from millrace.limited_key k where k.queue_id = v_queue_id and k.key = hold.limit_key;
  insert into millrace.limited_key as k (queue_id, key, held_until)
  values (v_queue_id, hold.limit_key, coalesce(hold.until, '-infinity'))
      on conflict (queue_id, key) do update set held_until = excluded.held_until;
  if v_before > millrace.clock() and coalesce(hold.until, '-infinity') < v_before then
    perform millrace.leave_line(v_queue_id, hold.limit_key);
  end if;
end
$$;

comment on function millrace.hold is 'Lets nothing of a queue start until an instant, or no job of one limit key; NULL lifts it. What runs goes on.';

-- The id of a queue, made if need be, whose claims look at keys from now on.
create function millrace.queue_of_keys(p_queue text) returns int
language plpgsql
as $$
begin
  perform millrace.make_queue(p_queue);
  update millrace.queue q set keys_limited = true where q.name = p_queue and not q.keys_limited;
  return (select q.id from millrace.queue q where q.name = p_queue);
end
$$;

create function millrace.check_limit_key(p_key text) returns void
language plpgsql
as $$
begin
  if coalesce(btrim(p_key) = '', true) or length(p_key) > 200 then
    perform millrace.refuse(400, 'invalid_request', 'limit_key is missing or blank, or longer than 200 characters');
  end if;
end
$$;

-- How many tokens a queue has at hand; NULL where it has no rate limit.
create function millrace.queue_tokens(p_queue millrace.queue) returns int
language sql stable
as $$
  select sum(millrace.free_tokens(b.size, p_queue.rate_interval, b.back_at, b.back, millrace.clock()))::int from millrace.bucket b where b.queue_id = p_queue.id
$$;

-- The limits of all queues, or of one, and where they stand.
create function millrace.queue_limits(queue text default null)
returns table (name text, concurrency_limit int, running int, key_concurrency int, rate_limit int, rate_interval interval, tokens int,
               key_rate_limit int, key_rate_interval interval, held_until timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select q.name, q.concurrency_limit, cardinality(millrace.places_in_use(q.id)), q.key_concurrency, q.rate_limit, q.rate_interval, millrace.queue_tokens(q),
         q.key_rate_limit, q.key_rate_interval, case when q.held_until > millrace.clock() then q.held_until end
    from millrace.queue q
   where queue_limits.queue is null or q.name = queue_limits.queue
   order by q.name
$$;

comment on function millrace.queue_limits is 'The limits of queues, how many jobs run, how many tokens are at hand, and until when a queue is held.';

-- Whether nothing would be lost with a key's row but its own limit.
create function millrace.is_idle(p_key millrace.limited_key) returns boolean
language sql stable
as $$
  select greatest(p_key.held_until, p_key.line_end, (select max(b.at) from unnest(p_key.back_at) as b (at))) <= millrace.clock()
$$;

-- The limit keys of a queue that have a limit of their own, are held, have tokens out or jobs in line.
create function millrace.key_limits(queue text)
returns table (limit_key text, rate_limit int, rate_interval interval, own boolean, tokens int, held_until timestamptz, line_end timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.key, l.most, l.every, k.rate_limit is not null, millrace.free_tokens(l.most, l.every, k.back_at, k.back, millrace.clock()),
         case when k.held_until > millrace.clock() then k.held_until end, case when k.line_end > millrace.clock() then k.line_end end
    from millrace.queue q
    join millrace.limited_key k on k.queue_id = q.id
   cross join lateral (select coalesce(k.rate_limit, q.key_rate_limit) as most, coalesce(k.rate_interval, q.key_rate_interval) as every) as l
   where q.name = key_limits.queue
     and (k.rate_limit is not null or not millrace.is_idle(k))
   order by k.key
$$;

comment on function millrace.key_limits is 'The limit keys of a queue that have a limit of their own, are held, have tokens out or jobs that wait for one.';

-- Forgets keys that no claim would miss, some thousands at a time. Returns how many.
create function millrace.forget_idle_keys() returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_gone int;
begin
  delete from millrace.limited_key d
   where d.ctid = any (array(select k.ctid from millrace.limited_key k where k.rate_limit is null and millrace.is_idle(k) limit 5000 for update skip locked));
  get diagnostics v_gone = row_count;
  return v_gone;
end
$$;
