-- Delivery: addresses that nothing is sent to any more, and templates that emails and text messages are made from.
--
-- An address is suppressed when a provider calls it inactive (it bounced, complained, unsubscribed, or is no number any more), or by hand. A job to it that is
-- claimed later carries the reason, and is not sent but dead with the code `suppressed`: nothing says "sent" that was not, and when the suppression
-- was lifted the dead letters can be replayed. Lookups go by the bare address, in lower case: "Ann <Ann@example.com>" is ann@example.com.
--
-- A template has places `{{ name }}` and no logic. It is filled in when the message is enqueued, in one pass, so that what a value says is
-- never a place itself. In html a value is escaped, which makes it text between tags and within quoted attributes; html with a place anywhere else is refused
-- when the template is put. An escaped value can still be a bad address, or bad CSS in a style="": who lets others fill these in has to look at them.

create table comms.suppression (
  channel  text not null check (channel in ('email', 'sms')),
  address  text not null check (address <> '' and length(address) <= 320),
  reason   text not null check (length(reason) <= 200),
  provider text check (length(provider) <= 100),
  since    timestamptz not null,
  primary key (channel, address)
);

create table comms.email_template (
  name       text primary key check (name ~ '^[A-Za-z0-9_.-]{1,100}$'),
  subject    text not null check (length(subject) <= 998),
  html       text not null check (octet_length(html) <= 1048576),
  text       text check (octet_length(text) <= 1048576),
  updated_at timestamptz not null
);

create table comms.sms_template (
  name       text primary key check (name ~ '^[A-Za-z0-9_.-]{1,100}$'),
  body       text not null check (length(body) <= 10000),
  updated_at timestamptz not null
);

comment on table comms.suppression is 'Addresses and numbers that nothing is sent to: see comms.suppress, comms.lift_suppression, comms.suppressions.';
comment on column comms.suppression.address is 'The bare address in lower case, or the number without what groups its digits.';
comment on table comms.email_template is 'Templates of emails: see comms.put_email_template.';
comment on table comms.sms_template is 'Templates of text messages: see comms.put_sms_template.';

-- What an address is looked up by.
create function millrace.bare_address(p_channel text, p_address text) returns text
language sql immutable
as $$
  select case p_channel when 'email' then lower(btrim(coalesce(substring(p_address from '<([^<>]*)>[[:space:]]*$'), p_address), E' \t\r\n'))
                        else regexp_replace(p_address, '[[:space:].()-]', '', 'g') end
$$;

-- {"suppressed": why}, or {} where messages go to the address.
create function millrace.suppression_of(p_channel text, p_address text) returns jsonb
language sql stable
set enable_seqscan = off
as $$
  select coalesce((select jsonb_build_object('suppressed', s.reason) from comms.suppression s
                    where s.channel = p_channel and s.address = millrace.bare_address(p_channel, p_address)), '{}')
$$;

-- Remembers an address; the first reason stays. Returns whether it is new.
create function millrace.suppress(p_channel text, p_address text, p_reason text, p_provider text) returns boolean
language plpgsql
as $$
declare
  v_address constant text := millrace.bare_address(p_channel, p_address);
begin
  if coalesce(p_channel not in ('email', 'sms'), true) then
    perform millrace.refuse(400, 'invalid_request', 'channel is email or sms');
  elsif coalesce(v_address = '' or length(v_address) > 320, true) then
    perform millrace.refuse(400, 'invalid_request', 'address is missing or longer than 320');
  end if;
  insert into comms.suppression (channel, address, reason, provider, since)
  values (p_channel, v_address, coalesce(nullif(btrim(left(p_reason, 200)), ''), 'manual'), left(p_provider, 100), millrace.clock())
      on conflict do nothing;
  return found;
end
$$;

-- {channel, address, reason, provider} -> {new}: what a handler says when its provider calls an address inactive.
create function millrace_api.suppress_address(jsonb) returns jsonb
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('new', millrace.suppress($1 ->> 'channel', $1 ->> 'address', $1 ->> 'reason', $1 ->> 'provider'))
$$;

create function comms.suppress(channel text, address text, reason text default 'manual') returns boolean
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select millrace.suppress(channel, address, reason, null) $$;

