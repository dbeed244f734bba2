-- Cron expressions: when they are due next, in any time zone of Postgres' own data. Nothing here knows of schedules.
--
-- **Fields.** Minute, hour, day of the month, month, day of the week; with six fields the seconds stand first.
--
--   second, minute   0-59        *, a, a-b, lists of these; a step after * or after a range: */5, 10-50/5
--   hour             0-23        the same
--   day              1-31        also ?, which is *; L, the last day; 15W, the working day (Monday to Friday) of the same
--                                month that is nearest to the 15th; LW, the last working day
--   month            1-12        names too: JAN to DEC
--   weekday          0-7         Sunday is 0 and 7; names too: SUN to SAT; ?; MON#2, the second Monday of the month;
--                                5L or FRI#L, the last Friday; MON-FRI#1. + in front: see below
--
-- Upper and lower case are the same. @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly stand for what they
-- stand for in crontab(5); @reboot is refused, being no time. As in Vixie's cron and in croner a range does not wrap (22-2 is refused,
-- 22-23,0-2 is meant; SAT-SUN is 6-7), and a step needs a * or a range (5/15 is refused, 5-59/15 is meant). Refused are also a list
-- with * in it or with nothing between its commas, a step longer than the field (*/90), a year, and what never comes true (30 February).
--
-- **Days.** Where both the day and the weekday are restricted, either will do: `0 0 13 * FRI` is each 13th and each Friday. With + in
-- front of the weekdays both must hold: `0 0 13 * +FRI` is Friday the 13th. Only a field that is * or ? as a whole counts
-- as not restricted (POSIX, croner). Vixie's cron takes every field that begins with * for one, so that `*/2` in the
-- days and `MON` mean both to it, and either here.
--
-- **When the clocks change** the rule is that of Debian's cron(8). It tells two kinds of expressions apart:
--
--   With a * in the hour, the minute or the second an expression *follows the clock*: it is due at every instant whose local time it
--   matches, so intervals stay what they are. `*/15 * * * *` runs every quarter of an hour through both changes. `*/15 2 * * *` runs
--   eight times in Berlin when 02:00 to 03:00 comes twice, and not at all on the day when it is skipped.
--   Without one it has *fixed times*, each due once a day. `30 2 * * *` in Berlin runs at the first 02:30 when there are two,
--   and at 03:00 summer time, as soon as the skipped hour is over, when there is none; `0,30 2-3 * * *` then runs at 03:00 once, and at 03:30.
--
-- What Debian's text leaves open: a skipped time runs after the gap even if that is the next day (America/Nuuk skips Saturday's last
-- hour). The gap may be up to three hours, those of Antarctica/Casey included; a longer one is a correction of the calendar, and
-- what it skips does not run: there was no 30 December 2011 in Pacific/Apia, and no job of that day. Times that come twice
-- run at the first, however long the repeated stretch is.

-- An expression, read. A set of numbers is a string of 60 bits in which bit n stands for n.
create type millrace.cron as (
  seconds      bit(60),
  minutes      bit(60),
  hours        bit(60),
  days         bit(60),
  last_day     boolean,
  workdays     bit(60), -- 15W: the working day nearest to it
  last_workday boolean,
  months       bit(60),
  weekdays     bit(60), -- Sunday is 0
  weekdays_nth bit(60), -- 7 (n - 1) + weekday for the nth of the month, 35 + weekday for the last
  any_day      boolean,
  any_weekday  boolean,
  both_days    boolean, -- the day and the weekday must hold, and not one of them
  fixed        boolean, -- fixed times, as told above
  day_at       int      -- the place of the day field in the expression, from 1
);

create function millrace.refuse_cron(p_at int, p_field text, p_reason text) returns void
language plpgsql
as $$
begin
  perform millrace.refuse(400, 'invalid_cron', format('cron expression, character %s (%s): %s', p_at, p_field, p_reason),
                          'fields: [second] minute hour day month weekday');
end
$$;

-- One number, or the name of one. p_at is where it stands in the expression; p_names are three letters each, for
-- p_least and on.
create function millrace.cron_number(p_text text, p_at int, p_field text, p_least int, p_most int, p_names text) returns int
language plpgsql immutable
as $$
declare
  v_number int;
