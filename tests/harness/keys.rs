//! Keys and tokens that the tests show at the door.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The API key that the harness's own applications know.
pub const API_KEY: &str = "test-api-key-0123456789abcdef";
/// The secret of the tokens that the harness's own applications accept.
pub const JWT_SECRET: &str = "test-jwt-secret-0123456789abcdef0123456789abcdef";

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
