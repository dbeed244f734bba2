//! A JSON Web Key Set (RFC 7517): the public keys that an issuer publishes for its tokens, as far as they
//! are understood here.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use p256::ecdsa::VerifyingKey;
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use serde_json::Value;

use crate::signature::rsa_key;

/// How many keys a set may have. Each token is compared with all of them.
pub(crate) const MOST_KEYS: usize = 32;

/// The least length of an RSA key in bits (RFC 7518 section 3.3).
const LEAST_RSA_BITS: usize = 2048;

/// A key that verifies tokens of one algorithm and of no other.
#[derive(Clone)]
pub(crate) struct PublishedKey {
    id: Option<String>,
    /// RS256 or ES256.
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// The usable keys of a set.
pub(crate) struct KeySet(Vec<PublishedKey>);

impl KeySet {
    /// Reads the document. Keys of a kind, an algorithm or a use that isn't served here are left out, as
    /// RFC 7517 section 5 wants it, and so are broken and weak ones.
    ///
    /// # Errors
    /// What is wrong with the document as a whole.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let Document { keys } =
            serde_json::from_slice(document).map_err(|_| "it is not a key set")?;
        if keys.len() > MOST_KEYS {
            return Err("it has more than 32 keys");
        }
        let keys: Vec<_> = keys.into_iter().filter_map(published_key).collect();
        match keys.is_empty() {
            true => Err("it has no key for RS256 or ES256"),
            false => Ok(Self(keys)),
        }
    }

    /// The one key that fits a token's header: of the `kid` that it names, and of its algorithm. A token
    /// that names no key fits where just one key has its algorithm.
    pub(crate) fn find(&self, header: &Header) -> Option<&PublishedKey> {
        let mut fitting = self.0.iter().filter(|key| {
            key.algorithm == header.alg && (header.kid.is_none() || key.id == header.kid)
        });
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }
}

/// A key as it is published (RFC 7517 section 4, RFC 7518 section 6).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    intended_use: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn published_key(key: Value) -> Option<PublishedKey> {
    let key = Jwk::deserialize(key).ok()?;
    let signs = key.intended_use.as_deref().is_none_or(|it| it == "sig");
    let verifies = key
        .key_ops
        .as_ref()
        .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    let (algorithm, name, decoding_key) = match key.kty.as_str() {
        "RSA" => (Algorithm::RS256, "RS256", rsa(&key)?),
        "EC" => (Algorithm::ES256, "ES256", p256(&key)?),
        _ => return None,
    };
    let named = key.alg.as_deref().is_none_or(|alg| alg == name);
    (signs && verifies && named).then_some(PublishedKey {
        id: key.kid,
        algorithm,
        key: decoding_key,
    })
}

fn rsa(key: &Jwk) -> Option<DecodingKey> {
    let (n, e) = (bytes(&key.n)?, bytes(&key.e)?);
    let checked = rsa_key(&n, &e).ok()?;
    (checked.n().bits() >= LEAST_RSA_BITS).then(|| DecodingKey::from_rsa_raw_components(&n, &e))
}

