-- What /graphql asks beyond the functions of REST: everything that a query reads, in one statement, and what became of a task since the last look.

-- One call of a query: {function, request} -> {data}, or {error: {status, code, message, detail}} as REST would have refused it. What is no refusal
-- of ours ends the statement.
create function millrace.graphql_answer(p_call jsonb) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_code    text;
  v_message text;
  v_detail  text;
begin
  return jsonb_build_object('data', case p_call ->> 'function'
    when 'task_list' then millrace_api.task_list(p_call -> 'request')
    when 'task_get' then millrace_api.task_get(p_call -> 'request')
    when 'schedule_list' then millrace_api.schedule_list(p_call -> 'request')
    when 'schedule_get' then millrace_api.schedule_get(p_call -> 'request')
    when 'task_stats' then millrace_api.task_stats(p_call -> 'request') end);
exception
  when others then
    if sqlstate !~ '^PT[0-9]{3}$' then
      raise;
    end if;
    get stacked diagnostics v_code = pg_exception_hint, v_message = message_text, v_detail = pg_exception_detail;
    if p_call ->> 'function' = 'schedule_list' and v_detail = 'limit' then -- which /graphql has not
      v_code := 'answer_too_large';
      v_message := 'these jobs are more than 8 MiB together: ask for them without payload, and for the payload of one job at a time';
      v_detail := null;
    end if;
    return jsonb_build_object('error', jsonb_strip_nulls(jsonb_build_object(
             'status', substr(sqlstate, 3)::int, 'code', v_code, 'message', v_message, 'detail', nullif(v_detail, ''))));
end
$$;

-- {calls: [{function, request}, …]} -> [{data} | {error}, …], in the order of the calls. All of them see one snapshot, so it is stable. Answers of
-- more than 16 MiB together are refused, from the one on that passes them: a function has so much memory and no more.
create function millrace_api.graphql_read(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
as $$
declare
  v_call    jsonb;
  v_answer  jsonb;
  v_answers jsonb[] := '{}';
  v_size    bigint := 0;
begin
  if jsonb_typeof($1 -> 'calls') is distinct from 'array' or jsonb_array_length($1 -> 'calls') > 100
     or exists (select from jsonb_array_elements($1 -> 'calls') as e (item)
                 where coalesce(e.item ->> 'function' <> all ('{task_list,task_get,schedule_list,schedule_get,task_stats}'), true)
                    or jsonb_typeof(e.item -> 'request') is distinct from 'object') then
    perform millrace.refuse_field('calls', 'is not an array of at most 100 calls of what /graphql reads');
  end if;
  for v_call in select e.item from jsonb_array_elements($1 -> 'calls') with ordinality as e (item, ord) order by e.ord loop
    if v_size <= 16777216 then
      v_answer := millrace.graphql_answer(v_call);
      v_size := v_size + octet_length(v_answer::text);
    end if;
    if v_size > 16777216 then
      v_answer := jsonb_build_object('error', jsonb_build_object('status', 400, 'code', 'answer_too_large',
                                                                 'message', 'the answers of this query are more than 16 MiB together: ask for less at once'));
    end if;
    v_answers := v_answers || v_answer;
  end loop;
  return to_jsonb(v_answers);
end
$$;

-- {taskId, after?, without?} -> {place, task?, ended?}: the task, and whether it has ended, if anything happened to it behind the place `after`. The place is the
-- id of its latest event. Its events are serialised by its state, so none is seen before an earlier one (see event streams).
create function millrace_api.task_changed(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_job   constant millrace.job := millrace.named_task($1);
  v_from  constant timestamptz := v_job.enqueued_at - interval '1 day'; -- older partitions are not looked at
  v_place bigint;
  v_task  jsonb;
begin
  if $1 ->> 'after' !~ '^[0-9]{1,18}$' then
    perform millrace.refuse_field('after', 'is not the place of such an answer');
  end if;
  select e.id into v_place from millrace.job_events e
   where e.job_id = v_job.id and e.created_at >= v_from order by e.id desc limit 1;
  v_place := coalesce(v_place, 0);
  if v_place <= ($1 ->> 'after')::bigint then
    return jsonb_build_object('place', v_place::text);
  end if;
  v_task := millrace.task_json(v_job, millrace.task_without($1));
  return jsonb_build_object('place', v_place::text, 'task', v_task, 'ended', v_task ->> 'status' in ('completed', 'failed', 'cancelled'));
end
$$;
