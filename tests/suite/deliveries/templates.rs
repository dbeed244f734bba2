//! Templates: what is filled in is text wherever it stands, and what is missing is named.

use millrace_tests::database::{Database, refusal};
use millrace_tests::providers::resend::Resend;
use serde_json::{Value, json};

use super::Delivering;

const PUT: &str = "select comms.put_email_template('order', 'Order {{ number }}',
    '<a title=\"{{who}}\" href=''/{{ number }}''>Dear {{ who }}</a><style>@media x { a { b: c } }</style>', 'Dear {{who}}: {{ number }}')";

async fn from_template(database: &Database, data: &Value) -> Value {
    let sql =
        "select comms.create_and_enqueue_email_from('order', 'f@example.com', 't@example.com', $1)";
    database.one(sql, &[data]).await.get(0)
}

/// Subject, html and text of the only email.
async fn made(database: &Database) -> [String; 3] {
    let row = database
        .one(
            "delete from comms.email_message returning subject, html, text",
            &[],
        )
        .await;
    [row.get(0), row.get(1), row.get(2)]
}

#[tokio::test]
async fn values_are_text_in_html_and_its_attributes() {
    let database = Database::fresh().await;
    database.run(PUT).await;
    let cases = [
        ("Ann", "Ann"),
        (
            "<script>alert(1)</script>",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
        ),
        ("\" onmouseover=\"x", "&quot; onmouseover=&quot;x"),
        ("' onmouseover='x", "&#39; onmouseover=&#39;x"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("</a><a href=x>", "&lt;/a&gt;&lt;a href=x&gt;"),
        ("{{ number }}", "{{ number }}"),
        ("{{who}}{{ who }}", "{{who}}{{ who }}"),
        ("$1 \\1 \\& %s", "$1 \\1 \\&amp; %s"),
        ("日本 😀 ü", "日本 😀 ü"),
        ("", ""),
    ];
    for (value, escaped) in cases {
        let answer = from_template(
            &database,
            &json!({ "who": value, "number": 5, "unused": null }),
        )
        .await;
        assert!(answer["validation_failure_message"].is_null(), "{answer}");
        let html = format!(
            "<a title=\"{escaped}\" href='/5'>Dear {escaped}</a><style>@media x {{ a {{ b: c }} }}</style>"
        );
        assert_eq!(
            made(&database).await,
            ["Order 5".to_owned(), html, format!("Dear {value}: 5")]
        );
    }
    println!("deliveries: {} values in a template", cases.len());
}

#[tokio::test]
async fn a_value_that_is_missing_is_named_and_nothing_is_written() {
    let database = Database::fresh().await;
    database.run(PUT).await;
    let cases = [
        (json!({}), "value_missing: number"),
        (json!({ "number": 5 }), "value_missing: who"),
        (
            json!({ "who": "Ann", "number": null }),
            "value_missing: number",
        ),
        (
            json!({ "who": "Ann", "number": [5] }),
            "value_invalid: number",
        ),
        (
            json!({ "who": { "first": "Ann" }, "number": 5 }),
            "value_invalid: who",
        ),
        (json!([]), "value_missing: number"),
        (json!("who"), "value_missing: number"),
    ];
    for (data, failure) in &cases {
        let answer = from_template(&database, data).await;
        assert_eq!(
            answer,
            json!({ "validation_failure_message": failure, "job": null }),
            "{data}"
        );
    }
    let sql = "select comms.create_and_enqueue_email_from('order', ' ', 't', '{\"who\": true, \"number\": 1.50}')";
    let answer: Value = database.one(sql, &[]).await.get(0);
    assert_eq!(answer["validation_failure_message"], "from_address_missing");
    let error = database
        .client()
        .query("select comms.create_and_enqueue_email_from('order', 'f', 't', '{\"who\": \"a\", \"number\": \"1\\r\\nBcc: x\"}')", &[])
        .await
        .expect_err("a subject of two lines");
    assert_eq!(
        refusal(&error),
        ("PT400".to_owned(), "invalid_request".to_owned())
    );
    let jobs: i64 = database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0);
    assert_eq!(jobs, 0);
    println!(
        "deliveries: {} times something missing in a template's values",
        cases.len()
    );
}

#[tokio::test]
async fn a_template_that_would_not_be_safe_is_refused() {
    let database = Database::fresh().await;
    let cases = [
        (
            "put_email_template('t', 's', '<a href={{ u }}>')",
            "invalid_template",
        ),
        (
            "put_email_template('t', 's', '<a href= {{u}}>')",
            "invalid_template",
        ),
        ("put_email_template('t', 's', '{{ u')", "invalid_template"),
        (
            "put_email_template('t', 's', '{{ u | raw }}')",
            "invalid_template",
        ),
        (
            "put_email_template('t', 's', '{{{ u }}}')",
            "invalid_template",
        ),
        ("put_email_template('t', 's', '{{}}')", "invalid_template"),
        (
            "put_email_template('t', '{{ 1a }}', 'h')",
            "invalid_template",
        ),
        (
            "put_email_template('t', 's', 'h', '{{ a.b }}')",
            "invalid_template",
        ),
        (
            "put_email_template('t', E's\\r\\nBcc: x', 'h')",
            "invalid_request",
        ),
        ("put_email_template('t', ' ', 'h')", "invalid_template"),
        ("put_email_template('t', 's', null)", "invalid_template"),
        ("put_email_template('a b', 's', 'h')", "invalid_template"),
        ("put_email_template(null, 's', 'h')", "invalid_template"),
        (
            "put_email_template('t', 's', repeat('h', 1048577))",
            "invalid_request",
        ),
        ("put_sms_template('t', '{{ a')", "invalid_template"),
        ("put_sms_template('t', ' ')", "invalid_template"),
        (
            "create_and_enqueue_email_from('none', 'f', 't', '{}')",
            "template_not_found",
        ),
        (
            "create_and_enqueue_sms_from('none', 'n', '{}')",
            "template_not_found",
        ),
    ];
    for (sql, code) in cases {
        let error = database
            .client()
            .query(&format!("select comms.{sql}"), &[])
            .await
            .expect_err(sql);
        assert_eq!(refusal(&error).1, code, "{sql}");
    }
    println!("deliveries: {} templates refused", cases.len());
}

