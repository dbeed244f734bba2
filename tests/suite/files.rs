//! `GET /files/BUCKET/PATH`: the local store's files, whole and unchanged, for whoever has a link that is signed and still good,
//! and for nobody else.

use std::os::unix::fs::symlink;

use millrace_tests::app::App;
use millrace_tests::keys::{SIGNING_KEY, now};
use millrace_tests::local_store::{LocalStore, signature};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Every byte but RFC 3986's unreserved ones and the slash, encoded.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// A good link to a file in the bucket `artifacts`, made here.
fn link(app: &App, path: &str, expires: u64) -> String {
    let signature = signature("artifacts", path, expires, SIGNING_KEY);
    let (base, path) = (app.server().addr(), encoded(path));
    format!("http://{base}/files/artifacts/{path}?expires={expires}&signature={signature}")
}

async fn get(url: &str) -> Response {
    reqwest::get(url).await.expect("an answer")
}

/// Status and code of a refusal, which is JSON as any other function's.
async fn refusal(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let content_type = response.headers()["content-type"].clone();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(content_type, "application/json");
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

/// Asks for a target just as it is written, which no client library would do, and returns the whole answer.
async fn raw(app: &App, target: &str) -> String {
    let address = app.server().addr();
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("the request is sent");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    read.expect("the answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_link_serves_its_file_to_save_and_not_to_run() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    let names = [
        ("report.pdf", "application/pdf"),
        ("runs/1/screen shot.png", "image/png"),
        ("page.html", "text/html"),
        ("no-extension", "application/octet-stream"),
        ("odd.extension-of-ours", "application/octet-stream"),
        ("100% +&=?#'\"(1)!*;:@$,[].txt", "text/plain"),
        ("ключ/鍵/🔑 é.json", "application/json"),
        ("%2e%2e/literally", "application/octet-stream"),
        ("..a/...b/c..", "application/octet-stream"),
    ];
    for (name, media_type) in names {
        let content = format!("this is {name}");
        store.put(&format!("artifacts/{name}"), &content);
        let response = get(&link(&app, name, now() + 60)).await;
        assert_eq!(response.status(), 200, "{name}");
        let last = name.rsplit('/').next().unwrap_or_default();
        let disposition = format!("attachment; filename*=UTF-8''{}", encoded(last));
        for (header, value) in [
            ("content-type", media_type),
            ("content-length", &content.len().to_string()),
            ("content-disposition", &disposition),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox; default-src 'none'"),
            ("cache-control", "private"),
        ] {
            assert_eq!(response.headers()[header], value, "{header} of {name}");
        }
        assert_eq!(response.text().await.expect("a body"), content);
    }
    println!("{} names served", names.len());
}

#[tokio::test]
async fn files_of_all_sizes_arrive_unchanged() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    let chunk = 64 * 1024;
    let sizes = [
        0,
        1,
        chunk - 1,
        chunk,
        chunk + 1,
        3 * chunk,
        20 * 1024 * 1024 + 17,
    ];
    for size in sizes {
        let mut state: u32 = 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let content: Vec<u8> = (0..size).map(|_| next()).collect();
        store.put("artifacts/file.bin", &content);
        let response = get(&link(&app, "file.bin", now() + 60)).await;
        assert_eq!(response.content_length(), Some(size as u64));
        let body = response.bytes().await.expect("a body");
        assert!(body == content, "{size} bytes");
    }
    println!(
        "{} sizes served, up to {} bytes",
        sizes.len(),
        20 * 1024 * 1024 + 17
    );
}

#[tokio::test]
async fn a_file_larger_than_an_instances_memory_is_streamed() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/small", "");
    let length: u64 = 300 * 1024 * 1024;
    let file = std::fs::File::create(store.place("artifacts/large")).expect("a file");
    file.set_len(length).expect("a file with a hole");
    let mut response = get(&link(&app, "large", now() + 60)).await;
    let mut received = 0;
    while let Some(chunk) = response.chunk().await.expect("the next part") {
        received += chunk.len() as u64;
    }
    assert_eq!(received, length);
}

#[tokio::test]
async fn head_tells_the_same_without_the_file() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/a.txt", "x".repeat(200_000));
    let link = link(&app, "a.txt", now() + 60);
    let head = Client::new().head(&link).send().await.expect("an answer");
    let whole = get(&link).await;
    assert_eq!(head.status(), 200);
    for header in ["content-length", "content-type", "content-disposition"] {
        assert_eq!(head.headers()[header], whole.headers()[header]);
    }
    assert_eq!(head.text().await.expect("no body"), "");
}

