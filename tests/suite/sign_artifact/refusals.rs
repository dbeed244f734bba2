//! Who and what is refused, whichever store there is: the caller, the request, the configuration; and that no secret shows.

use millrace_tests::double::{Double, Reply};
use millrace_tests::keys::SIGNING_KEY;
use millrace_tests::local_store::LocalStore;
use millrace_tests::scope::assert_scope;
use reqwest::Method;

use super::{SIGN, sign};

#[tokio::test]
async fn reading_is_what_a_caller_must_be_allowed() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/a", "content");
    let request = || app.api.bare(Method::GET, &sign(&[("path", "a")]));
    println!(
        "{} callers tried",
        assert_scope(&app, "read", request).await
    );
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    let long = "x".repeat(1001);
    let cases: [(&[(&str, &str)], &str); 17] = [
        (&[], "path"),
        (&[("bucket", "artifacts")], "path"),
        (&[("path", "")], "path"),
        (&[("path", " ")], "path"),
        (&[("path", &long)], "path"),
        (&[("path", "a"), ("path", "a")], "path"),
        (&[("path", "a"), ("bucket", "")], "bucket"),
        (&[("path", "a"), ("bucket", &long[..64])], "bucket"),
        (&[("path", "a"), ("bucket", "b c")], "bucket"),
        (&[("path", "a"), ("expires", "0")], "expires"),
        (&[("path", "a"), ("expires", "604801")], "expires"),
        (&[("path", "a"), ("expires", "-1")], "expires"),
        (&[("path", "a"), ("expires", "1.5")], "expires"),
        (&[("path", "a"), ("expires", "1h")], "expires"),
        (&[("path", "a"), ("expires", "")], "expires"),
        (
            &[("path", "a"), ("expires", "99999999999999999999")],
            "expires",
        ),
        (&[("path", "a"), ("download", "1")], "download"),
    ];
    for (parameters, field) in cases {
        app.api.get(&sign(parameters)).await.assert_invalid(field);
    }
    app.api
        .get(&format!("{SIGN}?path=%FF"))
        .await
        .assert_invalid("path");
}

#[tokio::test]
async fn no_path_and_no_bucket_leads_out() {
    let store = LocalStore::new();
    let storage = Double::start(|_| Reply::HangUp).await;
    store.put("artifacts/deep/inside", "content");
    store.put("../outside", "SECRET");
    let supabase = [
        ("artifact_store", "supabase"),
        ("supabase_url", storage.url.as_str()),
        ("supabase_host", storage.url.as_str()),
        ("supabase_service_key", "k"),
    ];
    let s3 = [
        ("artifact_store", "s3"),
        ("s3_access_key_id", "i"),
        ("s3_secret_access_key", "k"),
    ];
    let mut count = 0;
    for variables in [&[][..], &supabase[..], &s3[..]] {
        let app = store.serve(variables).await;
        // Decoded once, these are paths of strange parts.
        for path in [
            "../outside",
            "../../outside",
            "..",
            ".",
            "./deep/inside",
            "deep/../../outside",
            "deep/./inside",
            "deep//inside",
            "deep/inside/",
            "/deep/inside",
            "/etc/passwd",
            "//etc/passwd",
            "..\\outside",
            "deep\\..\\..\\outside",
            "deep/inside\0",
            "deep/inside\0.txt",
            "deep/inside\n",
            "deep/\r\ninside",
            "deep/inside\u{7f}",
            "deep/\u{85}inside",
        ] {
            app.api
                .get(&sign(&[("path", path)]))
                .await
                .assert_invalid("path");
            count += 1;
        }
        for bucket in [
            "..",
            ".",
            "../..",
            "artifacts/..",
            "artifacts/deep",
            "/",
            "\\",
            "artifacts\0",
            "a%2fb",
            "artifacts\n",
            "@evil.example",
            "é",
        ] {
            let parameters = [("bucket", bucket), ("path", "deep/inside")];
            app.api
                .get(&sign(&parameters))
                .await
                .assert_invalid("bucket");
            count += 1;
        }
    }
    assert_eq!(
        storage.seen().len(),
        0,
        "nothing of the kind goes to a storage"
    );
    // What was encoded twice is the name of a file that happens not to be there.
    let app = store.serve(&[]).await;
    for path in [
        "%2e%2e/outside",
        "..%2foutside",
        "%2e%2e%2foutside",
        "..%5coutside",
        "%00",
        "..;/outside",
        "deep%2finside",
    ] {
        app.api
            .get(&sign(&[("path", path)]))
            .await
            .assert_refused(404, "object_not_found");
        count += 1;
    }
    println!("{count} ways out tried");
}