begin
  if p_text ~ '^[0-9]+$' then
    if p_text::numeric not between p_least and p_most then
      perform millrace.refuse_cron(p_at, p_field, format('%s is not from %s to %s', p_text, p_least, p_most));
    end if;
    return p_text::int;
  end if;
  v_number := position(p_text in p_names);
  if length(p_text) <> 3 or v_number % 3 <> 1 then
    perform millrace.refuse_cron(p_at, p_field, case when p_names = '' then format('%s is not a number', p_text)
      else format('%s is neither a number nor a name from %s to %s', p_text, left(p_names, 3), right(p_names, 3)) end);
  end if;
  return p_least + v_number / 3;
end
$$;

-- Refuses an item of a list that is not spelt as one, at the first character that is wrong.
create function millrace.refuse_cron_item(p_item text, p_at int, p_field text) returns void
language plpgsql
as $$
declare
  v_right int := length(substring(p_item from '^(?:[*]|[0-9A-Z]+(?:-[0-9A-Z]*)?)?(?:/[0-9]*)?'));
begin
  if p_item = '' then
    perform millrace.refuse_cron(p_at, p_field, 'a number is missing');
  elsif p_item like '/%' then
    perform millrace.refuse_cron(p_at, p_field, 'a step needs * or a range before it');
  elsif v_right = length(p_item) then
    perform millrace.refuse_cron(p_at + v_right, p_field, 'a number is missing');
  end if;
  perform millrace.refuse_cron(p_at + v_right, p_field, format('%s is not expected here', substr(p_item, v_right + 1, 1)));
end
$$;

-- One item of a list: *, a number or a range, with or without a step. p_alone says that it is the whole field.
create function millrace.cron_item(p_item text, p_at int, p_field text, p_least int, p_most int, p_names text, p_alone boolean) returns bit(60)
language plpgsql immutable
as $$
declare
  v_parts text[];
  v_from  int := p_least;
  v_to    int := p_most;
  v_step  int := 1;
begin
  if p_item ~ '^[0-9A-Z]+$' then
    v_from := millrace.cron_number(p_item, p_at, p_field, p_least, p_most, p_names);
    return set_bit(0::bit(60), v_from, 1);
  end if;

  v_parts := regexp_match(p_item, '^(?:([*])|([0-9A-Z]+)(?:-([0-9A-Z]+))?)(?:/([0-9]+))?$');
  if v_parts is null then
    perform millrace.refuse_cron_item(p_item, p_at, p_field);
  end if;
  if v_parts[1] is null then
    v_from := millrace.cron_number(v_parts[2], p_at, p_field, p_least, p_most, p_names);
    if v_parts[3] is null then
      perform millrace.refuse_cron(p_at + length(v_parts[2]), p_field, 'a step needs * or a range before it');
    end if;
    -- As the end of a range Sunday is 7.
    v_to := case when v_parts[3] = 'SUN' and p_most = 7 then 7
                 else millrace.cron_number(v_parts[3], p_at + length(v_parts[2]) + 1, p_field, p_least, p_most, p_names) end;
    if v_from > v_to then
      perform millrace.refuse_cron(p_at, p_field, format('%s-%s runs backwards', v_parts[2], v_parts[3]));
    end if;
  elsif not p_alone and v_parts[4] is null then
    perform millrace.refuse_cron(p_at, p_field, '* does not stand in a list');
  end if;
  if v_parts[4] is not null then
    if v_parts[4]::numeric not between 1 and p_most + 1 - p_least then
      perform millrace.refuse_cron(p_at + length(p_item) - length(v_parts[4]), p_field,
                                   format('a step of %s is not from 1 to %s', v_parts[4], p_most + 1 - p_least));
    end if;
    v_step := v_parts[4]::int;
  end if;
  return (repeat('0', v_from) || left(repeat(rpad('1', v_step, '0'), 60), v_to - v_from + 1))::bit(60);
end
$$;

