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
  millrace.heartbeat, millrace.housekeep, millrace.job_uuid, millrace.job_id
  to millrace_client;
