//! UPSERT_EVENT and CANCEL_EVENT: one source's event.

use millrace_kit::Problem;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::event::Write;
use crate::payload::Payload;
use crate::session::Session;
use crate::state::{Attempt, Binding, Effect, Google, State, Word};

/// What came of an attempt, and which event it was about.
pub struct Ended {
    pub answer: Answer,
    pub effect: Effect,
    pub event_id: Option<String>,
}

impl Ended {
    /// It changed nothing.
    pub fn without_effect(answer: Answer) -> Self {
        Self {
            answer,
            effect: Effect::None,
            event_id: None,
        }
    }
}

/// Deletes the source's event.
pub async fn cancel(session: &mut Session<'_>, binding: &Binding) -> Ended {
    match session
        .delete(&binding.calendar_id, &binding.event_id)
        .await
    {
        Answer::Done => Ended {
            answer: Answer::Done,
            effect: Effect::Gone,
            event_id: Some(binding.event_id.clone()),
        },
        other => Ended::without_effect(other),
    }
}

/// Makes the source's event as the payload says, or changes it.
///
/// # Errors
/// The database's.
pub async fn upsert(
    attempt: &Attempt<'_>,
    session: &mut Session<'_>,
    permits: &RawValue,
    payload: &Payload,
    binding: &Binding,
) -> Result<Ended, Problem> {
    if binding.calendar_id == payload.calendar_id {
        return Ok(write(session, payload, binding).await);
    }
    // It lies in another calendar, or may.
    match session
        .delete(&binding.calendar_id, &binding.event_id)
        .await
    {
        Answer::Done => {
            let moved = moved(attempt, permits, payload).await?;
            Ok(write(session, payload, &moved).await)
        }
        other => Ok(Ended::without_effect(other)),
    }
}

async fn moved(
    attempt: &Attempt<'_>,
    permits: &RawValue,
    payload: &Payload,
) -> Result<Binding, Problem> {
    let noted = attempt
        .note(Word {
            permits,
            effect: Effect::Moved,
            google: Google::Unknown,
            outcome: "moved",
            invalid: None,
        })
        .await?;
    match (noted.held, noted.event_id) {
        (true, Some(event_id)) => Ok(Binding {
            state: State::Trying,
            event_id,
            calendar_id: payload.calendar_id.clone(),
        }),
        _ => Err(Problem::unavailable(
            "try_again",
            "the source is another attempt's by now",
        )),
    }
}

async fn write(session: &mut Session<'_>, payload: &Payload, binding: &Binding) -> Ended {
    let Some(event) = &payload.event else {
        return Ended::without_effect(Answer::Refused(400));
    };
    let (calendar, id, source) = (&payload.calendar_id, &binding.event_id, payload.source());
    let bound = binding.state == State::Bound;
    let first = if bound { Write::Update } else { Write::Insert };
    let mut answer = session.write(first, calendar, id, source, event).await;
    let mut restored = false;
    if !bound && answer == Answer::Exists {
        // An attempt whose answer was lost has made it, and somebody may have deleted it since.
        restored = true;
        answer = session
            .write(Write::Restore, calendar, id, source, event)
            .await;
    }
    let effect = match &answer {
        Answer::Done => Effect::Bound,
        // It is there, but can't be brought back: the next attempt makes another one.
        Answer::Missing(_) | Answer::Refused(403) if restored => Effect::Spent,
        _ => Effect::None,
    };
    Ended {
        answer,
        effect,
        event_id: Some(id.clone()),
    }
}