-- A field that is a list and nothing more: second, minute, hour, month.
create function millrace.cron_list(p_text text, p_at int, p_field text, p_least int, p_most int, p_names text) returns bit(60)
language plpgsql immutable
as $$
declare
  v_items text[] := string_to_array(p_text, ',');
  v_item  text;
  v_at    int := p_at;
  v_set   bit(60) := 0::bit(60);
begin
  foreach v_item in array v_items loop
    v_set := v_set | millrace.cron_item(v_item, v_at, p_field, p_least, p_most, p_names, cardinality(v_items) = 1);
    v_at := v_at + length(v_item) + 1;
  end loop;
  return v_set;
end
$$;

-- The day of the month, which has L and W too.
create function millrace.cron_day_field(p_cron millrace.cron, p_text text, p_at int) returns millrace.cron
language plpgsql immutable
as $$
declare
  v_items text[];
  v_item  text;
  v_at    int := p_at;
begin
  p_cron.day_at := p_at;
  p_cron.any_day := p_text in ('*', '?');
  p_cron.days := 0::bit(60);
  p_cron.workdays := 0::bit(60);
  p_cron.last_day := false;
  p_cron.last_workday := false;
  if p_cron.any_day then
    return p_cron;
  end if;
  v_items := string_to_array(p_text, ',');
  foreach v_item in array v_items loop
    if v_item = 'L' then
      p_cron.last_day := true;
    elsif v_item = 'LW' then
      p_cron.last_workday := true;
    elsif v_item ~ '^[0-9]+W$' then
      p_cron.workdays := set_bit(p_cron.workdays, millrace.cron_number(rtrim(v_item, 'W'), v_at, 'day', 1, 31, ''), 1);
    else
      p_cron.days := p_cron.days | millrace.cron_item(v_item, v_at, 'day', 1, 31, '', cardinality(v_items) = 1);
    end if;
    v_at := v_at + length(v_item) + 1;
  end loop;
  return p_cron;
end
$$;

-- The day of the week, which has # and L, and + before the whole.
create function millrace.cron_weekday_field(p_cron millrace.cron, p_text text, p_at int) returns millrace.cron
language plpgsql immutable
as $$
declare
  v_names constant text := 'SUNMONTUEWEDTHUFRISAT';
  v_items text[];
  v_item  text;
  v_nth   text;
  v_set   bit(60);
  v_at    int := p_at;
begin
  p_cron.both_days := left(p_text, 1) = '+';
  if p_cron.both_days then
    p_text := substr(p_text, 2);
    v_at := p_at + 1;
  end if;
  p_cron.any_weekday := p_text in ('*', '?');
  p_cron.weekdays := 0::bit(60);
  p_cron.weekdays_nth := 0::bit(60);
  if p_cron.any_weekday then
    return p_cron;
  end if;
  v_items := string_to_array(p_text, ',');
  foreach v_item in array case when p_text = '' then '{""}' else v_items end loop
    v_nth := substring(v_item from '(?:#.*|L)$');
    if v_nth is null then
      v_set := millrace.cron_item(v_item, v_at, 'weekday', 0, 7, v_names, cardinality(v_items) = 1);
      p_cron.weekdays := p_cron.weekdays | v_set | (v_set << 7); -- 7 is 0
    else
      if v_nth = ltrim(v_item, '*') then
        perform millrace.refuse_cron(v_at, 'weekday', format('%s needs a weekday before it', v_nth));
      elsif v_nth !~ '^(?:#[1-5]|#?L)$' then
        perform millrace.refuse_cron(v_at + length(v_item) - length(v_nth), 'weekday', format('%s is not from #1 to #5, nor #L', v_nth));
      end if;
      v_set := millrace.cron_item(left(v_item, -length(v_nth)), v_at, 'weekday', 0, 7, v_names, false);
      v_set := (v_set | (v_set << 7)) & (127::bit(7)::bit(60));
      p_cron.weekdays_nth := p_cron.weekdays_nth | (v_set >> case when v_nth ~ 'L' then 35 else 7 * substr(v_nth, 2)::int - 7 end);
    end if;
    v_at := v_at + length(v_item) + 1;
  end loop;
  p_cron.weekdays := p_cron.weekdays & (127::bit(7)::bit(60));
  return p_cron;
