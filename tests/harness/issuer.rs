//! An issuer of tokens that publishes its keys: a double whose key set a test can change, break and take away.

use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::pkcs8::EncodePrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};

use crate::app::App;
use crate::database::Database;
use crate::double::{Double, Reply};
use crate::keys::now;

/// Where the set lies on the issuer.
const PATH: &str = "/auth/v1/.well-known/jwks.json";

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    kid: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    /// Its public half as it is published.
    pub jwk: Value,
}

impl SigningKey {
    /// A new key for RS256 of so many bits.
    pub fn rsa(kid: &'static str, bits: usize) -> Self {
        let key = rsa::RsaPrivateKey::new(&mut rand_core::OsRng, bits).expect("an RSA key");
        let number = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (number(key.n().to_bytes_be()), number(key.e().to_bytes_be()));
        Self {
            kid,
            algorithm: Algorithm::RS256,
            private: EncodingKey::from_rsa_der(key.to_pkcs1_der().expect("a key").as_bytes()),
            jwk: json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": n, "e": e}),
        }
    }

    /// A new key for ES256.
    pub fn p256(kid: &'static str) -> Self {
        let key = p256::SecretKey::random(&mut rand_core::OsRng);
        let point = p256::EncodedPoint::from(key.public_key());
        let number = |bytes: Option<_>| {
            URL_SAFE_NO_PAD.encode::<p256::FieldBytes>(bytes.expect("a coordinate"))
        };
        let (x, y) = (number(point.x().copied()), number(point.y().copied()));
        Self {
            kid,
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(key.to_pkcs8_der().expect("a key").as_bytes()),
            jwk: json!({"kty": "EC", "kid": kid, "use": "sig", "alg": "ES256", "crv": "P-256", "x": x, "y": y}),
        }
    }

    /// The one RSA key of this run, called `rsa`: making one takes a while.
    pub fn shared_rsa() -> &'static Self {
        static KEY: OnceLock<SigningKey> = OnceLock::new();
        KEY.get_or_init(|| Self::rsa("rsa", 2048))
    }

    /// The same key under another name.
    pub fn called(&self, kid: &'static str) -> Self {
        let mut other = self.clone();
        other.kid = kid;
        other.jwk["kid"] = kid.into();
        other
    }

    /// A token that says `role` and is good for an hour.
    pub fn token(&self, role: &str) -> String {
        self.signed(Some(self.kid), &json!({"role": role, "exp": now() + 3600}))
    }

    /// A token with these claims that says to be signed with the key `kid`.
    pub fn signed(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.private).expect("claims can be signed")
    }
}

/// Status, further header lines and body.
type Answer = (u16, &'static str, Vec<u8>);

/// The issuer, for as long as this is kept.
pub struct Issuer {
    double: Double,
    /// `None` where it keeps silent.
    says: Arc<Mutex<Option<Answer>>>,
}

impl Issuer {
    /// Starts one that publishes these keys.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let says = Arc::new(Mutex::new(None));
        let said = Arc::clone(&says);
        let double = Double::start(move |_| {
            let answer = said.lock().expect("what it says").clone();
            answer.map_or(Reply::Silence, |(status, headers, body)| {
                Reply::Answer(status, headers, body)
            })
        });
        let issuer = Self {
            double: double.await,
            says,
        };
        issuer.publish(keys);
        issuer
    }

    /// From now on it publishes these keys.
    pub fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
        self.say(200, "", json!({ "keys": keys }).to_string());
    }

    /// From now on it answers so; each line of `headers` ends in `\r\n`.
    pub fn say(&self, status: u16, headers: &'static str, body: impl Into<Vec<u8>>) {
        *self.says.lock().expect("what it says") = Some((status, headers, body.into()));
    }

    /// From now on it takes requests and answers none.
    pub fn fall_silent(&self) {
        *self.says.lock().expect("what it says") = None;
    }

    /// How often its keys were asked for.
    pub fn fetches(&self) -> usize {
        self.double.seen().len()
    }

    /// Where its keys lie.
    pub fn url(&self) -> String {
        format!("{}{PATH}", self.double.url)
    }

    /// The application, which believes this issuer; `variables` on top.
    pub async fn app(&self, variables: &[(&str, &str)]) -> App {
        self.app_over(Database::fresh().await, variables).await
    }

    /// The same over a database that is there already. What its instances have to learn the database may know.
    pub async fn app_over(&self, database: Database, variables: &[(&str, &str)]) -> App {
        let url = self.url();
        let believing = [
            ("collab_jwt_mode", "jwks"),
            ("collab_jwks_url", url.as_str()),
            ("collab_jwks_host", &self.double.url),
        ];
        App::serve(database, &[&believing, variables].concat()).await
    }
}
