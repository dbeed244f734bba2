//! Channels: queues whose worker is a function of the application.

use millrace_contract::channel::Channel;
use millrace_contract::job::NoParameters;

use super::CHANNELS;
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    [
        ("/channels/email", "getEmailChannel", "runEmailChannel"),
        ("/channels/sms", "getSmsChannel", "runSmsChannel"),
        (
            "/channels/webhook",
            "getWebhookChannel",
            "runWebhookChannel",
        ),
        (
            "/channels/calendar",
            "getCalendarChannel",
            "runCalendarChannel",
        ),
    ]
    .into_iter()
    .flat_map(|(path, get, run)| [look(path, get), post(path, run)])
    .collect()
}

fn look(path: &'static str, id: &'static str) -> Operation {
    Operation::get(path, id, "Whether the channel can be run")
        .tag(CHANNELS)
        .description("Looks at its configuration, and calls nobody. A variable that is set wrongly is named in `details`.")
        .scope(Scope::Read)
        .database()
        .query::<NoParameters>()
        .answers::<Channel>("How it is configured.")
        .refuses(&[(503, &["check_timeout"])])
}

fn post(path: &'static str, id: &'static str) -> Operation {
    Operation::post(path, id, "Run the channel")
        .tag(CHANNELS)
        .description(
            "Claims the jobs that are due, runs the handler on them, and reports what came of each, for 20 s at most. For whoever enqueued \
             something, or any scheduler: while a run goes on, a request is taken up by it. A body is not read.",
        )
        .header("Prefer", "`respond-async` (RFC 7240): the answer does not wait for the run.")
        .scope(Scope::Tick)
        .database()
        .answers::<Channel>("What the run came to.")
        .or_already(202, "The run goes on.")
        .refuses(&[(503, &["check_timeout"])])
}
