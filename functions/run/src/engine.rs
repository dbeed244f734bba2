//! The run itself. It starts what can be started, waits for the next thing to happen, takes note of it, and so on until nothing is left:
//! at most one claim, one report and one extension are on their way at any time, beside the calls.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::StatusCode;
use millrace_kit::{Problem, log};
use millrace_worker::{Failure, Receipt};
use serde::Serialize;
use spin_sdk::time::sleep;
use uuid::Uuid;

use crate::Handle;
use crate::batch::{Batches, Outcome};
use crate::calls::{self, Ended, Late};
use crate::config::Config;
use crate::guard::Turn;
use crate::statements::{self, Claimed, Extended, LeaseName, Leased, Reported};

/// How often a run looks for a note. One request can't wake another's task in this runtime, so the note has to be looked for.
const LOOK_FOR_NOTE: Duration = Duration::from_millis(10);

/// Between two claims while something is due that is not to be had (a limit, another claim).
const NOT_TO_BE_HAD: Duration = Duration::from_millis(250);

/// For how long a run that somebody waits for has nothing in hand, if something is due soon.
const LINGER: Duration = Duration::from_secs(1);

/// Before a statement that failed is tried again, and how often that is done in a row.
const STATEMENT_PAUSE: Duration = Duration::from_millis(250);
const STATEMENT_FAILURES: u32 = 4;

/// Behind the end of a run: for how long its last reports are tried, and the longest that any statement of it is waited for.
const LAST_REPORTS: Duration = Duration::from_secs(3);

type Said = Result<Receipt, Failure>;

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Attempts that were begun.
    pub claimed: usize,
    pub done: usize,
    pub retry: usize,
    pub dead: usize,
    pub postponed: usize,
    /// Those of `retry` that ran into their deadline.
    pub late: usize,
    /// Outcomes that came too late to count.
    pub refused: usize,
    /// Outcomes that could not be reported.
    pub lost: usize,
    /// The run ended by its time, with jobs left as far as it knows.
    pub more: bool,
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let more = if self.more { ", more to come" } else { "" };
        write!(
            f,
            "{} claimed: {} done, {} to be retried ({} late), {} dead, {} postponed, {} refused, {} lost{more}",
            self.claimed,
            self.done,
            self.retry,
            self.late,
            self.dead,
            self.postponed,
            self.refused,
            self.lost
        )
    }
}

/// How a run ended.
pub struct Over {
    pub summary: Summary,
    /// Why it ended before its time.
    pub problem: Option<Problem>,
    /// Calls that went on behind their deadlines.
    pub late: Vec<Late<Said>>,
}

/// Something that happened.
enum Event {
    Ended(i64, Ended<Said>),
    /// With when it was asked for: leases run from then at the earliest.
    Claimed(Instant, Result<Claimed, Problem>),
    Reported(Vec<Outcome>, Result<Reported, Problem>),
    /// A report of so many outcomes had no answer when time was up.
    Unheard(usize, Problem),
    Extended(Instant, Vec<LeaseName>, Result<Extended, Problem>),
    Tick,
}

/// An attempt whose call is in flight.
struct Held {
    id: String,
    /// When its lease ends, at the earliest.
    until: Instant,
}

pub struct Engine {
    config: Config,
    /// What the handler says of itself.
    detail: String,
    turn: Turn,
    worker: String,
    start: Instant,
    /// Whether somebody waits for the answer.
    is_awaited: bool,
    events: FuturesUnordered<LocalBoxFuture<'static, Event>>,
    in_hand: BTreeMap<i64, Held>,
    /// The job that is to run with no other beside it, while others still run.
    alone: Option<(Leased, Instant)>,
    /// The job that runs now does so alone.
    is_alone: bool,
    outcomes: Batches,
    late: Vec<Late<Said>>,
    is_claiming: bool,
    is_reporting: bool,
    is_extending: bool,
    is_ticking: bool,
    /// When to claim next; not before there is a note, if none.
    look_at: Option<Instant>,
    /// Something was reported since the last claim began, which it may not have seen yet: a slot is free, the next job of a key is due.
    has_made_room: bool,
    report_at: Instant,
    failures: u32,
    problem: Option<Problem>,
    summary: Summary,
}