end
$$;

-- Reads an expression. Refuses one that is malformed, at the character where it is.
create function millrace.parse_cron(p_expression text) returns millrace.cron
language plpgsql immutable
as $$
declare
  v_names  constant text[] := '{second,minute,hour,day,month,weekday}';
  v_cron   millrace.cron;
  v_pieces text[];
  v_piece  text;
  v_texts  text[] := '{}';
  v_ats    int[] := '{}';
  v_at     int := 1;
begin
  if p_expression is null then
    perform millrace.refuse_cron(1, 'expression', 'there is none');
  elsif length(p_expression) > 200 then
    perform millrace.refuse_cron(201, 'expression', 'longer than 200 characters');
  end if;
  p_expression := upper(p_expression);
  if p_expression like '%@%' then
    p_expression := millrace.cron_nickname(p_expression);
  end if;

  v_pieces := string_to_array(translate(p_expression, E'\t', ' '), ' ');
  foreach v_piece in array v_pieces loop
    if v_piece <> '' then
      v_texts := v_texts || v_piece;
      v_ats := v_ats || v_at;
    end if;
    v_at := v_at + length(v_piece) + 1;
  end loop;
  if cardinality(v_texts) > 6 then
    perform millrace.refuse_cron(v_ats[7], 'expression', 'a seventh field; years can''t be said');
  elsif cardinality(v_texts) < 5 then
    perform millrace.refuse_cron(length(p_expression) + 1, 'expression',
                                 format('ends after %s fields; five are needed, or six with the seconds first', cardinality(v_texts)));
  elsif cardinality(v_texts) = 5 then
    v_texts := '0'::text || v_texts;
    v_ats := 1 || v_ats;
  end if;

  v_cron.seconds := millrace.cron_list(v_texts[1], v_ats[1], 'second', 0, 59, '');
  v_cron.minutes := millrace.cron_list(v_texts[2], v_ats[2], 'minute', 0, 59, '');
  v_cron.hours := millrace.cron_list(v_texts[3], v_ats[3], 'hour', 0, 23, '');
  v_cron := millrace.cron_day_field(v_cron, v_texts[4], v_ats[4]);
  v_cron.months := millrace.cron_list(v_texts[5], v_ats[5], 'month', 1, 12, 'JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC');
  v_cron := millrace.cron_weekday_field(v_cron, v_texts[6], v_ats[6]);
  v_cron.fixed := position('*' in v_texts[1] || v_texts[2] || v_texts[3]) = 0;
  return v_cron;
end
$$;

-- The fields that a nickname stands for.
create function millrace.cron_nickname(p_expression text) returns text
language plpgsql immutable
as $$
declare
  v_name   text := btrim(p_expression, E' \t');
  v_fields text := case v_name when '@YEARLY' then '0 0 1 1 *' when '@ANNUALLY' then '0 0 1 1 *' when '@MONTHLY' then '0 0 1 * *'
                               when '@WEEKLY' then '0 0 * * 0' when '@DAILY' then '0 0 * * *' when '@MIDNIGHT' then '0 0 * * *'
                               when '@HOURLY' then '0 * * * *' end;
begin
  if v_name = '@REBOOT' then
    perform millrace.refuse_cron(position('@' in p_expression), 'nickname', '@reboot is no time: it means the start of a machine, and there is none here');
  elsif v_fields is null then
    perform millrace.refuse_cron(position('@' in p_expression), 'nickname',
      'not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly');
  end if;
  return v_fields;
end
$$;

-- The days of a month, given by its first, that the day and weekday fields pick: bit n for the nth.
create function millrace.cron_days(p_cron millrace.cron, p_month date) returns bit(60)
language plpgsql immutable
as $$
declare
  v_length   int := (p_month + interval '1 month')::date - p_month;
  v_first    int := date_part('dow', p_month); -- the first's weekday
  v_month    bit(60) := ('0' || repeat('1', v_length))::bit(60);
  v_days     bit(60) := p_cron.days;
  v_weekdays bit(60);
  v_weeks    text := '0';
  v_last     bit(60);
