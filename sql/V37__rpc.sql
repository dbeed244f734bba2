-- What `POST /rpc/*` may call, and the catalogue that the component `rpc` reads before it calls anything.
--
-- A profile is what PostgREST calls an exposed schema, and clients choose one by a header. Which functions can be reached under
-- each is the explicit list below, with their argument types: a function that somebody adds to a schema, or an overload of one
-- that is listed, is not reachable by being there. What those functions look like (parameters, types, defaults, results) is
-- read from Postgres' own catalogue, and so are their quoted names: no text of a request becomes part of a statement.

create table millrace.rpc_function (
  profile        text not null check (profile in ('public', 'service_api', 'millrace_api')),
  schema_name    name not null,
  function_name  name not null, -- '*' is every function of the schema that has these argument types
  argument_types text not null, -- as oidvectortypes() writes them
  scope          text not null check (scope in ('enqueue', 'work', 'read', 'operate', 'metrics', 'tick', 'all')),
  aliases        jsonb not null default '{}', -- other names of parameters: {other: name}
  primary key (profile, schema_name, function_name, argument_types)
);

comment on table millrace.rpc_function is 'The functions that POST /rpc/* may call, by profile, and what a caller must be allowed to do.';

-- The worker's functions (sql/V22__service_api.sql), and the runbook's (sql/V23__runbook.sql), which lie in a schema of their own
-- where `public` had something of their names already. The system that the runbook describes names parameters with a p_.
insert into millrace.rpc_function (profile, schema_name, function_name, argument_types, scope, aliases)
select 'service_api', 'service_api', f.name, f.types, 'work', '{}'
from (values ('fetch_next_task', 'text, integer, text'),
             ('report_task_result', 'text, bigint, bigint, boolean, text, text, integer'),
             ('extend_lease', 'text, bigint, bigint, integer')) as f (name, types)
union all
select 'public', case when to_regprocedure('millrace_runbook.claim_next_job(uuid, text)') is null then 'public' else 'millrace_runbook' end,
       f.name, f.types, f.scope, f.aliases::jsonb
from (values ('claim_next_job', 'uuid, text', 'work', '{"p_worker": "worker_id", "p_job_type": "job_type"}'),
             ('resolve_job', 'bigint, uuid, boolean, text', 'work',
              '{"p_job_id": "job_id", "p_worker": "worker_id", "p_success": "success", "p_error": "error"}'),
             ('enqueue_cron_tasks', '', 'tick', '{}')) as f (name, types, scope, aliases);

-- The functions' own schema, for applications that make their calls over HTTP instead of a connection: as a whole, since
-- a function there is one request by definition. Whoever may call this profile may do everything, since some of these functions
-- are not for requests but for components: one notes the keys that tokens are checked with, so its caller can make tokens of any role.
-- The scope `all` is therefore given to nobody but the application's API key, tokens of the role service_role, and stored keys of the
-- scope `all`; a token of the role worker has every other scope.
insert into millrace.rpc_function (profile, schema_name, function_name, argument_types, scope)
values ('millrace_api', 'millrace_api', '*', 'jsonb', 'all');

-- {} -> {profiles: [name], functions: [{profile, name, call, scope, aliases, body, returns, parameters}]}
--   call        the function's quoted name
--   body        json or jsonb if the one parameter has no name and takes the whole body, else null
--   returns     void, one or set
--   parameters  [{name, required, column, argument}]: column declares it with its type, argument passes it on
-- Overloads, variadic functions and such as have a parameter without a name are not for this.
create function millrace_api.rpc_catalogue(jsonb) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'profiles', jsonb_build_array('public', 'service_api', 'millrace_api'),
    'functions', coalesce(jsonb_agg(jsonb_build_object(
      'profile', f.profile, 'name', p.proname, 'call', quote_ident(n.nspname) || '.' || quote_ident(p.proname),
      'scope', f.scope, 'aliases', f.aliases,
      'body', case when p.pronargs = 1 and coalesce(p.proargnames[1], '') = '' then format_type(p.proargtypes[0], null) end,
      'returns', case when p.proretset then 'set' when p.prorettype = 'void'::regtype then 'void' else 'one' end,
      'parameters', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'name', a.name, 'required', a.n <= p.pronargs - p.pronargdefaults,
          'column', quote_ident(a.name) || ' ' || format_type(a.type, null),
          'argument', quote_ident(a.name) || ' => given.' || quote_ident(a.name)) order by a.n), '[]')
        from unnest(p.proargnames[:p.pronargs], p.proargtypes::oid[]) with ordinality as a (name, type, n)
        where a.name <> ''))
      order by f.profile, p.proname), '[]'))
  from millrace.rpc_function f
  join pg_namespace n on n.nspname = f.schema_name
  join pg_proc p on p.pronamespace = n.oid and (f.function_name = '*' or p.proname = f.function_name)
                and oidvectortypes(p.proargtypes) = f.argument_types and p.prokind = 'f' and p.provariadic = 0
$$;

-- As millrace_api.admit, in the words of service_api: a key that is not good is refused with the message that its clients know
-- and the code in the hint, as where a PostgREST's pre-request function checks the key.
create function millrace_api.rpc_admit(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_message text;
  v_code    text;
begin
  return millrace_api.admit($1);
exception when sqlstate 'PT401' or sqlstate 'PT403' then
  get stacked diagnostics v_message = message_text, v_code = pg_exception_hint;
  raise exception using errcode = sqlstate, message = 'Service API Failed', detail = v_message, hint = v_code;
end
$$;

-- {rows} -> never: it raises what a client gets who wants one object of a set that has another number of rows. It is called
-- by the statement that called the set's function, so nothing of that happened.
create function millrace_api.rpc_single(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform millrace.refuse(406, 'PGRST116', 'Cannot coerce the result to a single JSON object', format('The result contains %s rows', $1 ->> 'rows'));
end
$$;

-- The functions' role may call what is listed, and nothing else of those schemas.
do $$
declare
  v_function record;
begin
  for v_function in
    select n.nspname, p.oid::regprocedure as signature
    from millrace.rpc_function f
    join pg_namespace n on n.nspname = f.schema_name
    join pg_proc p on p.pronamespace = n.oid and p.proname = f.function_name and oidvectortypes(p.proargtypes) = f.argument_types
  loop
    execute format('grant usage on schema %I to millrace_functions', v_function.nspname);
    execute format('grant execute on function %s to millrace_functions', v_function.signature);
  end loop;
end
$$;
