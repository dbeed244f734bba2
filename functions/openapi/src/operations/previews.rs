//! What channels would have sent.

use millrace_contract::job::NoParameters;
use millrace_contract::preview::{Preview, PreviewListing, Previews};

use super::{PREVIEWS, SOME_JOB};
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![list(), one(), html()]
}

fn list() -> Operation {
    Operation::get("/preview", "listPreviews", "What channels would have sent")
        .tag(PREVIEWS)
        .description(
            "Newest first. Channels that nobody configured keep their messages instead of sending them: the last 1,000, for seven days. A \
             browser (`Accept: text/html`) gets a page, and may show its credentials as a name, which may be anything, and a password (Basic).",
        )
        .scope(Scope::Read)
        .database()
        .query::<PreviewListing>()
        .with("limit", 50)
        .with("cursor", 1_000_000)
        .answers_text("text/html", "The page.")
        .answers::<Previews>("A page of previews.")
}

fn one() -> Operation {
    of_job(
        "/preview/{jobId}",
        "getPreview",
        "What a job would have sent",
    )
    .answers_text("text/html", "The page.")
    .answers::<Preview>("The preview.")
}

fn html() -> Operation {
    of_job(
        "/preview/{jobId}/html",
        "getPreviewHtml",
        "What a job would have sent, as it looks",
    )
    .description("Under a policy that runs no script and loads nothing from anywhere.")
    .answers_text("text/html", "The message's HTML.")
    .refuses(&[(404, &["no_html"])])
}

/// An operation on the preview of the job whose id stands in the path.
fn of_job(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::get(path, id, summary)
        .tag(PREVIEWS)
        .scope(Scope::Read)
        .database()
        .query::<NoParameters>()
        .with("jobId", SOME_JOB)
        .refuses(&[(404, &["preview_not_found"])])
}
