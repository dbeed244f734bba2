//! `tick`: turns each firing of a cron trigger into a `POST` to the URL in the variable `tick_url`, that of `cron-enqueue`, with the
//! stored key in `tick_key`. Cron triggers run synchronous guests only, so this one knows nothing but how to ask.
//!
//! A round that comes too late, twice or not at all does no harm, so a run that fails is an error and nothing else: the next
//! firing is the next try. No error shows the key, or the URL, which may hold a password.

use std::time::Duration;

use http::Uri;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::poll::poll;

mod bindings {
    use spin_sdk::wit_bindgen;

    wit_bindgen::generate!({
        inline: "
            package millrace:tick;
            world tick {
                include fermyon:spin-cron/spin-cron@2.0.0;
                import fermyon:spin/variables@2.0.0;
            }
        ",
        path: ["../../wit/fermyon-spin-cron@2.0.0", "../../wit/fermyon-spin-variables@2.0.0"],
        world: "millrace:tick/tick",
        runtime_path: "spin_sdk::wit_bindgen::rt",
        generate_all,
    });
}

use bindings::fermyon::spin::variables;
use bindings::fermyon::spin_cron::cron_types::{Error, Metadata};

/// How long a round may take: a little more than `cron-enqueue` gives itself, and less than hosts give a request.
const TIMEOUT: Duration = Duration::from_secs(28);

struct Tick;

bindings::export!(Tick with_types_in bindings);

impl bindings::Guest for Tick {
    fn handle_cron_event(_: Metadata) -> Result<(), Error> {
        let (url, key) = (variable("tick_url")?, variable("tick_key")?);
        if key.is_empty() {
            return Err(error(
                "the variable tick_key is not set: `millrace keys create` makes a key of the scope tick",
            ));
        }
        let response = send(request(&url, &key)?)?;
        match response.status() {
            200..=299 => Ok(()),
            status @ (401 | 403) => Err(error(&format!(
                "tick_url answered {status}: tick_key is not good for it"
            ))),
            status => Err(error(&format!("tick_url answered {status}"))),
        }
    }
}

fn error(why: &str) -> Error {
    Error::Other(why.to_owned())
}

fn variable(name: &str) -> Result<String, Error> {
    // A provider's own words might quote a value.
    let value =
        variables::get(name).map_err(|_| error(&format!("the variable {name} cannot be read")))?;
    Ok(value.trim().to_owned())
}

fn request(url: &str, key: &str) -> Result<OutgoingRequest, Error> {
    let wrong =
        || error("the variable tick_url is not an http:// or https:// URL that can be called");
    let url: Uri = url.parse().map_err(|_| wrong())?;
    let scheme = match url.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(wrong()),
    };
    // A user and a password would not be sent.
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    if authority.is_empty() || authority.contains('@') {
        return Err(wrong());
    }
    let headers = Fields::new();
    for (name, value) in [("x-api-key", key), ("content-length", "0")] {
        let set = headers.append(name, value.as_bytes());
        set.map_err(|_| error("the variable tick_key cannot stand in a header"))?;
    }
    let request = OutgoingRequest::new(headers);
    request.set_method(&Method::Post).map_err(|()| wrong())?;
    request.set_scheme(Some(&scheme)).map_err(|()| wrong())?;
    request
        .set_authority(Some(authority))
        .map_err(|()| wrong())?;
    request
        .set_path_with_query(Some(path))
        .map_err(|()| wrong())?;
    Ok(request)
}

/// Sends a request without a body and waits for the head of its answer. Redirects are not followed, so the key goes nowhere else.
fn send(request: OutgoingRequest) -> Result<IncomingResponse, Error> {
    let failed = || error("the request to tick_url could not be sent");
    let body = request.body().map_err(|()| failed())?;
    let answer = outgoing_handler::handle(request, None).map_err(|code| unreachable(&code))?;
    OutgoingBody::finish(body, None).map_err(|code| unreachable(&code))?;
    let time = subscribe_duration(u64::try_from(TIMEOUT.as_nanos()).unwrap_or(u64::MAX));
    let arrived = answer.subscribe();
    poll(&[&arrived, &time]);
    match answer.get() {
        None => Err(error(&format!(
            "tick_url did not answer within {} s",
            TIMEOUT.as_secs()
        ))),
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(code))) => Err(unreachable(&code)),
        Some(Err(())) => Err(failed()),
    }
}

/// The other end's own words are left out.
fn unreachable(code: &ErrorCode) -> Error {
    error(match code {
        ErrorCode::HttpRequestDenied => "tick_host does not allow the host of tick_url",
        ErrorCode::ConnectionTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::ConnectionReadTimeout => "tick_url did not answer in time",
        _ => "tick_url cannot be reached",
    })
}
