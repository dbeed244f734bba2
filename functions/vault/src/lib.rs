//! Secrets that lie in Postgres encrypted: AES-256-GCM under one of several named keys, whose name stands beside the ciphertext.
//!
//! Each secret belongs to somebody, whose name is its associated data: a ciphertext that was moved to somebody else's row does not open.
//! The first key encrypts, all of them decrypt; so a key is rotated by putting a new one in front and encrypting everything anew.
//!
//! A ciphertext is the base64 of a random nonce of 96 bits, the encrypted text and its tag of 128 bits.

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const KEY: usize = 32;
const NONCE: usize = 12;
/// The longest name of a key.
const NAME: usize = 40;

/// The keys, the one that encrypts first.
pub struct Vault {
    keys: Vec<(String, Aes256Gcm)>,
}

/// An encrypted secret, and the name of the key that it is encrypted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub key_id: String,
    pub ciphertext: String,
}

/// Why there is no vault, or a secret can't be opened. It says nothing of keys and secrets but a key's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no key at all.
    NoKeys,
    /// The key at this place, from 1, is not `NAME:BASE64` with 32 bytes.
    Malformed(usize),
    /// Two keys have this name.
    Twice(String),
    /// The key of this name is not there.
    Missing(String),
    /// The ciphertext is not what this key made for this owner.
    Unreadable,
    /// The system has no random numbers.
    NoRandomness,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeys => write!(formatter, "has no key"),
            Self::Malformed(place) => write!(
                formatter,
                "has no NAME:BASE64 of 32 bytes at place {place}: a name has 1 to {NAME} letters, digits, - and _"
            ),
            Self::Twice(name) => write!(formatter, "has two keys called {name}"),
            Self::Missing(name) => write!(formatter, "has no key called {name}"),
            Self::Unreadable => write!(formatter, "has a key that does not open this secret"),
            Self::NoRandomness => write!(formatter, "can't be used without random numbers"),
        }
    }
}

impl std::error::Error for Fault {}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.keys.iter().map(|(name, _)| name);
        formatter.debug_list().entries(names).finish()
    }
}

impl Vault {
    /// Reads `NAME:BASE64,NAME:BASE64,…`, each of 32 bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(keys: &str) -> Result<Self, Fault> {
        let mut known: Vec<(String, Aes256Gcm)> = Vec::new();
        let stated = keys.split(',').map(str::trim);
        for (place, key) in stated.filter(|key| !key.is_empty()).enumerate() {
            let (name, cipher) = read(key).ok_or(Fault::Malformed(place + 1))?;
            if known.iter().any(|(other, _)| *other == name) {
                return Err(Fault::Twice(name));
            }
            known.push((name, cipher));
        }
        match known.is_empty() {
            true => Err(Fault::NoKeys),
            false => Ok(Self { keys: known }),
        }
    }

    /// The name of the key that encrypts.
    pub fn first(&self) -> &str {
        self.keys.first().map_or("", |(name, _)| name)
    }

    /// Whether there is a key of that name.
    pub fn knows(&self, key_id: &str) -> bool {
        self.keys.iter().any(|(name, _)| name == key_id)
    }

    /// Encrypts a secret of `owner`'s under the first key.
    ///
    /// # Errors
    /// [`Fault::NoRandomness`]
    pub fn seal(&self, owner: &str, secret: &str) -> Result<Sealed, Fault> {
        let (name, cipher) = self.keys.first().ok_or(Fault::NoKeys)?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| Fault::NoRandomness)?;
        let payload = Payload {
            msg: secret.as_bytes(),
            aad: owner.as_bytes(),
        };
        let sealed = cipher.encrypt(&nonce.into(), payload);
        let sealed = sealed.map_err(|_| Fault::Unreadable)?;
        Ok(Sealed {
            key_id: name.clone(),
            ciphertext: STANDARD.encode([nonce.as_slice(), &sealed].concat()),
        })
    }

    /// Decrypts a secret of `owner`'s.
    ///
    /// # Errors
    /// [`Fault::Missing`] or [`Fault::Unreadable`]
    pub fn open(&self, owner: &str, sealed: &Sealed) -> Result<String, Fault> {
        let mut keys = self.keys.iter();
        let key = keys.find(|(name, _)| *name == sealed.key_id);
        let (_, cipher) = key.ok_or_else(|| Fault::Missing(sealed.key_id.clone()))?;
        let bytes = STANDARD.decode(&sealed.ciphertext);
        let bytes = bytes.map_err(|_| Fault::Unreadable)?;
        let (nonce, sealed) = bytes.split_first_chunk().ok_or(Fault::Unreadable)?;
        let nonce: &[u8; NONCE] = nonce;
        let payload = Payload {
            msg: sealed,
            aad: owner.as_bytes(),
        };
        let secret = cipher.decrypt(&(*nonce).into(), payload);
        let secret = secret.map_err(|_| Fault::Unreadable)?;
        String::from_utf8(secret).map_err(|_| Fault::Unreadable)
    }
}

