-- The calendar outbox: the queue `calendar` as the relation sync_outbox, what is known of each event (calendar_event_bindings), the workspaces'
-- connections to Google (google_connections), and the statements that the handler channel-calendar runs.
--
-- They lie in `public`, so that they are found without a schema; where that has something of one of these names already, or where nothing may
-- be made in it, in the schema millrace_calendar, and a warning says so.
--
-- One event exists at most once at Google, since we choose its id: a digest of workspace, source and generation. An insert that is repeated meets
-- the event that the first one made (409), and updates it. Google never gives the id of a deleted event free, so each deletion begins a
-- new generation. The states of a binding:
--
--   trying      an insert is under way, or went amiss: the event may exist
--   bound       it exists
--   rebuilding  REBUILD_ALL has deleted it, and will make it again
--   gone        it does not exist; kept for its generation
--
-- Who works on a source: its own jobs take turns (the concurrency key is workspace and source), and REBUILD_ALL works on all of a
-- workspace. So an attempt leases each binding that it touches (busy_job, busy_lease, busy_until): a job that finds another's lease waits, without an
-- attempt being counted, and what an attempt says about a binding that it no longer has is passed over, be it that a later attempt of its job has it.

-- Leases are those of the drain. 1, 2, 4, 8, … seconds after a failure, at most an hour.
select millrace.configure_queue('calendar', max_attempts => 5, backoff => 'exponential', backoff_base => '1 second', backoff_cap => '1 hour',
                                backoff_jitter => false);

create table millrace.google_connection (
  workspace_id            uuid primary key,
  calendar_id             text check (btrim(calendar_id) <> '' and length(calendar_id) <= 1000),
  refresh_token_encrypted text not null check (length(refresh_token_encrypted) between 1 and 10000),
  key_id                  text not null check (key_id ~ '^[A-Za-z0-9_-]{1,40}$'),
  scopes                  text[] not null,
  is_valid                boolean not null default true,
  invalid_reason          text,
  version                 bigint not null default 1,
  access_token_encrypted  text check (length(access_token_encrypted) between 1 and 10000),
  access_key_id           text,
  access_expires_at       timestamptz,
  connected_at            timestamptz not null
);

comment on table millrace.google_connection is 'A workspace''s consent to write to its calendar. Tokens are AES-256-GCM with the workspace''s id as associated data; see millrace secrets.';
comment on column millrace.google_connection.key_id is 'Which key of calendar_token_key the refresh token is encrypted with.';
comment on column millrace.google_connection.is_valid is 'Whether Google still takes the refresh token. Where not, somebody must connect again.';
comment on column millrace.google_connection.version is 'Raised with each new refresh token: what is said about an older one does not count.';

-- Keeps a workspace's refresh token, encrypted already. Whatever was known of an earlier one is forgotten.
create function millrace.connect_calendar(workspace_id uuid, calendar_id text, refresh_token_encrypted text, key_id text,
  scopes text[] default '{https://www.googleapis.com/auth/calendar.events}') returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into millrace.google_connection as c (workspace_id, calendar_id, refresh_token_encrypted, key_id, scopes, connected_at)
  values (connect_calendar.workspace_id, connect_calendar.calendar_id, connect_calendar.refresh_token_encrypted, connect_calendar.key_id,
          connect_calendar.scopes, millrace.clock())
      on conflict on constraint google_connection_pkey do update
     set calendar_id = excluded.calendar_id, refresh_token_encrypted = excluded.refresh_token_encrypted, key_id = excluded.key_id,
         scopes = excluded.scopes, is_valid = true, invalid_reason = null, version = c.version + 1,
         access_token_encrypted = null, access_key_id = null, access_expires_at = null, connected_at = excluded.connected_at;
exception when check_violation or not_null_violation then
  perform millrace.refuse(400, 'invalid_request', 'the workspace, the calendar, the token or its key''s id is missing or malformed');
end
$$;

comment on function millrace.connect_calendar is 'Keeps a workspace''s encrypted refresh token in place of an earlier one; millrace secrets put encrypts it.';

create table millrace.calendar_binding (
  workspace_id uuid not null,
  source_type  text not null,
  source_id    uuid not null,
  state        text not null check (state in ('trying', 'bound', 'rebuilding', 'gone')),
  generation   int not null default 0,
  calendar_id  text,
  event_type   text,
  event        jsonb,
  bound_at     timestamptz,
  busy_job     bigint,
  busy_lease   bigint,
  busy_until   timestamptz,
  failed_job   bigint,
  created_at   timestamptz not null,
  updated_at   timestamptz not null,
  primary key (workspace_id, source_type, source_id)
) with (fillfactor = 70);

-- One number for each attempt, by which what it says is told from what an earlier one of its job says.
create sequence millrace.calendar_lease;

comment on column millrace.calendar_binding.generation is 'How many events of this source were deleted; part of the event''s id.';
comment on column millrace.calendar_binding.event is 'As it was last written to Google: what REBUILD_ALL makes again.';
comment on column millrace.calendar_binding.busy_job is 'The job that works on it, until busy_until.';
comment on column millrace.calendar_binding.busy_lease is 'Which attempt of that job: what an earlier one of it says is passed over.';
comment on column millrace.calendar_binding.failed_job is 'The REBUILD_ALL that could not make it again.';

-- Google takes 5 to 1,024 characters of base32hex (0-9, a-v), of which hexadecimal digits are some: 160 bits of a digest.
create function millrace.calendar_event_id(p_workspace_id uuid, p_source_type text, p_source_id uuid, p_generation int) returns text
language sql immutable strict parallel safe
as $$
  select 'mr' || substr(encode(sha256(convert_to(format('%s/%s/%s/%s', p_workspace_id, p_source_type, p_source_id, p_generation), 'UTF8')), 'hex'), 1, 40)
$$;