fn p256(key: &Jwk) -> Option<DecodingKey> {
    if key.crv.as_deref() != Some("P-256") {
        return None;
    }
    // Both coordinates have 32 bytes (RFC 7518 section 6.2.1.2); the first byte says that both are there.
    let point = [vec![4], bytes(&key.x)?, bytes(&key.y)?].concat();
    VerifyingKey::from_sec1_bytes(&point).ok()?;
    Some(DecodingKey::from_ec_der(&point))
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The RSA key of RFC 7515 appendix A.2 and the P-256 key of appendix A.3, public halves.
    fn rsa_jwk() -> Value {
        json!({"kty": "RSA", "kid": "r", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"})
    }

    fn ec_jwk() -> Value {
        json!({"kty": "EC", "kid": "e", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
    }

    fn set(keys: &[Value]) -> Result<KeySet, &'static str> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        header
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    /// The examples of RFC 7515: what is verified here agrees with the standard.
    #[test]
    fn the_examples_of_rfc_7515_are_verified() {
        let message = |header: &str| {
            format!(
                "{header}.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
            )
        };
        for (key, algorithm, head, signature) in [
            (
                rsa_jwk(),
                Algorithm::RS256,
                "eyJhbGciOiJSUzI1NiJ9",
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            ),
            (
                ec_jwk(),
                Algorithm::ES256,
                "eyJhbGciOiJFUzI1NiJ9",
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
        ] {
            let set = set(&[key]).unwrap();
            let key = set.find(&header(algorithm, None)).unwrap();
            let verifier = crate::signature::PROVIDER.verifier_factory;
            let verifier = verifier(&algorithm, &key.key).unwrap();
            let mut signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            let message = message(head);
            assert!(verifier.verify(message.as_bytes(), &signature).is_ok());
            assert!(verifier.verify(b"something else", &signature).is_err());
            signature[7] ^= 1;
            assert!(verifier.verify(message.as_bytes(), &signature).is_err());
            assert!(verifier.verify(message.as_bytes(), &Vec::new()).is_err());
        }
    }

    #[test]
    fn a_key_is_bound_to_its_algorithm() {
        let set = set(&[rsa_jwk(), ec_jwk()]).unwrap();
        let provider = &crate::signature::PROVIDER;
        for (found, of) in [(Algorithm::RS256, "r"), (Algorithm::ES256, "e")] {
            assert!(set.find(&header(found, Some(of))).is_some());
            for other in [
                Algorithm::HS256,
                Algorithm::RS256,
                Algorithm::ES256,
                Algorithm::PS256,
            ] {
                if other != found {
                    assert!(set.find(&header(other, Some(of))).is_none(), "{other:?}");
                    let key = &set.find(&header(found, Some(of))).unwrap().key;
                    assert!(
                        (provider.verifier_factory)(&other, key).is_err(),
                        "{other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_token_without_kid_fits_a_single_key_only() {
        let both = set(&[rsa_jwk(), ec_jwk()]).unwrap();
        assert!(both.find(&header(Algorithm::RS256, None)).is_some());
        let two = set(&[rsa_jwk(), with(rsa_jwk(), "kid", json!("r2"))]).unwrap();
        assert!(two.find(&header(Algorithm::RS256, None)).is_none());
        assert!(two.find(&header(Algorithm::RS256, Some("r2"))).is_some());
        assert!(two.find(&header(Algorithm::RS256, Some("r3"))).is_none());
        let twins = set(&[rsa_jwk(), rsa_jwk()]).unwrap();
        assert!(twins.find(&header(Algorithm::RS256, Some("r"))).is_none());
    }

    #[test]
    fn keys_that_do_not_serve_are_left_out() {
        let good = rsa_jwk();
        for bad in [
            with(rsa_jwk(), "use", json!("enc")),
            with(rsa_jwk(), "alg", json!("RS512")),
            with(rsa_jwk(), "alg", json!("HS256")),
            with(rsa_jwk(), "key_ops", json!(["sign"])),
            with(rsa_jwk(), "kty", json!("oct")),
            with(rsa_jwk(), "e", json!("AQ")), // 1: everything would be a signature of itself
            with(rsa_jwk(), "n", json!("not base64!")),
            with(rsa_jwk(), "n", json!(7)),
            // 1,024 bits
            with(rsa_jwk(), "n", json!(format!("{}8", "_".repeat(170)))),
            with(ec_jwk(), "crv", json!("P-384")),
            with(ec_jwk(), "y", ec_jwk()["x"].clone()), // not on the curve
            with(ec_jwk(), "x", json!("")),
            json!({"kty": "oct", "kid": "k", "k": "AAAA", "alg": "HS256"}),
            json!({"kid": "k"}),
            json!(null),
        ] {
            assert!(set(std::slice::from_ref(&bad)).is_err(), "{bad}");
            let beside = set(&[bad, with(good.clone(), "kid", json!("good"))]).unwrap();
            assert_eq!(beside.0.len(), 1);
        }
        for good in [
            with(rsa_jwk(), "use", json!("sig")),
            with(
                with(ec_jwk(), "alg", json!("ES256")),
                "key_ops",
                json!(["verify"]),
            ),
            with(rsa_jwk(), "x5c", json!(["ignored"])),
        ] {
            assert!(set(std::slice::from_ref(&good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_document_that_is_no_set_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"keys":{}}"#,
            r#"{"keys":[]}"#,
            "<html>",
        ] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(set(&vec![rsa_jwk(); MOST_KEYS + 1]).is_err());
        assert!(set(&vec![rsa_jwk(); MOST_KEYS]).is_ok());
    }
}