/// A new random key as base64, to be named and put in front of the others.
///
/// # Errors
/// [`Fault::NoRandomness`]
pub fn new_key() -> Result<String, Fault> {
    let mut key = [0; KEY];
    getrandom::fill(&mut key).map_err(|_| Fault::NoRandomness)?;
    Ok(STANDARD.encode(key))
}

fn read(stated: &str) -> Option<(String, Aes256Gcm)> {
    let (name, key) = stated.split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let named = (1..=NAME).contains(&name.len()) && name.bytes().all(plain);
    let key: [u8; KEY] = STANDARD.decode(key).ok()?.try_into().ok()?;
    named.then(|| (name.to_owned(), Aes256Gcm::new(&key.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> String {
        let key = |name: &&str| format!("{name}:{}", new_key().expect("a key"));
        names.iter().map(key).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_secret_opens_for_its_owner_alone() {
        let vault = Vault::new(&keys(&["k2", "k1"])).expect("a vault");
        let sealed = vault.seal("one", "a secret").expect("sealed");
        assert_eq!(sealed.key_id, "k2");
        assert!(!sealed.ciphertext.contains("secret"));
        assert_eq!(vault.open("one", &sealed).as_deref(), Ok("a secret"));
        assert_eq!(vault.open("other", &sealed), Err(Fault::Unreadable));
        let again = vault.seal("one", "a secret").expect("sealed");
        assert_ne!(again.ciphertext, sealed.ciphertext, "a nonce is used once");
    }

    #[test]
    fn a_rotated_key_still_opens_and_a_missing_one_is_named() {
        let old = keys(&["k1"]);
        let sealed = Vault::new(&old).and_then(|vault| vault.seal("one", "a secret"));
        let sealed = sealed.expect("sealed");
        let both = Vault::new(&format!("{},{old}", keys(&["k2"]))).expect("a vault");
        assert_eq!(both.first(), "k2");
        assert_eq!(both.open("one", &sealed).as_deref(), Ok("a secret"));
        let new = Vault::new(&keys(&["k2"])).expect("a vault");
        assert_eq!(
            new.open("one", &sealed),
            Err(Fault::Missing("k1".to_owned()))
        );
        let other = Vault::new(&keys(&["k1"])).expect("a vault");
        assert_eq!(other.open("one", &sealed), Err(Fault::Unreadable));
    }

    #[test]
    fn keys_are_checked_and_never_shown() {
        let key = new_key().expect("a key");
        for (keys, fault) in [
            (String::new(), Fault::NoKeys),
            (" , ".to_owned(), Fault::NoKeys),
            (key.clone(), Fault::Malformed(1)),
            (format!("k1:{key},k2:c2hvcnQ="), Fault::Malformed(2)),
            (format!("no name:{key}"), Fault::Malformed(1)),
            (format!("k1:{key},k1:{key}"), Fault::Twice("k1".to_owned())),
        ] {
            let wrong = Vault::new(&keys).expect_err(&keys);
            assert_eq!(wrong, fault);
            assert!(!wrong.to_string().contains(&key));
        }
        let vault = Vault::new(&format!("k1:{key}")).expect("a vault");
        assert_eq!(format!("{vault:?}"), "[\"k1\"]");
    }

    #[test]
    fn cut_or_changed_ciphertexts_do_not_open() {
        let vault = Vault::new(&keys(&["k1"])).expect("a vault");
        let sealed = vault.seal("one", "a secret").expect("sealed");
        for ciphertext in ["", "AAAA", "!", &sealed.ciphertext[4..]] {
            let changed = Sealed {
                ciphertext: ciphertext.to_owned(),
                ..sealed.clone()
            };
            assert_eq!(vault.open("one", &changed), Err(Fault::Unreadable));
        }
    }
}
