//! The operations of a sequence, and how they are drawn: often enough at the same few jobs that they meet.

use millrace_tests::queue::Outcome;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::job::{Filter, Request, Settings};

const QUEUES: [&str; 2] = ["mill", "race"];
const WORKERS: [&str; 3] = ["ann", "bob", "cleo"];

/// One word of a batch of reports: a lease, what of it is named, and the outcome.
#[derive(Debug, Clone)]
pub struct Word {
    pub pick: u8,
    pub name_lease: bool,
    pub worker: Worker,
    pub job_type: Option<&'static str>,
    pub outcome: Outcome,
}

/// Whom a word comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Worker {
    Owner,
    Other,
    Unnamed,
}

/// A call of one function of the core, or the clock moving on. A `pick` chooses among what there is, mostly the latest.
#[derive(Debug, Clone)]
pub enum Operation {
    Enqueue(Vec<Request>),
    Claim {
        queue: &'static str,
        worker: &'static str,
        max_jobs: i32,
        filter: Filter,
        lease: Option<i64>,
        isolate: bool,
    },
    Report {
        pick: u8,
        worker: Worker,
        outcome: Outcome,
    },
    ReportMany(Vec<Word>),
    Extend {
        pick: u8,
        worker: Worker,
        seconds: Option<i64>,
    },
    Cancel(u8),
    Retry {
        pick: u8,
        reset: bool,
    },
    Replay(u8),
    Expire(&'static str),
    Housekeep,
    Pause(&'static str, bool),
    Configure(&'static str, Settings),
    Advance(i64),
}

fn request() -> impl Strategy<Value = Request> {
    (
        select(&QUEUES[..]),
        select(&["mail", "mail.send", "sms", "100%"][..]),
        select(&[-3, 5, 5, 5, 20][..]),
        select(&[-50, 0, 0, 0, 0, 0, 2, 30][..]),
        option::weighted(0.2, select(&["k1", "k2", "k3"][..])),
        option::weighted(0.3, select(&["c1", "c2"][..])),
        option::weighted(0.5, 1..=3),
        option::weighted(0.2, select(&[1, 10, 200][..])),
    )
        .prop_map(
            |(
                queue,
                job_type,
                priority,
                due_in,
                idempotency_key,
                concurrency_key,
                max_attempts,
                lease,
            )| Request {
                queue,
                job_type,
                priority,
                due_in,
                idempotency_key,
                concurrency_key,
                max_attempts,
                lease,
            },
        )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Succeeded),
        4 => Just(Outcome::Failed),
        1 => Just(Outcome::Permanent),
        2 => select(&[0.0, 1.0, 45.0][..]).prop_map(Outcome::RetryAfter),
        2 => select(&[0.0, 1.0, 45.0][..]).prop_map(Outcome::Postponed),
    ]
}

fn worker() -> impl Strategy<Value = Worker> {
    prop_oneof![8 => Just(Worker::Owner), 1 => Just(Worker::Other)]
}

fn word() -> impl Strategy<Value = Word> {
    let named = prop_oneof![4 => Just(None), 1 => Just(Some("mail")), 1 => Just(Some("sms"))];
    let worker = prop_oneof![4 => worker(), 1 => Just(Worker::Unnamed)];
    (
        any::<u8>(),
        prop::bool::weighted(0.7),
        worker,
        named,
        outcome(),
    )
        .prop_map(|(pick, name_lease, worker, job_type, outcome)| Word {
            pick,
            name_lease,
            worker,
            job_type,
            outcome,
        })
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        option::of(1..=4),
        option::of(any::<bool>()),
        option::of(select(&[0, 1, 7, 30][..])),
        option::of(select(&[0, 20, 3600][..])),
        option::of(select(&[1, 5, 60][..])),
        option::of(0..=3),
        option::of(1..=3),
    )
        .prop_map(
            |(max_attempts, exponential, base, cap, lease, limit, key_concurrency)| Settings {
                max_attempts,
                exponential,
                base,
                cap,
                lease,
                limit,
                key_concurrency,
            },
        )
}

/// One operation; the weights keep some jobs alive for long and let others end.
pub fn operation() -> impl Strategy<Value = Operation> {
    let queue = || select(&QUEUES[..]);
    let filter = prop_oneof![
        6 => Just(Filter::Any),
        1 => select(&["mail", "sms", "none"][..]).prop_map(Filter::Type),
        1 => select(&["mail", "mail.", "s", "100%", "%"][..]).prop_map(Filter::Prefix),
    ];
    prop_oneof![
        8 => vec(request(), 1..=4).prop_map(Operation::Enqueue),
        9 => (queue(), select(&WORKERS[..]), 1..=5, filter, option::weighted(0.3, select(&[1, 20, 300][..])), any::<bool>())
            .prop_map(|(queue, worker, max_jobs, filter, lease, isolate)| Operation::Claim { queue, worker, max_jobs, filter, lease, isolate }),
        8 => (any::<u8>(), worker(), outcome()).prop_map(|(pick, worker, outcome)| Operation::Report { pick, worker, outcome }),
        3 => vec(word(), 0..=4).prop_map(Operation::ReportMany),
        2 => (any::<u8>(), worker(), option::of(select(&[1, 50, 400][..])))
            .prop_map(|(pick, worker, seconds)| Operation::Extend { pick, worker, seconds }),
        2 => any::<u8>().prop_map(Operation::Cancel),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(pick, reset)| Operation::Retry { pick, reset }),
        2 => any::<u8>().prop_map(Operation::Replay),
        1 => queue().prop_map(Operation::Expire),
        1 => Just(Operation::Housekeep),
        2 => (queue(), prop::bool::weighted(0.3)).prop_map(|(queue, paused)| Operation::Pause(queue, paused)),
        2 => (queue(), settings()).prop_map(|(queue, settings)| Operation::Configure(queue, settings)),
        7 => select(&[0, 1, 2, 5, 30, 61, 400][..]).prop_map(Operation::Advance),
    ]
}
