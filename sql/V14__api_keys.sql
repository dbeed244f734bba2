-- Stored API keys: each has a name, what it may do, and an end if it is to have one. Only its digest is kept, so
-- whoever reads the database cannot use them. `millrace keys` makes, lists and revokes them.
--
-- A key is 'mr_' and 64 hexadecimal digits: SHA-256 of 244 random bits, two UUIDs of version 4 from the server's own strong
-- source. There is nothing to guess, so its digest needs neither salt nor slowness.

create table millrace.api_key (
  id           bigint primary key generated always as identity,
  name         text not null check (btrim(name) <> '' and length(name) <= 200),
  digest       bytea not null unique check (length(digest) = 32), -- SHA-256 of the whole key
  scopes       text[] not null check (scopes <> '{}' and scopes <@ array['enqueue', 'work', 'read', 'operate', 'metrics', 'all']),
  created_at   timestamptz not null,
  expires_at   timestamptz,
  revoked_at   timestamptz,
  last_used_at timestamptz -- to the minute
);

comment on table millrace.api_key is 'The API keys, by their digests. Revoked ones stay: who had one can still be seen.';

-- Of two live keys of one name nobody could say which is to be revoked.
create unique index api_key_name on millrace.api_key (name) where revoked_at is null;

-- Makes a key and answers with it: the only time that it is seen.
create function millrace.create_api_key(name text, scopes text[], expires_in interval default null) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := millrace.clock();
  v_key text := 'mr_' || encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex');
begin
  if coalesce(btrim(create_api_key.name) = '' or length(create_api_key.name) > 200, true) then
    perform millrace.refuse(400, 'invalid_request', 'a key has a name of 1 to 200 characters');
  elsif not coalesce(create_api_key.scopes <> '{}'
                      and create_api_key.scopes <@ array['enqueue', 'work', 'read', 'operate', 'metrics', 'all'], false) then
    perform millrace.refuse(400, 'invalid_request', 'a key''s scopes are one or more of enqueue, work, read, operate, metrics, all');
  elsif v_now + create_api_key.expires_in <= v_now then
    perform millrace.refuse(400, 'invalid_request', 'a key expires after it was made');
  end if;
  insert into millrace.api_key (name, digest, scopes, created_at, expires_at)
  values (create_api_key.name, sha256(convert_to(v_key, 'UTF8')), create_api_key.scopes, v_now, v_now + create_api_key.expires_in)
  on conflict do nothing;
  if not found then
    perform millrace.refuse(409, 'key_exists', format('there is a key named %s already', create_api_key.name));
  end if;
  return v_key;
end
$$;

comment on function millrace.create_api_key is 'Makes an API key and answers with it, once: only its digest is kept.';

create function millrace.revoke_api_key(name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update millrace.api_key k set revoked_at = millrace.clock() where k.name = revoke_api_key.name and k.revoked_at is null;
  if not found then
    perform millrace.refuse(404, 'key_not_found', format('there is no live key named %s', revoke_api_key.name));
  end if;
end
$$;

comment on function millrace.revoke_api_key is 'Ends the live API key of that name; requests that show it are refused from now on.';

-- {key: digest in hexadecimal digits, scope} -> {}, or it raises who is not let in. The functions call it in the one
-- statement of a request, before what was asked for.
create function millrace_api.admit(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := millrace.clock();
  v_key record;
begin
  select k.id, k.scopes, k.expires_at, k.last_used_at into v_key
    from millrace.api_key k where k.digest = decode($1 ->> 'key', 'hex') and k.revoked_at is null;
  if not found then
    perform millrace.refuse(401, 'invalid_api_key', 'the API key is not valid');
  elsif v_key.expires_at <= v_now then
    perform millrace.refuse(401, 'api_key_expired', 'the API key has expired');
  elsif not coalesce(v_key.scopes && array[$1 ->> 'scope', 'all'], false) then
    perform millrace.refuse(403, 'forbidden', 'the API key''s scopes do not allow this');
  end if;
  -- Once a minute, and never waiting for another request that does so: many requests at once may show one key.
  if v_key.last_used_at > v_now - interval '1 minute' then
    return '{}';
  end if;
  update millrace.api_key k set last_used_at = v_now
   where k.id = any (array(select l.id from millrace.api_key l
                            where l.id = v_key.id and l.last_used_at is not distinct from v_key.last_used_at for update skip locked));
  return '{}';
end
$$;