#[tokio::test]
async fn a_link_is_good_until_it_expires() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/a", "content");
    for expires in [0, 1, now() - 604_800, now() - 1, now()] {
        let refused = refusal(get(&link(&app, "a", expires)).await).await;
        assert_eq!(refused, (403, "link_expired".to_owned()), "{expires}");
    }
    for expires in [now() + 30, now() + 604_800, u64::MAX] {
        assert_eq!(get(&link(&app, "a", expires)).await.status(), 200);
    }
    // Expired and changed: the signature is what is looked at first.
    let changed = link(&app, "a", 1).replace("/a?", "/b?");
    let refused = refusal(get(&changed).await).await;
    assert_eq!(refused, (403, "invalid_signature".to_owned()));
}

#[tokio::test]
async fn a_link_that_was_changed_anywhere_is_refused() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    for place in [
        "artifacts/a/b",
        "artifacts/a/c",
        "artifacts/ab",
        "artifact/a/b",
        "artifactsa/b",
    ] {
        store.put(place, "content");
    }
    let expires = now() + 60;
    let good = link(&app, "a/b", expires);
    assert_eq!(get(&good).await.status(), 200);
    let (start, sign) = good.rsplit_once('=').expect("a signature");
    let expiry = format!("expires={expires}");

    let mut changed: Vec<String> = [
        ("/a/b?", "/a/c?"),
        ("/a/b?", "/ab?"),
        ("/a/b?", "/a/B?"),
        ("/a/b?", "/a/b/?"),
        ("/a/b?", "//a/b?"),
        ("/a/b?", "/a/%62b?"),
        ("/files/artifacts/", "/files/artifact/"),
        ("/files/artifacts/a/", "/files/artifactsa/"),
        ("/files/artifacts/", "/files/"),
        (&expiry, &format!("expires={}", expires + 1)),
        (&expiry, &format!("expires={}", expires - 1)),
        (&expiry, &format!("expires=0{expires}0")),
        (&expiry, &format!("expires=%2B{expires}")),
        (&expiry, "expires="),
        (&expiry, "expires=never"),
        (&expiry, "expires=99999999999999999999"),
        (&expiry, "expired=1"),
        (&expiry, &format!("{expiry}&{expiry}")),
        ("&signature=", "&signature=0&signature="),
        ("&signature=", "&signed="),
        ("&signature=", "&download=1&signature="),
        (sign, &sign.to_uppercase()),
        (sign, &sign[..63]),
        (sign, ""),
        (sign, &format!("{sign}00")),
        (sign, &"0".repeat(64)),
        (
            sign,
            &signature(
                "artifacts",
                "a/b",
                expires,
                "another key of more than thirty-two bytes",
            ),
        ),
        (sign, &signature("artifacts", "a/b", expires, "")),
        (sign, &signature("artifacts", "a/c", expires, SIGNING_KEY)),
    ]
    .into_iter()
    .map(|(from, to)| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    })
    .collect();
    changed.push(good.split('?').next().unwrap_or_default().to_owned());
    for index in 0..64 {
        let mut digits = sign.as_bytes().to_vec();
        digits[index] = if digits[index] == b'0' { b'1' } else { b'0' };
        let digits = String::from_utf8(digits).expect("text");
        changed.push(format!("{start}={digits}"));
    }
    for url in &changed {
        let refused = refusal(get(url).await).await;
        assert_eq!(refused, (403, "invalid_signature".to_owned()), "{url}");
    }
    println!("{} changed links refused", changed.len());
    // A slash in its encoded form is the same slash: what is signed is what was meant.
    let same = good.replace("/a/b?", "/a%2Fb?");
    assert_eq!(get(&same).await.status(), 200);
}

