//! The cryptography that jsonwebtoken needs for HS256, RS256 and ES256, and no other: its own provider
//! brings signing, two more curves and more hashes into each component.

use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use p256::ecdsa;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256};

/// Verifies and signs nothing; jsonwebtoken takes one provider for a whole process.
pub(crate) static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

/// An algorithm goes with keys of its own kind only: else a public key would do as an HMAC's secret.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match (algorithm, key.family(), key.kind()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
            let mac = Hmac::<Sha256>::new_from_slice(secret);
            Ok(Box::new(Hs256(
                mac.map_err(|_| ErrorKind::InvalidKeyFormat)?,
            )))
        }
        (Algorithm::RS256, _, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let key = rsa_key(n, e).map_err(|_| ErrorKind::InvalidKeyFormat)?;
            Ok(Box::new(Rs256(key)))
        }
        (Algorithm::ES256, AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
            let key = ecdsa::VerifyingKey::from_sec1_bytes(point);
            Ok(Box::new(Es256(
                key.map_err(|_| ErrorKind::InvalidEcdsaKey)?,
            )))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

/// The RSA key of this modulus and exponent, both in big-endian bytes, of at most 4,096 bits.
pub(crate) fn rsa_key(n: &[u8], e: &[u8]) -> rsa::Result<RsaPublicKey> {
    RsaPublicKey::new(BigUint::from_bytes_be(n), BigUint::from_bytes_be(e))
}

/// HMAC with SHA-256 (RFC 7518 section 3.2), keyed.
struct Hs256(Hmac<Sha256>);

impl Verifier<Vec<u8>> for Hs256 {
    /// Compares in constant time.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let mac = self.0.clone().chain_update(message);
        mac.verify_slice(signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3).
struct Rs256(RsaPublicKey);

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let scheme = Pkcs1v15Sign::new::<Sha256>();
        let verified = self.0.verify(scheme, &Sha256::digest(message), signature);
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

/// ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4); the signature is the two numbers side by side.
struct Es256(ecdsa::VerifyingKey);

impl Verifier<Vec<u8>> for Es256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let signature = ecdsa::Signature::from_slice(signature).map_err(|_| Error::new())?;
        self.0.verify(message, &signature)
    }
}

impl JwtVerifier for Es256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

/// HS256 tokens for the tests.
#[cfg(test)]
pub(crate) mod signing {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::Value;

    use super::*;

    /// A token with this header and these claims, signed with HS256 whatever the header says.
    pub(crate) fn signed(header: &Value, secret: &str, claims: &Value) -> String {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let [header, claims] = [header, claims].map(|part| encode(part.to_string().as_bytes()));
        let message = format!("{header}.{claims}");
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        let mac = mac.chain_update(&message).finalize().into_bytes();
        format!("{message}.{}", encode(&mac))
    }

    /// The example of RFC 7515, appendix A.1: signer and verifier agree with the standard, not only
    /// with each other.
    #[test]
    fn the_example_of_rfc_7515_is_verified() {
        let key = BASE64_URL_SAFE_NO_PAD.decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow").unwrap();
        let message = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let mut signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verifier = verifier(&Algorithm::HS256, &DecodingKey::from_secret(&key)).unwrap();
        assert!(verifier.verify(message.as_bytes(), &signature).is_ok());
        signature[0] ^= 1;
        assert!(verifier.verify(message.as_bytes(), &signature).is_err());
        signature.truncate(16);
        assert!(verifier.verify(message.as_bytes(), &signature).is_err());
    }
}
