//! JSON Web Tokens (RFC 7519), signed with HS256 and the project's secret as Supabase signs them.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Problem;
use crate::auth::Role;
use crate::hs256;

/// How far, in seconds, the clocks of whoever signs and of the host may be apart when `exp` and
/// `nbf` are checked.
pub const LEEWAY_SECONDS: u64 = 5;

/// The least length of the secret in bytes: RFC 7518 section 3.2 wants a key of the hash's size.
pub const LEAST_SECRET: usize = 32;

/// What a token must satisfy to be believed.
pub struct TokenRules {
    key: DecodingKey,
    validation: Validation,
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
    pub fn new(secret: &str, issuer: &str, audience: &str) -> Result<Self, &'static str> {
        if secret.len() < LEAST_SECRET {
            return Err("supabase_jwt_secret has fewer than 32 bytes");
        }
        // It fails only where a provider is installed already, which is this one.
        let _ = hs256::PROVIDER.install_default();
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
        let key = DecodingKey::from_secret(secret.as_bytes());
        Ok(Self { key, validation })
    }

    /// The role that a token gives its bearer.
    ///
    /// # Errors
    /// 401 `token_expired` if it was good once, else 401 `invalid_token`; which check failed is not
    /// told, since whoever signs tokens can see for himself and whoever forges them should not learn.
    pub fn verify(&self, token: &str) -> Result<Role, Problem> {
        let invalid = || Problem::unauthorized("invalid_token", "the token is not valid");
        let token = decode::<Claims>(token, &self.key, &self.validation).map_err(|error| {
            match error.kind() {
                ErrorKind::ExpiredSignature => {
                    Problem::unauthorized("token_expired", "the token has expired")
                }
                _ => invalid(),
            }
        })?;
        // RFC 7515 section 4.1.11: extensions that are not understood but must be. None are here.
        if token.header.crit.is_some() {
            return Err(invalid());
        }
        Ok(Role::of_claim(token.claims.role.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::get_current_timestamp;
    use serde_json::json;

    use super::*;
    use crate::hs256::signing::signed;

    const SECRET: &str = "a secret of more than thirty-two bytes";

    fn good(claims: &Value) -> String {
        signed(&json!({"alg": "HS256", "typ": "JWT"}), SECRET, claims)
    }

    fn verdict(claims: &Value) -> Result<Role, String> {
        let rules = TokenRules::new(SECRET, "", "").unwrap();
        let outcome = rules.verify(&good(claims));
        outcome.map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn the_role_is_read_from_the_claim() {
        let exp = get_current_timestamp() + 60;
        for (role, expected) in [
            (json!("service_role"), Role::Worker),
            (json!("worker"), Role::Worker),
            (json!("authenticated"), Role::Reader),
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
        let rules = TokenRules::new(SECRET, "", "").unwrap();
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
                rules.verify(&bad).unwrap_err().code(),
                "invalid_token",
                "{bad}"
            );
        }
        assert!(rules.verify(&good).is_ok());
    }

    #[test]
    fn issuer_and_audience_are_required_when_they_are_set() {
        let rules = TokenRules::new(SECRET, "https://issuer.example", "millrace").unwrap();
        let exp = get_current_timestamp() + 60;
        let accepted = |claims: Value| rules.verify(&good(&claims)).is_ok();
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
        let rules = TokenRules::new(SECRET, "", "").unwrap();
        let header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
        let token = signed(
            &header,
            SECRET,
            &json!({"exp": get_current_timestamp() + 60}),
        );
        assert!(rules.verify(&token).is_err());
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(TokenRules::new("short", "", "").is_err());
    }
}
