-- The two schemas and the two roles.
--
-- millrace      private tables, and the typed functions (named arguments) that SQL users call
-- millrace_api  the same rules as jsonb -> jsonb, for the WebAssembly functions and for PostgREST
--
-- Roles belong to the whole cluster, so another database may have made them already, or be making
-- them at this very moment. Both are NOLOGIN: a login role is made a member of one of them.
--
-- millrace_functions  may EXECUTE what is in millrace_api, and touch nothing else
-- millrace_client     may EXECUTE the typed functions of millrace, so that an application can
--                     enqueue in the same transaction as its own writes; it reads no table either, but the runbook's
--                     views, which show the queue `jobs`

create schema if not exists millrace; -- what migrates may have made it, to keep its history there
create schema millrace_api;

comment on schema millrace is 'Millrace, a job queue: private tables and typed functions.';
comment on schema millrace_api is 'Millrace as jsonb -> jsonb: one function call is one request.';

do $$
declare
  v_role text;
begin
  foreach v_role in array array['millrace_functions', 'millrace_client'] loop
    -- Looked for first: an owner who may not make roles can still migrate where an administrator made these.
    if not exists (select from pg_roles r where r.rolname = v_role) then
      begin
        execute format('create role %I nologin', v_role);
      exception when duplicate_object or unique_violation then
        null; -- somebody else made it just now
      end;
    end if;
  end loop;
end
$$;
