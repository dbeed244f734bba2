//! Who is asking: an API key or a token, and what its bearer may do (collab contract, Face 4).

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::answer::Problem;
use crate::caller::{forbidden, invalid_key, is_stored_key, stored_key};
use crate::log;
use crate::token::TokenRules;

pub use crate::caller::{Caller, Role, Scope};

/// The longest token that is looked at, in bytes.
const TOKEN_LIMIT: usize = 8192;

/// The application's variables that decide who is let in, as they were read.
pub struct Variables {
    /// `supabase_jwt_secret`: the secret that tokens are signed with; empty for none.
    pub supabase_jwt_secret: String,
    /// `collab_require_jwt`: `1` or `true` if the application's API key does not count: only tokens do, and stored keys.
    pub collab_require_jwt: String,
    /// `collab_jwt_mode`: `local`, which checks with the secret, or `jwks`, with published keys.
    pub collab_jwt_mode: String,
    /// `collab_jwks_url`: where the keys are published; it counts in the mode `jwks` only.
    pub collab_jwks_url: String,
    /// `collab_api_key`: what `x-api-key` must equal; empty for none.
    pub collab_api_key: String,
    /// `collab_jwt_issuer`: what `iss` must be; empty for anything.
    pub collab_jwt_issuer: String,
    /// `collab_jwt_audience`: what `aud` must contain; empty for anything.
    pub collab_jwt_audience: String,
}

/// The rules that follow from the variables. No `Debug`: it holds secrets.
pub struct Rules {
    require_jwt: bool,
    /// The SHA-256 of the key: digests have one length, so comparing them tells nothing of the key's.
    api_key: Option<[u8; 32]>,
    tokens: Option<TokenRules>,
}

impl Rules {
    /// Makes rules of the variables, or refuses to: what is not understood lets nobody in.
    ///
    /// # Errors
    /// 503 `auth_not_configured` if tokens are required and cannot be checked, or if a variable has a
    /// value that means nothing.
    pub fn new(variables: &Variables) -> Result<Self, Problem> {
        let require_jwt = match variables.collab_require_jwt.trim() {
            "1" | "true" => true,
            "" | "0" | "false" => false,
            _ => return Err(not_configured("collab_require_jwt is neither 1 nor 0")),
        };
        let (issuer, audience) = (&variables.collab_jwt_issuer, &variables.collab_jwt_audience);
        let tokens = match variables.collab_jwt_mode.trim() {
            "local" => match variables.supabase_jwt_secret.as_str() {
                "" => None,
                secret => Some(TokenRules::with_secret(secret, issuer, audience)),
            },
            "jwks" => {
                let url = variables.collab_jwks_url.trim();
                Some(TokenRules::with_published_keys(url, issuer, audience))
            }
            _ => return Err(not_configured("collab_jwt_mode is neither local nor jwks")),
        };
        let tokens = tokens.transpose().map_err(not_configured)?;
        let api_key = match variables.collab_api_key.as_str() {
            "" => None,
            key => Some(Sha256::digest(key).into()),
        };
        if require_jwt && tokens.is_none() {
            return Err(not_configured(
                "a token is required but supabase_jwt_secret is not set",
            ));
        }
        Ok(Self {
            require_jwt,
            api_key,
            tokens,
        })
    }

    /// Who sent a request with these headers, and that he may do what `scope` says.
    ///
    /// `x-api-key` goes first unless tokens are required; a token is taken from `Authorization:
    /// Bearer`, else from `apikey`, where Supabase's clients put what they have, be it a token or a key. A stored key, which
    /// begins with `mr_`, may be in any of the three, also where tokens are required: it was made for its bearer, with an end
    /// and with scopes.
    ///
    /// # Errors
    /// 401: `missing_credentials`, `invalid_api_key`, `invalid_token` or `token_expired`; 403
    /// `forbidden`; 503 `jwks_unavailable`; 503 `auth_not_configured` if neither a key nor a secret is set and no stored key
    /// was shown.
    pub async fn caller(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        if let Some(key) = shown_stored_key(headers)
            && !self.is_api_key(key)
        {
            return stored_key(key, scope);
        }
        if self.tokens.is_none() && self.api_key.is_none() {
            return Err(not_configured(
                "neither supabase_jwt_secret nor collab_api_key is set",
            ));
        }
        match self.role(headers).await?.has(scope) {
            true => Ok(Caller::anyone()),
            false => Err(forbidden()),
        }
    }