#[tokio::test]
async fn no_path_leads_out_of_the_store() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/deep/inside", "content");
    store.put("artifacts/.hidden", "content");
    store.put("other/file", "SECRET of another bucket");
    store.put("loose", "SECRET outside of a bucket");
    store.put("../outside", "SECRET outside of the store");
    let bucket = store.place("artifacts");
    for (target, name) in [
        ("../../outside", "up"),
        ("../../../outside", "further-up"),
        (
            store.place("../outside").to_str().expect("text"),
            "absolute",
        ),
        ("/", "root"),
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("deep", "down"),
    ] {
        symlink(target, bucket.join(name)).expect("a link");
    }
    let pipe = std::process::Command::new("mkfifo")
        .arg(bucket.join("pipe"))
        .status();
    assert!(pipe.expect("mkfifo").success());

    let expires = now() + 60;
    let mut count = 0;
    for (bucket, path) in [
        ("artifacts", "../other/file"),
        ("artifacts", "../loose"),
        ("artifacts", "../../outside"),
        ("artifacts", "deep/../../other/file"),
        ("artifacts", "deep/./inside"),
        ("artifacts", "deep//inside"),
        ("artifacts", "deep/../deep/inside"),
        ("artifacts", "/etc/passwd"),
        ("artifacts", "../../../../../../../../etc/passwd"),
        ("artifacts", ".."),
        ("artifacts", "."),
        ("artifacts", ""),
        ("artifacts", "deep"),
        ("artifacts", "deep/"),
        ("artifacts", "deep\\inside"),
        ("artifacts", "..\\other\\file"),
        ("artifacts", "deep/inside\0"),
        ("artifacts", "deep/inside\0.txt"),
        ("artifacts", "deep/inside\n"),
        ("artifacts", "up"),
        ("artifacts", "further-up"),
        ("artifacts", "absolute"),
        ("artifacts", "root/etc/passwd"),
        ("artifacts", "dangling"),
        ("artifacts", "loop"),
        ("artifacts", "pipe"),
        ("artifacts", "deep/inside/more"),
        ("artifacts", "absent"),
        ("", "loose"),
        (".", "loose"),
        ("..", "outside"),
        ("artifacts/deep", "inside"),
        ("artifacts/../other", "file"),
        ("other/../../", "outside"),
        ("*", "file"),
    ] {
        // Signed with the real key, as nobody should be able to: the last line of defence.
        let signature = signature(bucket, path, expires, SIGNING_KEY);
        let every_byte = |text: &str| {
            text.bytes()
                .map(|byte| format!("%{byte:02x}"))
                .collect::<String>()
        };
        let plain = |text: &str| encoded(text).replace("%5C", "\\");
        for (bucket, path) in [
            (encoded(bucket), encoded(path)),
            (plain(bucket), plain(path)),
            (every_byte(bucket), every_byte(path)),
            (
                bucket.replace('/', "%2f"),
                encoded(path).replace('.', "%2E").replace('/', "%2F"),
            ),
        ] {
            let target = format!("/files/{bucket}/{path}?expires={expires}&signature={signature}");
            let answer = raw(&app, &target).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(
                ["400", "403", "404"].contains(&status),
                "{target}: {answer}"
            );
            for inside in ["SECRET", "root:", "content\""] {
                assert!(!answer.contains(inside), "{target}: {answer}");
            }
            count += 1;
        }
    }
    // What was not signed, in the ways that have fooled others.
    let good = signature("artifacts", "deep/inside", expires, SIGNING_KEY);
    for path in [
        "artifacts/../loose",
        "artifacts/%2e%2e/loose",
        "artifacts/%252e%252e/loose",
        "artifacts/..%2floose",
        "artifacts/..%5cloose",
        "artifacts/%c0%ae%c0%ae/loose",
        "artifacts/..;/loose",
        "artifacts/deep/inside/../../../loose",
        "../files/artifacts/../loose",
        "./loose",
        "%2e%2e%2foutside",
    ] {
        let target = format!("/files/{path}?expires={expires}&signature={good}");
        let answer = raw(&app, &target).await;
        assert!(
            !answer.starts_with("HTTP/1.1 200") && !answer.contains("SECRET"),
            "{target}: {answer}"
        );
        count += 1;
    }
    println!("{count} ways out of the store tried");
    // A link that stays inside is followed, and an odd name that is only a name is served.
    for path in ["down/inside", "deep/inside", ".hidden"] {
        assert_eq!(
            get(&link(&app, path, expires)).await.status(),
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_file_that_comes_later_is_there_and_one_that_goes_is_not() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    let link = link(&app, "later", now() + 60);
    assert_eq!(
        refusal(get(&link).await).await,
        (404, "object_not_found".to_owned())
    );
    store.put("artifacts/later", "content");
    assert_eq!(get(&link).await.status(), 200);
    std::fs::remove_file(store.place("artifacts/later")).expect("it was there");
    assert_eq!(
        refusal(get(&link).await).await,
        (404, "object_not_found".to_owned())
    );
}

#[tokio::test]
async fn without_a_key_nothing_is_served() {
    let store = LocalStore::new();
    store.put("artifacts/a", "content");
    for key in ["", "short", &SIGNING_KEY[..31]] {
        let app = store.serve(&[("artifact_signing_key", key)]).await;
        let expires = now() + 60;
        for signed in [signature("artifacts", "a", expires, key), String::new()] {
            let base = app.server().addr();
            let url =
                format!("http://{base}/files/artifacts/a?expires={expires}&signature={signed}");
            let refused = refusal(get(&url).await).await;
            assert_eq!(refused, (503, "signing_not_configured".to_owned()));
        }
    }
}

#[tokio::test]
async fn files_are_only_read() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    store.put("artifacts/a", "content");
    let link = link(&app, "a", now() + 60);
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ] {
        let request = Client::new().request(method, &link).body("other");
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers()["allow"], "GET, HEAD");
        assert_eq!(
            refusal(response).await,
            (405, "method_not_allowed".to_owned())
        );
    }
    assert_eq!(get(&link).await.text().await.expect("a body"), "content");
}
