-- Event streams: the events of one job or of one queue, from where a reader left off, none lost and none twice.
--
-- The events of one job are serialised by its state, so their ids rise in the order of their commits, and "after this id" is an
-- exact place. Those of a queue are written by many transactions at once: an id drawn early may be committed late, and a reader
-- that went by ids would lose it. So a queue's place is a snapshot: all that it could see has been read. What has come since is what
-- it could not see: the events of the transactions that it lists as running, and of those that began later.

-- How far a reader of a queue's events has come. Everything visible to `seen` was read. Of what is visible to `upto` but not to `seen`,
-- the transactions up to `low` were read, and of the group that follows (see next_group) the events up to `id`.
create type millrace.event_place as (seen pg_snapshot, upto pg_snapshot, low xid8, id bigint);

-- One event as the faces show it.
create function millrace.event_json(p_event millrace.job_events) returns jsonb
language sql stable
as $$
  select jsonb_build_object('id', p_event.id, 'job_id', millrace.job_uuid(p_event.job_id), 'event_type', p_event.event_type,
                            'created_at', p_event.created_at, 'payload', p_event.payload)
$$;

-- A place as text, for a reader to bring back.
create function millrace.event_place_text(p_place millrace.event_place) returns text
language sql immutable
as $$ select concat_ws('/', p_place.seen, p_place.upto, p_place.low, p_place.id) $$;

-- The place that a text stands for. Refuses what is none, and a place in another cluster, whose transactions are not ours.
create function millrace.event_place(p_text text) returns millrace.event_place
language plpgsql stable
as $$
declare
  v_parts constant text[] := string_to_array(p_text, '/');
  v_place millrace.event_place;
begin
  if p_text ~ '^[0-9]{1,19}:[0-9]{1,19}:[0-9,]*(/[0-9]{1,19}:[0-9]{1,19}:[0-9,]*/[0-9]{1,19}/[0-9]{1,18})?$' then
    begin
      v_place := (v_parts[1], v_parts[2], v_parts[3], v_parts[4])::millrace.event_place;
    exception when data_exception then
      v_place := null;
    end;
  end if;
  if v_place.seen is null or pg_snapshot_xmax(coalesce(v_place.upto, v_place.seen)) > pg_snapshot_xmax(millrace.present()) then
    perform millrace.refuse(400, 'invalid_cursor', 'this is not a place in the events of this queue');
  end if;
  return v_place;
end
$$;

-- The snapshot of the statement, with its own transaction among those that run: what that writes later is still to be read.
create function millrace.present() returns pg_snapshot
language sql stable
as $$
  select case when o.xid is null then s.snapshot
              else (format('%s:%s:', least(pg_snapshot_xmin(s.snapshot), o.xid),
                           case when o.xid < pg_snapshot_xmax(s.snapshot) then pg_snapshot_xmax(s.snapshot)::text else (o.xid::text::numeric + 1)::text end)
                    || (select string_agg(x.xid::text, ',' order by x.xid)
                          from (select pg_snapshot_xip(s.snapshot) as xid union select o.xid) as x))::pg_snapshot end
    from (select pg_current_snapshot() as snapshot) as s, (select pg_current_xact_id_if_assigned() as xid) as o
$$;

-- The last of the next group of transactions with unread events after p_place.low: whole ones that have 5,000 events together, or one
-- alone that has more. Within a group events are read in the order of their ids, so that a job's are in theirs; it must not be
-- larger because each page sorts it. Where there is more than a group to catch up with, an event of a transaction that began
-- early may come before one that its job had earlier. NULL where nothing is unread.
create function millrace.next_group(p_queue_id int, p_place millrace.event_place, out high xid8, out alone boolean)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_most constant int := 5000;
  v_next xid8[];
begin
  v_next := array(
    select n.xid
      from ((select e.xid -- of those that ran when `seen` was taken: a probe each
               from (select pg_snapshot_xip(p_place.seen) order by 1) as r (xid)
              cross join lateral (select i.xid from millrace.job_events i where i.queue_id = p_queue_id and i.xid = r.xid limit v_most + 1) as e
              where r.xid > p_place.low and pg_visible_in_snapshot(r.xid, p_place.upto)
              order by e.xid
              limit v_most + 1)
            union all
            (select e.xid
               from millrace.job_events e
              where e.queue_id = p_queue_id and e.xid >= pg_snapshot_xmax(p_place.seen) and e.xid > p_place.low
                and pg_visible_in_snapshot(e.xid, p_place.upto)
              order by e.xid, e.id
              limit v_most + 1)
            order by 1
            limit v_most + 1) as n);
  high := v_next[cardinality(v_next)];
  alone := cardinality(v_next) > v_most and v_next[1] = high;
  if cardinality(v_next) > v_most and not alone then
    high := (select n.xid from unnest(v_next) as n (xid) where n.xid < high order by n.xid desc limit 1); -- the last one may have more than was looked at
  end if;
end
$$;