    /// The role of whoever sent a request with these headers, which show no stored key.
    async fn role(&self, headers: &HeaderMap) -> Result<Role, Problem> {
        let key = match self.require_jwt {
            true => None,
            false => only_value(headers, "x-api-key", "invalid_api_key")?,
        };
        match (key, &self.api_key, &self.tokens) {
            (Some(key), Some(expected), _) => match is_key(key.as_bytes(), expected) {
                true => Ok(Role::Service),
                false => Err(invalid_key()),
            },
            (Some(_), None, None) => Err(invalid_key()),
            (_, _, tokens) => match (bearer_token(headers), tokens) {
                (Ok(Some(key)), _) if self.is_api_key(key) => Ok(Role::Service),
                (_, None) | (Ok(None), _) => Err(self.missing()),
                (Ok(Some(token)), Some(tokens)) => tokens.verify(token).await,
                (Err(problem), _) => Err(problem),
            },
        }
    }

    /// Whether this is the application's key, and that counts.
    fn is_api_key(&self, shown: &str) -> bool {
        let expected = self.api_key.filter(|_| !self.require_jwt);
        expected.is_some_and(|expected| is_key(shown.as_bytes(), &expected))
    }

    fn missing(&self) -> Problem {
        let problem =
            Problem::unauthorized("missing_credentials", "the request carries no credentials");
        problem.with_hint(match (self.require_jwt, &self.api_key, &self.tokens) {
            (false, Some(_), None) => "send the API key as x-api-key",
            (false, Some(_), Some(_)) => {
                "send the API key as x-api-key, or a token as Authorization: Bearer"
            }
            _ => "send a token as Authorization: Bearer; an API key is not accepted here",
        })
    }
}

/// The stored key that the headers show in the place where credentials are looked for first.
fn shown_stored_key(headers: &HeaderMap) -> Option<&str> {
    let shown = match only_value(headers, "x-api-key", "invalid_api_key").ok()? {
        Some(value) => value.to_str().ok(),
        None => bearer_token(headers).ok()?,
    };
    shown.filter(|text| is_stored_key(text))
}

/// The token in the headers, if there is one.
fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let invalid = || Problem::unauthorized("invalid_token", "the token is not valid");
    let token = match only_value(headers, AUTHORIZATION.as_str(), "invalid_token")? {
        Some(value) => {
            let (scheme, token) = value
                .to_str()
                .ok()
                .and_then(|text| text.split_once(' '))
                .ok_or_else(invalid)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(invalid());
            }
            Some(token.trim())
        }
        None => match only_value(headers, "apikey", "invalid_token")? {
            Some(value) => Some(value.to_str().map_err(|_| invalid())?),
            None => None,
        },
    };
    match token {
        Some(token) if token.len() > TOKEN_LIMIT => Err(invalid()),
        token => Ok(token),
    }
}

/// The value of a header that may come once: of two, nobody could say which one counts.
fn only_value<'a>(
    headers: &'a HeaderMap,
    name: &str,
    code: &'static str,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Problem::unauthorized(code, "the credentials came twice")),
    }
}

fn is_key(given: &[u8], expected: &[u8; 32]) -> bool {
    let given: [u8; 32] = Sha256::digest(given).into();
    given.ct_eq(expected).into()
}