create function comms.lift_suppression(channel text, address text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
  delete from comms.suppression s
   where s.channel = lift_suppression.channel and s.address = millrace.bare_address(lift_suppression.channel, lift_suppression.address);
  return found;
end
$$;

-- A page of them in the order of channel and address; `after` is the last address of the page before.
create function comms.suppressions(channel text, after text default '', max_rows int default 100)
returns table (address text, reason text, provider text, since timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
  select s.address, s.reason, s.provider, s.since
    from comms.suppression s
   where s.channel = suppressions.channel and s.address > suppressions.after
   order by s.channel, s.address
   limit least(greatest(suppressions.max_rows, 1), 1000)
$$;

comment on function comms.suppress is 'Sends nothing to an address of the channel email or sms from now on; whether that is new.';
comment on function comms.lift_suppression is 'Sends to an address again; whether it was suppressed. Dead letters with the code suppressed can be replayed then.';
comment on function comms.suppressions is 'The suppressed addresses of a channel, a page at a time.';

-- The names of a template's places, in their order.
create function millrace.template_places(p_template text) returns setof text
language sql immutable
as $$ select m[1] from regexp_matches(p_template, '\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}', 'g') as m $$;

-- Whether html has a place where escaping is not enough: in a tag outside of a quoted value, in the name of a tag, in a script or style, in a comment.
--
-- What can be read in one way only is left out: tags whose attributes are written as HTML wants them, and comments, scripts, styles and doctypes without
-- a place. Whatever tag is left is none of these, so nobody knows where it ends, and no place may follow it.
create function millrace.has_unsafe_place(p_html text) returns boolean
language sql immutable
as $$
  select regexp_replace(p_html,
           '<!--(?!-?>)(?:(?!--!?>|\{\{).)*-->'                                    -- a comment
           '|<!\[[^]<>{]*\]>'                                                       -- the end or the beginning of a conditional one
           '|<![a-z](?:[^<>"''{]|"[^"{]*"|''[^''{]*'')*>'                            -- a doctype
           '|<script(?:[[:space:]][^<>{]*)?>(?:(?!</script|\{\{).)*</script[[:space:]]*>'
           '|<style(?:[[:space:]][^<>{]*)?>(?:(?!</style|\{\{).)*</style[[:space:]]*>'
           -- any other tag; of those that are not named here the content is markup, or text in which references are read
           '|</?(?!script|style|xmp|iframe|noembed|noframes|noscript|plaintext)[a-z][^[:space:]<>/"''={]*'
           '(?:[[:space:]/]+[^[:space:]<>/"''={]+(?:[[:space:]]*=[[:space:]]*(?:"[^"]*"|''[^'']*''|[^[:space:]"''<>{]+))?)*[[:space:]/]*>',
           ' ', 'gi') ~ '<[a-zA-Z/!?].*\{\{|<\{\{'
$$;

-- Refuses a template with braces that are no place, or in html a place where escaping is not enough.
create function millrace.check_template(p_field text, p_template text, p_is_html boolean) returns void
language plpgsql
as $$
begin
  if regexp_replace(p_template, '\{\{ *[A-Za-z_][A-Za-z0-9_]* *\}\}', '', 'g') ~ '\{\{' or p_template ~ '\{\{\{' then
    perform millrace.refuse(400, 'invalid_template', format('%s has {{ without a name and }} behind it', p_field));
  elsif p_is_html and millrace.has_unsafe_place(p_template) then
    perform millrace.refuse(400, 'invalid_template', format('%s has {{ … }} where it is neither text nor in a quoted attribute', p_field));
  end if;
end
$$;

create function millrace.escape_html(p_text text) returns text
language sql immutable
as $$
  select replace(replace(replace(replace(replace(p_text, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;')
$$;

-- A template with its places filled in, all of which p_values has. What lies between places and what they hold are put together once, and
-- not looked at again.
create function millrace.fill_template(p_template text, p_values jsonb, p_is_html boolean) returns text
language sql immutable
as $$
  select string_agg(l.literal || case when p.name is null then ''
                                      when p_is_html then millrace.escape_html(p_values ->> p.name)
                                      else p_values ->> p.name end, '' order by l.n)
    from unnest(regexp_split_to_array(p_template, '\{\{ *[A-Za-z_][A-Za-z0-9_]* *\}\}')) with ordinality as l (literal, n)
    left join millrace.template_places(p_template) with ordinality as p (name, n) on p.n = l.n
$$;

-- What is wrong with the values for these templates, null for nothing: `value_missing: NAME`, or `value_invalid: NAME` where it is
-- no text, number or boolean.
create function millrace.template_failure(p_templates text[], p_values jsonb) returns text
language sql immutable
as $$
  select case when jsonb_typeof(p_values -> p.name) is null or p_values -> p.name = 'null' then 'value_missing: ' else 'value_invalid: ' end || p.name
    from unnest(p_templates) with ordinality as t (template, n)
   cross join millrace.template_places(t.template) with ordinality as p (name, place)
   where coalesce(jsonb_typeof(p_values -> p.name) not in ('string', 'number', 'boolean'), true)
   order by t.n, p.place
   limit 1
$$;

create function comms.put_email_template(name text, subject text, html text, text text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  if coalesce(name !~ '^[A-Za-z0-9_.-]{1,100}$', true) then
    perform millrace.refuse(400, 'invalid_template', 'name is 1 to 100 letters, digits, dots, hyphens and underscores');
  elsif coalesce(subject !~ '[^[:space:]]', true) or coalesce(html !~ '[^[:space:]]', true) then
    perform millrace.refuse(400, 'invalid_template', 'subject or html is missing');
  end if;
  perform millrace.check_lengths(jsonb_build_object('subject', array[length(subject), 998], 'html', array[octet_length(html), 1048576],
                                                    'text', array[octet_length(text), 1048576]));
  perform millrace.check_one_line(jsonb_build_object('subject', subject));
  perform millrace.check_template('subject', subject, false), millrace.check_template('html', html, true), millrace.check_template('text', text, false);
  insert into comms.email_template as t (name, subject, html, text, updated_at)
  values (name, subject, html, text, millrace.clock())
      on conflict on constraint email_template_pkey
      do update set subject = excluded.subject, html = excluded.html, text = excluded.text, updated_at = excluded.updated_at;
end
$$;

create function comms.put_sms_template(name text, body text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  if coalesce(name !~ '^[A-Za-z0-9_.-]{1,100}$', true) then
    perform millrace.refuse(400, 'invalid_template', 'name is 1 to 100 letters, digits, dots, hyphens and underscores');
  elsif coalesce(body !~ '[^[:space:]]', true) then
    perform millrace.refuse(400, 'invalid_template', 'body is missing');
  end if;
  perform millrace.check_lengths(jsonb_build_object('body', array[length(body), 10000]));
  perform millrace.check_template('body', body, false);
  insert into comms.sms_template as t (name, body, updated_at)
  values (name, body, millrace.clock())
      on conflict on constraint sms_template_pkey do update set body = excluded.body, updated_at = excluded.updated_at;
end
$$;

create function comms.drop_email_template(name text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from comms.email_template t where t.name = drop_email_template.name;
  return found;
end
$$;

create function comms.drop_sms_template(name text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from comms.sms_template t where t.name = drop_sms_template.name;
  return found;
end
$$;

comment on function comms.put_email_template is 'Makes or replaces a template; {{ name }} in it is filled in by comms.create_and_enqueue_email_from.';
comment on function comms.put_sms_template is 'Makes or replaces a template; {{ name }} in it is filled in by comms.create_and_enqueue_sms_from.';
comment on function comms.drop_email_template is 'Deletes a template; whether there was one. Messages made from it stay.';
comment on function comms.drop_sms_template is 'Deletes a template; whether there was one. Messages made from it stay.';

-- As comms.create_and_enqueue_email, with subject, html and text from a template and what `data` ({name: value}) has for its places.
create function comms.create_and_enqueue_email_from(template text, from_address text, to_address text, data jsonb,
  scheduled_at timestamptz default null, priority int default 5, idempotency_key text default null, max_attempts int default null,
  reply_to text default null)
returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  v_template comms.email_template;
  v_failure  text;
begin
  select t.* into v_template from comms.email_template t where t.name = template;
  if not found then
    perform millrace.refuse(404, 'template_not_found', 'there is no such template');
  end if;
  v_failure := millrace.template_failure(array[v_template.subject, v_template.html, v_template.text], data);
  if v_failure is not null then
    return jsonb_build_object('validation_failure_message', v_failure, 'job', null);
  end if;
  return comms.create_and_enqueue_email(
    from_address, to_address, millrace.fill_template(v_template.subject, data, false), millrace.fill_template(v_template.html, data, true),
    scheduled_at, priority, idempotency_key, max_attempts, millrace.fill_template(v_template.text, data, false), reply_to);
end
$$;

-- The same of a text message.
create function comms.create_and_enqueue_sms_from(template text, to_number text, data jsonb,
  scheduled_at timestamptz default null, priority int default 5, idempotency_key text default null, max_attempts int default null)
returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  v_body    text;
  v_failure text;
begin
  select t.body into v_body from comms.sms_template t where t.name = template;
  if not found then
    perform millrace.refuse(404, 'template_not_found', 'there is no such template');
  end if;
  v_failure := millrace.template_failure(array[v_body], data);
  if v_failure is not null then
    return jsonb_build_object('validation_failure_message', v_failure, 'job', null);
  end if;
  return comms.create_and_enqueue_sms(to_number, millrace.fill_template(v_body, data, false), scheduled_at, priority, idempotency_key, max_attempts);
end
$$;

comment on function comms.create_and_enqueue_email_from is 'Makes an email from a template, and its job; answers the job, or what is missing: `value_missing: NAME` for a place without a value.';
comment on function comms.create_and_enqueue_sms_from is 'Makes a text message from a template, and its job; answers the job, or what is missing: `value_missing: NAME` for a place without a value.';

select millrace.leave_to_clients(array[
  'comms.suppress(text, text, text)', 'comms.lift_suppression(text, text)', 'comms.suppressions(text, text, int)',
  'comms.put_email_template(text, text, text, text)', 'comms.put_sms_template(text, text)',
  'comms.drop_email_template(text)', 'comms.drop_sms_template(text)',
  'comms.create_and_enqueue_email_from(text, text, text, jsonb, timestamptz, int, text, int, text)',
  'comms.create_and_enqueue_sms_from(text, text, jsonb, timestamptz, int, text, int)']::regprocedure[]);

select millrace.leave_to_owner(r.relation)
  from (values ('comms.suppression'), ('comms.email_template'), ('comms.sms_template')) as n (name)
 cross join lateral to_regclass(n.name) as r (relation);
