//! Tokens that are signed with keys that their issuer publishes: which are believed, and how often the issuer is asked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::issuer::{Issuer, SigningKey};
use millrace_tests::keys::{API_KEY, JWT_SECRET, forged, now, token};
use reqwest::Method;
use serde_json::{Value, json};

const ACTIVE: &str = "/api/collab/workers/active";
const INVALID: (u16, &str) = (401, "invalid_token");
const GOOD: (u16, &str) = (200, "");

async fn show(app: &App, path: &str, token: &str) -> Answer {
    let request = app.api.bare(Method::GET, path).bearer_auth(token);
    app.api.send(request).await
}

/// The status and, of a refusal, the code.
fn verdict(answer: &Answer) -> (u16, String) {
    match answer.status {
        200 => (200, String::new()),
        status => (status, answer.code()),
    }
}

async fn assert_verdict(app: &App, name: &str, token: &str, expected: (u16, &str)) {
    let answer = show(app, ACTIVE, token).await;
    let (status, code) = verdict(&answer);
    assert_eq!((status, code.as_str()), expected, "{name}: {}", answer.text);
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"role": "service_role", "exp": now() + 3600});
    for (name, value) in more.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn tokens_of_published_keys_are_believed_and_no_others() {
    let (rsa, p256) = (SigningKey::shared_rsa(), SigningKey::p256("p256"));
    let weak = SigningKey::rsa("weak", 1024);
    let for_encryption = {
        let mut key = SigningKey::p256("encryption");
        key.jwk["use"] = "enc".into();
        key
    };
    let issuer = Issuer::start(&[rsa, &p256, &weak, &for_encryption]).await;
    let app = issuer.app(&[]).await;
    let good = claims(json!({}));
    // What somebody could take for the HMAC's secret who has only what is public.
    let public = [
        rsa.jwk["n"].as_str().expect("a modulus").to_owned(),
        rsa.jwk.to_string(),
        p256.jwk.to_string(),
    ];
    let confused = public.iter().map(|secret| {
        let header = json!({"alg": "HS256", "kid": "rsa", "typ": "JWT"});
        (
            "HS256 with the public key",
            forged(&header, &good, secret),
            INVALID,
        )
    });
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"rsa"}"#);
    let body = URL_SAFE_NO_PAD.encode(good.to_string());
    let signed = rsa.token("service_role");
    let (head_and_claims, signature) = signed.rsplit_once('.').expect("a token");
    let other_head =
        URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"rsa","crit":["b64"],"b64":false}"#);

    let mut cases: Vec<(&str, String, (u16, &str))> = vec![
        ("RS256", signed.clone(), GOOD),
        ("ES256", p256.token("service_role"), GOOD),
        ("a reader", p256.token("reader"), GOOD),
        ("anon", p256.token("anon"), (403, "forbidden")),
        (
            "no kid, one key of the algorithm",
            rsa.signed(None, &good),
            GOOD,
        ),
        (
            "unknown kid",
            rsa.called("unknown").token("worker"),
            INVALID,
        ),
        (
            "another's signature",
            SigningKey::p256("p256").token("worker"),
            INVALID,
        ),
        (
            "the kid of another algorithm",
            rsa.called("p256").token("worker"),
            INVALID,
        ),
        ("a weak key", weak.token("worker"), INVALID),
        (
            "a key for encryption",
            for_encryption.token("worker"),
            INVALID,
        ),
        ("the project's secret", token("service_role"), INVALID),
        (
            "RS256 in name only",
            forged(&json!({"alg": "RS256", "kid": "rsa"}), &good, JWT_SECRET),
            INVALID,
        ),
        ("alg none", format!("{none}.{body}."), INVALID),
        (
            "alg none, signed",
            format!("{none}.{body}.{signature}"),
            INVALID,
        ),
        ("no signature", format!("{head_and_claims}."), INVALID),
        (
            "a must-understand extension",
            format!("{other_head}.{body}.{signature}"),
            INVALID,
        ),
        (
            "expired",
            rsa.signed(Some("rsa"), &claims(json!({"exp": now() - 60}))),
            (401, "token_expired"),
        ),
        (
            "not yet valid",
            p256.signed(Some("p256"), &claims(json!({"nbf": now() + 600}))),
            INVALID,
        ),
        (
            "no exp",
            p256.signed(Some("p256"), &json!({"role": "worker"})),
            INVALID,
        ),
        ("no token", "x".to_owned(), INVALID),
    ];
    cases.extend(confused);
    for (name, token, expected) in &cases {
        assert_verdict(&app, name, token, *expected).await;
    }
    // The first time, and once more for the key that nobody knew.
    let fetches = issuer.fetches();
    assert!((1..=2).contains(&fetches), "{fetches} fetches");
    println!("published keys: {} tokens, {fetches} fetches", cases.len());

    // Keys count beside tokens as in the other mode.
    app.api.get(ACTIVE).await.ok();
    let missing = app.api.send(app.api.bare(Method::GET, ACTIVE)).await;
    missing.assert_refused(401, "missing_credentials");
}

