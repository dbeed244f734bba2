//! `GET /functions/v1/sign-artifact`: a link with which anybody can read one artifact until it expires, made by the store that the
//! variable `artifact_store` names.

mod local;
mod s3;
mod supabase;

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};
use millrace_contract::signing::{SignedUrl, Wanted};
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, cors, database, parse, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Reply {
    cors::edge(request, sign, "GET").await
}

async fn sign(request: Request) -> Result<Answer, Problem> {
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let wanted: Wanted = parse::query(request.uri().query())?;

    database::admit(&caller).await?;
    allow(wanted.bucket()).await?;
    let signed = SignedUrl {
        url: link(&wanted, request.headers()).await?,
        bucket: wanted.bucket(),
        path: wanted.path(),
        expires: wanted.expires(),
    };
    let json = serde_json::to_string(&signed).map_err(|_| Problem::internal())?;
    Ok(Answer::json(json))
}

/// Lets the buckets through that the variable `artifact_buckets` lists, with commas between them.
async fn allow(bucket: &str) -> Result<(), Problem> {
    let allowed = variable::get("artifact_buckets").await?;
    match allowed.split(',').any(|allowed| allowed.trim() == bucket) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "bucket_not_allowed",
            "links are not made to files of this bucket",
        )),
    }
}

/// Has the store make the link.
async fn link(wanted: &Wanted, headers: &HeaderMap) -> Result<String, Problem> {
    match variable::get("artifact_store").await?.as_str() {
        "local" => local::link(wanted, headers, now()?).await,
        "s3" => s3::link(wanted, now()?).await,
        "supabase" => supabase::link(wanted).await,
        _ => Err(variable::wrong(
            "artifact_store",
            "is none of local, s3 and supabase",
        )),
    }
}

/// Seconds since 1970, by the host's clock: the database's is not asked, since no store knows it.
fn now() -> Result<u64, Problem> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .map(|since| since.as_secs())
        .map_err(|_| Problem::internal())
}

/// 404 in the words that Supabase's clients know.
fn not_found() -> Problem {
    let error = "StorageApiError: Object not found";
    Problem::new(StatusCode::NOT_FOUND, "object_not_found", error)
}

/// 503: the store that was chosen lacks what the hint names.
fn not_configured(hint: &'static str) -> Problem {
    let error = "the store of the artifacts is not configured";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "signing_not_configured",
        error,
    )
    .with_hint(hint)
}
