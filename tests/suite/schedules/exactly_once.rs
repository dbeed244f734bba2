//! Each due time makes one job, whoever calls and whoever is killed: days go by in steps while a crowd calls, loses its connections,
//! holds its transactions open, and is terminated in the middle of its calls. What was made is compared with what the expressions say.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use millrace_tests::database::{Database, explain};
use millrace_tests::deadline::eventually;
use millrace_tests::queue;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls};

use super::count;

const CALLERS: usize = 32;

/// One schedule of each expression in each of the zones.
const ZONES: [&str; 5] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
];
const EXPRESSIONS: [&str; 11] = [
    "*/5 * * * *",
    "17 * * * *",
    "*/30 * * * *",
    "30 2 * * *",
    "0 3 * * *",
    "*/10 2 * * *",
    "15 9-17 * * MON-FRI",
    "*/20 */15 8-11 * * *",
    "@daily",
    "0 0 L * *",
    "0 12 * * SAT#4,SUN#L",
];
/// And one of each of these in Berlin.
const FREQUENT: [&str; 4] = [
    "* * * * *",
    "*/30 * * * * *",
    "7,52 * * * * *",
    "* * 2 * * SUN",
];

/// Days that the clock goes through.
struct Days {
    from: &'static str,
    to: &'static str,
}

/// What happened to the callers.
#[derive(Default)]
struct Seen {
    calls: AtomicUsize,
    /// Calls that were terminated by the server while they ran.
    killed: AtomicUsize,
    /// Calls whose connection the caller dropped while they ran.
    dropped: AtomicUsize,
    /// Transactions that were terminated, or whose connection was dropped, after their call and before their commit.
    held: AtomicUsize,
    jobs_answered: AtomicUsize,
}

/// The clock of one database, in milliseconds since 1970. A sequence is what all sessions see at once, and a plan need not be made anew for it.
struct Clock {
    now: AtomicU64,
    last: u64,
    from: String,
    to: String,
}

impl Clock {
    async fn start(database: &Database, days: &Days) -> Self {
        database
            .run(&format!(
                "create sequence millrace.simulated_clock;
                 select setval('millrace.simulated_clock', (extract(epoch from timestamptz '{}') * 1000)::bigint);
                 create or replace function millrace.clock() returns timestamptz language sql volatile parallel safe
                 as 'select to_timestamp(pg_sequence_last_value(''millrace.simulated_clock''::regclass) / 1000.0)'",
                days.from
            ))
            .await;
        let sql = "select (extract(epoch from $1::text::timestamptz) * 1000)::bigint";
        let milliseconds = async |instant: &str| {
            let value: i64 = database.one(sql, &[&instant]).await.get(0);
            value.unsigned_abs()
        };
        Self {
            now: AtomicU64::new(milliseconds(days.from).await),
            last: milliseconds(days.to).await,
            from: days.from.to_owned(),
            to: days.to.to_owned(),
        }
    }

    /// Goes on by `milliseconds`, though not beyond the end; answers whether there is more to come.
    async fn go_on(&self, database: &Database, milliseconds: u64) -> bool {
        let now = (self.now.load(Ordering::Relaxed) + milliseconds).min(self.last);
        self.now.store(now, Ordering::Relaxed);
        database
            .run(&format!("select setval('millrace.simulated_clock', {now})"))
            .await;
        now < self.last
    }
}

