-- A job is written once and never updated. Its state is the table that holds its id, and a
-- transition deletes it from one and inserts it into the next in one statement or one transaction:
--
--   ready | parked      queued   (parked: queued behind another job of its concurrency key)
--   lease               running
--   finished            succeeded or cancelled
--   dead_letter         dead
--
-- There are no foreign keys on these hot paths; the test suite asserts the invariant instead
-- (millrace.misplaced_jobs() is empty).

create sequence millrace.job_id_seq as bigint;
create sequence millrace.lease_id_seq as bigint;
create sequence millrace.event_id_seq as bigint;

create table millrace.job (
  id              bigint primary key,
  queue_id        int not null,
  lane_id         int not null,
  type            text not null,
  priority        smallint not null,
  payload         jsonb not null,
  payload_size    int not null,
  max_attempts    int check (max_attempts between 1 and 1000),
  lease           interval check (lease between '1 second' and '1 day'),
  idempotency_key text check (btrim(idempotency_key) <> '' and length(idempotency_key) <= 200),
  concurrency_key text check (btrim(concurrency_key) <> '' and length(concurrency_key) <= 200),
  limit_key       text check (btrim(limit_key) <> '' and length(limit_key) <= 200),
  replay_of       bigint,
  traceparent     text check (length(traceparent) = 55),
  enqueued_at     timestamptz not null
);

-- Serves lists of the newest jobs of a queue, or of a type.
create index job_lane on millrace.job (lane_id, id);

comment on column millrace.job.payload_size is 'Bytes of the payload as text, as a claim answers it: a claim stops at a total of 8 MiB.';
comment on column millrace.job.max_attempts is 'This job''s own limit; NULL follows the queue''s setting, also when that changes.';
comment on column millrace.job.lease is 'Lease length for this job where the claim names none; NULL follows the queue.';
comment on column millrace.job.limit_key is 'The key whose rate limit the job''s starts count against (see limits).';
comment on column millrace.job.replay_of is 'The dead job of which this one is a replay.';
comment on column millrace.job.traceparent is 'The trace that this job belongs to, as W3C Trace Context writes it; it goes with claims and events.';

-- An enqueue with a key that is here already answers with this job. A table of its own, since a
-- key must be unique for as long as its job is kept.
create table millrace.idempotency_key (
  queue_id int not null,
  key      text not null,
  job_id   bigint not null,
  primary key (queue_id, key)
);

