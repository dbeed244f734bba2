//! Credentials of every kind, and whom each makes of its bearer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use millrace_tests::keys::{API_KEY, JWT_SECRET, forged, now, signed, token};
use serde_json::json;

/// Whom credentials make of their bearer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bearer {
    Worker,
    Reader,
    Nobody,
    /// Refused with 401 and this code.
    Stranger(&'static str),
}

impl Bearer {
    /// The status and the error code that a route of this scope refuses him with; `None` if it lets him in.
    pub fn refusal(self, scope: &str) -> Option<(u16, &'static str)> {
        match self {
            Self::Stranger(code) => Some((401, code)),
            Self::Worker => None,
            Self::Reader if ["read", "metrics"].contains(&scope) => None,
            Self::Reader | Self::Nobody => Some((403, "forbidden")),
        }
    }
}

/// Headers and their values.
pub type Shown = Vec<(&'static str, String)>;

pub fn bearer(token: &str) -> Shown {
    vec![("authorization", format!("Bearer {token}"))]
}

/// Tokens of every kind, and whom each makes of its bearer.
pub fn tokens() -> Vec<(&'static str, String, Bearer)> {
    const INVALID: Bearer = Bearer::Stranger("invalid_token");
    let later = now() + 3600;
    let good = token("service_role");
    let claims = json!({"role": "service_role", "exp": later});
    let forged = |algorithm: &str| {
        forged(
            &json!({"alg": algorithm, "typ": "JWT"}),
            &claims,
            JWT_SECRET,
        )
    };
    let by = |algorithm| {
        let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).expect("claims can be signed")
    };
    let parts: Vec<_> = good.split('.').collect();
    let grown =
        URL_SAFE_NO_PAD.encode(json!({"role": "service_role", "exp": later + 1}).to_string());
    vec![
        ("good", good.clone(), Bearer::Worker),
        ("role worker", token("worker"), Bearer::Worker),
        ("role authenticated", token("authenticated"), Bearer::Nobody),
        ("role reader", token("reader"), Bearer::Reader),
        ("role anon", token("anon"), Bearer::Nobody),
        ("role unknown", token("SERVICE_ROLE"), Bearer::Nobody),
        (
            "role no text",
            signed(&json!({"role": ["service_role"], "exp": later}), JWT_SECRET),
            Bearer::Nobody,
        ),
        (
            "no role",
            signed(&json!({"exp": later}), JWT_SECRET),
            Bearer::Nobody,
        ),
        (
            "expired",
            signed(
                &json!({"role": "service_role", "exp": now() - 60}),
                JWT_SECRET,
            ),
            Bearer::Stranger("token_expired"),
        ),
        (
            "expired, wrong secret",
            signed(
                &json!({"role": "service_role", "exp": now() - 60}),
                &JWT_SECRET.to_uppercase(),
            ),
            INVALID,
        ),
        (
            "not yet valid",
            signed(
                &json!({"role": "service_role", "exp": later, "nbf": now() + 600}),
                JWT_SECRET,
            ),
            INVALID,
        ),
        (
            "no exp",
            signed(&json!({"role": "service_role"}), JWT_SECRET),
            INVALID,
        ),
        (
            "exp is no number",
            signed(&json!({"role": "service_role", "exp": "never"}), JWT_SECRET),
            INVALID,
        ),
        (
            "wrong secret",
            signed(&claims, &JWT_SECRET.to_uppercase()),
            INVALID,
        ),
        ("no secret", signed(&claims, ""), INVALID),
        (
            "alg none",
            format!(
                "{}.{}.",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
                parts[1]
            ),
            INVALID,
        ),
        ("alg none, signed", forged("none"), INVALID),
        ("alg HS384", by(Algorithm::HS384), INVALID),
        ("alg HS512", by(Algorithm::HS512), INVALID),
        ("alg RS256, signed as HS256", forged("RS256"), INVALID),
        ("alg ES256, signed as HS256", forged("ES256"), INVALID),
        (
            "payload tampered with",
            format!("{}.{grown}.{}", parts[0], parts[2]),
            INVALID,
        ),
        (
            "no signature",
            format!("{}.{}.", parts[0], parts[1]),
            INVALID,
        ),
        ("two parts", format!("{}.{}", parts[0], parts[1]), INVALID),
        ("no token", "x".to_owned(), INVALID),
        ("too long", "x".repeat(9000), INVALID),
    ]
}

/// Everything that can be shown where a key and a token both work.
pub fn credentials() -> Vec<(String, Shown, Bearer)> {
    let wrong_key = Bearer::Stranger("invalid_api_key");
    let wrong_token = Bearer::Stranger("invalid_token");
    let key = |value: &str| vec![("x-api-key", value.to_owned())];
    let good = token("service_role");
    let mut all = vec![
        (
            "none".to_owned(),
            vec![],
            Bearer::Stranger("missing_credentials"),
        ),
        ("key".to_owned(), key(API_KEY), Bearer::Worker),
        ("key: wrong".to_owned(), key("wrong"), wrong_key),
        ("key: empty".to_owned(), key(""), wrong_key),
        (
            "key: its beginning".to_owned(),
            key(&API_KEY[..API_KEY.len() - 1]),
            wrong_key,
        ),
        (
            "key: and more".to_owned(),
            key(&format!("{API_KEY}0")),
            wrong_key,
        ),
        (
            "key: in capitals".to_owned(),
            key(&API_KEY.to_uppercase()),
            wrong_key,
        ),
        (
            "key: twice".to_owned(),
            [key(API_KEY), key(API_KEY)].concat(),
            wrong_key,
        ),
        (
            "key wrong, token good".to_owned(),
            [key("wrong"), bearer(&good)].concat(),
            wrong_key,
        ),
        (
            "key as a bearer".to_owned(),
            bearer(API_KEY),
            Bearer::Worker,
        ),
        (
            "key in apikey".to_owned(),
            vec![("apikey", API_KEY.to_owned())],
            Bearer::Worker,
        ),
        (
            "the secret as a token".to_owned(),
            bearer(JWT_SECRET),
            wrong_token,
        ),
        (
            "Basic".to_owned(),
            vec![("authorization", "Basic dGVzdDp0ZXN0".to_owned())],
            wrong_token,
        ),
        (
            "Bearer alone".to_owned(),
            vec![("authorization", "Bearer".to_owned())],
            wrong_token,
        ),
        (
            "bearer in small letters".to_owned(),
            vec![("authorization", format!("bearer {good}"))],
            Bearer::Worker,
        ),
        (
            "two tokens".to_owned(),
            [bearer(&good), bearer(&good)].concat(),
            wrong_token,
        ),
    ];
    for (name, token, whom) in tokens() {
        all.push((format!("token: {name}"), bearer(&token), whom));
        all.push((format!("apikey: {name}"), vec![("apikey", token)], whom));
    }
    all
}
