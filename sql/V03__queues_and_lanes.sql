-- Queues, what they are set to, and their lanes.

create table millrace.queue (
  id                int generated always as identity primary key,
  name              text not null unique check (btrim(name) <> '' and length(name) <= 200),
  max_attempts      int not null default 5 check (max_attempts between 1 and 1000),
  backoff           text not null default 'exponential' check (backoff in ('exponential', 'fixed')),
  backoff_base      interval not null default '30 seconds' check (backoff_base between '0' and '365 days'),
  backoff_cap       interval not null default '1 hour' check (backoff_cap between '0' and '365 days'),
  backoff_jitter    boolean not null default true,
  lease             interval not null default '60 seconds' check (lease between '1 second' and '1 day'),
  concurrency_limit int check (concurrency_limit between 1 and 10000),
  key_concurrency   int not null default 1 check (key_concurrency between 1 and 1000),
  rate_limit        int check (rate_limit between 1 and 100000),
  rate_interval     interval check (rate_interval between '100 milliseconds' and '31 days'),
  key_rate_limit    int check (key_rate_limit between 1 and 100000),
  key_rate_interval interval check (key_rate_interval between '100 milliseconds' and '31 days'),
  keys_limited      boolean not null default false,
  held_until        timestamptz,
  paused_at         timestamptz,
  alert_age         interval check (alert_age > '0'),
  created_at        timestamptz not null default clock_timestamp(),
  check ((rate_limit is null) = (rate_interval is null)),
  check ((key_rate_limit is null) = (key_rate_interval is null))
);

comment on table millrace.queue is 'One row a queue, made by the first enqueue or by millrace.configure_queue.';
comment on column millrace.queue.backoff is 'exponential: min(cap, base * 2^(n-1)) after attempt n; fixed: base.';
comment on column millrace.queue.backoff_jitter is 'Full jitter: the delay is drawn evenly from 0 up to the computed one.';
comment on column millrace.queue.lease is 'Lease length where neither the claim nor the job names one.';
comment on column millrace.queue.concurrency_limit is 'How many jobs of the queue may run at once; NULL is no limit.';
comment on column millrace.queue.key_concurrency is 'How many jobs of one concurrency key may run at once.';
comment on column millrace.queue.rate_limit is 'How many jobs of the queue may start within any rate_interval; NULL is no limit (see limits).';
comment on column millrace.queue.key_rate_limit is 'How many jobs of one limit key may start within any key_rate_interval, where the key has no limit of its own.';
comment on column millrace.queue.keys_limited is 'Whether claims must look at limit keys: some have, or had, a limit or a hold.';
comment on column millrace.queue.held_until is 'Nothing of the queue starts before that.';
comment on column millrace.queue.alert_age is 'How long its oldest due job may wait before somebody is told; NULL follows millrace.alert_settings.';

-- What a queue's limits are kept with: see limits.
create table millrace.place (
  queue_id int not null,
  n        int not null,
  primary key (queue_id, n)
);

comment on table millrace.place is 'The places of queues that have a concurrency limit. A row never changes: it is there to be locked while a claim gives its number to a lease.';

create table millrace.bucket (
  queue_id int not null,
  shard    smallint not null,
  size     int not null check (size > 0),
  back_at  timestamptz[] not null default '{}',
  back     int[] not null default '{}',
  primary key (queue_id, shard)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table millrace.bucket is 'The tokens of queues that have a rate limit, shared out among a few rows.';
comment on column millrace.bucket.back_at is 'When tokens that were taken come back, earliest first; `back` says how many.';

-- A lane is what a claim can ask for in one index probe: one type and priority of one queue.
--
-- Why floors: a claimed job leaves a dead entry at the head of the ready index, and vacuum may not
-- remove it while any transaction still holds an older snapshot (a report, a backup, a replica). A claim
-- that started at the very beginning would walk all of those corpses. So a lane remembers a run_at
-- below which nothing claimable lies, and a claim looks from there.
create table millrace.lane (
  id       int generated always as identity primary key,
  queue_id int not null,
  type     text collate "C" not null check (btrim(type) <> '' and length(type) <= 200),
  priority smallint not null,
  alone    boolean not null default false,
  floor    timestamptz not null default '-infinity',
  unique (queue_id, type, priority, alone)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on column millrace.lane.alone is 'Whether its jobs'' last attempts were lost: a claim that asks for isolation takes them one by one. Made as the first is lost.';
comment on column millrace.lane.floor is 'No claimable entry of this lane has an earlier run_at.';

-- What lets a floor move. A reader's snapshot says nothing about rows that a running transaction has yet
-- to commit, so "the earliest entry I see" is no safe floor. It is safe below an instant T when every
-- transaction that could have stamped a run_at before T has ended. Hence the rule of all writers:
--
--   a transaction first has its id assigned, and reads the clock for run_at after that.
--
-- A note is then a pair (T, X): the clock was read at T, and the transaction id X was assigned after it. Whoever
-- stamped a time before T had its id assigned earlier still, so below X; and once pg_snapshot_xmin() has
-- reached X, every id below X has ended and all its rows are visible. (pg_snapshot_xmax() will not do for X:
-- it is one past the newest *ended* transaction, and younger running ones may lie at or above it.)
-- A long reader has no transaction id and holds nothing up; a long writer only makes floors move later.
create table millrace.queue_clock (
  queue_id    int primary key,
  tended_at   timestamptz not null default '-infinity',
  swept_at    timestamptz not null default '-infinity',
  noted_at    timestamptz,
  noted_xid   xid8,
  lease_floor timestamptz not null default '-infinity',
  folded      pg_snapshot,
  folded_by   xid8,
  folded_at   timestamptz not null default '-infinity'
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table millrace.queue_clock is 'When each queue was last tended, its pending note (instant, transaction id), and the floor of its leases.';
comment on column millrace.queue_clock.folded is 'What the last fold of this queue''s tallies saw (see counters), and by which transaction it was made.';
comment on column millrace.queue_clock.lease_floor is 'No live lease of this queue expires earlier.';
