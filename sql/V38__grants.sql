-- Who may call what. Functions are executable by everyone when made, so that is taken back first; the
-- schemas let nobody in but these two roles.
-- A later migration that adds a function ends with the same revoke and its own grant.

revoke all on all functions in schema millrace, millrace_api from public;

grant usage on schema millrace_api to millrace_functions;
grant execute on all functions in schema millrace_api to millrace_functions;

grant usage on schema millrace to millrace_client;
grant execute on function
  millrace.enqueue, millrace.enqueue_many, millrace.claim, millrace.report, millrace.report_many, millrace.extend_lease,
  millrace.cancel, millrace.retry, millrace.replay, millrace.replay_many, millrace.job_state, millrace.configure_queue, millrace.pause, millrace.resume,
  millrace.configure_key, millrace.hold, millrace.queue_limits, millrace.key_limits,
  millrace.heartbeat, millrace.housekeep, millrace.job_uuid, millrace.job_id,
  millrace.create_webhook_endpoint, millrace.set_webhook_url, millrace.rotate_webhook_secret, millrace.disable_webhook_endpoint,
  millrace.enable_webhook_endpoint, millrace.delete_webhook_endpoint, millrace.webhook_endpoints, millrace.enqueue_webhook,
  millrace.check_cron, millrace.cron_next, millrace.cron_times,
  millrace.create_schedule, millrace.update_schedule, millrace.pause_schedule, millrace.resume_schedule, millrace.delete_schedule, millrace.run_schedule,
  millrace.schedules, millrace.schedule_history, millrace.enqueue_due,
  millrace.acknowledge, millrace.acknowledge_queue, millrace.raise_alerts, millrace.connect_calendar, millrace.circuit_state
  to millrace_client;

-- Lets a role call all of millrace_api, functions of later migrations too: what a PostgREST in front of this database needs
-- for the role that its service key stands for, on Supabase service_role. That one does not inherit what it is a member of, so
-- the functions are granted to it itself. Later migrations run as the schema's owner, who need not be the one that calls this.
create function millrace.grant_api(to_role name) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner constant name := (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'millrace_api');
begin
  execute format('grant usage on schema millrace_api to %I', to_role);
  execute format('grant execute on all functions in schema millrace_api to %I', to_role);
  execute format('alter default privileges for role %I in schema millrace_api grant execute on functions to %I', v_owner, to_role);
end
$$;

comment on function millrace.grant_api is 'Lets a role call the functions of millrace_api, later ones too: the service role of a PostgREST.';

revoke all on function millrace.grant_api from public;

select millrace.grant_api(r.rolname) from pg_roles r where r.rolname = 'service_role';
