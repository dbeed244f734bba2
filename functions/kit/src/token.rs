//! JSON Web Tokens (RFC 7519), signed as Supabase signs them: with HS256 and the project's secret, or with
//! RS256 or ES256 and one of the keys that the issuer publishes.

use http::Uri;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Problem;
use crate::auth::Role;
use crate::{jwks, signature};

/// How far, in seconds, the clocks of whoever signs and of the host may be apart when `exp` and
/// `nbf` are checked.
pub const LEEWAY_SECONDS: u64 = 5;

/// The least length of the secret in bytes: RFC 7518 section 3.2 wants a key of the hash's size.
pub const LEAST_SECRET: usize = 32;

/// What a token must satisfy to be believed.
pub struct TokenRules {
    keys: Keys,
    validation: Validation,
}

/// What tokens are signed with.
enum Keys {
    /// HS256 with this secret.
    Secret(DecodingKey),
    /// RS256 or ES256 with a key of the set at this URL.
    Published(String),
}

/// The only claim that the functions look at themselves. Any type is taken, so that a token whose
/// `role` is no text is one without rights and not a broken one.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    role: Value,
}

impl TokenRules {
    /// Tokens signed with `secret`; an empty `issuer` or `audience` is not checked.
    ///
    /// # Errors
    /// If the secret has fewer than [`LEAST_SECRET`] bytes.
    pub fn with_secret(secret: &str, issuer: &str, audience: &str) -> Result<Self, &'static str> {
        if secret.len() < LEAST_SECRET {
            return Err("supabase_jwt_secret has fewer than 32 bytes");
        }
        let key = DecodingKey::from_secret(secret.as_bytes());
        Ok(Self::new(Keys::Secret(key), issuer, audience))
    }

    /// Tokens signed with a key that is published at `url`; an empty `issuer` or `audience` is not checked.
    ///
    /// # Errors
    /// If it is not an absolute `https` or `http` URL.
    pub fn with_published_keys(
        url: &str,
        issuer: &str,
        audience: &str,
    ) -> Result<Self, &'static str> {
        let web = url.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        match web {
            true => Ok(Self::new(Keys::Published(url.to_owned()), issuer, audience)),
            false => Err("collab_jwks_url is not an absolute https or http URL"),
        }
    }

    fn new(keys: Keys, issuer: &str, audience: &str) -> Self {
        // It fails only where a provider is installed already, which is this one.
        let _ = signature::PROVIDER.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.validate_aud = !audience.is_empty();
        let mut required = vec!["exp"];
        if !issuer.is_empty() {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if !audience.is_empty() {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Self { keys, validation }
    }

    /// The role that a token gives its bearer.
    ///
    /// # Errors
    /// 401 `token_expired` if it was good once, else 401 `invalid_token`; which check failed is not
    /// told, since whoever signs tokens can see for himself and whoever forges them should not learn.
    /// 503 `jwks_unavailable` if the keys that it could be signed with cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Role, Problem> {
        let url = match &self.keys {
            Keys::Secret(key) => return self.check(token, Algorithm::HS256, key),
            Keys::Published(url) => url,
        };
        // So far only claims: a key is chosen by them, and then they are checked with it.
        let header = decode_header(token).map_err(|_| invalid())?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(invalid());
        }
        let key = jwks::key(url, &header).await?.ok_or_else(invalid)?;
        self.check(token, key.algorithm, &key.key)
    }

    /// Believes a token that is signed with `key`, by this algorithm and no other.
    fn check(&self, token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<Role, Problem> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm];
        let token =
            decode::<Claims>(token, key, &validation).map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => {
                    Problem::unauthorized("token_expired", "the token has expired")
                }
                _ => invalid(),
            })?;
        // RFC 7515 section 4.1.11: extensions that are not understood but must be. None are here.
        if token.header.crit.is_some() {
            return Err(invalid());
        }
        Ok(Role::of_claim(token.claims.role.as_str()))
    }
}