-- How the handler's attempts ended, in sixteen rows each, so that they don't wait for one another.
create table millrace.calendar_outcome (
  operation text not null,
  outcome   text not null,
  shard     smallint not null,
  n         bigint not null,
  primary key (operation, outcome, shard)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

create function millrace.is_time(p_text text, p_pattern text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
begin
  return coalesce(p_text ~ p_pattern, false) and p_text::timestamptz is not null;
exception when data_exception then
  return false;
end
$$;

-- The first thing that is wrong with an event, and where; none where it is well formed.
create function millrace.calendar_event_fault(p_event jsonb, out field text, out reason text)
language plpgsql stable
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_fields constant text[] := '{title,description,start,end,isAllDay,recurrence,location,colorId}';
  v_time   text := '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$';
begin
  if jsonb_typeof(p_event) is distinct from 'object' then
    field := 'event'; reason := 'is missing or no object';
    return;
  elsif p_event ->> 'isAllDay' = 'true' then
    v_time := '^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d))?$';
  end if;
  select f.field, f.reason into calendar_event_fault.field, calendar_event_fault.reason
    from (values
      (1, 'event.' || (select min(k) from jsonb_object_keys(p_event - v_fields) as k), 'is not known', p_event - v_fields <> '{}'),
      (2, 'event.title', 'is not a text of 1 to 500 characters',
          jsonb_typeof(p_event -> 'title') is distinct from 'string' or length(p_event ->> 'title') not between 1 and 500),
      (3, 'event.isAllDay', 'is not true or false', jsonb_typeof(p_event -> 'isAllDay') not in ('boolean', 'null')),
      (4, 'event.start', 'is not an ISO 8601 time with its offset, such as 2025-01-15T14:00:00Z',
          jsonb_typeof(p_event -> 'start') is distinct from 'string' or not millrace.is_time(p_event ->> 'start', v_time)),
      (5, 'event.end', 'is not an ISO 8601 time with its offset, such as 2025-01-15T15:00:00Z',
          jsonb_typeof(p_event -> 'end') is distinct from 'string' or not millrace.is_time(p_event ->> 'end', v_time)),
      (6, 'event.description', 'is not a text of at most 8192 characters',
          jsonb_typeof(p_event -> 'description') not in ('string', 'null') or length(p_event ->> 'description') > 8192),
      (7, 'event.location', 'is not a text of at most 1024 characters',
          jsonb_typeof(p_event -> 'location') not in ('string', 'null') or length(p_event ->> 'location') > 1024),
      (8, 'event.colorId', 'is not the number of a colour as text', jsonb_typeof(p_event -> 'colorId') not in ('string', 'null')
          or p_event ->> 'colorId' !~ '^[0-9]{1,3}$'),
      (9, 'event.recurrence', 'is not an array of at most 50 lines, each RRULE:, EXRULE:, RDATE or EXDATE as RFC 5545 writes them',
          jsonb_typeof(p_event -> 'recurrence') not in ('array', 'null')
          or jsonb_path_exists(p_event, '$.recurrence.size() ? (@ > 50)')
          or exists (select from jsonb_array_elements(case jsonb_typeof(p_event -> 'recurrence') when 'array' then p_event -> 'recurrence' else '[]' end) as r
                      where jsonb_typeof(r) <> 'string' or length(r #>> '{}') > 500
                         or r #>> '{}' !~ '^(RRULE|EXRULE|RDATE|EXDATE)[:;][^[:cntrl:]]+$'))
    ) as f (place, field, reason, wrong)
   where f.wrong
   order by f.place
   limit 1;
  if field is null and (p_event ->> 'end')::timestamptz < (p_event ->> 'start')::timestamptz then
    field := 'event.end'; reason := 'is before event.start';
  end if;
end
$$;

-- Refuses a payload that is not one of the three operations, naming the first field that is wrong.
create function millrace.check_calendar_payload(p_payload jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_uuid      constant text := '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$';
  v_operation constant text := p_payload ->> 'operation';
  v_fields    text[] := '{operation,workspaceId,calendarId}';
  v_bad       record;
begin
  if jsonb_typeof(p_payload) is distinct from 'object' then
    perform millrace.refuse(400, 'invalid_request', 'payload is no object');
  end if;
  if v_operation in ('UPSERT_EVENT', 'CANCEL_EVENT') then
    v_fields := v_fields || '{sourceType,sourceId}';
  end if;
  if v_operation = 'UPSERT_EVENT' then
    v_fields := v_fields || '{eventType,event}';
  end if;
  select f.field, f.reason into v_bad
    from (values
      (1, 'operation', 'is not one of UPSERT_EVENT, CANCEL_EVENT and REBUILD_ALL',
          coalesce(v_operation not in ('UPSERT_EVENT', 'CANCEL_EVENT', 'REBUILD_ALL'), true)),
      (2, (select min(k) from jsonb_object_keys(p_payload - v_fields) as k), format('is not known of a %s', v_operation), p_payload - v_fields <> '{}'),
      (3, 'workspaceId', 'is not a UUID', coalesce(p_payload ->> 'workspaceId' !~ v_uuid, true)),
      (4, 'calendarId', 'is missing or empty, or longer than 1000 characters',
          coalesce(jsonb_typeof(p_payload -> 'calendarId') <> 'string' or btrim(p_payload ->> 'calendarId') = ''
                   or length(p_payload ->> 'calendarId') > 1000, true)),
      (5, 'sourceType', 'is not one of task, milestone, gate_run and project_review',
          'sourceType' = any (v_fields) and coalesce(p_payload ->> 'sourceType' not in ('task', 'milestone', 'gate_run', 'project_review'), true)),
      (6, 'sourceId', 'is not a UUID', 'sourceId' = any (v_fields) and coalesce(p_payload ->> 'sourceId' !~ v_uuid, true)),
      (7, 'eventType', 'is not one of GATE_REVIEW, BLOCKER_DEADLINE, MILESTONE and PROJECT_REVIEW',
          'eventType' = any (v_fields)
          and coalesce(p_payload ->> 'eventType' not in ('GATE_REVIEW', 'BLOCKER_DEADLINE', 'MILESTONE', 'PROJECT_REVIEW'), true))
    ) as f (place, field, reason, wrong)
   where f.wrong
   order by f.place
   limit 1;
  if not found and v_operation = 'UPSERT_EVENT' then
    select e.field, e.reason into v_bad from millrace.calendar_event_fault(p_payload -> 'event') as e where e.field is not null;
  end if;
  if v_bad.field is not null then
    perform millrace.refuse(400, 'invalid_request', format('payload.%s %s', v_bad.field, v_bad.reason));
  end if;
end
$$;

-- An insert into sync_outbox. Its columns operation and workspace_id may say what the payload says, or stand for what it leaves out.
create function millrace.insert_into_sync_outbox() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column  text;
  v_payload jsonb := new.payload;
  v_job_id  bigint;
begin
  select c.name into v_column
    from (values ('id', new.id is not null), ('job_id', new.job_id is not null), ('status', new.status <> 'PENDING'), ('attempts', new.attempts <> 0),
                 ('last_error', new.last_error is not null), ('processed_at', new.processed_at is not null)) as c (name, given)
   where c.given limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s of a new item is not for its maker to choose', v_column));
  elsif new.next_attempt_at > millrace.clock() + interval '3650 days' then
    perform millrace.refuse(400, 'invalid_request', 'next_attempt_at is more than ten years ahead');
  end if;
  if jsonb_typeof(v_payload) = 'object' then
    v_payload := jsonb_strip_nulls(jsonb_build_object('operation', new.operation, 'workspaceId', new.workspace_id)) || v_payload;
    if v_payload ->> 'operation' <> new.operation or lower(v_payload ->> 'workspaceId') <> new.workspace_id::text then
      perform millrace.refuse(400, 'invalid_request', 'operation and workspace_id are not those of the payload');
    end if;
  end if;
  perform millrace.check_calendar_payload(v_payload);
  v_job_id := millrace.enqueue_calendar_item(v_payload, new.next_attempt_at, new.max_attempts);
  -- Filled in here: to read the row back from the view is to plan its eight branches for each row.
  new.job_id := v_job_id;
  new.id := millrace.job_uuid(v_job_id);
  new.payload := v_payload;
  new.operation := v_payload ->> 'operation';
  new.workspace_id := (v_payload ->> 'workspaceId')::uuid;
  new.status := 'PENDING'; new.attempts := 0;
  select j.enqueued_at, greatest(j.enqueued_at, new.next_attempt_at), coalesce(j.max_attempts, q.max_attempts)
    into new.created_at, new.next_attempt_at, new.max_attempts
    from millrace.job j join millrace.queue q on q.id = j.queue_id where j.id = v_job_id;
  new.updated_at := new.created_at;
  return new;
end
$$;

-- One at a time for each source, oldest first; and one REBUILD_ALL at a time for each workspace. The limit key is the workspace: what its circuit
-- breaker holds, and what a rate for each workspace would be set by.
create function millrace.enqueue_calendar_item(p_payload jsonb, p_run_at timestamptz, p_max_attempts int) returns bigint
language sql
as $$
  select e.job_id from millrace.enqueue_many(jsonb_build_array(jsonb_build_object(
    'queue', 'calendar', 'type', p_payload ->> 'operation', 'payload', p_payload, 'run_at', p_run_at, 'max_attempts', p_max_attempts,
    'concurrency_key', lower(concat_ws('/', p_payload ->> 'workspaceId', p_payload ->> 'sourceType', p_payload ->> 'sourceId')),
    'limit_key', lower(p_payload ->> 'workspaceId')))) as e
$$;

-- The runbook's word for a status of the outbox, by which millrace.hold_job knows where a job lies.
create function millrace.outbox_place(p_status text) returns text
language sql immutable
as $$
  select case p_status when 'PENDING' then 'pending' when 'FAILED' then 'retry' when 'PROCESSING' then 'processing'
                       when 'COMPLETED' then 'completed' when 'DEAD_LETTER' then 'failed' when 'CANCELLED' then 'cancelled' end
$$;

-- An update of sync_outbox: another status or another time.
--
--   status = 'PENDING'    a dead or cancelled item is queued again with all its attempts before it; attempts = 0 may be said with it. One that
--                         waits for its retry is due now, and its attempts stay as they are
--   status = 'CANCELLED'  it is withdrawn, also while it is processed
--   next_attempt_at       of an item that waits
--
-- An item that has left the status which the statement saw is passed over, as a table's row would be that its condition fits no more.
create function millrace.update_sync_outbox() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column text;
begin
  select n.key into v_column
    from jsonb_each(to_jsonb(new)) as n
   where n.value is distinct from to_jsonb(old) -> n.key
     and n.key <> all ('{status,next_attempt_at,updated_at}')
     and not (n.key = 'attempts' and new.attempts = 0 and new.status = 'PENDING')
     and not (n.key in ('last_error', 'processed_at') and n.value = 'null' and new.status = 'PENDING')
   order by n.key
   limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s of an item can''t be changed', v_column),
                            'status may become PENDING or CANCELLED, and an item that waits may get another next_attempt_at');
  elsif new.status is distinct from old.status and new.status in ('PENDING', 'CANCELLED') is not true then
    perform millrace.refuse(400, 'invalid_request', format('status of an item can''t be set to %s', coalesce(new.status, 'null')),
                            'it may become PENDING or CANCELLED');
  end if;
  if (new.status, new.next_attempt_at) is distinct from (old.status, old.next_attempt_at)
     and not millrace.hold_job(old.job_id, millrace.outbox_place(old.status)) then
    return null;
  end if;
  if old.status = 'FAILED' and new.status = 'PENDING' then
    if new.next_attempt_at is not distinct from old.next_attempt_at then
      perform millrace.reschedule(old.job_id, millrace.clock());
    end if;
  elsif new.status is distinct from old.status then
    if new.status = 'CANCELLED' then
      perform millrace.cancel(old.job_id);
    else
      perform millrace.retry(old.job_id);
    end if;
  end if;
  if new.next_attempt_at is distinct from old.next_attempt_at and new.next_attempt_at is not null then
    perform millrace.reschedule(old.job_id, new.next_attempt_at);
  end if;
  new := millrace.outbox_item(old.job_id);
  return new;
end
$$;

-- The queue's number of attempts follows the variable calendar_sync_max_retries, which each attempt hands in.
create function millrace.follow_calendar_settings(p_max_attempts int) returns void
language plpgsql
as $$
begin
  if exists (select from millrace.queue q where q.name = 'calendar' and q.max_attempts <> p_max_attempts) then
    perform millrace.configure_queue('calendar', max_attempts => p_max_attempts);
  end if;
end
$$;

-- Leases the binding of a payload's source to an attempt of a job; makes it for an UPSERT_EVENT. `busy_until` of the answer is NULL where another
-- job has it, `state` where there is none.
create function millrace.lease_binding(p_job_id bigint, p_lease bigint, p_payload jsonb, p_until timestamptz, out state text, out generation int,
  out calendar_id text, out busy_until timestamptz)
language plpgsql
as $$
declare
  v_workspace constant uuid := (p_payload ->> 'workspaceId')::uuid;
  v_source    constant uuid := (p_payload ->> 'sourceId')::uuid;
  v_now       constant timestamptz := millrace.clock();
begin
  if p_payload ->> 'operation' = 'UPSERT_EVENT' then
    insert into millrace.calendar_binding (workspace_id, source_type, source_id, state, created_at, updated_at)
    values (v_workspace, p_payload ->> 'sourceType', v_source, 'gone', v_now, v_now)
        on conflict do nothing;
  end if;
  update millrace.calendar_binding b
     set busy_job = p_job_id, busy_lease = p_lease, busy_until = p_until
   where b.workspace_id = v_workspace and b.source_type = p_payload ->> 'sourceType' and b.source_id = v_source
     and (b.busy_job is null or b.busy_job = p_job_id or b.busy_until <= v_now)
  returning b.state, b.generation, b.calendar_id, b.busy_until
    into lease_binding.state, lease_binding.generation, lease_binding.calendar_id, lease_binding.busy_until;
  if not found then
    state := (select b.state from millrace.calendar_binding b
               where b.workspace_id = v_workspace and b.source_type = p_payload ->> 'sourceType' and b.source_id = v_source);
  end if;
end
$$;

-- The event of a leased binding that an attempt goes ahead with. From here on one that did not exist may: it is `trying`, which an attempt that
-- never gets to Google doesn't make it.
create function millrace.leased_event(p_lease bigint, p_payload jsonb) returns jsonb
language plpgsql
as $$
declare
  v_binding millrace.calendar_binding;
begin
  update millrace.calendar_binding b
     set state = 'trying', calendar_id = p_payload ->> 'calendarId'
   where b.workspace_id = (p_payload ->> 'workspaceId')::uuid and b.source_type = p_payload ->> 'sourceType'
     and b.source_id = (p_payload ->> 'sourceId')::uuid and b.busy_lease = p_lease and b.state = 'gone';
  select * into v_binding from millrace.calendar_binding b
   where b.workspace_id = (p_payload ->> 'workspaceId')::uuid and b.source_type = p_payload ->> 'sourceType'
     and b.source_id = (p_payload ->> 'sourceId')::uuid;
  return jsonb_build_object(
    'state', v_binding.state, 'calendar_id', v_binding.calendar_id,
    'event_id', millrace.calendar_event_id(v_binding.workspace_id, v_binding.source_type, v_binding.source_id, v_binding.generation));
end
$$;

-- Gives back what an attempt has leased of a workspace's bindings.
create function millrace.release_bindings(p_lease bigint, p_payload jsonb) returns void
language sql
as $$
  update millrace.calendar_binding b set busy_job = null, busy_lease = null, busy_until = null
   where b.workspace_id = (p_payload ->> 'workspaceId')::uuid and b.busy_lease = p_lease
$$;

create function millrace.count_calendar_outcome(p_job_id bigint, p_payload jsonb, p_outcome text) returns void
language sql
as $$
  insert into millrace.calendar_outcome as o (operation, outcome, shard, n)
  values (p_payload ->> 'operation', p_outcome, p_job_id % 16, 1)
      on conflict (operation, outcome, shard) do update set n = o.n + 1
$$;

-- The breakers that calls for a workspace pass, the wider one first.
create function millrace.calendar_breakers(p_payload jsonb) returns text[]
language sql immutable
as $$ select array['google', 'google/' || lower(p_payload ->> 'workspaceId')] $$;

-- Holds the queue while Google's breaker is open, and a workspace's items while its own is: what would only be postponed is not claimed. Called
-- when a breaker has moved: a probe is sent, or noted, or something failed.
create function millrace.follow_calendar_breakers(p_payload jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_workspace constant text := lower(p_payload ->> 'workspaceId');
  v_queue     millrace.queue;
begin
  select * into v_queue from millrace.queue q where q.name = 'calendar';
  perform millrace.hold_with_breaker('google', null, v_queue.held_until);
  perform millrace.hold_with_breaker('google/' || v_workspace, v_workspace,
    (select k.held_until from millrace.limited_key k where k.queue_id = v_queue.id and k.key = v_workspace));
end
$$;

-- Sets the hold that goes with a breaker, which is p_held until now. A hold that the breaker did not set is somebody's decision: it stays, unless the
-- breaker is open for longer, and is there again as the breaker closes.
create function millrace.hold_with_breaker(p_breaker text, p_limit_key text, p_held timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now     constant timestamptz := millrace.clock();
  v_breaker millrace.circuit_breaker;
  v_other   timestamptz;
  v_until   timestamptz;
begin
  select * into v_breaker from millrace.circuit_breaker b where b.name = p_breaker;
  v_other := case when p_held = v_breaker.held_until then v_breaker.held_before else nullif(p_held, '-infinity') end;
  v_until := greatest(v_breaker.open_until, v_other);
  if found and coalesce(v_until, '-infinity') <> coalesce(p_held, '-infinity') and greatest(v_until, p_held) > v_now then
    perform millrace.hold('calendar', p_limit_key, v_until);
    update millrace.circuit_breaker b set held_until = v_until, held_before = v_other where b.name = p_breaker;
  end if;
end
$$;

-- {job_id, payload, remaining, max_attempts} -> what an attempt is to do, `remaining` being the seconds until its deadline:
--   {step: nothing}                there is no event to cancel
--   {step: wait, seconds, code}    circuit_open or source_busy: postpone
--   {step: dead, code}             not_connected or connection_invalid
--   {step: go, lease, permits, connection: {version, refresh_token, key_id, access_token?, access_key_id?}, binding?: {state, event_id, calendar_id}}
-- `lease` is a fencing token: all that the attempt says later goes with it. A payload that is not one of the three operations is refused, as by an insert into sync_outbox.
create function millrace_api.calendar_begin(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_job        constant bigint := millrace.job_id(($1 ->> 'job_id')::uuid);
  v_payload    constant jsonb := $1 -> 'payload';
  v_lease      constant bigint := nextval('millrace.calendar_lease');
  v_binding    record;
  v_event      jsonb; -- what is known of it, where the payload is about one
  v_connection millrace.google_connection;
  v_call       record;
  v_stop       jsonb;
begin
  perform millrace.check_calendar_payload(v_payload);
  select * into v_connection from millrace.google_connection c where c.workspace_id = (v_payload ->> 'workspaceId')::uuid;
  if v_payload ->> 'operation' <> 'REBUILD_ALL' then
    -- some seconds more than the attempt has, so that none outlives its lease
    select * into v_binding
      from millrace.lease_binding(v_job, v_lease, v_payload, millrace.clock() + make_interval(secs => ($1 ->> 'remaining')::double precision + 5));
    if v_payload ->> 'operation' = 'CANCEL_EVENT' and coalesce(v_binding.state, 'gone') = 'gone' then
      v_stop := '{"step": "nothing"}';
    elsif v_binding.busy_until is null then
      v_stop := '{"step": "wait", "seconds": 1, "code": "source_busy"}';
    end if;
  end if;
  if v_stop is null and v_connection.workspace_id is null then
    v_stop := '{"step": "dead", "code": "not_connected"}';
  elsif v_stop is null and not v_connection.is_valid then
    v_stop := '{"step": "dead", "code": "connection_invalid"}';
  elsif v_stop is null then
    select * into v_call from millrace.admit_call(millrace.calendar_breakers(v_payload));
    if not v_call.admitted then
      -- What is held is not claimed before its time; so this may come back as soon as the probe has been heard of.
      v_stop := jsonb_build_object('step', 'wait', 'code', 'circuit_open', 'seconds', least(5, extract(epoch from v_call.wait)));
    elsif v_call.permits <> '{}' then
      perform millrace.follow_calendar_breakers(v_payload);
    end if;
  end if;
  perform millrace.follow_calendar_settings(($1 ->> 'max_attempts')::int); -- after the breakers: calendar_note locks the queue's row behind theirs, too
  if v_stop is not null then
    perform millrace.release_bindings(v_lease, v_payload);
    perform millrace.count_calendar_outcome(v_job, v_payload, coalesce(v_stop ->> 'code', 'done'));
    return v_stop;
  elsif v_payload ? 'sourceId' then
    v_event := millrace.leased_event(v_lease, v_payload);
  end if;
  return jsonb_strip_nulls(jsonb_build_object(
    'step', 'go', 'lease', v_lease, 'permits', v_call.permits,
    'connection', jsonb_build_object(
      'version', v_connection.version, 'refresh_token', v_connection.refresh_token_encrypted, 'key_id', v_connection.key_id)
      || case when v_connection.access_expires_at > millrace.clock() + interval '1 minute'
           then jsonb_build_object('access_token', v_connection.access_token_encrypted, 'access_key_id', v_connection.access_key_id) else '{}' end,
    'binding', v_event));
end
$$;

-- {workspace_id, version, access_token, key_id, expires_in} -> {}: keeps an encrypted access token, unless another refresh token came meanwhile.
create function millrace_api.calendar_token(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update millrace.google_connection c
     set access_token_encrypted = $1 ->> 'access_token', access_key_id = $1 ->> 'key_id',
         access_expires_at = millrace.clock() + make_interval(secs => least(($1 ->> 'expires_in')::int, 86400))
   where c.workspace_id = ($1 ->> 'workspace_id')::uuid and c.version = ($1 ->> 'version')::bigint;
  return '{}';
end
$$;

-- What an attempt changed at Google: bound (the event is as the payload says), gone (deleted), moved (deleted, to be made in another calendar),
-- spent (its id can't be used any more), or nothing. False where the binding is another attempt's by now.
create function millrace.note_binding(p_lease bigint, p_payload jsonb, p_effect text) returns boolean
language plpgsql
as $$
declare
  v_now constant timestamptz := millrace.clock();
begin
  update millrace.calendar_binding b
     set state = case p_effect when 'bound' then 'bound' when 'gone' then 'gone' when 'spent' then 'gone' when 'moved' then 'trying' else b.state end,
         generation = b.generation + (p_effect in ('gone', 'spent', 'moved'))::int,
         calendar_id = case when p_effect in ('bound', 'moved') then p_payload ->> 'calendarId' else b.calendar_id end,
         event_type = case p_effect when 'bound' then p_payload ->> 'eventType' else b.event_type end,
         event = case p_effect when 'bound' then p_payload -> 'event' when 'gone' then null else b.event end,
         bound_at = case p_effect when 'bound' then v_now else b.bound_at end,
         busy_job = case p_effect when 'moved' then b.busy_job end,
         busy_lease = case p_effect when 'moved' then b.busy_lease end,
         busy_until = case p_effect when 'moved' then b.busy_until end,
         updated_at = v_now
   where b.workspace_id = (p_payload ->> 'workspaceId')::uuid and b.source_type = p_payload ->> 'sourceType'
     and b.source_id = (p_payload ->> 'sourceId')::uuid and b.busy_lease = p_lease;
  return found;
end
$$;

-- {job_id, lease, payload, permits, effect, google, outcome, invalid?: {version, reason}} -> {excused, seconds?, event_id?, held, renewed}: what came
-- of an attempt. `google` is worked, failed or unknown (nobody asked it, or only for a part). `seconds` is after how long to try again where
-- it failed, `event_id` the next one after a move, and `held` is false where the binding was another attempt's by then. `renewed` says that
-- the connection which is invalid is not the present one: somebody has connected the workspace again meanwhile.
create function millrace_api.calendar_note(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_job     constant bigint := millrace.job_id(($1 ->> 'job_id')::uuid);
  v_payload constant jsonb := $1 -> 'payload';
  v_effect  constant text := $1 ->> 'effect';
  v_lease   constant bigint := ($1 ->> 'lease')::bigint;
  v_noted   record;
  v_held    boolean := true;
  v_renewed boolean;
begin
  if v_payload ? 'sourceId' then
    v_held := millrace.note_binding(v_lease, v_payload, v_effect);
  else
    perform millrace.release_bindings(v_lease, v_payload);
    -- A REBUILD_ALL that is over: if somebody runs it again, it tries again what it could not make.
    update millrace.calendar_binding b set failed_job = null
     where v_effect = 'over' and b.workspace_id = (v_payload ->> 'workspaceId')::uuid and b.failed_job = v_job;
  end if;
  if v_effect = 'moved' then
    return jsonb_build_object('excused', false, 'held', v_held, 'renewed', false, 'event_id', (
      select millrace.calendar_event_id(b.workspace_id, b.source_type, b.source_id, b.generation)
        from millrace.calendar_binding b
       where b.workspace_id = (v_payload ->> 'workspaceId')::uuid and b.source_type = v_payload ->> 'sourceType'
         and b.source_id = (v_payload ->> 'sourceId')::uuid));
  end if;
  update millrace.google_connection c
     set is_valid = false, invalid_reason = left($1 #>> '{invalid,reason}', 200), access_token_encrypted = null, access_key_id = null, access_expires_at = null
   where c.workspace_id = (v_payload ->> 'workspaceId')::uuid and c.version = ($1 #>> '{invalid,version}')::bigint;
  v_renewed := not found and exists (select from millrace.google_connection c
                                      where c.workspace_id = (v_payload ->> 'workspaceId')::uuid and c.version > ($1 #>> '{invalid,version}')::bigint);
  perform millrace.count_calendar_outcome(v_job, v_payload, $1 ->> 'outcome');
  if $1 ->> 'google' = 'unknown' then
    return jsonb_build_object('excused', false, 'held', v_held, 'renewed', v_renewed);
  end if;
  select * into v_noted from millrace.note_call(millrace.calendar_breakers(v_payload), $1 -> 'permits', $1 ->> 'google' = 'worked', v_job);
  if $1 ->> 'google' = 'failed' or $1 -> 'permits' <> '{}' then
    perform millrace.follow_calendar_breakers(v_payload);
  end if;
  return jsonb_strip_nulls(jsonb_build_object('excused', v_noted.excused, 'held', v_held, 'renewed', v_renewed, 'seconds', extract(epoch from v_noted.wait)));
end
$$;

-- {job_id, lease, payload, remaining, limit, gone, bound, failed} -> {items: [{source_type, source_id, state, event_id, next_event_id, calendar_id, event_type, event}],
-- left, failed}: notes what a part of a REBUILD_ALL came to ([{source_type, source_id}] each) and leases the next part, of at most `limit`. `left`
-- says how many are still to be done, with those that other jobs have in hand, `failed` how many could not be made again, and `lost` of how many
-- it was told that are another attempt's by now: an attempt that is told so is over.
--
-- What it does again is every event that was bound when it was enqueued, and every one that an earlier run deleted and did not bring back: so
-- a run that ended in the middle is simply run again.
create function millrace_api.calendar_rebuild(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_job       constant bigint := millrace.job_id(($1 ->> 'job_id')::uuid);
  v_workspace constant uuid := ($1 #>> '{payload,workspaceId}')::uuid;
  v_now       constant timestamptz := millrace.clock();
  v_since     timestamptz;
  v_items     jsonb;
  v_lost      constant int := millrace.note_rebuilt(v_job, $1);
begin
  select j.enqueued_at into v_since from millrace.job j where j.id = v_job;
  with due as (
    select b.ctid from millrace.calendar_binding b
     where b.workspace_id = v_workspace and (b.state = 'rebuilding' or b.state = 'bound' and b.bound_at < v_since)
       and b.failed_job is distinct from v_job and (b.busy_job is null or b.busy_job = v_job or b.busy_until <= v_now)
     order by b.source_type, b.source_id
     limit ($1 ->> 'limit')::int
       for update skip locked
  ), leased as (
    update millrace.calendar_binding b
       set busy_job = v_job, busy_lease = ($1 ->> 'lease')::bigint,
           busy_until = v_now + make_interval(secs => ($1 ->> 'remaining')::double precision + 5)
     where b.ctid = any (array(select d.ctid from due d))
    returning b.*
  )
  select coalesce(jsonb_agg(jsonb_build_object(
           'source_type', l.source_type, 'source_id', l.source_id, 'state', l.state, 'calendar_id', l.calendar_id,
           'event_id', millrace.calendar_event_id(l.workspace_id, l.source_type, l.source_id, l.generation),
           'next_event_id', millrace.calendar_event_id(l.workspace_id, l.source_type, l.source_id, l.generation + 1),
           'event_type', l.event_type, 'event', l.event) order by l.source_type, l.source_id), '[]')
    into v_items from leased l;
  return jsonb_build_object('items', v_items, 'lost', v_lost,
    'left', (select count(*) from millrace.calendar_binding b
              where b.workspace_id = v_workspace and (b.state = 'rebuilding' or b.state = 'bound' and b.bound_at < v_since)
                and b.failed_job is distinct from v_job),
    'failed', (select count(*) from millrace.calendar_binding b where b.workspace_id = v_workspace and b.failed_job = v_job));
end
$$;

-- Answers how many of those that it is told of are another attempt's by now.
create function millrace.note_rebuilt(p_job_id bigint, p_request jsonb) returns int
language plpgsql
as $$
declare
  v_now  constant timestamptz := millrace.clock();
  v_told constant int := (select coalesce(sum(jsonb_array_length(coalesce(p_request -> k.effect, '[]'))), 0)
                            from (values ('gone'), ('bound'), ('failed')) as k (effect));
  v_held int;
begin
  update millrace.calendar_binding b
     set state = case t.effect when 'gone' then 'rebuilding' when 'bound' then 'bound' else b.state end,
         generation = b.generation + (t.effect = 'gone')::int,
         calendar_id = case t.effect when 'failed' then b.calendar_id else p_request #>> '{payload,calendarId}' end,
         bound_at = case t.effect when 'bound' then v_now else b.bound_at end,
         failed_job = case t.effect when 'failed' then p_job_id when 'bound' then null else b.failed_job end,
         busy_job = case t.effect when 'gone' then b.busy_job end,
         busy_lease = case t.effect when 'gone' then b.busy_lease end,
         busy_until = case t.effect when 'gone' then b.busy_until end,
         updated_at = v_now
    from (select k.effect, r.source_type, r.source_id
            from (values ('gone'), ('bound'), ('failed')) as k (effect)
           cross join lateral jsonb_to_recordset(coalesce(p_request -> k.effect, '[]')) as r (source_type text, source_id uuid)) as t
   where b.workspace_id = (p_request #>> '{payload,workspaceId}')::uuid and b.source_type = t.source_type and b.source_id = t.source_id
     and b.busy_lease = (p_request ->> 'lease')::bigint;
  get diagnostics v_held = row_count;
  return v_told - v_held;
end
$$;

-- -> {breakers: [{breaker, open, failures, opened, probes}, …], calendar: [{operation, outcome, n}, …]}, for the metrics. The breakers below one, such as
-- google/WORKSPACE, are one row, google/*, so that there are not as many as there are workspaces.
create function millrace.channel_metrics() returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'breakers', (select coalesce(jsonb_agg(to_jsonb(n) order by n.breaker), '[]')
                   from (select regexp_replace(b.name, '/.*', '/*') as breaker, count(*) filter (where b.open_until is not null) as open,
                                max(b.failures) as failures, sum(b.opened) as opened, sum(b.probes) as probes
                           from millrace.circuit_breaker b group by 1) as n),
    'calendar', (select coalesce(jsonb_agg(to_jsonb(n) order by n.operation, n.outcome), '[]')
                   from (select o.operation, o.outcome, sum(o.n) as n from millrace.calendar_outcome o group by 1, 2) as n))
$$;

-- Which schema: see the runbook, which does the same, and why its views are built as they are.
do $$
declare
  v_taken text;
begin
  select string_agg(t.name, ', ' order by t.name) into v_taken
    from (select c.relname::text from pg_class c where c.relnamespace = to_regnamespace('public')
          union select y.typname::text from pg_type y where y.typnamespace = to_regnamespace('public')
          union select p.proname::text from pg_proc p where p.pronamespace = to_regnamespace('public')) as t (name)
   where t.name in ('sync_outbox', 'calendar_event_bindings', 'google_connections', 'cleanup_old_outbox_items');
  if v_taken is null and coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'create'), false) then
    set local search_path = public;
  else
    create schema if not exists millrace_calendar;
    comment on schema millrace_calendar is 'Millrace''s calendar outbox (sync_outbox, calendar_event_bindings, google_connections), which had no place in public.';
    set local search_path = millrace_calendar;
    raise warning 'the calendar outbox is in the schema millrace_calendar, since public %',
      coalesce('has ' || v_taken || ' already', 'is not there, or nothing may be made in it')
      using hint = 'Name the schema, or put it on the search_path.';
  end if;
end
$$;

create view sync_outbox with (security_barrier = true) as
  select millrace.job_uuid(s.job_id) as id,
         case when s.payload ->> text 'workspaceId' ~ text '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
              then (s.payload ->> text 'workspaceId')::uuid end as workspace_id,
         coalesce(s.payload ->> text 'operation', s.type) as operation, s.payload, s.status, s.attempts::int as attempts,
         coalesce(s.max_attempts, (select q.max_attempts from millrace.queue q where q.name = text 'calendar')) as max_attempts,
         s.run_at as next_attempt_at,
         case when s.status <> text 'COMPLETED' then
           coalesce(s.error, (select coalesce(a.error, a.error_code) from millrace.attempt a
                               where a.job_id = s.job_id and a.outcome in (text 'failed', text 'lease_expired') order by a.lease_id desc limit 1)) end as last_error,
         s.enqueued_at as created_at,
         coalesce(s.ended_at, s.leased_at,
                  (select max(e.created_at) from millrace.job_events e where e.job_id = s.job_id), s.enqueued_at) as updated_at,
         s.ended_at as processed_at,
         s.job_id
    from (select r.job_id, text 'PENDING' as status, r.run_at, r.attempts, null::timestamptz as leased_at, null::timestamptz as ended_at, null::text as error,
                 l.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.ready r join millrace.lane l on l.id = r.lane_id
           cross join lateral (select * from millrace.job i where i.id = r.job_id limit 1) as j
           where r.attempts = smallint '0'
          union all
          select r.job_id, 'FAILED', r.run_at, r.attempts, null, null, null, l.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.ready r join millrace.lane l on l.id = r.lane_id
           cross join lateral (select * from millrace.job i where i.id = r.job_id limit 1) as j
           where r.attempts > smallint '0'
          union all
          select p.job_id, 'PENDING', p.run_at, p.attempts, null, null, null, p.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.parked p
           cross join lateral (select * from millrace.job i where i.id = p.job_id limit 1) as j
           where p.attempts = smallint '0'
          union all
          select p.job_id, 'FAILED', p.run_at, p.attempts, null, null, null, p.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.parked p
           cross join lateral (select * from millrace.job i where i.id = p.job_id limit 1) as j
           where p.attempts > smallint '0'
          union all
          select e.job_id, 'PROCESSING', null, e.attempt, e.leased_at, null, null, e.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.lease e
           cross join lateral (select * from millrace.job i where i.id = e.job_id limit 1) as j
          union all
          select f.job_id, 'COMPLETED', null, f.attempts, null, f.finished_at, null, j.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.finished f
           cross join lateral (select * from millrace.job i where i.id = f.job_id limit 1) as j
           where f.outcome = text 'succeeded'
          union all
          select f.job_id, 'CANCELLED', null, f.attempts, null, f.finished_at, null, j.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.finished f
           cross join lateral (select * from millrace.job i where i.id = f.job_id limit 1) as j
           where f.outcome = text 'cancelled'
          union all
          select d.job_id, 'DEAD_LETTER', null, d.attempts, null, d.dead_at, coalesce(d.error, d.reason), d.queue_id, j.type, j.payload, j.max_attempts, j.enqueued_at
            from millrace.dead_letter d
           cross join lateral (select * from millrace.job i where i.id = d.job_id limit 1) as j) as s
   where s.queue_id = (select q.id from millrace.queue q where q.name = text 'calendar');

comment on view sync_outbox is 'The items of the calendar outbox. Insert one (payload; workspace_id and operation are taken from it if not given); update its status to PENDING or CANCELLED. '
  'A condition on job_id (= millrace.job_id(''…'')) or on status reads little, any other every item that is kept.';

-- An item as the view has it now. Its plan is made once in a session, not for each row that an update touches; and made here, where the
-- view's schema is known.
do $$
begin
  -- by its full name, since others may have planted one of theirs in this schema
  execute pg_catalog.format($f$
    create function millrace.outbox_item(p_job_id bigint) returns %1$I.sync_outbox
    language plpgsql stable
    set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
    as $b$
    declare
      v_item record;
    begin
      select q.* into v_item from %1$I.sync_outbox q where q.job_id = p_job_id;
      return v_item;
    end
    $b$
  $f$, pg_catalog.current_schema()::text);
end
$$;

create trigger insert_into_sync_outbox instead of insert on sync_outbox for each row execute function millrace.insert_into_sync_outbox();
create trigger update_sync_outbox instead of update on sync_outbox for each row execute function millrace.update_sync_outbox();
create trigger refuse_delete instead of delete on sync_outbox for each row
  execute function millrace.refuse_write('cancel the item: update its status to CANCELLED; cleanup_old_outbox_items takes what has ended');

create view calendar_event_bindings with (security_barrier = true) as
  select b.workspace_id, b.source_type, b.source_id, b.event_type, b.calendar_id,
         millrace.calendar_event_id(b.workspace_id, b.source_type, b.source_id, b.generation) as google_event_id, b.event, b.created_at, b.updated_at
    from millrace.calendar_binding b
   where b.state = text 'bound';

comment on view calendar_event_bindings is 'Which event at Google stands for which source, and what was last written to it.';

create trigger refuse_write instead of insert or update or delete on calendar_event_bindings for each row
  execute function millrace.refuse_write('the handler binds events as it makes them');

-- Updates of calendar_id, is_valid and scopes, and deletions, are written through to its table. Tokens come by connect_calendar alone.
create view google_connections as
  select c.workspace_id, c.refresh_token_encrypted, c.key_id, c.calendar_id, c.is_valid, case when not c.is_valid then c.invalid_reason end as invalid_reason,
         c.scopes, c.connected_at
    from millrace.google_connection c;

comment on view google_connections is 'The workspaces'' connections to Google. millrace secrets put makes one; delete a row to forget it.';

-- Deletes items that ended more than so many days ago, dead letters too, and says how many.
create function cleanup_old_outbox_items(days integer) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
  return millrace.forget_calendar_items(cleanup_old_outbox_items.days);
end
$$;

comment on function cleanup_old_outbox_items is 'Deletes completed, cancelled and dead items of the calendar outbox that ended more than so many days ago; returns how many.';

create function millrace.forget_calendar_items(p_days int) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_before timestamptz;
  v_queue  int := (select q.id from millrace.queue q where q.name = 'calendar');
  v_jobs   bigint[];
  v_dead   bigint[];
begin
  if p_days is null or p_days not between 0 and 36500 then
    perform millrace.refuse(400, 'invalid_request', 'days is not from 0 to 36500');
  end if;
  v_before := millrace.clock() - make_interval(days => p_days);
  with old as materialized (
    select f.job_id, f.finished_at
      from millrace.finished f
     cross join lateral (select i.queue_id from millrace.job i where i.id = f.job_id limit 1) as j
     where f.finished_at < v_before and j.queue_id = v_queue
  ), gone as (
    delete from millrace.finished f using old o where f.job_id = o.job_id and f.finished_at = o.finished_at
    returning f.job_id, f.outcome
  ), tally as (
    insert into millrace.tally (queue_id, lane_id, kind, n, was)
    select v_queue, j.lane_id, 'forgotten:' || g.outcome, count(*), case g.outcome when 'succeeded' then 'completed' else g.outcome end
      from gone g join millrace.job j on j.id = g.job_id group by j.lane_id, g.outcome
  )
  select coalesce(array_agg(g.job_id), '{}') into v_jobs from gone g;
  with gone as (
    delete from millrace.dead_letter
     where id = any (array(select d.id from millrace.dead_letter d where d.queue_id = v_queue and d.dead_at < v_before order by d.id for update skip locked))
    returning job_id, retried_at
  ), tally as (
    insert into millrace.tally (queue_id, lane_id, kind, n, was)
    select v_queue, j.lane_id, case when g.retried_at is null then 'forgotten:dead' else 'forgotten:replayed' end, count(*), 'failed'
      from gone g join millrace.job j on j.id = g.job_id group by 2, 3
  )
  select coalesce(array_agg(g.job_id), '{}') into v_dead from gone g;
  perform millrace.forget_jobs(v_jobs || v_dead);
  -- Forgotten generations are no harm: an insert that meets a deleted event of ours brings that back.
  delete from millrace.calendar_binding b where b.state = 'gone' and b.updated_at < v_before and b.busy_job is null;
  return cardinality(v_jobs) + cardinality(v_dead);
end
$$;

select millrace.leave_to_clients(array['cleanup_old_outbox_items(integer)']::regprocedure[]);

do $$
declare
  v_schema   constant name := pg_catalog.current_schema();
  v_relation regclass;
  v_rights   text;
  v_role     text;
begin
  set local search_path = pg_catalog;
  for v_relation, v_rights in select format('%I.%I', v_schema, r.name), r.rights
                                from (values ('sync_outbox', 'select, insert, update'), ('calendar_event_bindings', 'select'),
                                             ('google_connections', 'select, update (calendar_id, is_valid, scopes), delete')) as r (name, rights) loop
    perform millrace.leave_to_owner(v_relation);
    for v_role in select quote_ident(r.rolname) from pg_roles r where r.rolname in ('millrace_client', 'service_role') loop
      execute format('grant %s on %s to %s', v_rights, v_relation, v_role);
      if v_schema <> 'public' then
        execute format('grant usage on schema %I to %s', v_schema, v_role);
      end if;
    end loop;
  end loop;
end
$$;
