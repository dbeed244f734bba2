//! The explorer: a page for browsers at `GET /graphql`, and what it loads, under `/graphql/`. Everything is compiled in (`explorer/`) and
//! asks this server alone. Anybody may read it; what it asks needs a key, which the person at the browser types in.

use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use millrace_kit::{Answer, Reply, reply};

/// What a browser may let the page do: run its own scripts and call this server, no more. The icon is an empty `data:` URL, so that none is
/// asked for.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page at `/graphql`, or one of its files under `/graphql/`; none for another path.
///
/// For `GET` requests. What `/graphql` itself answers depends on `Accept`, so that the page has `Vary: accept` is the caller's part.
pub fn page(path: &str) -> Option<Reply> {
    let script = "text/javascript; charset=utf-8";
    let (content_type, text) = match path.trim_end_matches('/') {
        "/graphql" => (
            "text/html; charset=utf-8",
            include_str!("../explorer/index.html"),
        ),
        "/graphql/explorer.css" => (
            "text/css; charset=utf-8",
            include_str!("../explorer/explorer.css"),
        ),
        "/graphql/start.js" => (script, include_str!("../explorer/start.js")),
        "/graphql/examples.js" => (script, include_str!("../explorer/examples.js")),
        "/graphql/request.js" => (script, include_str!("../explorer/request.js")),
        "/graphql/schema.js" => (script, include_str!("../explorer/schema.js")),
        "/graphql/text.js" => (script, include_str!("../explorer/text.js")),
        _ => return None,
    };
    Some(serve(content_type, text))
}

fn serve(content_type: &'static str, text: &'static str) -> Reply {
    let mut response = reply(Ok(Answer::of(content_type, text)));
    for (name, value) in [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
