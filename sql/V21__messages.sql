-- Messages: emails and text messages that are to be sent, and the functions that make one together with its job.
--
-- A channel is a queue of its own, `email` or `sms`, and the type of its jobs is the channel's name too. A job's payload only names its
-- message, as {"message_id": n}; a worker is given the whole message when it takes the job (see service_api).
-- Its job's payload_size is that of the message, so that a claim's bound holds for what it hands out.
-- A message belongs to one job at a time: to the one that it was made with, or to that one's latest replay. It goes when that job is forgotten.

create schema if not exists comms; -- an application may have one already, with things of its own in it

create table comms.email_message (
  id           bigint primary key generated always as identity,
  from_address text not null check (length(from_address) <= 320),
  to_address   text not null check (length(to_address) <= 320),
  subject      text not null check (length(subject) <= 998),
  html         text not null check (octet_length(html) <= 1048576),
  text         text check (octet_length(text) <= 1048576),
  reply_to     text check (length(reply_to) <= 320),
  job_id       bigint not null unique,
  created_at   timestamptz not null
);

create table comms.sms_message (
  id         bigint primary key generated always as identity,
  to_number  text not null check (length(to_number) <= 50),
  body       text not null check (length(body) <= 10000),
  job_id     bigint not null unique,
  created_at timestamptz not null
);

comment on table comms.email_message is 'Emails, by the jobs that send them. Written by comms.create_and_enqueue_email; a worker gets them from service_api.';
comment on table comms.sms_message is 'Text messages, by the jobs that send them. Written by comms.create_and_enqueue_sms; a worker gets them from service_api.';
comment on column comms.email_message.job_id is 'The job that sends it: the one that it was made with, or the latest replay of that.';
comment on column comms.sms_message.job_id is 'The job that sends it: the one that it was made with, or the latest replay of that.';

-- Enqueues the job of a message in its channel. With an idempotency key that is known, that is the first message's job. Small messages count as
-- nothing, which saves a write: a thousand of them, the most that a claim gives, are 4 MiB.
create function millrace.enqueue_message(p_channel text, p_message_id bigint, p_size int, p_scheduled_at timestamptz, p_priority int,
  p_idempotency_key text, p_max_attempts int, out job_id bigint, out queued boolean)
language plpgsql
set enable_seqscan = off
as $$
begin
  select e.job_id, e.queued into enqueue_message.job_id, enqueue_message.queued
    from millrace.enqueue_many(jsonb_build_array(jsonb_build_object(
           'queue', p_channel, 'type', p_channel, 'payload', jsonb_build_object('message_id', p_message_id), 'priority', p_priority,
           'run_at', p_scheduled_at, 'idempotency_key', p_idempotency_key, 'max_attempts', p_max_attempts))) as e;
  if queued and p_size > 4096 then
    update millrace.job j set payload_size = p_size where j.id = enqueue_message.job_id;
  end if;
end
$$;

-- When a job is due, or was when it was last taken: what its events say, or its enqueueing where those are gone.
create function millrace.due_at(p_job_id bigint) returns timestamptz
language sql stable
set enable_seqscan = off
as $$
  select coalesce(
    (select r.run_at from millrace.ready r where r.job_id = p_job_id),
    (select p.run_at from millrace.parked p where p.job_id = p_job_id),
    (select coalesce((e.payload ->> 'run_at')::timestamptz, e.created_at) from millrace.job_events e
      where e.job_id = p_job_id and e.event_type in ('queued', 'retry_scheduled', 'postponed', 'replayed') and not e.payload ? 'job_id'
      order by e.id desc limit 1),
    (select j.enqueued_at from millrace.job j where j.id = p_job_id))
$$;

-- What comms answers about a job.
create function millrace.message_job(p_job_id bigint) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set enable_seqscan = off
as $$
  select jsonb_build_object('job_id', j.id, 'task_type', q.name, 'resource_id', j.payload -> 'message_id', 'priority', j.priority,
                            'scheduled_at', millrace.due_at(j.id))
    from millrace.job j
    join millrace.queue q on q.id = j.queue_id
   where j.id = p_job_id
