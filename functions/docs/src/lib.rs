//! `GET /docs.json`: the OpenAPI document. `GET /docs`: a page to browse it and to try it out, which needs nothing from
//! anywhere else. Anybody may read both.

use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use millrace_kit::{Answer, Problem, Reply, reply, request};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// What a browser may let the page do: run its own scripts and call this server, no more. Swagger UI's style sheet holds
/// pictures as `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the application's, compiled in.
struct Page {
    content_type: &'static str,
    bytes: &'static [u8],
    /// Whether it comes with Swagger UI, and so changes with its version only.
    is_vendored: bool,
}

/// Serves the component's routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    match page(&request) {
        Ok(page) => serve(page),
        Err(problem) => reply(Err(problem)),
    }
}

fn page(request: &Request) -> Result<Page, Problem> {
    request::only(request.method(), "GET")?;
    let own = |content_type, bytes| Page {
        content_type,
        bytes,
        is_vendored: false,
    };
    let vendored = |content_type, bytes| Page {
        content_type,
        bytes,
        is_vendored: true,
    };
    Ok(match request.uri().path().trim_end_matches('/') {
        "/docs.json" => own("application/json", include_bytes!("../openapi.json")),
        "/docs" => own(
            "text/html; charset=utf-8",
            include_bytes!("../page/index.html"),
        ),
        "/docs/start.js" => own(
            "text/javascript; charset=utf-8",
            include_bytes!("../page/start.js"),
        ),
        "/docs/swagger-ui-bundle.js" => vendored(
            "text/javascript; charset=utf-8",
            include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js")),
        ),
        "/docs/swagger-ui.css" => vendored(
            "text/css; charset=utf-8",
            include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css")),
        ),
        "/docs/favicon-32x32.png" => vendored(
            "image/png",
            include_bytes!(concat!(env!("OUT_DIR"), "/favicon-32x32.png")),
        ),
        _ => return Err(Problem::not_found()),
    })
}

fn serve(page: Page) -> Reply {
    let mut response = reply(Ok(Answer::of(page.content_type, page.bytes)));
    let caching = match page.is_vendored {
        true => "public, max-age=86400",
        false => "no-cache",
    };
    for (name, value) in [
        (CACHE_CONTROL, caching),
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
