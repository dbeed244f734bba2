//! A folder of one test's own, gone when the test is over.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::database::scratch_folder;

/// A folder below the run's scratch folder, removed when this is dropped: after whatever uses it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder.
    pub fn new() -> Self {
        let folder = scratch_folder().join(Uuid::new_v4().to_string());
        std::fs::create_dir_all(&folder).expect("a scratch folder");
        Self(folder.canonicalize().expect("the scratch folder's path"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A cluster of root's may lie elsewhere, with a link to it here.
        let cluster = self.0.join("postgres");
        if cluster.is_symlink()
            && let Ok(elsewhere) = cluster.canonicalize()
        {
            _ = std::fs::remove_dir_all(elsewhere);
        }
        _ = std::fs::remove_dir_all(&self.0);
    }
}
