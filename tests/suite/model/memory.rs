//! The queue as a plain in-memory model: the rules of the contract, with no concurrency, no lanes and no floors.
//!
//! Each operation takes what SQL answered, says in what the answer is wrong, and then moves the model on. Ids come from
//! SQL's sequences; the model only asks that they are new and that they rise.

use std::collections::BTreeMap;

use millrace_tests::queue::{Claimed, Outcome};

use super::job::{Filter, Job, Place, Queue, Request, Settings, shown};

/// Microseconds since the sequence began.
pub type Micros = i64;
pub const SECOND: Micros = 1_000_000;

/// What two sides disagree on.
pub type Checked = Result<(), String>;

/// Says what differs, where something does.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, sql: &T, model: &T) -> Checked {
    if sql == model {
        Ok(())
    } else {
        Err(format!("{what}\n    SQL: {sql:?}\n  model: {model:?}"))
    }
}

/// The whole queue, and everything that was ever handed out.
#[derive(Debug, Default)]
pub struct Model {
    pub now: Micros,
    queues: BTreeMap<&'static str, Queue>,
    jobs: BTreeMap<i64, Job>,
    keys: BTreeMap<(&'static str, &'static str), i64>,
    slots: BTreeMap<(&'static str, &'static str), Vec<i64>>,
    /// Outcomes of ended attempts by job and lease, with the worker.
    attempts: BTreeMap<(i64, i64), (String, &'static str)>,
    /// Every lease that a claim gave, in order.
    pub leases: Vec<Claimed>,
}

impl Model {
    pub fn job_ids(&self) -> Vec<i64> {
        self.jobs.keys().copied().collect()
    }

    /// One line a job: its place with all that belongs to it, and its events.
    pub fn shown(&self) -> Vec<String> {
        self.jobs
            .iter()
            .map(|(id, job)| format!("{id} {} | {}", shown(job), job.events.join(" ")))
            .collect()
    }

    /// The holders of each concurrency key.
    pub fn slots(&self) -> Vec<String> {
        let shown = |holders: &[i64]| holders.iter().map(i64::to_string).collect::<Vec<_>>();
        self.slots
            .iter()
            .map(|((queue, key), holders)| format!("{queue} {key} {}", shown(holders).join(",")))
            .collect()
    }

    /// The outcome of each ended attempt.
    pub fn attempts(&self) -> Vec<String> {
        self.attempts
            .iter()
            .map(|((job, lease), (worker, outcome))| format!("{job} {lease} {worker} {outcome}"))
            .collect()
    }

    pub fn enqueue(&mut self, requests: &[Request], answers: &[(i64, bool)]) -> Checked {
        same("answers", &answers.len(), &requests.len())?;
        for (request, (id, queued)) in requests.iter().zip(answers) {
            let known = request
                .idempotency_key
                .and_then(|key| self.keys.get(&(request.queue, key)).copied());
            if let Some(known) = known {
                same("enqueue with a known key", &(*id, *queued), &(known, false))?;
                continue;
            }
            let last = self.jobs.keys().next_back().copied().unwrap_or(0);
            if !*queued || *id <= last {
                return Err(format!(
                    "expected a new job after {last}, got {id} (queued: {queued})"
                ));
            }
            self.insert(*id, request.clone());
        }
        Ok(())
    }

    fn insert(&mut self, id: i64, request: Request) {
        self.queues.entry(request.queue).or_default();
        if let Some(key) = request.idempotency_key {
            self.keys.insert((request.queue, key), id);
        }
        let run_at = self.now + request.due_in.max(0) * SECOND;
        self.jobs.insert(
            id,
            Job {
                request,
                place: Place::Ready {
                    run_at,
                    attempts: 0,
                },
                alone: false,
                resumed: false,
                events: vec!["queued"],
            },
        );
        self.queue_or_park(id, run_at, 0);
    }

    /// Into ready where the job has no concurrency key or there is room among its holders, else behind them.
    fn queue_or_park(&mut self, id: i64, run_at: Micros, attempts: i32) {
        let request = &self.jobs[&id].request;
        let slot = request.concurrency_key.map(|key| (request.queue, key));
        let holds = slot.is_none_or(|slot| {
            let room = self.queues[slot.0].key_concurrency;
            let waiting = self.first_parked(slot).is_some();
            let holders = self.slots.entry(slot).or_default();
            let holds = holders.is_empty() || (holders.len() < room && !waiting);
            if holds {
                holders.push(id);
            }
            holds
        });
        self.jobs.get_mut(&id).expect("a job of the model's").place = if holds {
            Place::Ready { run_at, attempts }
        } else {
            Place::Parked { run_at, attempts }
        };
    }