impl Engine {
    /// A run that begins now.
    pub fn new(config: Config, detail: String, turn: Turn, is_awaited: bool) -> Self {
        let now = Instant::now();
        Self {
            worker: format!("drain {}", Uuid::new_v4()),
            config,
            detail,
            turn,
            start: now,
            is_awaited,
            events: FuturesUnordered::new(),
            in_hand: BTreeMap::new(),
            alone: None,
            is_alone: false,
            outcomes: Batches::default(),
            late: Vec::new(),
            is_claiming: false,
            is_reporting: false,
            is_extending: false,
            is_ticking: false,
            look_at: Some(now),
            has_made_room: false,
            report_at: now,
            failures: 0,
            problem: None,
            summary: Summary::default(),
        }
    }

    /// Runs until nothing is left, or time is up.
    pub async fn run<H: Handle>(mut self) -> Over {
        loop {
            self.begin_alone::<H>();
            self.begin_report();
            self.begin_extension();
            self.begin_claim();
            if self.is_over() {
                break;
            }
            self.begin_tick();
            let Some(event) = self.events.next().await else {
                break;
            };
            self.take_note_of::<H>(event);
            // What else has happened goes into the same batch.
            while let Some(Some(event)) = self.events.next().now_or_never() {
                self.take_note_of::<H>(event);
            }
        }
        // What is due soon, and what somebody asked for since the last claim, is for the next run.
        let soon = Instant::now() + LINGER;
        self.summary.more |= self.turn.has_note() || self.look_at.is_some_and(|at| at <= soon);
        // From here to the end of the turn there is no await, so no note can come between.
        drop(self.turn);
        Over {
            summary: self.summary,
            problem: self.problem,
            late: self.late,
        }
    }

    fn take_note_of<H: Handle>(&mut self, event: Event) {
        match event {
            Event::Ended(lease_id, ended) => self.ended(lease_id, ended),
            Event::Claimed(asked, claimed) => self.claimed::<H>(asked, claimed),
            Event::Reported(batch, answer) => self.reported(batch, answer),
            Event::Unheard(count, problem) => {
                self.is_reporting = false;
                self.lose(count, &problem);
            }
            Event::Extended(asked, leases, answer) => self.extended(asked, &leases, &answer),
            Event::Tick => self.is_ticking = false,
        }
    }

    /// Nothing is in hand, on its way or to be waited for.
    fn is_over(&self) -> bool {
        let is_busy = !self.in_hand.is_empty()
            || self.alone.is_some()
            || !self.outcomes.is_empty()
            || self.is_claiming
            || self.is_reporting
            || self.is_extending;
        !is_busy && !self.will_claim()
    }

    /// Whether there is a claim to come in this run.
    fn will_claim(&self) -> bool {
        let linger = match self.is_awaited {
            true => LINGER,
            false => self.config.run,
        };
        let until = self.last_claim().min(Instant::now() + linger);
        let is_soon = self.look_at.is_some_and(|at| at <= until);
        self.problem.is_none()
            && Instant::now() <= self.last_claim()
            && (is_soon || self.turn.has_note())
    }

    /// The last instant at which a claim may begin.
    fn last_claim(&self) -> Instant {
        self.start + (self.config.run - self.config.job)
    }

    fn time_left(&self) -> Duration {
        self.config.run.saturating_sub(self.start.elapsed())
    }

    /// For how long a statement that begins now is waited for.
    fn statement_time(&self) -> Duration {
        (self.config.run + LAST_REPORTS).saturating_sub(self.start.elapsed())
    }

    fn begin_claim(&mut self) {
        let now = Instant::now();
        let places = self.config.concurrency.saturating_sub(self.in_hand.len());
        // A trap loses what has ended and was not reported as well: no more of that than of what runs.
        let has_room = places > 0 && self.outcomes.len() < self.config.concurrency;
        let is_time = self.look_at.is_some_and(|at| at <= now) || self.turn.has_note();
        if self.is_claiming
            || self.alone.is_some()
            || self.is_alone
            || self.problem.is_some()
            || now > self.last_claim()
            || !(has_room && is_time)
        {
            return;
        }
        // A note that comes from now on is for the next claim.
        self.turn.asked_again();
        self.look_at = None;
        self.has_made_room = false;
        self.is_claiming = true;
        let (queue, worker) = (self.config.queue.clone(), self.worker.clone());
        let (lease, detail) = (self.config.lease.as_secs(), self.detail.clone());
        let claim = async move { statements::claim(&queue, &worker, places, lease, &detail).await };
        let claim = answered(claim, self.statement_time());
        self.events
            .push(async move { Event::Claimed(now, claim.await) }.boxed_local());
    }

