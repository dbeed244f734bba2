//! Keys and tokens that the tests show at the door.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The API key that the harness's own applications know.
pub const API_KEY: &str = "test-api-key-0123456789abcdef";
/// The secret of the tokens that the harness's own applications accept.
pub const JWT_SECRET: &str = "test-jwt-secret-0123456789abcdef0123456789abcdef";

/// The key of the links to files that the harness's own applications make.
pub const SIGNING_KEY: &str = "test-signing-key-0123456789abcdef0123456789abcdef";

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs()
}

/// A token that says `role` and is good for an hour.
pub fn token(role: &str) -> String {
    signed(&json!({ "role": role, "exp": now() + 3600 }), JWT_SECRET)
}

/// An HS256 token with these claims, signed with `secret`.
pub fn signed(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key)
        .expect("claims can be signed")
}

/// A token with any header at all, signed with HS256 and `secret` whatever the header says.
pub fn forged(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
    format!("{message}.{}", signature.expect("a message can be signed"))
}
