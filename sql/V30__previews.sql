-- Previews: what a channel would have sent, had it been told to send. A channel that nobody configured keeps its messages here
-- instead, so that the first run on a laptop shows a real email rendered (`GET /preview`).
--
-- A job is kept once: when it is delivered a second time, since an attempt was lost after it had acted, the first preview stays. The
-- newest 1,000 are kept, each for seven days at most.

create table millrace.preview (
  id        bigint primary key generated always as identity,
  job_id    bigint not null unique,
  channel   text not null check (btrim(channel) <> '' and length(channel) <= 200),
  recipient text,
  subject   text,
  html      text,
  text      text,
  request   jsonb,
  kept_at   timestamptz not null
);

comment on table millrace.preview is 'What channels in preview mode would have sent: the newest 1,000, for seven days.';
comment on column millrace.preview.recipient is 'An address, a number or a URL, as the channel has it.';
comment on column millrace.preview.request is 'What else the channel would have sent, in its own words; without its secrets.';

-- Previews over 1,000, by the order of their ids, or older than seven days. Ids that were drawn in vain count too, so at times there
-- are a few less. Returns how many went; those that another sweep has in hand are left to it.
create function millrace.sweep_previews() returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_count int;
begin
  delete from millrace.preview p
   where p.id = any (array(select o.id from millrace.preview o
                            where o.id <= (select max(n.id) - 1000 from millrace.preview n)
                               or o.kept_at < millrace.clock() - interval '7 days'
                              for update skip locked));
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- {channel, job_id: its UUID, to?, subject?, html?, text?, request?} -> {id}. Texts are cut where they are longer than a message of its
-- kind may be; a request of more than 256 KiB is replaced by its size.
create function millrace_api.keep_preview(jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_job_id  constant bigint := millrace.job_id(($1 ->> 'job_id')::uuid);
  v_request constant jsonb := nullif($1 -> 'request', 'null');
  v_size    constant int := octet_length(v_request::text);
  v_id      bigint;
begin
  if v_job_id is null or coalesce(btrim($1 ->> 'channel') = '' or length($1 ->> 'channel') > 200, true) then
    perform millrace.refuse(400, 'invalid_request', 'a preview has a channel and the id of a job');
  end if;
  select p.id into v_id from millrace.preview p where p.job_id = v_job_id;
  if found then
    return jsonb_build_object('id', v_id);
  end if;
  insert into millrace.preview (job_id, channel, recipient, subject, html, text, request, kept_at)
  values (v_job_id, $1 ->> 'channel', left($1 ->> 'to', 4000), left($1 ->> 'subject', 1000), left($1 ->> 'html', 1048576),
          left($1 ->> 'text', 1048576), case when v_size > 262144 then jsonb_build_object('left_out_bytes', v_size) else v_request end,
          millrace.clock())
      on conflict (job_id) do update set channel = excluded.channel
  returning id into v_id;
  perform millrace.sweep_previews();
  return jsonb_build_object('id', v_id);
end
$$;

-- {limit?, cursor?} -> {items: [{jobId, channel, to, subject, keptAt}], count, nextCursor, ts}, the newest first. nextCursor is null at the end.
create function millrace_api.previews(jsonb) returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
  with asked as materialized (
    select coalesce(($1 ->> 'limit')::int, 50) as count, ($1 ->> 'cursor')::bigint as below, millrace.clock() as now
  ), page as (
    select p.id, p.channel, p.job_id, p.recipient, p.subject, p.kept_at
      from asked a
     cross join lateral (select * from millrace.preview p
                          where (a.below is null or p.id < a.below) and p.kept_at >= a.now - interval '7 days'
                          order by p.id desc limit a.count) as p
  )
  select jsonb_build_object(
           'items', coalesce(jsonb_agg(jsonb_build_object('jobId', millrace.job_uuid(p.job_id), 'channel', p.channel, 'to', p.recipient,
                                                          'subject', p.subject, 'keptAt', p.kept_at)
                                       order by p.id desc) filter (where p.id is not null), '[]'),
           'count', count(p.id),
           'nextCursor', case when count(p.id) = a.count then min(p.id) end,
           'ts', a.now)
    from asked a
    left join page p on true
   group by a.count, a.now
$$;

-- {job_id: a UUID} -> {jobId, channel, to, subject, html, text, request, keptAt}
create function millrace_api.preview(jsonb) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  v_preview millrace.preview;
begin
  select p.* into v_preview from millrace.preview p
   where p.job_id = millrace.job_id(($1 ->> 'job_id')::uuid) and p.kept_at >= millrace.clock() - interval '7 days';
  if not found then
    perform millrace.refuse(404, 'preview_not_found', 'there is no preview of that job, or not any more');
  end if;
  return jsonb_build_object('jobId', millrace.job_uuid(v_preview.job_id), 'channel', v_preview.channel, 'to', v_preview.recipient,
                            'subject', v_preview.subject, 'html', v_preview.html, 'text', v_preview.text, 'request', v_preview.request,
                            'keptAt', v_preview.kept_at);
end
$$;
