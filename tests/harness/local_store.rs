//! The local store of artifacts, a test's own: the project's manifest in a folder that has an `artifacts` of its own beside it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::app::{App, manifest};
use crate::database::Database;
use crate::keys::SIGNING_KEY;
use crate::scratch::Scratch;

/// The store and the manifest over it.
pub struct LocalStore(Scratch);

impl LocalStore {
    /// An empty store.
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let project = manifest().parent().expect("a folder").to_owned();
        std::fs::create_dir(scratch.path().join("artifacts")).expect("a folder");
        std::fs::copy(manifest(), scratch.path().join("spin.toml")).expect("the manifest");
        let target = project.join("target").canonicalize();
        symlink(
            target.expect("what is built"),
            scratch.path().join("target"),
        )
        .expect("a link");
        Self(scratch)
    }

    /// Serves the application over this store, with a signing key, and some variables set otherwise.
    pub async fn serve(&self, variables: &[(&str, &str)]) -> App {
        let key = [("artifact_signing_key", SIGNING_KEY)];
        let variables: Vec<_> = key.iter().chain(variables).copied().collect();
        let manifest = self.0.path().join("spin.toml");
        App::serve_manifest(manifest, Database::fresh().await, &variables).await
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.0.path().join("spin.toml")
    }

    /// Where something lies in the store: `BUCKET/PATH`.
    pub fn place(&self, path: &str) -> PathBuf {
        self.0.path().join("artifacts").join(path)
    }

    /// Puts a file there.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let file = self.place(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, content).expect("a file");
    }
}

impl Default for LocalStore {
    fn default() -> Self {
        Self::new()
    }
}

/// The signature of a link to `path` in `bucket` until `expires` (seconds since 1970), made from its definition and not by the code
/// under test: HMAC-SHA256 over a label, bucket and path with their lengths, and the expiry.
pub fn signature(bucket: &str, path: &str, expires: u64, key: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(b"millrace file link 1\0");
    for part in [bucket, path] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.update(&expires.to_be_bytes());
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