fn invalid() -> Problem {
    Problem::unauthorized("invalid_token", "the token is not valid")
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use jsonwebtoken::get_current_timestamp;
    use serde_json::json;

    use super::*;
    use crate::signature::signing::signed;

    const SECRET: &str = "a secret of more than thirty-two bytes";

    fn good(claims: &Value) -> String {
        signed(&json!({"alg": "HS256", "typ": "JWT"}), SECRET, claims)
    }

    fn verdict(claims: &Value) -> Result<Role, String> {
        let rules = TokenRules::with_secret(SECRET, "", "").unwrap();
        let outcome = block_on(rules.verify(&good(claims)));
        outcome.map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn the_role_is_read_from_the_claim() {
        let exp = get_current_timestamp() + 60;
        for (role, expected) in [
            (json!("service_role"), Role::Service),
            (json!("worker"), Role::Worker),
            (json!("authenticated"), Role::Nobody),
            (json!("reader"), Role::Reader),
            (json!("anon"), Role::Nobody),
            (json!("SERVICE_ROLE"), Role::Nobody),
            (json!(["service_role"]), Role::Nobody),
            (Value::Null, Role::Nobody),
        ] {
            assert_eq!(
                verdict(&json!({"role": role, "exp": exp})),
                Ok(expected),
                "{role}"
            );
        }
        assert_eq!(verdict(&json!({"exp": exp})), Ok(Role::Nobody));
    }

    #[test]
    fn times_are_checked_with_a_small_leeway() {
        let now = get_current_timestamp();
        let code = |claims: Value| verdict(&claims).unwrap_err();
        assert_eq!(code(json!({"exp": now - 60})), "token_expired");
        assert_eq!(
            code(json!({"exp": now + 60, "nbf": now + 60})),
            "invalid_token"
        );
        assert_eq!(code(json!({"role": "worker"})), "invalid_token");
        assert_eq!(code(json!({"exp": "tomorrow"})), "invalid_token");
        assert!(verdict(&json!({"exp": now + 60, "nbf": now - 60})).is_ok());
    }

    #[test]
    fn only_hs256_with_the_secret_is_believed() {
        let rules = TokenRules::with_secret(SECRET, "", "").unwrap();
        let claims = json!({"role": "worker", "exp": get_current_timestamp() + 60});
        let good = good(&claims);
        let (signed_part, _) = good.rsplit_once('.').unwrap();
        let none = signed(&json!({"alg": "none"}), SECRET, &claims);
        for bad in [
            signed(&json!({"alg": "HS512"}), SECRET, &claims),
            signed(&json!({"alg": "RS256"}), SECRET, &claims),
            signed(
                &json!({"alg": "HS256"}),
                "another secret of more than 32 bytes",
                &claims,
            ),
            format!("{}.", none.rsplit_once('.').unwrap().0),
            none,
            format!("{signed_part}."),
            format!("{good}="),
            format!("{good}.{good}"),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(
                block_on(rules.verify(&bad)).unwrap_err().code(),
                "invalid_token",
                "{bad}"
            );
        }
        assert!(block_on(rules.verify(&good)).is_ok());
    }

    #[test]
    fn issuer_and_audience_are_required_when_they_are_set() {
        let rules = TokenRules::with_secret(SECRET, "https://issuer.example", "millrace").unwrap();
        let exp = get_current_timestamp() + 60;
        let accepted = |claims: Value| block_on(rules.verify(&good(&claims))).is_ok();
        assert!(accepted(
            json!({"exp": exp, "iss": "https://issuer.example", "aud": ["millrace"]})
        ));
        assert!(!accepted(
            json!({"exp": exp, "iss": "https://issuer.example"})
        ));
        assert!(!accepted(json!({"exp": exp, "aud": "millrace"})));
        assert!(!accepted(
            json!({"exp": exp, "iss": "https://other.example", "aud": "millrace"})
        ));
    }

    #[test]
    fn an_extension_that_must_be_understood_is_not() {
        let rules = TokenRules::with_secret(SECRET, "", "").unwrap();
        let header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
        let token = signed(
            &header,
            SECRET,
            &json!({"exp": get_current_timestamp() + 60}),
        );
        assert!(block_on(rules.verify(&token)).is_err());
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(TokenRules::with_secret("short", "", "").is_err());
    }

    #[test]
    fn keys_are_published_at_a_url() {
        let rules = |url| TokenRules::with_published_keys(url, "", "");
        assert!(rules("https://issuer.example/auth/v1/.well-known/jwks.json").is_ok());
        for wrong in [
            "",
            "issuer.example",
            "/jwks",
            "ftp://issuer.example",
            "https://",
            "https:// ",
        ] {
            assert!(rules(wrong).is_err(), "{wrong}");
        }
        // No key is asked for: whoever is not even of the right algorithm makes no request.
        let rules = rules("https://issuer.example").unwrap();
        let claims = json!({"role": "worker", "exp": get_current_timestamp() + 60});
        for wrong in [
            good(&claims),
            signed(&json!({"alg": "none"}), SECRET, &claims),
            "x".to_owned(),
        ] {
            assert_eq!(
                block_on(rules.verify(&wrong)).unwrap_err().code(),
                "invalid_token"
            );
        }
    }
}