    /// The oldest job that is parked behind a key.
    fn first_parked(&self, (queue, key): (&'static str, &'static str)) -> Option<i64> {
        let waits = |job: &Job| {
            (job.request.queue, job.request.concurrency_key) == (queue, Some(key))
                && matches!(job.place, Place::Parked { .. })
        };
        self.jobs
            .iter()
            .find(|(_, job)| waits(job))
            .map(|(id, _)| *id)
    }

    /// The oldest jobs parked behind the one that ended take its place, as many as there is room for.
    fn pass_on(&mut self, id: i64) {
        let request = &self.jobs[&id].request;
        let Some(slot) = request.concurrency_key.map(|key| (request.queue, key)) else {
            return;
        };
        let Some(holders) = self.slots.get_mut(&slot).filter(|h| h.contains(&id)) else {
            return;
        };
        holders.retain(|holder| *holder != id);
        while self.slots[&slot].len() < self.queues[slot.0].key_concurrency
            && let Some(next) = self.first_parked(slot)
        {
            let job = self.jobs.get_mut(&next).expect("a job of the model's");
            if let Place::Parked { run_at, attempts } = job.place {
                job.place = Place::Ready {
                    run_at: run_at.max(self.now),
                    attempts,
                };
            }
            self.slots.entry(slot).or_default().push(next);
        }
        if self.slots[&slot].is_empty() {
            self.slots.remove(&slot);
        }
    }

    pub fn claim(
        &mut self,
        queue: &'static str,
        max_jobs: i32,
        filter: Filter,
        lease: Option<i64>,
        isolate: bool,
        answer: &[Claimed],
    ) -> Checked {
        let mut expected = self.due(queue, filter);
        if isolate {
            let alone = answer.first().is_some_and(|c| self.jobs[&c.job_id].alone);
            expected = self.in_isolation(expected, alone)?;
        }
        expected.truncate(self.room(queue, max_jobs));
        let sql: Vec<_> = answer
            .iter()
            .map(|c| (c.job_id, c.attempt, c.max_attempts))
            .collect();
        same("claimed (job, attempt, max_attempts)", &sql, &expected)?;
        for claimed in answer {
            same(
                "resumed",
                &claimed.resumed,
                &self.jobs[&claimed.job_id].resumed,
            )?;
        }
        for claimed in answer {
            let own = &self.queues[queue];
            let job = self
                .jobs
                .get_mut(&claimed.job_id)
                .expect("a job that is due");
            let seconds = lease.or(job.request.lease).unwrap_or(own.lease);
            if self
                .leases
                .iter()
                .any(|given| given.lease_id == claimed.lease_id)
            {
                return Err(format!("lease {} was given before", claimed.lease_id));
            }
            job.place = Place::Running {
                lease_id: claimed.lease_id,
                worker: claimed.worker.clone(),
                attempt: claimed.attempt,
                expires_at: self.now + seconds * SECOND,
            };
            job.events.push("started");
            self.leases.push(claimed.clone());
        }
        Ok(())
    }

    /// How many jobs of a queue a claim may start.
    fn room(&self, queue: &'static str, max_jobs: i32) -> usize {
        let running = self
            .jobs
            .values()
            .filter(|j| j.request.queue == queue && matches!(j.place, Place::Running { .. }))
            .count();
        let limit = self.queues.get(queue).and_then(|own| own.limit);
        let free = limit.map_or(max_jobs, |limit| {
            max_jobs.min(limit - i32::try_from(running).expect("few jobs"))
        });
        usize::try_from(free).unwrap_or(0)
    }

    /// What a claim in isolation must give of what is due, where it chose a lost job or did not: it may choose one only if there is one, and
    /// must where there is nothing else; one that is not first in order is not its choice while there is something else.
    fn in_isolation(
        &self,
        due: Vec<(i64, i32, i32)>,
        chose_lost: bool,
    ) -> Result<Vec<(i64, i32, i32)>, String> {
        let first_lost = due.first().is_some_and(|(id, _, _)| self.jobs[id].alone);
        if chose_lost && !first_lost {
            return Err("a lost job that is not first in order was chosen".to_owned());
        }
        let (lost, others): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(id, _, _)| self.jobs[id].alone);
        Ok(if chose_lost || others.is_empty() {
            lost.into_iter().take(1).collect()
        } else {
            others
        })
    }