create table millrace.ready (
  lane_id  int not null,
  run_at   timestamptz not null,
  job_id   bigint primary key,
  attempts smallint not null,
  retried  boolean not null default false,
  resumed  boolean not null default false,
  in_line  boolean not null default false
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- The columns and the order of a claim's WHERE and ORDER BY.
create index ready_lane on millrace.ready (lane_id, run_at, job_id);
-- Serves the list of tasks that are retried: few among many that are queued for the first time.
create index ready_retrying on millrace.ready (job_id) where attempts > 0 or retried;

comment on column millrace.ready.run_at is 'When it is due; never earlier than the clock at insertion (floors depend on it).';
comment on column millrace.ready.lane_id is 'The job''s own lane, or the lane beside it for jobs whose last attempt was lost.';
comment on column millrace.ready.attempts is 'Attempts made so far that count.';
comment on column millrace.ready.retried is 'Queued again by a person, or postponed: its next start is not its first, whatever its attempts say.';
comment on column millrace.ready.in_line is 'It is due at a time that a claim gave it, for its limit key had no token (see limits).';
comment on column millrace.ready.resumed is 'An earlier attempt ended without a word about what it had done: its lease ran out, or it was cancelled while it ran.';

create table millrace.lease (
  job_id     bigint primary key,
  lease_id   bigint not null,
  queue_id   int not null,
  lane_id    int not null,
  worker     text not null,
  attempt    smallint not null,
  leased_at  timestamptz not null,
  expires_at timestamptz not null,
  resumed    boolean not null default false,
  place      int
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Serves the expiry scan and the count of running jobs, both from the queue's lease_floor on.
create index lease_expiry on millrace.lease (queue_id, expires_at);

comment on column millrace.lease.place is 'Which of the queue''s places it has, where the queue has a concurrency limit.';
comment on column millrace.lease.lease_id is 'Fencing token, from a sequence and never reused: every later word about the attempt must name it.';

-- Concurrency keys. At most one job of a key is in ready or lease (or as many as the queue's key_concurrency says): the holder. The others
-- are parked, and when a holder ends the oldest of them takes its place. Claims need not look at keys at all.
-- Whoever parks or ends a job of a key has locked the key's slot before, so that neither misses the other.
create table millrace.concurrency_slot (
  queue_id int not null,
  key      text not null,
  holders  bigint[] not null check (holders <> '{}'),
  primary key (queue_id, key)
) with (fillfactor = 70);

create table millrace.parked (
  job_id   bigint primary key,
  queue_id int not null,
  key      text not null,
  lane_id  int not null,
  run_at   timestamptz not null,
  attempts smallint not null,
  retried  boolean not null default false,
  resumed  boolean not null default false
);
create index parked_key on millrace.parked (queue_id, key, job_id);
create index parked_retrying on millrace.parked (job_id) where attempts > 0 or retried;

create table millrace.dead_letter (
  id              bigint generated always as identity primary key,
  job_id          bigint not null unique,
  queue_id        int not null,
  attempts        smallint not null,
  reason          text not null,
  error           text,
  dead_at         timestamptz not null,
  retried_at      timestamptz,
  retried_job_id  bigint,
  acknowledged_at timestamptz
);
create index dead_letter_queue on millrace.dead_letter (queue_id, id);
-- Serve the lists and the batches of those that wait for somebody to replay them.
create index dead_letter_waiting on millrace.dead_letter (id) where retried_at is null;
create index dead_letter_queue_waiting on millrace.dead_letter (queue_id, id) where retried_at is null;
-- Serves alerts: which queues have some that nobody has looked at, and how many of them nobody was told about.
create index dead_letter_open on millrace.dead_letter (queue_id, dead_at) where retried_at is null and acknowledged_at is null;

comment on column millrace.dead_letter.reason is 'The error code of the last attempt.';
comment on column millrace.dead_letter.retried_job_id is 'The job that a replay made; a dead letter is replayed once.';
comment on column millrace.dead_letter.acknowledged_at is 'When somebody said that he knows of it and nothing is to be done; its replay says so too.';

create table millrace.finished (
  job_id      bigint not null,
  finished_at timestamptz not null,
  outcome     text not null check (outcome in ('succeeded', 'cancelled')),
  attempts    smallint not null,
  result      jsonb,
  primary key (job_id, finished_at)
) partition by range (finished_at);

-- Serves the list of cancelled jobs: few among many that succeeded.
create index finished_cancelled on millrace.finished (job_id) where outcome = 'cancelled';

create table millrace.attempt (
  job_id      bigint not null,
  lease_id    bigint not null,
  attempt     smallint not null,
  worker      text not null,
  started_at  timestamptz not null,
  finished_at timestamptz not null,
  outcome     text not null check (outcome in ('succeeded', 'failed', 'lease_expired', 'cancelled', 'postponed')),
  error_code  text,
  error       text,
  primary key (job_id, lease_id, finished_at)
) partition by range (finished_at);

create table millrace.job_events (
  id         bigint not null default nextval('millrace.event_id_seq'),
  job_id     bigint not null,
  event_type text not null check (event_type in ('queued', 'started', 'succeeded', 'retry_scheduled', 'dead_lettered',
                                                 'cancelled', 'lease_expired', 'replayed', 'postponed')),
  created_at timestamptz not null,
  payload    jsonb not null,
  queue_id   int not null,
  xid        xid8 not null default pg_current_xact_id(),
  primary key (job_id, id, created_at)
) partition by range (created_at);

-- Serves the stream of a queue's events: which have been committed since a reader's last look (see event streams).
create index job_events_queue on millrace.job_events (queue_id, xid, id);

comment on table millrace.job_events is 'One row a transition, written in its transaction: in the order of id they tell a job''s whole life. A publication can carry it.';
comment on column millrace.job_events.xid is 'The transaction that wrote it: ids are drawn before a commit, so their order is not that of commits.';

-- Rows go here while no partition for their time exists; millrace.make_partitions() moves them out again.
create table millrace.finished_default partition of millrace.finished default;
create table millrace.attempt_default partition of millrace.attempt default;
create table millrace.job_events_default partition of millrace.job_events default;

create table millrace.artifact (
  id         bigint generated always as identity primary key,
  job_id     bigint not null,
  name       text not null,
  url        text,
  path       text,
  size       bigint check (size >= 0),
  mime       text,
  sha256     text,
  created_at timestamptz not null
);
create index artifact_job on millrace.artifact (job_id, id);

create table millrace.worker (
  agent_id    text primary key check (btrim(agent_id) <> '' and length(agent_id) <= 200),
  executor_id text not null,
  status      text not null,
  running     int check (running >= 0),
  capacity    int check (capacity >= 0),
  version     text,
  seen_at     timestamptz not null
) with (fillfactor = 50); -- and no index on seen_at, so that a heartbeat rewrites its row in place

comment on table millrace.worker is 'The last heartbeat of each worker.';