$$;

-- Refuses the first field that is longer than its column takes: p_fields has {name: [length, limit]}.
create function millrace.check_lengths(p_fields jsonb) returns void
language plpgsql
as $$
declare
  v_long record;
begin
  select f.key, f.value ->> 1 as most into v_long
    from jsonb_each(p_fields) as f where (f.value ->> 0)::int > (f.value ->> 1)::int order by f.key limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s is longer than %s', v_long.key, v_long.most));
  end if;
end
$$;

-- Refuses the first field that has a control character: in an address or a subject it could begin another header.
create function millrace.check_one_line(p_fields jsonb) returns void
language plpgsql
as $$
declare
  v_field text;
begin
  select f.key into v_field
    from jsonb_each_text(p_fields) as f where f.value ~ '[\u0001-\u001F\u007F-\u009F]' order by f.key limit 1;
  if found then
    perform millrace.refuse(400, 'invalid_request', format('%s has control characters', v_field));
  end if;
end
$$;

-- Makes an email and the job that sends it; in an application's own transaction they come with its other writes, or not at all. What is missing
-- or blank is answered, not raised, and then nothing is written.
create function comms.create_and_enqueue_email(from_address text, to_address text, subject text, html text,
  scheduled_at timestamptz default null, priority int default 5, idempotency_key text default null, max_attempts int default null,
  text text default null, reply_to text default null)
returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  v_failure text := case when coalesce(from_address !~ '[^[:space:]]', true) then 'from_address_missing'
                         when coalesce(to_address !~ '[^[:space:]]', true) then 'to_address_missing'
                         when coalesce(subject !~ '[^[:space:]]', true) then 'subject_missing'
                         when coalesce(html !~ '[^[:space:]]', true) then 'html_missing' end;
  v_id      bigint;
  v_job     record;
begin
  if v_failure is not null then
    return jsonb_build_object('validation_failure_message', v_failure, 'job', null);
  end if;
  perform millrace.check_lengths(jsonb_build_object(
    'from_address', array[length(from_address), 320], 'to_address', array[length(to_address), 320],
    'subject', array[length(subject), 998], 'html', array[octet_length(html), 1048576],
    'text', array[octet_length(text), 1048576], 'reply_to', array[length(reply_to), 320]));
  perform millrace.check_one_line(jsonb_build_object('from_address', from_address, 'to_address', to_address, 'subject', subject,
                                                     'reply_to', reply_to));

  v_id := nextval('comms.email_message_id_seq');
  v_job := millrace.enqueue_message('email', v_id, octet_length(jsonb_build_array(subject, html, text)::text), scheduled_at, priority,
                                    idempotency_key, max_attempts);
  if v_job.queued then
    insert into comms.email_message as m (id, from_address, to_address, subject, html, text, reply_to, job_id, created_at)
      overriding system value
    values (v_id, from_address, to_address, subject, html, text, nullif(btrim(reply_to), ''), v_job.job_id, millrace.clock());
  end if;
  return jsonb_build_object('validation_failure_message', null, 'job', millrace.message_job(v_job.job_id));
end
$$;

comment on function comms.create_and_enqueue_email(text, text, text, text, timestamptz, int, text, int, text, text) is 'Makes an email and its job; answers the job, or what is missing. A known idempotency key: the first email''s job, and no second email.';

-- The same of a text message.
create function comms.create_and_enqueue_sms(to_number text, body text,
  scheduled_at timestamptz default null, priority int default 5, idempotency_key text default null, max_attempts int default null)
returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  v_failure text := case when coalesce(to_number !~ '[^[:space:]]', true) then 'to_number_missing'
                         when coalesce(body !~ '[^[:space:]]', true) then 'body_missing' end;
  v_id      bigint;
  v_job     record;