/// Html in which a value would be more than text.
const UNSAFE: [&str; 24] = [
    "<a href=https://example.com/{{ p }}>",
    "<a title='x' href=https://example.com/{{ p }}>",
    "<div {{ p }}>",
    "<div title=\"x\" {{ p }}>",
    "<div title=\"x\"{{ p }}=\"y\">",
    "<div data-{{ p }}=\"x\">",
    "<di{{ p }}v>",
    "<{{ p }}>",
    "</{{ p }}>",
    "<a title=a\"b {{ p }}><b title=\"\">",
    "<a title=x=\"{{ p }}\">",
    "<a title==\"{{ p }}\">",
    "<a title=\"{{ p }}>",
    "<!DOCTYPE {{ p }}>",
    "<!-- {{ p }} -->",
    "<!-- <b> --> <!-- {{ p }} -->",
    "<!--[if mso]><p>{{ p }}</p><![endif]-->",
    "<!--><script>-->{{ p }}</script>",
    "<script>{{ p }}</script>",
    "<SCRIPT type=module>x('{{ p }}')</SCRIPT>",
    "<script>'<a>'; {{ p }}</script>",
    "<style>a { color: {{ p }} }</style>",
    "<style>a {}</style><style>{{ p }}</style>",
    "<iframe>{{ p }}</iframe>",
];

/// Html as people write it, with places where they may be.
const SAFE: [&str; 9] = [
    "It's \"{{ p }}\" = {{ p }}, 1 < 2",
    "<p>Don't {{ p }}</p><p>isn't",
    "<p\n title='a > b {{ p }}'\n class = \"x\">{{ p }}</p>",
    "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0\" \"http://www.w3.org/xhtml1.dtd\"><title>{{ p }}</title>",
    "<html lang=en><!-- it's --><br/><img src=\"a\" /><p class=x>{{ p }}",
    "<a href=http://example.com/?a=b&c=d/>{{ p }}</a>",
    "<!--[if mso]><table><![endif]--><b>{{ p }}</b><![if !mso]><i>{{ p }}</i><![endif]>",
    "<script>if (a < b) { x('</b>') }</script>{{ p }}",
    "<style>a { b: c }</style><a href=\"https://example.com/{{ p }}\">{{ p }}</a>",
];

#[tokio::test]
async fn a_place_in_html_is_text_or_within_quotes() {
    let database = Database::fresh().await;
    let sql = "select comms.put_email_template('t', 's', $1)";
    for html in UNSAFE {
        let error = database.client().query(sql, &[&html]).await;
        let error = error.expect_err(html);
        assert_eq!(refusal(&error).1, "invalid_template", "{html}");
    }
    for html in SAFE {
        let answer = database.client().query(sql, &[&html]).await;
        answer.expect(html);
    }
    println!(
        "deliveries: {} templates refused, {} taken",
        UNSAFE.len(),
        SAFE.len()
    );
}

#[tokio::test]
async fn a_template_is_replaced_and_dropped_and_serves_text_messages() {
    let database = Database::fresh().await;
    database
        .run("select comms.put_sms_template('code', 'Your code: {{ code }}')")
        .await;
    database
        .run("select comms.put_sms_template('code', 'Code {{ code }} & {{code}}')")
        .await;
    let sql =
        "select comms.create_and_enqueue_sms_from('code', '+4915112345678', '{\"code\": \"<1>\"}')";
    database.run(sql).await;
    let body: String = database
        .one("select body from comms.sms_message", &[])
        .await
        .get(0);
    assert_eq!(body, "Code <1> & <1>", "no HTML, so nothing to escape");
    let dropped = async || -> bool {
        database
            .one("select comms.drop_sms_template('code')", &[])
            .await
            .get(0)
    };
    assert!(dropped().await);
    assert!(!dropped().await);
}

#[tokio::test]
async fn what_is_made_from_a_template_goes_out_as_it_was_made() {
    let delivering = Delivering::<Resend>::start().await;
    let database = &delivering.app.database;
    database.run(PUT).await;
    from_template(database, &json!({ "who": "<Ann>", "number": 7 })).await;
    delivering.run().await;
    let sent = delivering.provider.requests()[0].json();
    assert_eq!(sent["subject"], "Order 7");
    assert_eq!(sent["text"], "Dear <Ann>: 7");
    assert!(
        sent["html"]
            .as_str()
            .is_some_and(|html| html.starts_with("<a title=\"&lt;Ann&gt;\" href='/7'>")),
        "{sent}"
    );
}
