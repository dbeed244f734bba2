-- Webhooks: whom to tell of what happens, and with which secrets. The queue is `webhook`; `channel-webhook` is its handler.
--
-- A job's type is the type of the event that Standard Webhooks speaks of ("invoice.paid"), and its payload says to whom it goes and
-- what: {"endpoint": NAME, "data": …} for an endpoint that stands here, {"url": URL, "data": …} for any other URL, unsigned.
--
-- An endpoint has one secret that is current and, while its receiver changes over, older ones: each live secret makes a signature. They
-- lie here as they are. The table is its owner's alone, but millrace_api.webhook_delivery hands an endpoint's live secrets to whoever may execute it: the
-- role millrace_functions, so every component that has its login, and every role that millrace.grant_api was called for.
--
-- A job for an endpoint that is disabled, by hand or because it answered 410 Gone, is a dead letter at its first attempt
-- (`endpoint_disabled`): nobody waits for it, nothing is lost, and it can be replayed once the endpoint is enabled again.

create table millrace.webhook_endpoint (
  name            text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$'),
  url             text not null check (length(url) <= 2048 and url ~ '^https?://[!-~]+$' and url !~ '^https?://[^/?#]*@'),
  disabled_at     timestamptz,
  disabled_reason text check (length(disabled_reason) <= 500),
  created_at      timestamptz not null,
  updated_at      timestamptz not null,
  check (disabled_at is not null or disabled_reason is null)
);

create table millrace.webhook_secret (
  id         bigint primary key generated always as identity,
  endpoint   text not null references millrace.webhook_endpoint on update cascade on delete cascade,
  secret     text not null,
  created_at timestamptz not null,
  expires_at timestamptz -- of those that another one has replaced
);

create index webhook_secret_endpoint on millrace.webhook_secret (endpoint);
-- Of two current secrets nobody could say which is to be handed out.
create unique index webhook_secret_current on millrace.webhook_secret (endpoint) where expires_at is null;

comment on table millrace.webhook_endpoint is 'The receivers of webhooks. Written by millrace.create_webhook_endpoint and its neighbours.';
comment on table millrace.webhook_secret is 'What each endpoint''s messages are signed with: whsec_ and base64, one current, others until they expire.';
comment on column millrace.webhook_endpoint.url is 'Whether it may be reached at all is decided when a job is delivered: see the variables webhook_allow_*.';

-- 32 random bytes as Standard Webhooks writes a secret: SHA-256 of 244 random bits from the server's own strong source.
create function millrace.new_webhook_secret() returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select 'whsec_' || encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'base64')
$$;