    fn claimed<H: Handle>(&mut self, asked: Instant, answer: Result<Claimed, Problem>) {
        self.is_claiming = false;
        let now = Instant::now();
        let claimed = match answer {
            Ok(claimed) => claimed,
            Err(problem) => return self.look_again_after(problem),
        };
        self.failures = 0;
        self.look_at = match claimed.due_in_ms {
            _ if claimed.alone || self.has_made_room => Some(now),
            Some(0) => Some(now + NOT_TO_BE_HAD),
            Some(milliseconds) => now.checked_add(Duration::from_millis(milliseconds)),
            None if claimed.jobs.is_empty() => None,
            None => Some(now), // as many as were asked for, or no more to come: the next claim finds out
        };
        let until = asked + self.config.lease;
        for leased in claimed.jobs {
            match claimed.alone {
                true => self.alone = Some((leased, until)),
                false => self.begin::<H>(leased, until),
            }
        }
    }

    /// A database that is busy or away is asked again, a few times.
    fn look_again_after(&mut self, problem: Problem) {
        self.failures += 1;
        match problem.status() == StatusCode::SERVICE_UNAVAILABLE
            && self.failures < STATEMENT_FAILURES
        {
            true => self.look_at = Some(Instant::now() + STATEMENT_PAUSE),
            false => self.problem = Some(problem),
        }
    }

    /// Begins a call, unless so little of the run is left that the attempt would not have its time.
    fn begin<H: Handle>(&mut self, leased: Leased, until: Instant) {
        let time = self.config.job.min(self.time_left());
        let (id, lease_id) = (leased.id.clone(), leased.lease_id);
        if time < self.config.job / 2 {
            let failure = Failure::postpone(Duration::ZERO, "no_time_left", "the run was over");
            self.summary.postponed += 1;
            return self.outcomes.push(Outcome::of(id, lease_id, Err(failure)));
        }
        self.summary.claimed += 1;
        self.in_hand.insert(lease_id, Held { id, until });
        let job = calls::job(&self.config.queue, leased, time);
        self.events.push(
            async move { Event::Ended(lease_id, calls::within(H::handle(job), time).await) }
                .boxed_local(),
        );
    }

    /// Begins the job that is to run alone, as soon as nothing that a trap could lose is left.
    fn begin_alone<H: Handle>(&mut self) {
        let is_quiet = self.in_hand.is_empty() && self.outcomes.is_empty() && !self.is_reporting;
        if let (true, Some((leased, until))) = (is_quiet, self.alone.take_if(|_| is_quiet)) {
            self.begin::<H>(leased, until);
            self.is_alone = !self.in_hand.is_empty();
        }
    }

    fn ended(&mut self, lease_id: i64, ended: Ended<Said>) {
        let Some(held) = self.in_hand.remove(&lease_id) else {
            return;
        };
        self.is_alone = false;
        let said = match ended {
            Ended::Answered(said) => said,
            Ended::Late(call) => {
                self.late.push(call);
                self.summary.late += 1;
                Err(Failure::retry(
                    "deadline_exceeded",
                    "the handler had no answer by the attempt's deadline",
                ))
            }
        };
        let outcome = Outcome::of(held.id, lease_id, said);
        match outcome.outcome {
            "done" => self.summary.done += 1,
            "dead" => self.summary.dead += 1,
            "postpone" => self.summary.postponed += 1,
            _ => self.summary.retry += 1,
        }
        self.outcomes.push(outcome);
    }

    fn begin_report(&mut self) {
        if self.is_reporting || self.outcomes.is_empty() || Instant::now() < self.report_at {
            return;
        }
        self.is_reporting = true;
        let (batch, worker) = (self.outcomes.take(), self.worker.clone());
        let count = batch.len();
        let report = async move {
            let answer = statements::report(&worker, &batch).await;
            Ok((batch, answer))
        };
        let report = answered(report, self.statement_time());
        let event = async move {
            match report.await {
                Ok((batch, answer)) => Event::Reported(batch, answer),
                Err(late) => Event::Unheard(count, late),
            }
        };
        self.events.push(event.boxed_local());
    }