-- Up to p_limit events of the group of transactions after p_place.low that ends with p_high, after p_place.id.
create function millrace.group_events(p_queue_id int, p_place millrace.event_place, p_high xid8, p_alone boolean, p_limit int) returns setof millrace.job_events
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
begin
  if p_alone then
    return query
      select e.* from millrace.job_events e
       where e.queue_id = p_queue_id and e.xid = p_high and e.id > p_place.id order by e.queue_id, e.xid, e.id limit p_limit;
    return;
  end if;
  return query
    select u.*
      from (select e.*
              from (select pg_snapshot_xip(p_place.seen)) as r (xid)
             cross join lateral (select * from millrace.job_events i where i.queue_id = p_queue_id and i.xid = r.xid) as e
             where r.xid > p_place.low and r.xid <= p_high
            union all
            select e.*
              from millrace.job_events e
             where e.queue_id = p_queue_id and e.xid >= pg_snapshot_xmax(p_place.seen) and e.xid > p_place.low and e.xid <= p_high) as u
     where u.id > p_place.id and pg_visible_in_snapshot(u.xid, p_place.upto)
     order by u.id
     limit p_limit;
end
$$;

-- Up to p_limit events of a queue that a reader at p_place has not read, in the order to read them in, each with the place behind
-- it. It must see one snapshot throughout, so it is stable and takes that of the statement that calls it.
create function millrace.queue_events(p_queue_id int, p_place millrace.event_place, p_limit int)
returns table (event millrace.job_events, place millrace.event_place)
language plpgsql stable
as $$
declare
  v_place millrace.event_place := p_place;
  v_now   constant pg_snapshot := millrace.present();
  v_group record;
  v_left  int := p_limit;
begin
  if v_place.upto is null then
    v_place := (v_place.seen, v_now, '0', 0)::millrace.event_place;
  end if;
  loop
    select * into v_group from millrace.next_group(p_queue_id, v_place);
    if v_group.high is null then
      exit when v_place.upto::text = v_now::text;
      v_place := (v_place.upto, v_now, '0', 0)::millrace.event_place; -- read up to then; now what has come since
      continue;
    end if;
    for event in select e.* from millrace.group_events(p_queue_id, v_place, v_group.high, v_group.alone, v_left) as e loop
      v_place.id := (event).id;
      v_left := v_left - 1;
      place := v_place;
      return next;
    end loop;
    exit when v_left = 0;
    v_place.low := v_group.high; -- these transactions are read
    v_place.id := 0;
  end loop;
end
$$;

-- {jobId | executorId, after?, limit?} -> {events: [{event, cursor}], cursor, ended}: what has come after the place `after`. Of a job, from its
-- beginning where there is no place; of a queue, from now on. `ended` is whether the job will have no more events (unless somebody
-- retries it).
create function millrace_api.collab_events(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
begin
  if $1 ? 'jobId' then
    return millrace.collab_job_stream(millrace.job_id(($1 ->> 'jobId')::uuid), $1 ->> 'after', coalesce(($1 ->> 'limit')::int, 500));
  end if;
  return millrace.collab_queue_stream((select q.id from millrace.queue q where q.name = $1 ->> 'executorId'), $1 ->> 'after',
                                      coalesce(($1 ->> 'limit')::int, 500));
end
$$;

create function millrace.collab_job_stream(p_job_id bigint, p_after text, p_limit int) returns jsonb
language plpgsql stable
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_since  timestamptz;
  v_after  bigint;
  v_events jsonb;
begin
  select j.enqueued_at into v_since from millrace.job j where j.id = p_job_id;
  if not found then
    perform millrace.refuse(404, 'job_not_found', 'there is no such job');
  elsif p_after !~ '^[0-9]{1,18}$' then
    perform millrace.refuse(400, 'invalid_cursor', 'this is not a place in the events of a job');
  end if;
  v_after := coalesce(p_after::bigint, 0);
  select coalesce(jsonb_agg(jsonb_build_object('event', millrace.event_json(e), 'cursor', e.id::text) order by e.id), '[]') into v_events
    from (select i.* from millrace.job_events i
           where i.job_id = p_job_id and i.id > v_after and i.created_at >= v_since - interval '1 day' -- older partitions are not looked at
           order by i.id limit p_limit) as e;
  return jsonb_build_object(
    'events', v_events, 'cursor', coalesce(v_events #>> '{-1,cursor}', v_after::text),
    'ended', jsonb_array_length(v_events) < p_limit and millrace.job_state(p_job_id) in ('succeeded', 'cancelled', 'dead'));
end
$$;

create function millrace.collab_queue_stream(p_queue_id int, p_after text, p_limit int) returns jsonb
language plpgsql stable
as $$
declare
  v_place  millrace.event_place;
  v_events jsonb := '[]';
begin
  if p_after is not null then
    v_place := millrace.event_place(p_after);
    select coalesce(jsonb_agg(jsonb_build_object('event', millrace.event_json(q.event), 'cursor', millrace.event_place_text(q.place)) order by q.ordinality), '[]')
      into v_events
      from millrace.queue_events(p_queue_id, v_place, p_limit) with ordinality as q;
  end if;
  return jsonb_build_object(
    'events', v_events, 'ended', false,
    -- A full page may not be all; the place behind its last event is where to go on. Otherwise everything that is visible now was read.
    'cursor', case when jsonb_array_length(v_events) = p_limit then v_events #>> '{-1,cursor}' else millrace.present()::text end);
end
$$;
