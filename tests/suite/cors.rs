//! What browsers ask of the functions under `/functions/v1/` (the Fetch standard's CORS protocol), as supabase-js makes them ask.

use millrace_tests::api::{Answer, Api};
use millrace_tests::app::App;
use millrace_tests::keys::token;
use millrace_tests::routes::{self, Route};
use reqwest::{Method, RequestBuilder};

const PAGE: &str = "https://page.example";

/// The routes that pages may call.
fn open_routes() -> Vec<Route> {
    let all = routes::all().into_iter();
    let open: Vec<_> = all
        .filter(|route| route.path.starts_with("/functions/v1/"))
        .collect();
    assert_eq!(open.len(), 4);
    open
}

/// What a browser asks before it sends what supabase-js wants to send.
fn preflight(api: &Api, route: &Route) -> RequestBuilder {
    api.bare(Method::OPTIONS, &route.target())
        .header("origin", PAGE)
        .header("access-control-request-method", route.method.as_str())
        .header(
            "access-control-request-headers",
            "apikey,authorization,content-type,x-client-info,x-region",
        )
}

/// What stands in a header, in small letters and without the commas.
fn listed(answer: &Answer, name: &str) -> Vec<String> {
    let names = answer.header(name).split(',');
    names.map(|name| name.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn a_preflight_is_answered_without_credentials() {
    let app = App::start().await;
    for route in open_routes() {
        let answer = app.api.send(preflight(&app.api, &route)).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (204, ""),
            "{}",
            route.path
        );
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        let methods = listed(&answer, "access-control-allow-methods");
        assert_eq!(methods, [route.method.as_str().to_ascii_lowercase()]);
        let headers = listed(&answer, "access-control-allow-headers");
        for header in [
            "apikey",
            "authorization",
            "content-type",
            "x-client-info",
            "x-region",
            "x-api-key",
        ] {
            assert!(
                headers.iter().any(|allowed| allowed == header),
                "{header}: {headers:?}"
            );
        }
        assert_eq!(answer.header("access-control-max-age"), "86400");
    }
}

#[tokio::test]
async fn a_page_may_read_every_answer_the_refusals_too() {
    let app = App::start().await;
    let mut answers = 0;
    for route in open_routes() {
        let well_formed = || route.request(&app.api).header("origin", PAGE);
        let anonymous = || {
            app.api
                .bare(Method::PUT, &route.target())
                .header("origin", PAGE)
        };
        for (request, expected) in [
            (
                well_formed().bearer_auth(token("service_role")),
                route.answer.0,
            ),
            (
                well_formed().header("apikey", token("service_role")),
                route.answer.0,
            ),
            (well_formed(), 401),
            (well_formed().bearer_auth("x"), 401),
            (well_formed().bearer_auth(token("anon")), 403),
            (
                well_formed().header("x-api-key", format!("mr_{}", "0".repeat(64))),
                401,
            ),
            (anonymous(), 405),
        ] {
            let answer = app.api.send(request).await;
            assert_eq!(answer.status, expected, "{}: {}", route.path, answer.text);
            assert_eq!(
                answer.header("access-control-allow-origin"),
                "*",
                "{answer:?}"
            );
            assert!(
                listed(&answer, "access-control-expose-headers")
                    .contains(&"retry-after".to_owned())
            );
            assert_eq!(answer.header("vary"), "");
            answers += 1;
        }
    }
    println!("{answers} answers that a page may read");
}

#[tokio::test]
async fn only_pages_of_the_origins_that_are_named_may_where_some_are() {
    let origins = format!("https://other.example, {PAGE}");
    let app = App::start_with(&[("cors_allow_origin", &origins)]).await;
    for route in open_routes() {
        for (origin, allowed) in [
            (PAGE, PAGE),
            ("https://other.example", "https://other.example"),
            ("https://page.example:8443", ""),
            ("https://page.example.evil.example", ""),
            ("null", ""),
        ] {
            for request in [preflight(&app.api, &route), route.request(&app.api)] {
                let (client, request) = request.build_split();
                let mut request = request.expect("a request");
                let value = origin.parse().expect("an origin");
                request.headers_mut().insert("origin", value);
                let request = RequestBuilder::from_parts(client, request);
                let answer = app.api.send(request).await;
                assert_eq!(
                    answer.header("access-control-allow-origin"),
                    allowed,
                    "{origin}: {answer:?}"
                );
                assert_eq!(answer.header("vary"), "origin");
            }
        }
    }
}

#[tokio::test]
async fn what_supabase_js_adds_to_a_call_is_taken() {
    let app = App::start().await;
    let list = app
        .api
        .bare(
            Method::GET,
            "/functions/v1/dlq-list?limit=5&forceFunctionRegion=us-east-1",
        )
        .header("apikey", token("service_role"))
        .bearer_auth(token("reader"))
        .header("x-client-info", "supabase-js-web/2.109.0")
        .header("x-region", "us-east-1");
    // The OpenAPI document, which `app.api.send` would hold this against, does not name what is ignored.
    let answer = list.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
}