/// Draws a number without randomness, so that what a caller does at a step can be repeated.
fn draw(caller: usize, step: u64, below: u64) -> u64 {
    let mut mixed = (caller as u64) << 32 | step;
    for _ in 0..3 {
        mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (mixed >> 33) % below
}

/// A connection whose socket can be closed at any moment.
struct Caller {
    number: usize,
    client: Client,
    connection: JoinHandle<Result<(), Error>>,
}

impl Caller {
    async fn connect(database: &Database, number: usize) -> Self {
        let (client, connection) = tokio_postgres::connect(database.url(), NoTls)
            .await
            .expect("connecting to the database");
        Self {
            number,
            client,
            connection: tokio::spawn(connection),
        }
    }

    /// Closes the socket, whatever is on its way.
    fn drop_connection(self) {
        self.connection.abort();
    }

    /// A full round as the runbook calls it, or a smaller one.
    async fn round(&self, max_jobs: i32) -> Result<i32, Error> {
        let row = if max_jobs == 1000 {
            self.client
                .query_one("select enqueue_cron_tasks()", &[])
                .await?
        } else {
            self.client
                .query_one("select millrace.enqueue_due($1)", &[&max_jobs])
                .await?
        };
        Ok(row.get(0))
    }

    /// Calls until nothing is due, in the way of this step. Answers the connection if it lived.
    async fn step(
        self,
        step: u64,
        next_step: &mut watch::Receiver<u64>,
        seen: &Seen,
    ) -> Option<Self> {
        let max_jobs = [1000, 1000, 50, 7][draw(self.number, step, 4) as usize];
        let way = draw(self.number, step ^ 0xff, 16);
        if way == 0 {
            // Sent, and not waited for: the server finds out when it answers, if at all.
            seen.calls.fetch_add(1, Ordering::Relaxed);
            let patience = Duration::from_micros(draw(self.number, step, 8000));
            if timeout(patience, self.round(max_jobs)).await.is_err() {
                seen.dropped.fetch_add(1, Ordering::Relaxed);
            }
            self.drop_connection();
            return None;
        }
        if way <= 2 {
            return self.hold(max_jobs, way == 1, next_step, seen).await;
        }
        loop {
            seen.calls.fetch_add(1, Ordering::Relaxed);
            match self.round(max_jobs).await {
                Ok(0) => return Some(self),
                Ok(jobs) => {
                    _ = seen
                        .jobs_answered
                        .fetch_add(jobs.unsigned_abs() as usize, Ordering::Relaxed)
                }
                Err(error) => {
                    self.assert_killed(&error);
                    seen.killed.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
        }
    }

    /// One call in a transaction that stays open until the clock has gone on, then ends with a commit or with its connection.
    async fn hold(
        self,
        max_jobs: i32,
        commits: bool,
        next_step: &mut watch::Receiver<u64>,
        seen: &Seen,
    ) -> Option<Self> {
        let work = async {
            self.client.batch_execute("begin").await?;
            seen.calls.fetch_add(1, Ordering::Relaxed);
            self.round(max_jobs).await
        };
        let jobs = match work.await {
            Ok(jobs) => jobs,
            Err(error) => {
                self.assert_killed(&error);
                seen.killed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        _ = next_step.changed().await;
        if commits && self.client.batch_execute("commit").await.is_ok() {
            seen.jobs_answered
                .fetch_add(jobs.unsigned_abs() as usize, Ordering::Relaxed);
            return Some(self);
        }
        seen.held.fetch_add(1, Ordering::Relaxed);
        self.drop_connection();
        None
    }

    /// Nothing else may go wrong with a call than that somebody ended its session.
    fn assert_killed(&self, error: &Error) {
        assert!(
            error.code() == Some(&SqlState::ADMIN_SHUTDOWN) || error.is_closed(),
            "caller {}: {}",
            self.number,
            explain(error)
        );
    }
}

/// Calls at every step until there are no more; connects anew when its connection is gone.
async fn call(
    database: &Database,
    number: usize,
    mut steps: watch::Receiver<u64>,
    seen: &Seen,
    done: mpsc::UnboundedSender<()>,
) {
    let mut caller = Some(Caller::connect(database, number).await);
    while steps.changed().await.is_ok() {
        let step = *steps.borrow_and_update();
        let current = match caller.take() {
            Some(current) => current,
            None => Caller::connect(database, number).await,
        };
        caller = current.step(step, &mut steps, seen).await;
        _ = done.send(());
    }
}

/// Terminates the sessions of callers: of those whose call has run for longest, or whose transaction is open.
async fn kill(client: &Client, sessions: i64) {
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and query like 'select %enqueue_%'
                  and state in ('active', 'idle in transaction')
                order by state, query_start limit $1";
    client
        .query(sql, &[&sessions])
        .await
        .expect("an end of sessions");
}

/// Moves the clock to the end of its days, in steps of different lengths, while callers are at work.
async fn pass_days(database: &Database, clock: &Clock, seen: &Seen) -> u64 {
    let (steps, receiver) = watch::channel(0);
    let (done, mut ended) = mpsc::unbounded_channel();
    let callers = join_all(
        (0..CALLERS).map(|number| call(database, number, receiver.clone(), seen, done.clone())),
    );
    let killer = database.connect().await;
    let mover = async {
        let mut step = 0;
        let mut more = true;
        while more {
            step += 1;
            let minutes = [1, 5, 20, 45, 90][draw(CALLERS, step, 5) as usize];
            more = clock
                .go_on(
                    database,
                    minutes * 60_000 + draw(CALLERS, step ^ 0xff, 60_000),
                )
                .await;
            while ended.try_recv().is_ok() {} // those of the step before
            steps.send_replace(step);
            kill(&killer, 1).await;
            // Not for all of them: the clock goes on while some are still at it.
            for callers in 0..CALLERS / 4 + draw(CALLERS, step ^ 0xfff, 20) as usize {
                if callers == 4 {
                    kill(&killer, 1).await;
                }
                if timeout(Duration::from_millis(300), ended.recv())
                    .await
                    .is_err()
                {
                    break;
                }
            }
        }
        drop(steps);
        step
    };
    let (steps, _) = tokio::join!(mover, callers);
    steps
}

/// Makes the schedules; answers how many.
async fn create_schedules(database: &Database) -> i64 {
    let sql = "select count(millrace.create_schedule(
                        'schedule ' || e.place, e.expression, 'q' || e.place % 3, 't', jsonb_build_object('schedule', e.place), e.zone,
                        catch_up => case when e.place % 3 = 0 then 'one' else 'all' end,
                        grace => case when e.place % 3 = 0 then interval '365 days' else '0' end,
                        overlap => case when e.place % 5 = 0 then 'queue' else 'allow' end))
                 from (select x.expression, x.zone, row_number() over () as place
                         from (select e, z from unnest($1::text[]) as e, unnest($2::text[]) as z
                               union all select e, 'Europe/Berlin' from unnest($3::text[]) as e) as x (expression, zone)) as e";
    let texts = |of: &[&str]| of.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    database
        .one(
            sql,
            &[&texts(&EXPRESSIONS), &texts(&ZONES), &texts(&FREQUENT)],
        )
        .await
        .get(0)
}

/// What was made, against what the expressions say.
#[derive(Debug)]
struct Verdict {
    due: i64,
    jobs: i64,
    /// Due times without a job, and those that made one though they were not due.
    lost: i64,
    wrong: i64,
    /// Jobs beyond the first of their due time, and jobs of no due time.
    twice: i64,
}

async fn verdict(database: &Database, clock: &Clock) -> Verdict {
    let sql = "with due as (
                 select s.id, t.due_at
                   from millrace.schedule s
                  cross join lateral millrace.cron_times(s.expression, $1::text::timestamptz, $2::text::timestamptz, s.time_zone, 10000000) as t (due_at)
               ), run as (
                 select r.schedule_id, r.due_at, count(j.id) as jobs
                   from millrace.schedule_run r
                   left join millrace.job j on j.id = r.job_id and j.payload = jsonb_build_object('schedule', r.schedule_id)
                  where r.outcome = 'enqueued'
                  group by r.schedule_id, r.due_at
               )
               select count(d.id), (select count(*) from millrace.job),
                      count(*) filter (where coalesce(r.jobs, 0) = 0), count(*) filter (where d.id is null),
                      (select count(*) from millrace.job) - count(*) filter (where r.jobs > 0)
                 from due d full join run r on r.schedule_id = d.id and r.due_at = d.due_at";
    let row = database.one(sql, &[&clock.from, &clock.to]).await;
    Verdict {
        due: row.get(0),
        jobs: row.get(1),
        lost: row.get(2),
        wrong: row.get(3),
        twice: row.get(4),
    }
}

async fn simulate(days: Days) {
    let _permit = queue::crowd(CALLERS as u32 + 2).await;
    let database = Database::fresh().await;
    let clock = Clock::start(&database, &days).await;
    let schedules = create_schedules(&database).await;
    let seen = Seen::default();
    let begun = Instant::now();
    let steps = pass_days(&database, &clock, &seen).await;
    // Sessions whose connection is gone may have their last call still to finish.
    eventually("everything is enqueued", async || {
        database.run("select millrace.enqueue_due()").await;
        (count(&database, "schedule where next_run_at <= millrace.clock()").await == 0)
            .then_some(())
    })
    .await;

    let verdict = verdict(&database, &clock).await;
    println!(
        "schedules, {} to {}: {schedules} schedules, {CALLERS} callers, {steps} steps of the clock, {} calls, {} of them killed while they ran, \
         {} with their connection dropped, {} held transactions ended; {} due times, {} jobs, {} lost, {} wrong, {} twice, in {:?}",
        clock.from,
        clock.to,
        seen.calls.load(Ordering::Relaxed),
        seen.killed.load(Ordering::Relaxed),
        seen.dropped.load(Ordering::Relaxed),
        seen.held.load(Ordering::Relaxed),
        verdict.due,
        verdict.jobs,
        verdict.lost,
        verdict.wrong,
        verdict.twice,
        begun.elapsed()
    );
    assert_eq!(
        (verdict.lost, verdict.wrong, verdict.twice),
        (0, 0, 0),
        "{verdict:?}"
    );
    assert_eq!(verdict.due, verdict.jobs);
    assert_eq!(
        count(&database, "schedule_run").await,
        verdict.jobs,
        "nothing was missed, skipped or refused"
    );
    assert!(seen.jobs_answered.load(Ordering::Relaxed) as i64 <= verdict.jobs);
    for (happened, what) in [
        (&seen.killed, "calls killed while they ran"),
        (&seen.dropped, "calls dropped while they ran"),
        (&seen.held, "held transactions ended"),
    ] {
        assert!(happened.load(Ordering::Relaxed) >= 10, "hardly any {what}");
    }
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn through_the_night_that_loses_an_hour() {
    simulate(Days {
        from: "2031-03-28 23:00:00+00",
        to: "2031-04-01 01:00:00+00",
    })
    .await;
}

#[tokio::test]
async fn through_the_night_that_has_an_hour_twice() {
    simulate(Days {
        from: "2031-10-24 23:00:00+00",
        to: "2031-10-28 01:00:00+00",
    })
    .await;
}

/// The witness: without the lock and without the key of the history, callers at the same moment make jobs twice.
#[tokio::test]
async fn without_its_guards_a_due_time_makes_two_jobs() {
    let _permit = queue::crowd(10).await;
    let database = Database::fresh().await;
    database
        .rewrite_function("millrace.enqueue_batch(int)", "for update skip locked", "")
        .await;
    database
        .run(
            "alter table millrace.schedule_run drop constraint schedule_run_pkey;
             create index on millrace.schedule_run (schedule_id, due_at)",
        )
        .await;
    let days = Days {
        from: "2031-03-28 23:00:00+00",
        to: "2031-03-29 06:00:00+00",
    };
    let clock = Clock::start(&database, &days).await;
    create_schedules(&database).await;
    let callers = join_all((0..8).map(|number| Caller::connect(&database, number))).await;
    while clock.go_on(&database, 600_000).await {
        // Two that deadlock over what neither should have are part of it.
        join_all(callers.iter().map(|caller| caller.round(1000))).await;
    }
    let verdict = verdict(&database, &clock).await;
    println!("schedules without guards: {verdict:?}");
    assert!(
        verdict.twice > 0,
        "callers at the same moment are no test of the guards: {verdict:?}"
    );
}