    /// What is due now, in order; a claim also tends the queue, at most once a second.
    fn due(&mut self, queue: &'static str, filter: Filter) -> Vec<(i64, i32, i32)> {
        let now = self.now;
        let Some(own) = self.queues.get_mut(queue) else {
            return Vec::new();
        };
        if own.tended_at.is_none_or(|at| at < now - SECOND) {
            own.tended_at = Some(now);
            self.expire(queue);
        }
        let own = &self.queues[queue];
        if own.paused {
            return Vec::new();
        }
        let mut due: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.request.queue == queue)
            .filter(|(_, job)| match filter {
                Filter::Any => true,
                Filter::Type(name) => job.request.job_type == name,
                Filter::Prefix(prefix) => job.request.job_type.starts_with(prefix),
            })
            .filter_map(|(id, job)| match job.place {
                Place::Ready { run_at, attempts } if run_at <= now => Some((
                    -job.request.priority,
                    run_at,
                    *id,
                    attempts + 1,
                    job.request.max_attempts.unwrap_or(own.max_attempts),
                )),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.into_iter()
            .map(|(_, _, id, attempt, max_attempts)| (id, attempt, max_attempts))
            .collect()
    }

    /// Ends the attempts whose leases have run out; returns how many.
    pub fn expire(&mut self, queue: &'static str) -> i32 {
        let now = self.now;
        let over =
            |job: &Job| matches!(job.place, Place::Running { expires_at, .. } if expires_at <= now);
        let ids: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, j)| j.request.queue == queue && over(j))
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.jobs
                .get_mut(id)
                .expect("a job of the model's")
                .events
                .push("lease_expired");
            self.settle(*id, "lease_expired", Outcome::Failed);
        }
        i32::try_from(ids.len()).expect("few jobs")
    }

    pub fn expire_all(&mut self) -> i32 {
        let queues: Vec<_> = self.queues.keys().copied().collect();
        queues.into_iter().map(|queue| self.expire(queue)).sum()
    }

    /// The code with which a report or an extension is refused, or none where it counts. `lease_id`, `worker` and
    /// `job_type` are checked where they are given.
    pub fn refusal(
        &self,
        job_id: i64,
        lease_id: Option<i64>,
        worker: Option<&str>,
        job_type: Option<&str>,
    ) -> Option<&'static str> {
        let Some(job) = self.jobs.get(&job_id) else {
            return Some("job_not_found");
        };
        if job_type.is_some_and(|name| name != job.request.job_type) {
            return Some("type_mismatch");
        }
        if let Place::Running {
            lease_id: current,
            worker: owner,
            expires_at,
            ..
        } = &job.place
            && lease_id.is_none_or(|id| id == *current)
        {
            return match () {
                () if worker.is_some_and(|name| name != owner) => Some("not_lease_owner"),
                () if *expires_at <= self.now => Some("lease_expired"),
                () => None,
            };
        }
        let ended = match lease_id {
            Some(lease_id) => self.attempts.get(&(job_id, lease_id)),
            None => self
                .attempts
                .range((job_id, i64::MIN)..=(job_id, i64::MAX))
                .next_back()
                .map(|(_, ended)| ended),
        };
        Some(match ended {
            None if lease_id.is_none() => "not_leased",
            None => "invalid_lease",
            Some((owner, _)) if worker.is_some_and(|name| name != owner) => "not_lease_owner",
            Some((_, "lease_expired")) => "lease_expired",
            Some((_, "cancelled")) => "cancelled",
            Some(_) => "already_attempted",
        })
    }

    /// Ends the running attempt of a job whose report counted.
    pub fn report(&mut self, job_id: i64, outcome: Outcome) {
        self.settle(
            job_id,
            match outcome {
                Outcome::Succeeded => "succeeded",
                Outcome::Postponed(_) => "postponed",
                Outcome::Failed | Outcome::Permanent | Outcome::RetryAfter(_) => "failed",
            },
            outcome,
        );
    }

    fn settle(&mut self, id: i64, ended: &'static str, outcome: Outcome) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("a job of the model's");
        let own = &self.queues[job.request.queue];
        let Place::Running {
            lease_id,
            worker,
            attempt,
            ..
        } = job.place.clone()
        else {
            panic!("job {id} is not running")
        };
        self.attempts.insert((id, lease_id), (worker, ended));
        let last = attempt >= job.request.max_attempts.unwrap_or(own.max_attempts);
        let delay = match outcome {
            #[allow(clippy::cast_possible_truncation)] // whole seconds
            Outcome::RetryAfter(seconds) | Outcome::Postponed(seconds) => seconds as i64,
            _ if own.exponential => own.cap.min(own.base * (1 << (attempt - 1).min(20))),
            _ => own.base,
        };
        let (place, event) = match outcome {
            Outcome::Succeeded => (
                Place::Finished {
                    outcome: "succeeded",
                    attempts: attempt,
                },
                "succeeded",
            ),
            Outcome::Postponed(_) => (
                Place::Ready {
                    run_at: now + delay * SECOND,
                    attempts: attempt - 1,
                },
                "postponed",
            ),
            _ if last || outcome == Outcome::Permanent => (
                Place::Dead {
                    attempts: attempt,
                    reason: ended,
                    replay: None,
                },
                "dead_lettered",
            ),
            _ => (
                Place::Ready {
                    run_at: now + delay * SECOND,
                    attempts: attempt,
                },
                "retry_scheduled",
            ),
        };
        job.place = place;
        job.events.push(event);
        let lost = ended == "lease_expired";
        job.alone = lost || (job.alone && event == "postponed");
        job.resumed |= lost;
        if !matches!(event, "retry_scheduled" | "postponed") {
            self.pass_on(id);
        }
    }

    /// Extends a lease for which `refusal` says none; returns its new end.
    pub fn extend(&mut self, id: i64, seconds: Option<i64>) -> Micros {
        let job = self.jobs.get_mut(&id).expect("a job of the model's");
        let seconds = seconds
            .or(job.request.lease)
            .unwrap_or(self.queues[job.request.queue].lease);
        let Place::Running { expires_at, .. } = &mut job.place else {
            panic!("job {id} is not running")
        };
        *expires_at = (self.now + seconds * SECOND).max(*expires_at);
        *expires_at
    }

    /// Cancels, or says why not.
    pub fn cancel(&mut self, id: i64) -> Option<&'static str> {
        let Some(job) = self.jobs.get_mut(&id) else {
            return Some("job_not_found");
        };
        let attempts = match job.place.clone() {
            Place::Ready { attempts, .. } | Place::Parked { attempts, .. } => attempts,
            Place::Running {
                lease_id,
                worker,
                attempt,
                ..
            } => {
                self.attempts.insert((id, lease_id), (worker, "cancelled"));
                job.resumed = true;
                attempt
            }
            _ => return Some("not_cancellable"),
        };
        job.place = Place::Finished {
            outcome: "cancelled",
            attempts,
        };
        job.alone = false;
        job.events.push("cancelled");
        self.pass_on(id);
        None
    }

    /// Queues a dead or cancelled job again, or says why not.
    pub fn retry(&mut self, id: i64, reset: bool) -> Option<&'static str> {
        let Some(job) = self.jobs.get_mut(&id) else {
            return Some("job_not_found");
        };
        let attempts = match job.place {
            Place::Dead {
                attempts,
                replay: None,
                ..
            }
            | Place::Finished {
                outcome: "cancelled",
                attempts,
            } => attempts,
            _ => return Some("not_retryable"),
        };
        job.events.push("replayed");
        // A cancelled or postponed attempt after a lost one told nothing new.
        let told = self.attempts.iter().filter(|((job, _), (_, outcome))| {
            *job == id && !matches!(*outcome, "cancelled" | "postponed")
        });
        let last = told.max_by_key(|((_, lease_id), _)| *lease_id);
        job.alone = last.is_some_and(|(_, (_, outcome))| *outcome == "lease_expired");
        let now = self.now;
        self.queue_or_park(id, now, if reset { 0 } else { attempts });
        None
    }

    /// Whether the job's dead letter can be replayed, or why not; `dead_letter_id` none means that it is gone.
    pub fn replay_refusal(&self, id: i64) -> Option<&'static str> {
        match self.jobs[&id].place {
            Place::Dead { replay: None, .. } => None,
            Place::Dead { .. } => Some("already_replayed"),
            _ => Some("dead_letter_not_found"),
        }
    }

    /// The replay of a dead job made `new`.
    pub fn replay(&mut self, id: i64, new: i64) -> Checked {
        let last = self.jobs.keys().next_back().copied().unwrap_or(0);
        if new <= last {
            return Err(format!("the replay made job {new}, which is not new"));
        }
        let job = self.jobs.get_mut(&id).expect("a job of the model's");
        let mut lost = false;
        if let Place::Dead { replay, reason, .. } = &mut job.place {
            *replay = Some(new);
            lost = *reason == "lease_expired";
        }
        job.events.push("replayed");
        let request = Request {
            idempotency_key: None,
            due_in: 0,
            ..job.request.clone()
        };
        self.insert(new, request);
        // What died of its workers is tried alone by its replay, too.
        self.jobs.get_mut(&new).expect("it was just made").alone = lost;
        Ok(())
    }

    pub fn set_paused(&mut self, queue: &'static str, paused: bool) {
        self.queues.entry(queue).or_default().paused = paused;
    }

    pub fn configure(&mut self, queue: &'static str, settings: Settings) {
        let own = self.queues.entry(queue).or_default();
        own.max_attempts = settings.max_attempts.unwrap_or(own.max_attempts);
        own.exponential = settings.exponential.unwrap_or(own.exponential);
        own.base = settings.base.unwrap_or(own.base);
        own.cap = settings.cap.unwrap_or(own.cap);
        own.lease = settings.lease.unwrap_or(own.lease);
        if let Some(running) = settings.key_concurrency {
            own.key_concurrency = usize::try_from(running).expect("a small number");
        }
        own.limit = settings.limit.or(own.limit).filter(|limit| *limit > 0);
    }
}
