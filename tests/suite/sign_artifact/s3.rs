//! Links to an S3 store. That their signatures equal those of the official SDKs is shown by the vectors beside the function; here a
//! second reading of the Signature Version 4 documents checks what comes out of the whole application.

use hmac::{Hmac, Mac};
use millrace_tests::app::App;
use millrace_tests::keys::now;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::sign;

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22w+Q==";

/// The application with an S3 store and some of its variables set otherwise.
async fn start(variables: &[(&str, &str)]) -> App {
    let s3 = [
        ("artifact_store", "s3"),
        ("s3_access_key_id", KEY_ID),
        ("s3_secret_access_key", SECRET),
    ];
    let variables: Vec<_> = s3.iter().chain(variables).copied().collect();
    App::start_with(&variables).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The parts of a presigned URL, nothing decoded: scheme and host, path, and the query's parameters in their order.
fn parts(url: &str) -> (&str, String, Vec<(&str, &str)>) {
    let (place, query) = url.split_once('?').expect("a query");
    let (scheme, rest) = place.split_once("://").expect("a scheme");
    let (host, path) = rest.split_once('/').expect("a path");
    let pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').expect("a value"));
    (
        &url[..scheme.len() + 3 + host.len()],
        format!("/{path}"),
        pairs.collect(),
    )
}

fn parameter<'a>(pairs: &[(&str, &'a str)], name: &str) -> &'a str {
    let mut values = pairs.iter().filter(|(known, _)| *known == name);
    let (_, value) = values.next().expect(name);
    assert!(values.next().is_none(), "{name} came twice");
    value
}

/// What the signature of a presigned GET has to be.
fn expected_signature(url: &str, region: &str) -> String {
    let (origin, path, mut pairs) = parts(url);
    let host = origin.split_once("://").expect("a scheme").1;
    let date = parameter(&pairs, "X-Amz-Date");
    pairs.retain(|(name, _)| *name != "X-Amz-Signature");
    pairs.sort_unstable();
    let query: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let request = format!(
        "GET\n{path}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD",
        query.join("&")
    );
    let scope = format!("{}/{region}/s3/aws4_request", &date[..8]);
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(request))
    );
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope.split('/') {
        key = hmac(&key, part);
    }
    hex(&hmac(&key, &text))
}

/// Asks for a link and checks everything about it but where it leads; returns that.
async fn signed(
    app: &App,
    parameters: &[(&str, &str)],
    region: &str,
    token: bool,
) -> (String, String) {
    let before = now();
    let answer: Value = app.api.get(&sign(parameters)).await.ok();
    let url = answer["url"].as_str().expect("a link");
    let (origin, path, pairs) = parts(url);
    assert_eq!(
        parameter(&pairs, "X-Amz-Signature"),
        expected_signature(url, region),
        "{url}"
    );
    assert_eq!(parameter(&pairs, "X-Amz-Algorithm"), "AWS4-HMAC-SHA256");
    assert_eq!(parameter(&pairs, "X-Amz-SignedHeaders"), "host");
    assert_eq!(
        parameter(&pairs, "X-Amz-Expires"),
        answer["expires"].to_string()
    );
    let date = parameter(&pairs, "X-Amz-Date");
    let credential = format!("{KEY_ID}%2F{}%2F{region}%2Fs3%2Faws4_request", &date[..8]);
    assert_eq!(parameter(&pairs, "X-Amz-Credential"), credential);
    assert_eq!(pairs.len(), if token { 7 } else { 6 }, "{url}");
    if token {
        let token = TOKEN
            .replace('/', "%2F")
            .replace('+', "%2B")
            .replace('=', "%3D");
        assert_eq!(parameter(&pairs, "X-Amz-Security-Token"), token);
    }
    let row = app
        .database
        .one(
            "select extract(epoch from $1::text::timestamptz)::bigint",
            &[&date],
        )
        .await;
    let instant = u64::try_from(row.get::<_, i64>(0)).expect("after 1970");
    assert!((before..=now()).contains(&instant), "{date}");
    assert!(!url.contains(SECRET) && !url.contains("wJalrXUtnFEMI"));
    (origin.to_owned(), path)
}

#[tokio::test]
async fn a_link_is_presigned_for_amazons_store() {
    let app = start(&[]).await;
    let mut count = 0;
    for (path, encoded) in [
        ("test.txt", "/test.txt"),
        ("runs/1/screen shot.png", "/runs/1/screen%20shot.png"),
        ("a+b%20c.txt", "/a%2Bb%2520c.txt"),
        ("-._~/A0", "/-._~/A0"),
        ("q?a=b&c#d", "/q%3Fa%3Db%26c%23d"),
        ("it's (a) *test*!", "/it%27s%20%28a%29%20%2Atest%2A%21"),
        (
            ";:@$,[]{}|^`\"<>",
            "/%3B%3A%40%24%2C%5B%5D%7B%7D%7C%5E%60%22%3C%3E",
        ),
        ("ключ/🔑", "/%D0%BA%D0%BB%D1%8E%D1%87/%F0%9F%94%91"),
    ] {
        let place = signed(&app, &[("path", path)], "us-east-1", false).await;
        let expected = (
            "https://artifacts.s3.us-east-1.amazonaws.com".to_owned(),
            encoded.to_owned(),
        );
        assert_eq!(place, expected);
        count += 1;
    }
    for expires in ["1", "604800"] {
        signed(
            &app,
            &[("path", "a"), ("expires", expires)],
            "us-east-1",
            false,
        )
        .await;
        count += 1;
    }
    println!("{count} presigned URLs checked");
}

#[tokio::test]
async fn endpoint_region_style_and_token_are_as_they_are_set() {
    let buckets = ("artifact_buckets", "artifacts,my.bucket");
    for (variables, bucket, region, origin, path) in [
        (
            &[("s3_region", "eu-central-1")][..],
            "artifacts",
            "eu-central-1",
            "https://artifacts.s3.eu-central-1.amazonaws.com",
            "/a%20b",
        ),
        (
            &[("s3_path_style", "1")][..],
            "my.bucket",
            "us-east-1",
            "https://s3.us-east-1.amazonaws.com",
            "/my.bucket/a%20b",
        ),
        (
            &[
                ("s3_endpoint", "http://127.0.0.1:9000"),
                ("s3_path_style", "1"),
            ][..],
            "artifacts",
            "us-east-1",
            "http://127.0.0.1:9000",
            "/artifacts/a%20b",
        ),
        (
            &[
                ("s3_endpoint", "https://store.example:8443/s3"),
                ("s3_path_style", "true"),
                ("s3_region", "auto"),
            ][..],
            "artifacts",
            "auto",
            "https://store.example:8443",
            "/s3/artifacts/a%20b",
        ),
        (
            &[
                ("s3_endpoint", "https://store.example:443"),
                ("s3_path_style", "0"),
            ][..],
            "artifacts",
            "us-east-1",
            "https://artifacts.store.example",
            "/a%20b",
        ),
    ] {
        for token in [false, true] {
            let session = [
                ("s3_session_token", if token { TOKEN } else { "" }),
                buckets,
            ];
            let variables: Vec<_> = variables.iter().chain(&session).copied().collect();
            let app = start(&variables).await;
            let place = signed(&app, &[("bucket", bucket), ("path", "a b")], region, token).await;
            assert_eq!(place, (origin.to_owned(), path.to_owned()));
        }
    }
}