/// What is missing goes to the log; a stranger learns only that nobody is let in.
fn not_configured(what: &'static str) -> Problem {
    log::line(format_args!("authentication is not configured: {what}"));
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "auth_not_configured",
        "authentication is not configured, so nobody is let in",
    )
    .with_hint("the server's log says which variable is wrong")
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use jsonwebtoken::get_current_timestamp;
    use serde_json::json;

    use super::*;
    use crate::signature::signing::signed;

    const SECRET: &str = "a secret of more than thirty-two bytes";
    const KEY: &str = "the key";

    fn variables(secret: &str, require_jwt: &str, key: &str) -> Variables {
        Variables {
            supabase_jwt_secret: secret.to_owned(),
            collab_require_jwt: require_jwt.to_owned(),
            collab_jwt_mode: "local".to_owned(),
            collab_jwks_url: String::new(),
            collab_api_key: key.to_owned(),
            collab_jwt_issuer: String::new(),
            collab_jwt_audience: String::new(),
        }
    }

    fn rules(secret: &str, require_jwt: &str, key: &str) -> Rules {
        Rules::new(&variables(secret, require_jwt, key)).unwrap()
    }

    fn token() -> String {
        let claims = json!({"role": "service_role", "exp": get_current_timestamp() + 60});
        signed(&json!({"alg": "HS256"}), SECRET, &claims)
    }

    fn headers(shown: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in shown {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn role(rules: &Rules, shown: &[(&'static str, &str)]) -> Result<Role, String> {
        block_on(rules.role(&headers(shown))).map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn what_is_not_configured_lets_nobody_in() {
        let mut jwks = variables(SECRET, "1", KEY);
        jwks.collab_jwt_mode = "jwks".to_owned();
        for wrong in [
            variables("", "1", KEY),
            variables("short", "0", KEY),
            variables(SECRET, "yes", KEY),
            jwks,
        ] {
            let problem = Rules::new(&wrong).err().unwrap();
            assert_eq!(problem.code(), "auth_not_configured");
            assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    #[test]
    fn a_key_or_a_token_will_do_when_no_token_is_required() {
        let rules = rules(SECRET, "0", KEY);
        let bearer = format!("bearer {}", token());
        assert_eq!(role(&rules, &[("x-api-key", KEY)]), Ok(Role::Service));
        assert_eq!(
            role(&rules, &[("authorization", &bearer)]),
            Ok(Role::Service)
        );
        assert_eq!(role(&rules, &[("apikey", &token())]), Ok(Role::Service));
        // As Supabase's clients send whatever key they have.
        let key = format!("Bearer {KEY}");
        let both = [("apikey", KEY), ("authorization", key.as_str())];
        assert_eq!(role(&rules, &both), Ok(Role::Service));
        for (headers, code) in [
            (vec![], "missing_credentials"),
            (vec![("x-api-key", "the kez")], "invalid_api_key"),
            (vec![("x-api-key", "")], "invalid_api_key"),
            (
                vec![("x-api-key", "no"), ("authorization", bearer.as_str())],
                "invalid_api_key",
            ),
            (
                vec![("x-api-key", KEY), ("x-api-key", KEY)],
                "invalid_api_key",
            ),
            (
                vec![("authorization", "Basic dGhlIGtleQ==")],
                "invalid_token",
            ),
            (vec![("authorization", "Bearer")], "invalid_token"),
            (vec![("apikey", "the kez")], "invalid_token"),
        ] {
            assert_eq!(role(&rules, &headers), Err(code.to_owned()), "{headers:?}");
        }
    }

    #[test]
    fn a_key_does_not_count_when_a_token_is_required() {
        let rules = rules(SECRET, "true", KEY);
        let bearer = format!("Bearer {}", token());
        assert_eq!(
            role(&rules, &[("x-api-key", KEY)]),
            Err("missing_credentials".to_owned())
        );
        let both = [
            ("x-api-key", "whatever"),
            ("authorization", bearer.as_str()),
        ];
        assert_eq!(role(&rules, &both), Ok(Role::Service));
    }

    #[test]
    fn a_token_does_not_count_without_a_secret() {
        let rules = rules("", "0", KEY);
        let bearer = format!("Bearer {}", token());
        let code = role(&rules, &[("authorization", &bearer)]);
        assert_eq!(code, Err("missing_credentials".to_owned()));
    }

    #[test]
    fn a_key_does_not_count_when_none_is_set() {
        let rules = rules(SECRET, "0", "");
        assert_eq!(
            role(&rules, &[("x-api-key", "")]),
            Err("missing_credentials".to_owned())
        );
    }

    #[test]
    fn a_stored_key_is_left_to_the_database_wherever_it_stands() {
        let stored = format!("mr_{}", "0a".repeat(32));
        let bearer = format!("Bearer {stored}");
        let digest = format!("{:x}", Sha256::digest(&stored));
        let asked = format!(r#"{{"key":"{digest}","scope":"operate"}}"#);
        for rules in [
            rules(SECRET, "0", KEY),
            rules("", "0", ""),
            rules(SECRET, "1", KEY),
        ] {
            for header in [
                ("x-api-key", &stored),
                ("authorization", &bearer),
                ("apikey", &stored),
            ] {
                let headers = headers(&[(header.0, header.1)]);
                let caller = block_on(rules.caller(&headers, Scope::Operate)).ok();
                assert_eq!(
                    caller.and_then(|caller| caller.admission()),
                    Some(asked.clone())
                );
            }
            for wrong in [
                "mr_",
                &stored[..66],
                &stored.to_uppercase(),
                &stored.replace('a', "A"),
                &format!("{stored}0"),
            ] {
                let refused = block_on(rules.caller(&headers(&[("apikey", wrong)]), Scope::Work));
                assert!(refused.is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn nothing_configured_lets_nobody_in_without_a_stored_key() {
        let rules = rules("", "0", "");
        let bearer = format!("Bearer {}", token());
        for shown in [
            vec![],
            vec![("x-api-key", KEY)],
            vec![("authorization", bearer.as_str())],
        ] {
            let problem = block_on(rules.caller(&headers(&shown), Scope::Read))
                .err()
                .unwrap();
            assert_eq!(problem.code(), "auth_not_configured", "{shown:?}");
        }
    }
}
