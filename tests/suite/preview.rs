//! `GET /preview`: what channels would have sent, as pages and as JSON, and that a message's contents stay contents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::keys::{API_KEY, token};
use millrace_tests::queue;
use millrace_tests::routes::assert_forms_refused;
use millrace_tests::scope::assert_scope;
use reqwest::Method;
use serde_json::{Value, json};

/// As browsers send it.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// An email as somebody's templates make one.
const EMAIL: &str = "<!doctype html><html><head><style>h1 { color: teal }</style></head><body><h1>Hällo Ada</h1>\
                     <p style=\"font-weight:bold\">Your invoice</p><img src=\"https://tracker.example/pixel.gif\"></body></html>";

/// Texts that would be markup if they were not escaped.
const MARKUP: [&str; 12] = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</pre></td></dd><svg/onload=alert(1)>",
    "\"><img src=x onerror=alert(1)>",
    "'><a href=javascript:alert(1)>x</a>",
    "<iframe src=//evil.example></iframe>",
    "<!--",
    "]]><script>1</script>",
    "&lt;script&gt;",
    "{{ 7 * 7 }}{% raw %}",
    "<base href=//evil.example>",
    "<style>@import '//evil.example'</style>",
];

/// How every tag of the two pages begins.
const OURS: [&str; 23] = [
    "<!doctype html>",
    "<html lang",
    "<head>",
    "<meta ",
    "<title>",
    "<link rel",
    "<body>",
    "<p>",
    "<h1>",
    "<h2>",
    "<dl>",
    "<dt>",
    "<dd>",
    "<time datetime",
    "<a href=\"/preview",
    "<pre>",
    "<table>",
    "<thead>",
    "<tbody>",
    "<tr>",
    "<th>",
    "<td>",
    "</",
];

/// Keeps a preview of a new job; answers with the job's id.
async fn keep(app: &App, preview: Value) -> String {
    let job = queue::enqueue(
        app.database.client(),
        json!({ "queue": "email", "type": "email" }),
    )
    .await;
    let sql = "select millrace_api.keep_preview($1::jsonb || jsonb_build_object('job_id', millrace.job_uuid($2))), millrace.job_uuid($2)::text";
    app.database.one(sql, &[&preview, &job]).await.get(1)
}

async fn browse(app: &App, path: &str) -> Answer {
    let request = app.api.request(Method::GET, path).header("accept", BROWSER);
    app.api.send(request).await
}