#[tokio::test]
async fn issuer_and_audience_count_here_too_and_keys_do_not_where_tokens_are_required() {
    let key = SigningKey::p256("a");
    let issuer = Issuer::start(&[&key]).await;
    let app = issuer
        .app(&[
            ("collab_jwt_issuer", "https://issuer.example/auth/v1"),
            ("collab_jwt_audience", "authenticated"),
            ("collab_require_jwt", "1"),
            ("supabase_jwt_secret", ""),
        ])
        .await;
    let with = |more: Value| key.signed(Some("a"), &claims(more));
    let (iss, aud) = ("https://issuer.example/auth/v1", "authenticated");
    for (name, token, expected) in [
        ("both", with(json!({"iss": iss, "aud": aud})), GOOD),
        ("no audience", with(json!({"iss": iss})), INVALID),
        ("no issuer", with(json!({"aud": aud})), INVALID),
        (
            "another",
            with(json!({"iss": "https://other.example", "aud": aud})),
            INVALID,
        ),
        ("the API key", API_KEY.to_owned(), INVALID),
    ] {
        assert_verdict(&app, name, &token, expected).await;
    }
    app.api
        .get(ACTIVE)
        .await
        .assert_refused(401, "missing_credentials");
}

#[tokio::test]
async fn a_rotated_key_is_picked_up_at_once() {
    let (old, new) = (SigningKey::p256("old"), SigningKey::p256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let app = issuer.app(&[]).await;
    assert_verdict(&app, "old", &old.token("worker"), GOOD).await;
    assert_eq!(issuer.fetches(), 1);

    issuer.publish(&[&old, &new]);
    assert_verdict(&app, "new", &new.token("worker"), GOOD).await;
    assert_verdict(&app, "old, still published", &old.token("worker"), GOOD).await;
    assert_eq!(issuer.fetches(), 2);

    // And one more within half a minute is one too many: who makes names up must not make requests.
    issuer.publish(&[&SigningKey::p256("newest")]);
    for made_up in 0..20 {
        let token = new.signed(Some(&format!("made up {made_up}")), &claims(json!({})));
        assert_verdict(&app, "made up", &token, INVALID).await;
    }
    assert_eq!(issuer.fetches(), 2);
}

/// The same application served once more over the same database: none of its instances has begun yet.
async fn cold(issuer: &Issuer, app: &App) -> App {
    let database = Database::open(app.database.url()).await;
    let database = database.with_functions_url(&app.database.functions_url());
    issuer.app_over(database, &[]).await
}

#[tokio::test]
async fn the_set_outlives_the_instances_that_fetched_it() {
    let (key, new) = (SigningKey::p256("a"), SigningKey::p256("new"));
    let issuer = Issuer::start(&[&key]).await;
    let app = issuer.app(&[]).await;
    let good = key.token("worker");
    assert_verdict(&app, "first", &good, GOOD).await;
    for seconds in [2, 4, 540] {
        app.database.set_clock_ahead(f64::from(seconds)).await;
        assert_verdict(&cold(&issuer, &app).await, "later", &good, GOOD).await;
    }
    // Nor do other components ask for what one has.
    show(&app, "/api/collab/jobs/recent", &good).await.ok();
    show(&app, "/functions/v1/dlq-list", &good).await.ok();
    assert_eq!(issuer.fetches(), 1);

    // What an instance fetches is known to one that keeps an older set.
    let other = cold(&issuer, &app).await;
    assert_verdict(&other, "before", &good, GOOD).await;
    issuer.publish(&[&key, &new]);
    assert_verdict(&app, "new", &new.token("worker"), GOOD).await;
    assert_eq!(issuer.fetches(), 2);
    assert_verdict(&other, "new elsewhere", &new.token("worker"), GOOD).await;
    assert_eq!(issuer.fetches(), 2);

    issuer.say(500, "", "");
    for seconds in [700, 1200, 4080] {
        app.database.set_clock_ahead(f64::from(seconds)).await;
        assert_verdict(&cold(&issuer, &app).await, "an outage", &good, GOOD).await;
    }
    app.database.set_clock_ahead(4210.0).await;
    let answer = show(&cold(&issuer, &app).await, ACTIVE, &good).await;
    answer.assert_refused(503, "jwks_unavailable");
}

#[tokio::test]
async fn a_storm_of_made_up_keys_makes_two_fetches() {
    let key = SigningKey::p256("a");
    let issuer = Issuer::start(&[&key]).await;
    let app = issuer.app(&[]).await;
    app.database.stop_clock_at("2040-01-01 10:00:00+00").await;
    let apps = [&app, &cold(&issuer, &app).await];
    let (rounds, at_once) = (60, 8);
    for round in 0..rounds {
        let tokens: Vec<String> = (0..at_once)
            .map(|n| key.signed(Some(&format!("{round}/{n}")), &claims(json!({}))))
            .collect();
        let shown = tokens.iter().zip(apps.iter().cycle());
        for answer in join_all(shown.map(|(token, app)| show(app, ACTIVE, token))).await {
            answer.assert_refused(401, "invalid_token");
        }
    }
    // The first one and the one for a key that it lacks, for all instances of both together: each serves 128 requests.
    println!(
        "a storm of {} made-up keys: {} fetches",
        rounds * at_once,
        issuer.fetches()
    );
    assert_eq!(issuer.fetches(), 2);
    for app in apps {
        assert_verdict(app, "good", &key.token("worker"), GOOD).await;
    }
}

#[tokio::test]
async fn a_set_that_cannot_be_had_is_503_and_one_that_was_had_serves_on() {
    let key = SigningKey::p256("a");
    let issuer = Issuer::start(&[&key]).await;
    let app = issuer.app(&[]).await;
    let good = key.token("worker");
    let unavailable = |answer: &Answer, what: &str| {
        answer.assert_refused(503, "jwks_unavailable");
        assert_eq!(answer.header("retry-after"), "5", "{what}");
    };
    let large = json!({"keys": [key.jwk], "padding": "x".repeat(64 << 10)}).to_string();
    let many = json!({"keys": vec![&key.jwk; 33]}).to_string();
    // To itself: it would have the keys.
    let away: &'static str = Box::leak(format!("location: {}\r\n", issuer.url()).into_boxed_str());
    let mut hour = 0.0;
    for (what, status, headers, body) in [
        ("too large", 200, "", large.as_bytes()),
        ("too many keys", 200, "", many.as_bytes()),
        ("no JSON", 200, "", b"<html>"),
        ("no text", 200, "", b"{\"keys\": [], \"\xff\": 1}"),
        ("an error", 500, "", b"{}"),
        ("a redirect", 302, away, b""),
    ] {
        issuer.say(status, headers, body);
        let fetches = issuer.fetches();
        unavailable(&show(&app, ACTIVE, &good).await, what);
        assert_eq!(issuer.fetches(), fetches + 1, "{what}");
        hour += 3600.0;
        app.database.set_clock_ahead(hour).await;
    }
    issuer.fall_silent();
    unavailable(&show(&app, ACTIVE, &good).await, "silence");
    let fetches = issuer.fetches();
    for path in [ACTIVE, "/functions/v1/sign-artifact?path=a"] {
        unavailable(&show(&app, path, &good).await, "silence, again");
    }
    assert_eq!(issuer.fetches(), fetches, "it is left alone for 5 s");
    let key_counts = app.api.request(Method::GET, "/metrics");
    assert_eq!(app.api.send(key_counts).await.status, 200);

    app.database.set_clock_ahead(hour + 3600.0).await;
    issuer.publish(&[&key]);
    assert_verdict(&app, "before", &good, GOOD).await;
    issuer.say(500, "", "");
    assert_verdict(&app, "meanwhile", &good, GOOD).await;
    let perhaps_new = SigningKey::p256("b").token("worker");
    unavailable(&show(&app, ACTIVE, &perhaps_new).await, "an unknown key");
    assert_verdict(&app, "after", &good, GOOD).await;
}

#[tokio::test]
async fn only_the_host_that_is_allowed_is_asked() {
    let key = SigningKey::p256("a");
    let issuer = Issuer::start(&[&key]).await;
    let app = issuer
        .app(&[("collab_jwks_host", "https://jwks.invalid")])
        .await;
    let answer = show(&app, ACTIVE, &key.token("worker")).await;
    answer.assert_refused(503, "jwks_unavailable");
    assert_eq!(issuer.fetches(), 0);
}
