-- The clock that every decision reads, how errors leave SQL, and the two spellings of a job's id.

-- All times of the queue come from here and from nowhere else: a worker's clock is never trusted.
-- Being one inlined function it costs nothing, and a test database moves time by replacing it.
create function millrace.clock() returns timestamptz
language sql volatile parallel safe
as 'select clock_timestamp()';

comment on function millrace.clock() is 'The time that the queue goes by. It must not step back (see lanes and floors).';

-- Raises an error in the form that every face understands: SQLSTATE PTnnn carries the HTTP status
-- nnn (PostgREST reads the same convention), HINT a stable machine code, MESSAGE a sentence.
create function millrace.refuse(p_status int, p_code text, p_message text, p_detail text default null)
returns void
language plpgsql
as $$
begin
  if p_detail is null then
    raise exception using errcode = 'PT' || p_status, hint = p_code, message = p_message;
  end if;
  raise exception using errcode = 'PT' || p_status, hint = p_code, message = p_message, detail = p_detail;
end
$$;

-- A job's key is a bigint; faces that speak UUIDs get an RFC 9562 version 8 UUID that encodes it, so
-- that no second index is needed: the 16 hex digits of the key stand around the version and variant
-- digits, and the rest is a fixed tag (the bytes "millrac") by which our own are recognised.
create function millrace.job_uuid(bigint) returns uuid
language sql immutable strict parallel safe
as $$
  select (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-8' || substr(h, 13, 3) || '-8' || substr(h, 16, 1)
          || '6d-696c6c726163')::uuid
  from (select lpad(to_hex($1), 16, '0') as h) as digits
$$;

comment on function millrace.job_uuid(bigint) is 'The UUID (version 8) that stands for a job''s key on the faces that speak UUIDs.';

-- NULL for a UUID that job_uuid never made: such a job does not exist.
create function millrace.job_id(uuid) returns bigint
language sql immutable strict parallel safe
as $$
  select case when u ~ '^[0-7][0-9a-f]{7}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]6d-696c6c726163$'
         then ('x' || substr(u, 1, 8) || substr(u, 10, 4) || substr(u, 16, 3) || substr(u, 21, 1))::bit(64)::bigint end
  from (select $1::text as u) as spelled
$$;

comment on function millrace.job_id(uuid) is 'The key behind a job''s UUID; NULL where the UUID is not one of ours.';
