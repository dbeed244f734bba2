//! REBUILD_ALL: deletes every event of a workspace that was bound when it was asked for, and makes each again as it was last written.
//!
//! It goes part by part, each of at most fifty events: delete them, note it, make them, note it. So the calendar is never empty as a whole, and
//! a run that ends anywhere is simply run again: what it deleted is known, what it made has an id of ours. A run stops in
//! time for its deadline and is postponed to go on at once. A source that another job has in hand is waited for.

use std::time::Duration;

use millrace_kit::Problem;

use crate::answer::Answer;
use crate::batch::{Call, MOST};
use crate::event::Write;
use crate::payload::{Payload, Source};
use crate::session::Session;
use crate::state::{Attempt, Item, Rebuilt, State};

/// A part is not begun with less time than this.
const LEAST: Duration = Duration::from_secs(5);

/// After how long a run goes on that another attempt has overtaken.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// How a run ended.
pub enum Run {
    /// Every event has been made again.
    Done,
    /// There is more to do, after so long.
    More(Duration),
    /// So many could not be made again.
    Incomplete(u64),
    /// Google ended it.
    Ended(Answer),
}

/// What is to be made, under which id.
struct Making<'a> {
    item: &'a Item,
    id: &'a str,
}

/// Runs until all is done, or the time is up.
///
/// # Errors
/// The database's.
pub async fn run(
    attempt: &Attempt<'_>,
    session: &mut Session<'_>,
    payload: &Payload,
) -> Result<Run, Problem> {
    let mut part = attempt.rebuild(&Rebuilt::default(), MOST).await?;
    loop {
        if part.items.is_empty() {
            return Ok(match (part.left, part.failed) {
                (0, 0) => Run::Done,
                (0, failed) => Run::Incomplete(failed),
                _ => Run::More(Duration::from_secs(1)),
            });
        }
        if attempt.remaining() < LEAST {
            return Ok(Run::More(Duration::ZERO));
        }
        let (making, mut told) = delete(session, &part.items).await;
        if !told.rebuilt.gone.is_empty() {
            let noted = attempt.rebuild(&told.rebuilt, 0).await?;
            if noted.lost > 0 {
                return Ok(Run::More(OVERTAKEN));
            }
            told.rebuilt = Rebuilt::default();
        }
        if told.end.is_none() {
            make(session, payload, &making, &mut told).await;
        }
        let limit = if told.end.is_none() { MOST } else { 0 };
        let next = attempt.rebuild(&told.rebuilt, limit).await?;
        if let Some(answer) = told.end {
            return Ok(Run::Ended(answer));
        } else if next.lost > 0 {
            return Ok(Run::More(OVERTAKEN));
        }
        part = next;
    }
}

/// What a part's calls came to.
#[derive(Default)]
struct Told<'a> {
    rebuilt: Rebuilt<'a>,
    /// The answer after which no more is asked.
    end: Option<Answer>,
}

impl Told<'_> {
    fn end(&mut self, answer: Answer) {
        self.end.get_or_insert(answer);
    }
}

/// Deletes the events of a part that exist. Answers what is to be made.
async fn delete<'a>(session: &mut Session<'_>, items: &'a [Item]) -> (Vec<Making<'a>>, Told<'a>) {
    let (bound, deleted): (Vec<&Item>, Vec<&Item>) =
        items.iter().partition(|item| item.state == State::Bound);
    let calls: Vec<Call> = bound
        .iter()
        .map(|item| session.deleting(&item.calendar_id, &item.event_id))
        .collect();
    let mut making: Vec<Making> = deleted
        .into_iter()
        .map(|item| Making {
            item,
            id: &item.event_id,
        })
        .collect();
    let mut told = Told::default();
    let answers = session.batch(&calls).await;
    for (item, answer) in bound.into_iter().zip(answers) {
        match answer.of_deletion() {
            Answer::Done => {
                told.rebuilt.gone.push(item.named());
                making.push(Making {
                    item,
                    id: &item.next_event_id,
                });
            }
            answer if answer.ends_the_attempt() => told.end(answer),
            _ => told.rebuilt.failed.push(item.named()),
        }
    }
    (making, told)
}

/// Makes events. What exists already, since an earlier run's answer was lost, is brought to its state.
async fn make<'a>(
    session: &mut Session<'_>,
    payload: &Payload,
    making: &[Making<'a>],
    told: &mut Told<'a>,
) {
    let answers = write(session, payload, Write::Insert, making).await;
    let mut existing = Vec::new();
    for (made, answer) in making.iter().zip(answers) {
        match answer {
            Answer::Exists => existing.push(Making { ..*made }),
            answer => tell(made, answer, told),
        }
    }
    if told.end.is_some() {
        return;
    }
    let answers = write(session, payload, Write::Restore, &existing).await;
    for (made, answer) in existing.iter().zip(answers) {
        match answer {
            // It can't be brought back: to be made under its next id.
            Answer::Missing(_) => told.rebuilt.gone.push(made.item.named()),
            answer => tell(made, answer, told),
        }
    }
}

async fn write(
    session: &mut Session<'_>,
    payload: &Payload,
    write: Write,
    making: &[Making<'_>],
) -> Vec<Answer> {
    let calls: Vec<Call> = making
        .iter()
        .map(|Making { item, id }| {
            let source = Source {
                kind: &item.source_type,
                id: &item.source_id,
                event_type: &item.event_type,
            };
            session.writing(write, &payload.calendar_id, id, source, &item.event)
        })
        .collect();
    session.batch(&calls).await
}

fn tell<'a>(made: &Making<'a>, answer: Answer, told: &mut Told<'a>) {
    match answer {
        Answer::Done => told.rebuilt.bound.push(made.item.named()),
        answer if answer.ends_the_attempt() => told.end(answer),
        _ => told.rebuilt.failed.push(made.item.named()),
    }
}