begin
  if p_cron.any_day then
    v_days := v_month;
  end if;
  if p_cron.last_day then
    v_days := set_bit(v_days, v_length, 1);
  end if;
  if p_cron.last_workday then
    v_days := set_bit(v_days, v_length - case (v_first + v_length - 1) % 7 when 6 then 1 when 0 then 2 else 0 end, 1);
  end if;
  if p_cron.workdays <> 0::bit(60) then
    for v_day in 1 .. v_length loop
      if get_bit(p_cron.workdays, v_day) = 1 then
        v_days := set_bit(v_days, v_day + case (v_first + v_day - 1) % 7
                                            when 6 then case when v_day > 1 then -1 else 2 end
                                            when 0 then case when v_day < v_length then 1 else -2 end
                                            else 0 end, 1);
      end if;
    end loop;
  end if;
  v_days := v_days & v_month;
  if p_cron.any_weekday then
    return v_days;
  end if;

  -- A week that is written twice and read from the first's weekday on is the days 1 to 7.
  v_weekdays := ('0' || substr(repeat(left(p_cron.weekdays::text, 7), 6), v_first + 1, v_length))::bit(60);
  if p_cron.weekdays_nth <> 0::bit(60) then
    for v_nth in 0 .. 4 loop
      v_weeks := v_weeks || substr(repeat(substr(p_cron.weekdays_nth::text, 7 * v_nth + 1, 7), 2), v_first + 1, 7);
    end loop;
    v_last := substr(repeat(substr(p_cron.weekdays_nth::text, 36, 7), 2), (v_first + v_length) % 7 + 1, 7)::bit(60) >> (v_length - 6);
    v_weekdays := v_weekdays | v_weeks::bit(60) | v_last;
  end if;
  v_weekdays := v_weekdays & v_month;
  return case when p_cron.any_day then v_weekdays when p_cron.both_days then v_days & v_weekdays else v_days | v_weekdays end;
end
$$;

-- The first local time from p_from on (a whole second) that an expression matches; NULL if there is none for 50 years. The
-- rarest pattern that comes at all, a 29 February on a given weekday, comes after 40 at most.
create function millrace.cron_local(p_cron millrace.cron, p_from timestamp) returns timestamp
language plpgsql immutable
as $$
declare
  v_date   date := p_from::date;
  v_month  date;
  v_limit  date := v_date + 18263;
  v_days   bit(60);
  v_next   int; -- the next number of a set, 0 for none; a position, so 1 is 0
  v_hour   int := date_part('hour', p_from);
  v_minute int := date_part('minute', p_from);
  v_second int := date_part('second', p_from);
  v_late   boolean := false; -- no time of day is left on v_date
begin
  -- The time of day, as if the day matched: the first from p_from's own on.
  if get_bit(p_cron.hours, v_hour) = 1 then
    v_next := 0;
    if get_bit(p_cron.minutes, v_minute) = 1 then
      v_next := position(B'1' in substring(p_cron.seconds from v_second + 1));
    end if;
    if v_next > 0 then
      v_second := v_second + v_next - 1;
    else
      v_second := position(B'1' in p_cron.seconds) - 1;
      v_next := position(B'1' in substring(p_cron.minutes from v_minute + 2));
      v_minute := v_minute + v_next;
    end if;
  else
    v_next := 0;
  end if;
  if v_next = 0 then
    v_second := position(B'1' in p_cron.seconds) - 1;
    v_minute := position(B'1' in p_cron.minutes) - 1;
    v_next := position(B'1' in substring(p_cron.hours from v_hour + 2));
    v_hour := v_hour + v_next;
    v_late := v_next = 0;
  end if;

  if v_late then
    v_date := v_date + 1;
  end if;
  loop
    v_month := v_date - date_part('day', v_date)::int + 1;
    if get_bit(p_cron.months, date_part('month', v_month)::int) = 1 then
      exit when p_cron.any_day and p_cron.any_weekday;
      v_days := millrace.cron_days(p_cron, v_month);
      v_next := position(B'1' in substring(v_days from v_date - v_month + 2));
      if v_next > 0 then
        v_date := v_date + v_next - 1;
        exit;
      end if;
    end if;
    v_next := position(B'1' in substring(p_cron.months from date_part('month', v_month)::int + 2));
    if v_next > 0 then
      v_date := (v_month + v_next * interval '1 month')::date;
    else
      v_date := make_date(date_part('year', v_month)::int + 1, position(B'1' in p_cron.months) - 1, 1);
    end if;
    if v_date > v_limit then
      return null;
    end if;
  end loop;

  if v_date > p_from::date then
    v_hour := position(B'1' in p_cron.hours) - 1;
    v_minute := position(B'1' in p_cron.minutes) - 1;
    v_second := position(B'1' in p_cron.seconds) - 1;
  end if;
  return v_date + make_time(v_hour, v_minute, v_second);
