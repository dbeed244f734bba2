-- Stored API keys: each has a name, what it may do, and an end if it is to have one. Only its digest is kept, so
-- whoever reads the database cannot use them. `millrace keys` makes, lists and revokes them. At the end: the key sets
-- that issuers of tokens publish.
--
-- A key is 'mr_' and 64 hexadecimal digits: SHA-256 of 244 random bits, two UUIDs of version 4 from the server's own strong
-- source. There is nothing to guess, so its digest needs neither salt nor slowness.

create table millrace.api_key (
  id           bigint primary key generated always as identity,
  name         text not null check (btrim(name) <> '' and length(name) <= 200),
  digest       bytea not null unique check (length(digest) = 32), -- SHA-256 of the whole key
  scopes       text[] not null check (scopes <> '{}' and scopes <@ array['enqueue', 'work', 'read', 'operate', 'metrics', 'tick', 'all']),
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
                      and create_api_key.scopes <@ array['enqueue', 'work', 'read', 'operate', 'metrics', 'tick', 'all'], false) then
    perform millrace.refuse(400, 'invalid_request', 'a key''s scopes are one or more of enqueue, work, read, operate, metrics, tick, all');
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

-- {admit: what admit is asked, function: of this schema, request} -> what the function answers to the request, once the key was
-- admitted. PostgREST runs one function per request, so where the functions reach the database through one, this is their
-- call for a caller with a stored key: both in one transaction, as in their one statement otherwise. It is no definer: it can do what
-- its caller can, no more. (So it raises by itself: its caller may not execute millrace.refuse.)
create function millrace_api.admitted(jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function text := $1 ->> 'function';
  v_answer   jsonb;
begin
  perform millrace_api.admit($1 -> 'admit');
  -- The name goes into a statement: it must be that of a function like all those of this schema, and not of this one.
  if not exists (select from pg_proc p
                  where p.pronamespace = 'millrace_api'::regnamespace and p.proname = v_function and p.prokind = 'f' and not p.proretset
                    and p.pronargs = 1 and p.proargtypes[0] = 'jsonb'::regtype and p.prorettype = 'jsonb'::regtype
                    and p.proname <> 'admitted') then
    raise exception sqlstate 'PT404' using message = 'there is no such function', hint = 'function_not_found';
  end if;
  execute format('select millrace_api.%I($1)', v_function) into strict v_answer using $1 -> 'request';
  return v_answer;
end
$$;

-- The key sets that issuers of tokens publish, for tokens that are checked with published keys. They are kept here since
-- a function's instance soon ends: the issuer is asked as often as the queue needs it, not as often as instances begin.
create table millrace.key_set (
  url         text primary key check (length(url) between 1 and 2000),
  document    text check (octet_length(document) <= 65536), -- as it came
  fetched_at  timestamptz, -- the document
  forced_at   timestamptz, -- when it was last fetched because a fresh one lacked a key
  failed_at   timestamptz, -- when fetching it last failed, if it has not worked since
  fetching_at timestamptz, -- since when somebody is fetching it
  check ((document is null) = (fetched_at is null))
);

comment on table millrace.key_set is 'Published key sets (RFC 7517) by where they are published, and what fetching them came to lately.';

-- {url, lacks: version or null} -> {step, version?, document?}: what to do about a token's key. `lacks` is the version of the
-- set that the caller has looked for it in, in vain; a newer set is one to look in first. The steps:
--   use          the document is the present one, or the best that can be had; without one there is no such key
--   fetch        the caller is to fetch it, and to say to keep_key_set what came of it; the document serves if nothing did
--   wait         somebody else is fetching it: ask again soon
--   unavailable  it cannot be had at present
-- A set is fresh for ten minutes and usable for an hour. One that is not fresh is fetched by one caller, while the others
-- use it. For a key that a fresh one lacks it is fetched again, since issuers rotate their keys, but once in half a minute at
-- most, or made-up names of keys would make a storm of fetches. After a failure it is left alone for half a minute, for five
-- seconds if there is no usable set. A fetch that takes longer than six seconds, its limit being five, was given up.
create function millrace_api.key_set(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now     timestamptz := millrace.clock();
  v_url     text := $1 ->> 'url';
  v_set     millrace.key_set;
  v_version bigint;
  v_fresh   boolean;
  v_usable  boolean;
  v_serves  boolean; -- usable, and the caller has not looked in it yet
  v_step    text;
begin
  if coalesce(length(v_url) not between 1 and 2000, true) then
    perform millrace.refuse(400, 'invalid_request', 'a key set has a URL of 1 to 2000 characters');
  end if;
  select * into v_set from millrace.key_set k where k.url = v_url;
  -- Never waiting for another who does so: several may begin with the same set at once.
  if not found and pg_try_advisory_xact_lock(hashtext('millrace.key_set'), hashtext(v_url)) then
    insert into millrace.key_set (url) values (v_url) on conflict do nothing;
  end if;
  v_version := extract(epoch from v_set.fetched_at) * 1000000;
  v_fresh   := coalesce(v_set.fetched_at > v_now - interval '10 minutes', false);
  v_usable  := coalesce(v_set.fetched_at > v_now - interval '1 hour', false);
  v_serves  := v_usable and ($1 ->> 'lacks')::bigint is distinct from v_version;
  v_step    := case
    when v_fresh and v_serves then 'use'
    when v_set.fetching_at > v_now - interval '6 seconds' then 'wait'
    when v_set.failed_at > v_now - case when v_usable then interval '30 seconds' else interval '5 seconds' end then 'unavailable'
    when v_fresh and v_set.forced_at > v_now - interval '30 seconds' then 'use' -- it has no such key
    else 'fetch' end;
  if v_step = 'fetch' then
    update millrace.key_set k set fetching_at = v_now, forced_at = case when v_fresh then v_now else k.forced_at end
     where k.url = any (array(select l.url from millrace.key_set l
                               where l.url = v_url and l.fetched_at is not distinct from v_set.fetched_at
                                 and l.failed_at is not distinct from v_set.failed_at
                                 and l.fetching_at is not distinct from v_set.fetching_at for update skip locked));
    if not found then
      v_step := 'wait'; -- somebody else was told so just now
    end if;
  end if;
  if v_serves and v_step in ('wait', 'unavailable') then
    v_step := 'use';
  end if;
  return case when v_serves then jsonb_build_object('step', v_step, 'version', v_version, 'document', v_set.document)
         else jsonb_build_object('step', v_step) end;
end
$$;

-- {url, document: text or null} -> {version?}: what a fetch that key_set asked for came to, null if it failed. Nothing that
-- nobody was asked for is kept.
create function millrace_api.keep_key_set(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now      timestamptz := millrace.clock();
  v_document text := $1 ->> 'document';
begin
  if octet_length(v_document) > 65536 then
    perform millrace.refuse(400, 'invalid_request', 'a key set has at most 64 KiB');
  end if;
  update millrace.key_set k
     set document    = coalesce(v_document, k.document),
         fetched_at  = case when v_document is null then k.fetched_at else v_now end,
         failed_at   = case when v_document is null then v_now end,
         fetching_at = null
   where k.url = $1 ->> 'url' and k.fetching_at is not null;
  return case when found and v_document is not null
         then jsonb_build_object('version', (extract(epoch from v_now) * 1000000)::bigint) else '{}' end;
end
$$;
