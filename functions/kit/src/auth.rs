//! Who is asking: an API key or a token, and what its bearer may do (collab contract, Face 4).

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::answer::Problem;
use crate::log;
use crate::token::TokenRules;

/// The longest token that is looked at, in bytes.
const TOKEN_LIMIT: usize = 8192;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Worker,
    /// The routes that only read.
    Reader,
    /// Known, but nothing.
    Nobody,
}

impl Role {
    /// The role that a token's `role` claim gives; `anon`, an unknown one and none give no right.
    pub fn of_claim(claim: Option<&str>) -> Self {
        match claim {
            Some("service_role" | "worker") => Self::Worker,
            Some("authenticated" | "reader") => Self::Reader,
            _ => Self::Nobody,
        }
    }

    /// Lets workers through.
    ///
    /// # Errors
    /// 403 `forbidden` for everybody else.
    pub fn may_work(self) -> Result<(), Problem> {
        match self {
            Self::Worker => Ok(()),
            Self::Reader | Self::Nobody => Err(forbidden()),
        }
    }

    /// Lets workers and readers through.
    ///
    /// # Errors
    /// 403 `forbidden` for everybody else.
    pub fn may_read(self) -> Result<(), Problem> {
        match self {
            Self::Worker | Self::Reader => Ok(()),
            Self::Nobody => Err(forbidden()),
        }
    }
}

fn forbidden() -> Problem {
    let error = "the token's role does not allow this";
    Problem::new(StatusCode::FORBIDDEN, "forbidden", error)
}

/// The application's variables that decide who is let in, as they were read.
pub struct Variables {
    /// `supabase_jwt_secret`: the secret that tokens are signed with; empty for none.
    pub supabase_jwt_secret: String,
    /// `collab_require_jwt`: `1` or `true` if only tokens count and the API key does not.
    pub collab_require_jwt: String,
    /// `collab_jwt_mode`: `local`, which checks with the secret.
    pub collab_jwt_mode: String,
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
    /// 503 `auth_not_configured` if neither a key nor a secret is set, if tokens are required and
    /// cannot be checked, or if a variable has a value that means nothing.
    pub fn new(variables: &Variables) -> Result<Self, Problem> {
        let require_jwt = match variables.collab_require_jwt.trim() {
            "1" | "true" => true,
            "" | "0" | "false" => false,
            _ => return Err(not_configured("collab_require_jwt is neither 1 nor 0")),
        };
        if variables.collab_jwt_mode.trim() != "local" {
            return Err(not_configured("collab_jwt_mode is not local"));
        }
        let tokens = match variables.supabase_jwt_secret.as_str() {
            "" => None,
            secret => Some(
                TokenRules::new(
                    secret,
                    &variables.collab_jwt_issuer,
                    &variables.collab_jwt_audience,
                )
                .map_err(not_configured)?,
            ),
        };
        let api_key = match variables.collab_api_key.as_str() {
            "" => None,
            key => Some(Sha256::digest(key).into()),
        };
        if require_jwt && tokens.is_none() {
            return Err(not_configured(
                "a token is required but supabase_jwt_secret is not set",
            ));
        }
        if tokens.is_none() && api_key.is_none() {
            return Err(not_configured(
                "neither supabase_jwt_secret nor collab_api_key is set",
            ));
        }
        Ok(Self {
            require_jwt,
            api_key,
            tokens,
        })
    }

    /// The role of whoever sent a request with these headers.
    ///
    /// `x-api-key` goes first unless tokens are required; a token is taken from `Authorization:
    /// Bearer`, else from `apikey`, where Supabase's clients put it.
    ///
    /// # Errors
    /// 401: `missing_credentials`, `invalid_api_key`, `invalid_token` or `token_expired`.
    pub fn role(&self, headers: &HeaderMap) -> Result<Role, Problem> {
        let key = match self.require_jwt {
            true => None,
            false => only_value(headers, "x-api-key", "invalid_api_key")?,
        };
        match (key, &self.api_key, &self.tokens) {
            (Some(key), Some(expected), _) => check_key(key, expected),
            (Some(_), None, None) => Err(invalid_key()),
            (_, _, Some(tokens)) => match bearer_token(headers)? {
                Some(token) => tokens.verify(token),
                None => Err(self.missing()),
            },
            (None, _, None) => Err(self.missing()),
        }
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

fn check_key(key: &HeaderValue, expected: &[u8; 32]) -> Result<Role, Problem> {
    let given: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    match bool::from(given.ct_eq(expected)) {
        true => Ok(Role::Worker),
        false => Err(invalid_key()),
    }
}

fn invalid_key() -> Problem {
    Problem::unauthorized("invalid_api_key", "the API key is not valid")
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
    use jsonwebtoken::get_current_timestamp;
    use serde_json::json;

    use super::*;
    use crate::hs256::signing::signed;

    const SECRET: &str = "a secret of more than thirty-two bytes";
    const KEY: &str = "the key";

    fn variables(secret: &str, require_jwt: &str, key: &str) -> Variables {
        Variables {
            supabase_jwt_secret: secret.to_owned(),
            collab_require_jwt: require_jwt.to_owned(),
            collab_jwt_mode: "local".to_owned(),
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

    fn role(rules: &Rules, headers: &[(&'static str, &str)]) -> Result<Role, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        rules
            .role(&map)
            .map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn what_is_not_configured_lets_nobody_in() {
        let mut jwks = variables(SECRET, "1", KEY);
        jwks.collab_jwt_mode = "jwks".to_owned();
        for wrong in [
            variables("", "0", ""),
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
        assert_eq!(role(&rules, &[("x-api-key", KEY)]), Ok(Role::Worker));
        assert_eq!(
            role(&rules, &[("authorization", &bearer)]),
            Ok(Role::Worker)
        );
        assert_eq!(role(&rules, &[("apikey", &token())]), Ok(Role::Worker));
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
            (vec![("apikey", KEY)], "invalid_token"),
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
        assert_eq!(role(&rules, &both), Ok(Role::Worker));
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
    fn roles_open_what_they_should() {
        assert!(Role::Worker.may_work().is_ok() && Role::Worker.may_read().is_ok());
        assert!(Role::Reader.may_work().is_err() && Role::Reader.may_read().is_ok());
        assert!(Role::Nobody.may_work().is_err() && Role::Nobody.may_read().is_err());
    }
}