begin
  if v_failure is not null then
    return jsonb_build_object('validation_failure_message', v_failure, 'job', null);
  end if;
  perform millrace.check_lengths(jsonb_build_object(
    'to_number', array[length(to_number), 50], 'body', array[length(body), 10000]));

  v_id := nextval('comms.sms_message_id_seq');
  v_job := millrace.enqueue_message('sms', v_id, octet_length(to_jsonb(body)::text), scheduled_at, priority, idempotency_key, max_attempts);
  if v_job.queued then
    insert into comms.sms_message as m (id, to_number, body, job_id, created_at) overriding system value
    values (v_id, to_number, body, v_job.job_id, millrace.clock());
  end if;
  return jsonb_build_object('validation_failure_message', null, 'job', millrace.message_job(v_job.job_id));
end
$$;

comment on function comms.create_and_enqueue_sms(text, text, timestamptz, int, text, int) is 'Makes a text message and its job; answers the job, or what is missing. A known idempotency key: the first message''s job, and no second one.';

-- A replay is a new job with the dead one's payload, so the message that it names is its own from now on, and its size.
create function millrace.hand_over_message() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
  update comms.email_message m set job_id = new.retried_job_id where m.job_id = new.job_id;
  update comms.sms_message m set job_id = new.retried_job_id where m.job_id = new.job_id;
  update millrace.job n set payload_size = d.payload_size
    from millrace.job d where n.id = new.retried_job_id and d.id = new.job_id and n.payload_size <> d.payload_size;
  return null;
end
$$;

create trigger hand_over_message after update of retried_job_id on millrace.dead_letter
  for each row when (old.retried_job_id is null and new.retried_job_id is not null)
  execute function millrace.hand_over_message();

-- Deletes the messages of jobs that are being forgotten (see housekeeping).
create function millrace.forget_messages(p_jobs bigint[]) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  delete from comms.email_message m where m.job_id = any (p_jobs);
  delete from comms.sms_message m where m.job_id = any (p_jobs);
$$;

-- Takes from everybody but its owner what they may do with a table, a view or a sequence.
create function millrace.leave_to_owner(p_relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text;
begin
  for v_role in select case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
                  from pg_class c cross join lateral aclexplode(c.relacl) as a
                 where c.oid = p_relation and a.grantee <> c.relowner loop
    execute format('revoke all on %s from %s', p_relation, v_role);
  end loop;
end
$$;

-- Leaves functions to their owner, to millrace_client and, in a Supabase database, to the service role. What is made in a schema that is not
-- Millrace's own may be open at once: functions to everybody, and anything to the roles that default privileges name.
create function millrace.leave_to_clients(p_functions regprocedure[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function text;
  v_role     text;
begin
  foreach v_function in array p_functions::text[] loop
    for v_role in select case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
                    from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                   where p.oid = v_function::regprocedure and a.grantee <> p.proowner loop
      execute format('revoke all on function %s from %s', v_function, v_role);
    end loop;
    for v_role in select quote_ident(r.rolname) from pg_roles r where r.rolname in ('millrace_client', 'service_role') loop
      execute format('grant execute on function %s to %s', v_function, v_role);
    end loop;
  end loop;
end
$$;

select millrace.leave_to_clients(array[
  'comms.create_and_enqueue_email(text, text, text, text, timestamptz, int, text, int, text, text)',
  'comms.create_and_enqueue_sms(text, text, timestamptz, int, text, int)']::regprocedure[]);

select millrace.leave_to_owner(r.relation)
  from (values ('comms.email_message'), ('comms.sms_message'), (pg_get_serial_sequence('comms.email_message', 'id')),
               (pg_get_serial_sequence('comms.sms_message', 'id'))) as n (name)
 cross join lateral to_regclass(n.name) as r (relation);

-- The roles that may call them must be let into the schema, whoever's it is.
do $$
declare
  v_role text;
begin
  for v_role in select quote_ident(r.rolname) from pg_roles r where r.rolname in ('millrace_client', 'service_role') loop
    execute format('grant usage on schema comms to %s', v_role);
  end loop;
end
$$;