-- Refuses what is no secret of 24 to 64 bytes; none at all is one that is to be made. Answers with the secret.
create function millrace.check_webhook_secret(p_secret text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_secret is null then
    return millrace.new_webhook_secret();
  end if;
  if p_secret !~ '^whsec_([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$'
     or length(decode(substr(p_secret, 7), 'base64')) not between 24 and 64 then
    perform millrace.refuse(400, 'invalid_request', 'a secret is whsec_ and the base64 of 24 to 64 bytes');
  end if;
  return p_secret;
end
$$;

-- Registers a receiver; answers with the secret that its messages are signed with, its own or one that is made here.
create function millrace.create_webhook_endpoint(name text, url text, secret text default null) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now    constant timestamptz := millrace.clock();
  v_secret constant text := millrace.check_webhook_secret(create_webhook_endpoint.secret);
begin
  begin
    insert into millrace.webhook_endpoint (name, url, created_at, updated_at)
    values (create_webhook_endpoint.name, create_webhook_endpoint.url, v_now, v_now)
        on conflict do nothing;
  exception when check_violation or not_null_violation then
    perform millrace.refuse(400, 'invalid_request', 'an endpoint has a name of up to 200 letters, digits and ._:/- and an http or https URL of '
                            'up to 2048 characters without a user');
  end;
  if not found then
    perform millrace.refuse(409, 'endpoint_exists', format('there is an endpoint named %s already', create_webhook_endpoint.name));
  end if;
  insert into millrace.webhook_secret (endpoint, secret, created_at) values (create_webhook_endpoint.name, v_secret, v_now);
  return v_secret;
end
$$;

comment on function millrace.create_webhook_endpoint is 'Registers a receiver of webhooks; answers with the secret that its messages are signed with.';

create function millrace.refuse_unknown_endpoint(p_name text) returns void
language plpgsql
as $$
begin
  perform millrace.refuse(404, 'endpoint_not_found', format('there is no endpoint named %s', p_name));
end
$$;

-- Where its messages go from now on, those that wait included.
create function millrace.set_webhook_url(name text, url text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update millrace.webhook_endpoint e set url = set_webhook_url.url, updated_at = millrace.clock() where e.name = set_webhook_url.name;
  if not found then
    perform millrace.refuse_unknown_endpoint(set_webhook_url.name);
  end if;
exception when check_violation or not_null_violation then
  perform millrace.refuse(400, 'invalid_request', 'the URL is not an http or https URL of up to 2048 characters without a user');
end
$$;

-- Gives an endpoint a new secret and answers with it. Messages are signed with the old one too for as long as `overlap` says, so that the
-- receiver can change over at any time within it. Of older ones the latest four go on, so that a signature header stays of bounded size.
create function millrace.rotate_webhook_secret(name text, secret text default null, overlap interval default '24 hours') returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now    constant timestamptz := millrace.clock();
  v_secret constant text := millrace.check_webhook_secret(rotate_webhook_secret.secret);
begin
  if not coalesce(rotate_webhook_secret.overlap between interval '0' and interval '365 days', false) then
    perform millrace.refuse(400, 'invalid_request', 'an overlap is from nothing to 365 days');
  end if;
  -- Two rotations at once would leave two current secrets.
  perform from millrace.webhook_endpoint e where e.name = rotate_webhook_secret.name for update;
  if not found then
    perform millrace.refuse_unknown_endpoint(rotate_webhook_secret.name);
  end if;
  update millrace.webhook_secret s set expires_at = v_now + rotate_webhook_secret.overlap
   where s.endpoint = rotate_webhook_secret.name and s.expires_at is null;
  delete from millrace.webhook_secret s
   where s.endpoint = rotate_webhook_secret.name
     and (s.expires_at <= v_now
          or s.id in (select o.id from millrace.webhook_secret o where o.endpoint = rotate_webhook_secret.name order by o.id desc offset 4));
  insert into millrace.webhook_secret (endpoint, secret, created_at) values (rotate_webhook_secret.name, v_secret, v_now);
  return v_secret;
end
$$;

comment on function millrace.rotate_webhook_secret is 'Gives an endpoint a new secret; the old one goes on signing beside it for a while.';

create function millrace.disable_webhook_endpoint(name text, reason text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := millrace.clock();
begin
  update millrace.webhook_endpoint e
     set disabled_at = coalesce(e.disabled_at, v_now), disabled_reason = left(disable_webhook_endpoint.reason, 500), updated_at = v_now
   where e.name = disable_webhook_endpoint.name;
  if not found then
    perform millrace.refuse_unknown_endpoint(disable_webhook_endpoint.name);
  end if;
end
$$;

comment on function millrace.disable_webhook_endpoint is 'Sends an endpoint nothing more; its jobs become dead letters, to be replayed once it is enabled.';

create function millrace.enable_webhook_endpoint(name text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update millrace.webhook_endpoint e set disabled_at = null, disabled_reason = null, updated_at = millrace.clock()
   where e.name = enable_webhook_endpoint.name;
  if not found then
    perform millrace.refuse_unknown_endpoint(enable_webhook_endpoint.name);
  end if;
end
$$;

create function millrace.delete_webhook_endpoint(name text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from millrace.webhook_endpoint e where e.name = delete_webhook_endpoint.name;
  if not found then
    perform millrace.refuse_unknown_endpoint(delete_webhook_endpoint.name);
  end if;
end
$$;

-- The endpoints without their secrets, of which it says how many sign.
create function millrace.webhook_endpoints() returns table (name text, url text, live_secrets int, disabled_at timestamptz, disabled_reason text,
  created_at timestamptz, updated_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select e.name, e.url,
         (select count(*)::int from millrace.webhook_secret s
           where s.endpoint = e.name and (s.expires_at is null or s.expires_at > millrace.clock())),
         e.disabled_at, e.disabled_reason, e.created_at, e.updated_at
    from millrace.webhook_endpoint e
   order by e.name
$$;

-- Enqueues a message for an endpoint and answers with its job. One that is disabled gets it as a dead letter; one that is not known is
-- refused, since it is a mistake in the caller.
create function millrace.enqueue_webhook(endpoint text, type text, data jsonb default '{}', priority int default 5, run_at timestamptz default null,
  idempotency_key text default null, concurrency_key text default null, max_attempts int default null, traceparent text default null) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not coalesce(enqueue_webhook.type ~ '^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$', false) then
    perform millrace.refuse(400, 'invalid_request', 'the type of an event is words of letters, digits and _ with full stops between them');
  end if;
  perform from millrace.webhook_endpoint e where e.name = enqueue_webhook.endpoint;
  if not found then
    perform millrace.refuse_unknown_endpoint(enqueue_webhook.endpoint);
  end if;
  return millrace.enqueue('webhook', enqueue_webhook.type,
                          jsonb_build_object('endpoint', enqueue_webhook.endpoint, 'data', coalesce(enqueue_webhook.data, '{}')),
                          priority => enqueue_webhook.priority, run_at => enqueue_webhook.run_at,
                          idempotency_key => enqueue_webhook.idempotency_key, concurrency_key => enqueue_webhook.concurrency_key,
                          max_attempts => enqueue_webhook.max_attempts, traceparent => enqueue_webhook.traceparent);
end
$$;

comment on function millrace.enqueue_webhook is 'Enqueues a message for an endpoint: an event''s type and its data.';

-- {job_id: its UUID, endpoint?} -> {timestamp, endpoint: {url, secrets, disabled_reason?}}. `timestamp` is when the job was enqueued, so that all
-- attempts send the same body. The secrets are those that sign now, the current one first. `endpoint` is null where none of that name is known.
create function millrace_api.webhook_delivery(jsonb) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
  select jsonb_build_object(
    'timestamp', coalesce((select j.enqueued_at from millrace.job j where j.id = millrace.job_id(($1 ->> 'job_id')::uuid)), millrace.clock()),
    'endpoint', (select jsonb_build_object('url', e.url, 'disabled', e.disabled_at is not null, 'disabled_reason', e.disabled_reason,
                   'secrets', array(select s.secret from millrace.webhook_secret s
                                     where s.endpoint = e.name and (s.expires_at is null or s.expires_at > millrace.clock())
                                     order by s.id desc))
                   from millrace.webhook_endpoint e where e.name = $1 ->> 'endpoint'))
$$;

-- {endpoint, url} -> {disabled, moved}: the endpoint answered 410 Gone at that URL, so nothing is sent there any more. One that has moved to another
-- URL meanwhile goes on, and the message with it.
create function millrace_api.webhook_gone(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := millrace.clock();
begin
  update millrace.webhook_endpoint e set disabled_at = v_now, disabled_reason = 'it answered 410 Gone', updated_at = v_now
   where e.name = $1 ->> 'endpoint' and e.url = $1 ->> 'url' and e.disabled_at is null;
  return jsonb_build_object('disabled', found, 'moved', exists (
    select from millrace.webhook_endpoint e where e.name = $1 ->> 'endpoint' and e.url <> $1 ->> 'url' and e.disabled_at is null));
end
$$;
