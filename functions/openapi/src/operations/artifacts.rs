//! Files that jobs have made: `sign-artifact`, and the local store's `files`.

use millrace_contract::signing::{SignedUrl, Wanted};
use millrace_kit::field::Int;
use schemars::JsonSchema;

use super::ARTIFACTS;
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![sign(), file()]
}

fn sign() -> Operation {
    Operation::get(
        "/functions/v1/sign-artifact",
        "signArtifact",
        "A link to an artifact",
    )
    .tag(ARTIFACTS)
    .description(
        "Whoever has the link can read the file until it expires, without any credentials.",
    )
    .scope(Scope::Read)
    .database()
    .query::<Wanted>()
    .with("bucket", "artifacts")
    .with("path", "runs/1/screen.png")
    .with("expires", 3600)
    .answers::<SignedUrl<'static>>("The link.")
    .refuses(&[
        (403, &["bucket_not_allowed"]),
        (404, &["object_not_found"]),
        (502, &["storage_error"]),
        (503, &["storage_unavailable", "signing_not_configured"]),
    ])
}

/// The query string of a link, which the function reads by itself: whatever it doesn't know was not signed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is wanted")]
struct LinkParameters {
    /// When the link expires, in seconds since 1970.
    expires: Int<1, { i64::MAX }>,
    /// What makes the link one of this server's.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    signature: String,
}

fn file() -> Operation {
    Operation::get("/files/{bucket}/{path}", "getFile", "A file of the local store")
        .tag(ARTIFACTS)
        .description("Links that `signArtifact` makes lead here if the server keeps the files itself. The path may have several parts.")
        .query::<LinkParameters>()
        .with("bucket", "artifacts")
        .with("path", "runs/1/screen.png")
        .with("expires", 1_893_456_000)
        .with("signature", "0".repeat(64))
        .answers_text("*/*", "The file.")
        .refuses(&[
            (403, &["invalid_signature", "link_expired"]),
            (404, &["object_not_found"]),
            (503, &["signing_not_configured"]),
        ])
}