end
$$;

-- The instant in (p_low, p_high] at which the zone's offset becomes that of p_high; p_low's is another, and both are less than a
-- few days apart. Changes are on whole seconds.
create function millrace.cron_turn(p_low timestamptz, p_high timestamptz, p_zone text) returns timestamptz
language plpgsql stable
as $$
declare
  v_start  timestamptz := date_trunc('second', p_low);
  v_offset interval := (p_high at time zone p_zone) - (p_high at time zone 'UTC');
  v_before int := 0;
  v_after  int := ceil(extract(epoch from p_high - v_start));
  v_middle timestamptz;
begin
  while v_after - v_before > 1 loop
    v_middle := v_start + (v_before + v_after) / 2 * interval '1 second';
    if (v_middle at time zone p_zone) - (v_middle at time zone 'UTC') = v_offset then
      v_after := (v_before + v_after) / 2;
    else
      v_before := (v_before + v_after) / 2;
    end if;
  end loop;
  return v_start + v_after * interval '1 second';
end
$$;

-- When the expression that was read is due first after p_after; NULL if never.
-- Of a local time that comes twice Postgres takes the second; one that is skipped it reads as if the clock had not changed yet.
-- Lengths are kept in hours and below: a day taken from a timestamptz is one of the session's time zone.
create function millrace.cron_due(p_cron millrace.cron, p_after timestamptz, p_zone text) returns timestamptz
language plpgsql stable
as $$
declare
  v_local  timestamp := p_after at time zone p_zone;
  v_limit  timestamp := v_local + interval '50 years'; -- what follows the clock may be skipped every year
  v_from   timestamp := date_trunc('second', v_local) + interval '1 second';
  v_twin   timestamptz := v_local at time zone p_zone; -- when that local time comes again, if it does
  v_again  timestamptz; -- the first time due in the repeated stretch that lies ahead
  v_due    timestamptz;
  v_first  timestamptz;
  v_real   timestamp;
  v_gap    interval;
  v_turn   timestamptz;
begin
  if not isfinite(p_after) then
    return null;
  end if;
  if v_twin > p_after and not p_cron.fixed then
    v_turn := millrace.cron_turn(p_after, v_twin, p_zone);
    v_local := millrace.cron_local(p_cron, v_turn at time zone p_zone);
    if v_local < (v_turn at time zone p_zone) + (v_twin - p_after) then
      v_again := v_local at time zone p_zone;
    end if;
  end if;

  loop
    v_local := millrace.cron_local(p_cron, v_from);
    if v_local is null or v_local > v_limit then
      return v_again;
    end if;
    v_due := v_local at time zone p_zone;
    v_real := v_due at time zone p_zone;
    if v_real = v_local then
      -- It may have come before, if the clock was further ahead a day ago.
      v_first := v_due - extract(epoch from ((v_due - interval '24 hours') at time zone p_zone) + interval '24 hours' - v_local)
                         * interval '1 second';
      if v_first >= v_due or (v_first at time zone p_zone) <> v_local then
        return least(v_due, v_again);
      elsif v_first > p_after then
        return least(v_first, v_again);
      elsif not p_cron.fixed then
        return v_due;
      end if;
      -- Fixed times of a repeated stretch have all been.
      v_turn := millrace.cron_turn(v_first, v_due, p_zone);
      v_from := (v_turn at time zone p_zone) + (v_due - v_first);
    else
      v_gap := extract(epoch from v_real - v_local) * interval '1 second';
      v_turn := millrace.cron_turn(v_due - v_gap, v_due, p_zone);
      if p_cron.fixed and v_gap <= interval '3 hours' then
        return v_turn;
      end if;
      v_from := v_turn at time zone p_zone;
    end if;
    v_from := greatest(v_from, v_local + interval '1 second'); -- whatever the zone's data, on it goes
  end loop;