fn assert_page(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    let policy = answer.header("content-security-policy");
    for directive in [
        "default-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ] {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(!policy.contains("script-src"), "{policy}");
}

#[tokio::test]
async fn an_email_is_shown_as_it_looks() {
    let app = App::start().await;
    let email = json!({ "channel": "email", "to": "ada@example.org", "subject": "Invoice 7", "html": EMAIL, "text": "Hällo Ada" });
    let job = keep(&app, email).await;

    let list = browse(&app, "/preview").await;
    assert_page(&list);
    for part in [
        "ada@example.org",
        "Invoice 7",
        &format!("href=\"/preview/{job}\""),
    ] {
        assert!(list.text.contains(part), "{part}: {}", list.text);
    }

    let page = browse(&app, &format!("/preview/{job}")).await;
    assert_page(&page);
    let frame = format!("<iframe sandbox src=\"/preview/{job}/html\"");
    for part in [
        "ada@example.org",
        "Invoice 7",
        "<pre>Hällo Ada</pre>",
        &frame,
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("frame-src 'self'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );

    let shown = browse(&app, &format!("/preview/{job}/html")).await;
    assert_page(&shown);
    assert_eq!(shown.text, EMAIL);
    // Styles and pictures that are in it, nothing from anywhere, and an origin of its own.
    let policy = shown.header("content-security-policy");
    let directives: Vec<_> = policy.split("; ").map(str::trim).collect();
    for directive in [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "frame-ancestors 'self'",
        "sandbox",
    ] {
        assert!(directives.contains(&directive), "{directive}: {policy}");
    }

    let style = app.api.bare(Method::GET, "/preview/files/style.css");
    let style = app.api.send(style).await;
    assert_eq!(
        (style.status, style.header("content-type")),
        (200, "text/css; charset=utf-8")
    );
}

/// From an application's own SQL to a page, with nothing configured.
#[tokio::test]
async fn an_email_that_was_enqueued_is_there_after_a_run() {
    let app = App::start().await;
    let sql = "select millrace.job_uuid((comms.create_and_enqueue_email('shop@example.org', 'ada@example.org', 'Invoice 7', $1) -> 'job' ->> 'job_id')::bigint)::text";
    let job: String = app.database.one(sql, &[&EMAIL]).await.get(0);
    let request = app.api.request(Method::POST, "/channels/email");
    let run = app.api.send(request).await.ok();
    assert_eq!(run["done"], 1, "{run}");
    let shown = browse(&app, &format!("/preview/{job}/html")).await;
    assert_page(&shown);
    assert!(shown.text.contains("<h1>Hällo Ada</h1>"), "{}", shown.text);
    let list = browse(&app, "/preview").await;
    assert!(
        list.text.contains("ada@example.org") && list.text.contains("Invoice 7"),
        "{}",
        list.text
    );
}

#[tokio::test]
async fn without_a_browser_it_is_json() {
    let app = App::start().await;
    let none = app.api.get("/preview").await.ok();
    assert_eq!(
        (&none["items"], &none["count"], &none["nextCursor"]),
        (&json!([]), &json!(0), &Value::Null)
    );

    let request = json!({ "url": "https://a.example/", "amount": 10 });
    let job = keep(
        &app,
        json!({ "channel": "webhook", "to": "acme", "request": request }),
    )
    .await;
    let one = app.api.get(&format!("/preview/{job}")).await.ok();
    assert_eq!(
        (&one["jobId"], &one["channel"], &one["to"]),
        (&json!(job), &json!("webhook"), &json!("acme"))
    );
    assert_eq!((&one["request"], &one["html"]), (&request, &Value::Null));
    app.api
        .get(&format!("/preview/{job}/html"))
        .await
        .assert_refused(404, "no_html");
    let page = browse(&app, &format!("/preview/{job}")).await;
    assert!(
        page.text.contains("The request") && !page.text.contains("<iframe"),
        "{}",
        page.text
    );

    let mut jobs = vec![job];
    for n in 0..6 {
        jobs.push(
            keep(
                &app,
                json!({ "channel": "sms", "to": format!("+4915{n}"), "text": "hi" }),
            )
            .await,
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.api.get(&format!("/preview?limit=3{cursor}")).await.ok();
        let items = page["items"].as_array().expect("items");
        seen.extend(
            items
                .iter()
                .map(|item| item["jobId"].as_str().expect("an id").to_owned()),
        );
        let Some(next) = page["nextCursor"].as_i64() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    jobs.reverse();
    assert_eq!(seen, jobs, "newest first, each once");
    app.api
        .get("/preview?limit=0")
        .await
        .assert_invalid("limit");
    app.api
        .get("/preview?cursor=x")
        .await
        .assert_invalid("cursor");
    app.api.get("/preview/7").await.assert_invalid("jobId");
    app.api
        .get("/preview/a/b/c")
        .await
        .assert_refused(404, "not_found");
}

#[tokio::test]
async fn a_stranger_s_text_stays_text() {
    let app = App::start().await;
    let mut places = 0;
    for markup in MARKUP {
        let preview = json!({ "channel": markup, "to": markup, "subject": markup, "text": markup, "request": { markup: markup } });
        let job = keep(&app, preview).await;
        let page = browse(&app, &format!("/preview/{job}")).await;
        assert_page(&page);
        for text in [&page.text, &browse(&app, "/preview?limit=1").await.text] {
            for (start, _) in text.match_indices('<') {
                let rest = &text[start..];
                assert!(
                    OURS.iter().any(|ours| rest.starts_with(ours)),
                    "{markup}: {rest:.60}"
                );
            }
            places += 1;
        }
    }
    println!("{} texts of markup, {places} pages", MARKUP.len());
}

#[tokio::test]
async fn a_browser_asks_for_a_name_and_a_password() {
    let app = App::start().await;
    let basic = |name: &str, password: &str| {
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
    };
    let stored = "select millrace.create_api_key('reader', '{read}'), millrace.create_api_key('worker', '{work}')";
    let keys = app.database.one(stored, &[]).await;
    let (reader, worker): (String, String) = (keys.get(0), keys.get(1));
    let ask = async |authorization: &str| {
        let request = app
            .api
            .bare(Method::GET, "/preview")
            .header("accept", BROWSER);
        app.api
            .send(request.header("authorization", authorization))
            .await
    };
    for good in [
        basic("", API_KEY),
        basic("anybody", API_KEY),
        basic("me", &token("service_role")),
        basic("me", &reader),
        basic("me", &reader).replace("Basic", "bAsIc"),
        format!("Bearer {reader}"),
    ] {
        assert_page(&ask(&good).await);
    }
    for (bad, status) in [
        (basic("me", "wrong"), 401),
        (basic("me", ""), 401),
        (format!("Basic {}", STANDARD.encode(API_KEY)), 401),
        (format!("Basic {API_KEY}"), 401),
        ("Basic".to_owned(), 401),
        ("Basic =".to_owned(), 401),
        (basic("me", "a\r\nx-api-key: b"), 401),
        (basic(API_KEY, "x"), 401),
        (basic("me", &worker), 403),
    ] {
        let answer = ask(&bad).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        let offers_basic = challenges
            .iter()
            .any(|value| value.as_bytes().starts_with(b"Basic realm="));
        assert_eq!(offers_basic, status == 401, "{challenges:?}");
        assert!(!answer.text.contains(API_KEY), "{}", answer.text);
    }
    let in_url = app
        .api
        .bare(Method::GET, &format!("/preview?key={API_KEY}"));
    app.api
        .send(in_url)
        .await
        .assert_refused(401, "missing_credentials");
}

#[tokio::test]
async fn previews_are_kept_once_and_not_for_ever() {
    let app = App::start().await;
    let job = queue::enqueue(app.database.client(), json!({ "queue": "q", "type": "t" })).await;
    let sql = "select (millrace_api.keep_preview(jsonb_build_object('channel', 'sms', 'job_id', millrace.job_uuid($1), 'text', $2::text)) ->> 'id')::bigint";
    let first: i64 = app.database.one(sql, &[&job, &"first"]).await.get(0);
    let second: i64 = app.database.one(sql, &[&job, &"second"]).await.get(0);
    assert_eq!(
        first, second,
        "an attempt that was lost keeps no second one"
    );

    let count = async || app.api.get("/preview?limit=100").await.ok()["count"].as_i64();
    let all = async || {
        app.database
            .one("select count(*), min(text) from millrace.preview", &[])
            .await
    };
    assert_eq!(all().await.get::<_, String>(1), "first");
    let many = "select millrace_api.keep_preview(jsonb_build_object('channel', 'sms', 'job_id', millrace.job_uuid(n))) from generate_series(100000, 101199) n";
    app.database.run(many).await;
    assert_eq!(all().await.get::<_, i64>(0), 1000);

    app.database.set_clock_ahead(6.9 * 86400.0).await;
    assert_eq!(count().await, Some(100));
    app.database.set_clock_ahead(7.1 * 86400.0).await;
    assert_eq!(count().await, Some(0));
    app.database.run("select millrace.housekeep()").await;
    assert_eq!(all().await.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn what_is_too_large_is_cut() {
    let app = App::start().await;
    let long = "é".repeat(2 << 20);
    let email = json!({ "channel": "email", "to": long, "subject": long, "html": long, "request": { "x": long } });
    let job = keep(&app, email).await;
    let one = app.api.get(&format!("/preview/{job}")).await.ok();
    let length = |field: &str| one[field].as_str().map(|text| text.chars().count());
    assert_eq!(
        (length("to"), length("subject"), length("html")),
        (Some(4000), Some(1000), Some(1 << 20))
    );
    assert!(
        one["request"]["left_out_bytes"].as_i64() > Some(4 << 20),
        "{}",
        one["request"]
    );
    for bad in [
        r#"{"channel": "email"}"#,
        r#"{"channel": "", "job_id": "00000000-0000-8000-816d-696c6c726163"}"#,
    ] {
        let refused = app
            .database
            .client()
            .query("select millrace_api.keep_preview($1::text::jsonb)", &[&bad])
            .await;
        assert!(refused.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn only_readers_are_let_in() {
    let app = App::start().await;
    let callers = assert_scope(&app, "read", || app.api.bare(Method::GET, "/preview")).await;
    let refused = assert_forms_refused(&app, "/preview").await;
    println!("{callers} callers tried, {refused} other methods refused");
}
