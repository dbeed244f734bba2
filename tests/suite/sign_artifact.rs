//! `GET /functions/v1/sign-artifact`: links to artifacts in the local store, an S3 store and Supabase Storage.

mod refusals;
mod s3;
mod supabase;

use millrace_tests::app::App;
use millrace_tests::keys::now;
use millrace_tests::local_store::LocalStore;
use serde_json::{Value, json};
use url::Url;

const SIGN: &str = "/functions/v1/sign-artifact";

/// The route with these parameters, encoded as a browser's form would.
fn sign(parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    format!("{SIGN}?{}", query.extend_pairs(parameters).finish())
}

/// The answer for a path, with everything else as it is by default.
async fn signed(app: &App, path: &str) -> Value {
    app.api.get(&sign(&[("path", path)])).await.ok()
}

/// The answer's link.
fn url(answer: &Value) -> Url {
    let url = answer["url"].as_str().expect("a link");
    Url::parse(url).expect("a URL")
}

#[tokio::test]
async fn a_link_to_the_local_store_works_for_anybody() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    let paths = [
        "a.txt",
        "runs/1/screen shot.png",
        "100% +&=?#.txt",
        "ключ/鍵/🔑",
        "%2e%2e/x",
    ];
    for path in paths {
        store.put(&format!("artifacts/{path}"), path);
        let answer = signed(&app, path).await;
        let link = url(&answer);
        let expected =
            json!({ "url": link.as_str(), "bucket": "artifacts", "path": path, "expires": 3600 });
        assert_eq!(answer, expected);
        assert_eq!(link.authority(), app.server().addr().to_string());
        let file = reqwest::get(link).await.expect("an answer");
        assert_eq!(file.status(), 200, "{path}");
        assert_eq!(file.text().await.expect("a body"), path);
    }
}

#[tokio::test]
async fn a_link_is_good_for_as_long_as_was_asked() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/a", "content");
    for expires in [1, 60, 604_800] {
        let before = now();
        let parameters = [("path", "a"), ("expires", &expires.to_string())];
        let answer = app.api.get(&sign(&parameters)).await.ok();
        assert_eq!(answer["expires"], expires);
        let link = url(&answer);
        let until = link.query_pairs().find(|(name, _)| name == "expires");
        let until: u64 = until.expect("an expiry").1.parse().expect("seconds");
        assert!(
            (before + expires..=now() + expires).contains(&until),
            "{until}"
        );
    }
}

#[tokio::test]
async fn only_files_that_are_there_have_links() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/folder/file", "content");
    for path in [
        "absent",
        "folder",
        "folder/file/more",
        "folder/fil",
        "%66older/file",
    ] {
        let answer = app.api.get(&sign(&[("path", path)])).await;
        answer.assert_refused(404, "object_not_found");
        assert_eq!(
            answer.json(),
            json!({ "error": "StorageApiError: Object not found", "code": "object_not_found" })
        );
    }
    std::fs::remove_file(store.place("artifacts/folder/file")).expect("it was there");
    let answer = app.api.get(&sign(&[("path", "folder/file")])).await;
    answer.assert_refused(404, "object_not_found");
}

#[tokio::test]
async fn buckets_are_those_that_are_allowed() {
    let store = LocalStore::new();
    for bucket in ["artifacts", "one", "two.2", "three"] {
        store.put(&format!("{bucket}/a"), bucket);
    }
    let app = store.serve(&[("artifact_buckets", "one, two.2,")]).await;
    for (bucket, is_allowed) in [
        ("one", true),
        ("two.2", true),
        ("three", false),
        ("artifacts", false),
        ("One", false),
        ("on", false),
        ("two", false),
    ] {
        let answer = app
            .api
            .get(&sign(&[("bucket", bucket), ("path", "a")]))
            .await;
        match is_allowed {
            true => {
                let answer = answer.ok();
                assert_eq!(answer["bucket"], bucket);
                let file = reqwest::get(url(&answer)).await.expect("an answer");
                assert_eq!(file.text().await.expect("a body"), bucket);
            }
            false => answer.assert_refused(403, "bucket_not_allowed"),
        }
    }
    // The default bucket is no exception, nor does a list of none mean all.
    app.api
        .get(&sign(&[("path", "a")]))
        .await
        .assert_refused(403, "bucket_not_allowed");
    let app = store.serve(&[("artifact_buckets", "")]).await;
    app.api
        .get(&sign(&[("path", "a")]))
        .await
        .assert_refused(403, "bucket_not_allowed");
}

#[tokio::test]
async fn links_lead_to_the_public_url_where_there_is_one() {
    let store = LocalStore::new();
    store.put("artifacts/a", "content");
    for (public_url, start) in [
        (
            "https://queue.example",
            "https://queue.example/files/artifacts/a?expires=",
        ),
        (
            "https://queue.example:8443/below/",
            "https://queue.example:8443/below/files/artifacts/a?expires=",
        ),
    ] {
        let app = store.serve(&[("public_url", public_url)]).await;
        let answer = signed(&app, "a").await;
        let link = answer["url"].as_str().expect("a link");
        assert!(link.starts_with(start), "{link}");
        // The signature does not depend on it: behind a proxy the same link arrives here.
        let here = link.replace(
            public_url.trim_end_matches('/'),
            &format!("http://{}", app.server().addr()),
        );
        assert_eq!(reqwest::get(here).await.expect("an answer").status(), 200);
    }
    let app = store.serve(&[("public_url", "queue.example")]).await;
    app.api
        .get(&sign(&[("path", "a")]))
        .await
        .assert_refused(500, "misconfigured");
}