end
$$;

-- Refuses what is no name of a place or of UTC: abbreviations (CET has no summer time to Postgres), POSIX rules (FOO+3), and the
-- zone files that are none of either.
create function millrace.check_time_zone(p_zone text) returns void
language plpgsql stable
as $$
begin
  if p_zone ~ '^[A-Za-z]+(?:/[A-Za-z_-]+)+$' and p_zone !~* '^(?:posix|right)/' then
    perform timestamptz 'epoch' at time zone p_zone; -- without a digit it is a file or an error
    return;
  elsif upper(p_zone) in ('UTC', 'GMT', 'UCT', 'ZULU') then
    return;
  elsif p_zone is null or p_zone ~* '^(?:posix|right)/|^(?:localtime|posixrules|factory)$' then
    perform millrace.refuse(400, 'invalid_time_zone', format('%s is not a time zone', coalesce(left(p_zone, 100), 'null')));
  elsif exists (select from pg_catalog.pg_timezone_abbrevs a where a.abbrev = upper(p_zone)) then
    perform millrace.refuse(400, 'invalid_time_zone', format('%s is the abbreviation of an offset; name a place, such as Europe/Berlin', p_zone));
  elsif not exists (select from pg_catalog.pg_timezone_names n where lower(n.name) = lower(p_zone)) then
    perform millrace.refuse(400, 'invalid_time_zone', format('%s is not a time zone', left(p_zone, 100)));
  end if;
exception when invalid_parameter_value then
  perform millrace.refuse(400, 'invalid_time_zone', format('%s is not a time zone', left(p_zone, 100)));
end
$$;

-- Refuses an expression that is malformed or not due in the next 50 years, and a time zone that is none.
create function millrace.check_cron(expression text, zone text default 'UTC') returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_cron millrace.cron := millrace.parse_cron(check_cron.expression);
begin
  perform millrace.check_time_zone(check_cron.zone);
  if millrace.cron_local(v_cron, '2000-01-01') is null then
    perform millrace.refuse_cron(v_cron.day_at, 'day', 'this never comes: no month that is meant has such a day');
  elsif millrace.cron_due(v_cron, millrace.clock(), check_cron.zone) is null then
    perform millrace.refuse_cron(v_cron.day_at, 'day', format('this never comes: it is what the clocks of %s skip', check_cron.zone));
  end if;
end
$$;

comment on function millrace.check_cron is 'Refuses a cron expression with a fault, telling its place, and a time zone that is not in Postgres'' data.';

-- Takes the time zone as it comes: what check_cron refuses is to Postgres an error, or not what was meant.
create function millrace.cron_next(expression text, after timestamptz, zone text default 'UTC') returns timestamptz
language plpgsql stable strict security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return millrace.cron_due(millrace.parse_cron(cron_next.expression), cron_next.after, cron_next.zone);
end
$$;

comment on function millrace.cron_next is 'When a cron expression is due first after an instant, in a time zone.';

-- The times in (after, until], oldest first, max of them at most. The expression is read once, so this is cheaper than cron_next again and again.
create function millrace.cron_times(expression text, after timestamptz, until timestamptz, zone text default 'UTC', max int default 1000)
returns setof timestamptz
language plpgsql stable strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_cron millrace.cron := millrace.parse_cron(cron_times.expression);
  v_due  timestamptz := cron_times.after;
begin
  for v_count in 1 .. cron_times.max loop
    v_due := millrace.cron_due(v_cron, v_due, cron_times.zone);
    exit when v_due is null or v_due > cron_times.until;
    return next v_due;
  end loop;
end
$$;

comment on function millrace.cron_times is 'The successive times at which a cron expression is due after one instant and until another.';