#[tokio::test]
async fn only_get_is_answered_and_pages_may_read_every_answer() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/a", "content");
    let origin =
        |request: reqwest::RequestBuilder| request.header("origin", "https://page.example");
    let preflight = origin(app.api.bare(Method::OPTIONS, SIGN))
        .header("access-control-request-method", "GET")
        .header(
            "access-control-request-headers",
            "authorization, apikey, x-client-info",
        );
    let answer = preflight.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    assert_eq!(answer.headers()["access-control-allow-methods"], "GET");

    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = app
            .api
            .send(origin(app.api.request(method, &sign(&[("path", "a")]))))
            .await;
        answer.assert_refused(405, "method_not_allowed");
        assert_eq!(
            (
                answer.header("allow"),
                answer.header("access-control-allow-origin")
            ),
            ("GET", "*")
        );
    }
    for (path, status) in [("a", 200), ("absent", 404), ("..", 400)] {
        let answer = app
            .api
            .send(origin(
                app.api.request(Method::GET, &sign(&[("path", path)])),
            ))
            .await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (status, "*")
        );
    }
    let answer = app
        .api
        .send(origin(app.api.bare(Method::GET, &sign(&[("path", "a")]))))
        .await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (401, "*")
    );
}

#[tokio::test]
async fn what_is_not_configured_says_which_variable_is_missing() {
    let store = LocalStore::new();
    store.put("artifacts/a", "content");
    let supabase = [
        ("artifact_store", "supabase"),
        ("supabase_url", "https://project.invalid"),
        ("supabase_service_key", "k"),
    ];
    let s3 = [
        ("artifact_store", "s3"),
        ("s3_access_key_id", "i"),
        ("s3_secret_access_key", "k"),
    ];
    for (base, variable, hinted) in [
        (&[][..], "artifact_signing_key", "artifact_signing_key"),
        (&s3[..], "s3_access_key_id", "s3_access_key_id"),
        (&s3[..], "s3_secret_access_key", "s3_secret_access_key"),
        (&supabase[..], "supabase_url", "supabase_url"),
        (
            &supabase[..],
            "supabase_service_key",
            "supabase_service_key",
        ),
    ] {
        let variables: Vec<_> = base.iter().copied().chain([(variable, "")]).collect();
        let app = store.serve(&variables).await;
        let answer = app.api.get(&sign(&[("path", "a")])).await;
        answer.assert_refused(503, "signing_not_configured");
        let hint = answer.json()["hint"].clone();
        assert!(
            hint.as_str().is_some_and(|hint| hint.contains(hinted)),
            "{hint}"
        );
    }
}

#[tokio::test]
async fn a_variable_that_means_nothing_is_a_500() {
    let store = LocalStore::new();
    store.put("artifacts/a", "content");
    let s3 = [
        ("artifact_store", "s3"),
        ("s3_access_key_id", "i"),
        ("s3_secret_access_key", "k"),
    ];
    for (base, variable, value) in [
        (&[][..], "artifact_store", "ftp"),
        (&[][..], "artifact_store", ""),
        (&[][..], "artifact_store", "Local"),
        (&[][..], "public_url", "ftp://queue.example"),
        (&s3[..], "s3_endpoint", "not a URL"),
        (&s3[..], "s3_endpoint", "ftp://s3.example"),
        (&s3[..], "s3_endpoint", "http://127.0.0.1:9000"),
        (&s3[..], "s3_path_style", "yes"),
    ] {
        let variables: Vec<_> = base.iter().copied().chain([(variable, value)]).collect();
        let app = store.serve(&variables).await;
        let answer = app.api.get(&sign(&[("path", "a")])).await;
        answer.assert_refused(500, "misconfigured");
        assert!(!answer.text.contains(variable), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_link_shows_no_key() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/a", "content");
    for path in ["a", "absent", ".."] {
        let answer = app.api.get(&sign(&[("path", path)])).await;
        assert!(
            !answer.text.contains(SIGNING_KEY)
                && !format!("{:?}", answer.headers).contains(SIGNING_KEY)
        );
    }
}