    fn reported(&mut self, batch: Vec<Outcome>, answer: Result<Reported, Problem>) {
        self.is_reporting = false;
        match answer {
            Ok(reported) => {
                for refused in &reported.refused {
                    log::line(format_args!("job {}: {}", refused.id, refused.code));
                }
                self.summary.refused += reported.refused.len();
                self.has_made_room = true;
                self.look_at = Some(Instant::now());
            }
            Err(problem) => self.not_reported(batch, &problem),
        }
    }

    /// A database that is busy or away is told again, until time is up for good. Then what it has not heard is lost, and those leases run out.
    fn not_reported(&mut self, batch: Vec<Outcome>, problem: &Problem) {
        if problem.status() != StatusCode::SERVICE_UNAVAILABLE {
            log::line(format_args!("outcomes not reported: {}", problem.code()));
            self.summary.lost += self.outcomes.refused(batch);
        } else if self.statement_time().is_zero() {
            self.lose(batch.len(), problem);
        } else {
            match problem.code() {
                "try_again" => self.outcomes.gave_way(batch),
                _ => self.outcomes.put_back(batch),
            }
            self.report_at = Instant::now() + STATEMENT_PAUSE;
        }
    }

    /// Gives up so many outcomes, and all that wait.
    fn lose(&mut self, count: usize, problem: &Problem) {
        let lost = count + self.outcomes.clear();
        log::line(format_args!("{lost} outcomes lost: {}", problem.code()));
        self.summary.lost += lost;
    }

    /// Leases are extended when less than half of them is left.
    fn begin_extension(&mut self) {
        let soon = Instant::now() + self.config.lease / 2;
        let waiting = self.alone.iter().filter(|(_, until)| *until < soon);
        let waiting = waiting.map(|(leased, _)| LeaseName {
            id: leased.id.clone(),
            lease_id: leased.lease_id,
        });
        let running = self.in_hand.iter().filter(|(_, held)| held.until < soon);
        let running = running.map(|(lease_id, held)| LeaseName {
            id: held.id.clone(),
            lease_id: *lease_id,
        });
        let leases: Vec<_> = waiting.chain(running).collect();
        if self.is_extending || leases.is_empty() {
            return;
        }
        self.is_extending = true;
        let (worker, seconds) = (self.worker.clone(), self.config.lease.as_secs());
        let (asked, names) = (Instant::now(), leases.clone());
        let extension = async move { statements::extend(&worker, &names, seconds).await };
        let extension = answered(extension, self.statement_time());
        self.events
            .push(async move { Event::Extended(asked, leases, extension.await) }.boxed_local());
    }

    /// Leases that could not be extended are tried again in a while; those that are lost are known by their reports.
    fn extended(
        &mut self,
        asked: Instant,
        leases: &[LeaseName],
        answer: &Result<Extended, Problem>,
    ) {
        self.is_extending = false;
        for lease in leases {
            let until = match answer {
                Ok(extended) if !extended.busy.contains(&lease.id) => asked + self.config.lease,
                _ => Instant::now() + self.config.lease / 2 + STATEMENT_PAUSE,
            };
            if let Some(held) = self.in_hand.get_mut(&lease.lease_id) {
                held.until = until;
            }
            if let Some((leased, until_then)) = &mut self.alone
                && leased.lease_id == lease.lease_id
            {
                *until_then = until;
            }
        }
    }

    fn begin_tick(&mut self) {
        if !self.is_ticking {
            self.is_ticking = true;
            self.events.push(
                async {
                    sleep(LOOK_FOR_NOTE).await;
                    Event::Tick
                }
                .boxed_local(),
            );
        }
    }
}

/// What a statement comes to within `time`: one that waits for a lock, or for a database that is gone without a word, makes no run longer.
async fn answered<T: 'static>(
    statement: impl Future<Output = Result<T, Problem>> + 'static,
    time: Duration,
) -> Result<T, Problem> {
    match calls::within(statement, time).await {
        Ended::Answered(answer) => answer,
        // Unlike a handler's call it can be dropped at once: it is the host that cancels it.
        Ended::Late(_) => Err(Problem::unavailable(
            "database_unavailable",
            "the database did not answer in time",
        )),
    }
}
