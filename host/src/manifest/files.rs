//! `files` of a component: folders of the application that its instances may read, at a place of their own. What is
//! mounted is the folder itself and not a copy made at the start, as with Spin's `--direct-mounts`.

use std::path::{Component as Part, Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::raw::RawMount;

/// A folder that a component's instances may read.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The folder on this machine.
    pub source: PathBuf,
    /// Where the guest sees it: an absolute path.
    pub destination: String,
    written: String,
}

impl Mount {
    /// Makes sure that the folder is there.
    ///
    /// # Errors
    /// It is not, or it is something else.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.source.is_dir(),
            "the source {:?} is not a folder (single files are not supported by this host)",
            self.written
        );
        Ok(())
    }
}

/// Reads `files`; sources are relative to `folder`, the manifest's own, and stay below it.
pub(super) fn parse(raw: Vec<RawMount>, folder: &Path) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    for entry in raw {
        let (written, destination) = match entry {
            RawMount::Placement {
                source,
                destination,
            } => (source, destination),
            RawMount::Pattern(pattern) => bail!(
                "the pattern {pattern:?} is not supported by this host: write {{ source = \"…\", destination = \"…\" }}"
            ),
        };
        // Spin refuses to copy what lies outside of the application, too.
        ensure!(
            is_inside(Path::new(&written)),
            "the source {written:?} must be a folder below the manifest's"
        );
        ensure!(
            is_place(&destination),
            "the destination {destination:?} must be an absolute path without '.' or '..'"
        );
        let destination = destination.trim_end_matches('/').to_owned();
        ensure!(
            mounts.iter().all(|mount| mount.destination != destination),
            "the destination {destination:?} is given twice"
        );
        mounts.push(Mount {
            source: folder.join(&written),
            destination,
            written,
        });
    }
    Ok(mounts)
}

fn is_inside(source: &Path) -> bool {
    !source.as_os_str().is_empty()
        && source
            .components()
            .all(|part| matches!(part, Part::Normal(_) | Part::CurDir))
}

/// Whether a guest can be shown a folder there: the root itself is not a place of its own.
fn is_place(destination: &str) -> bool {
    let Some(path) = destination.strip_prefix('/') else {
        return false;
    };
    let path = path.trim_end_matches('/');
    path.split('/')
        .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_one(source: &str, destination: &str) -> Result<Vec<Mount>> {
        let entry = RawMount::Placement {
            source: source.to_owned(),
            destination: destination.to_owned(),
        };
        parse(vec![entry], Path::new("/app"))
    }

    #[test]
    fn a_folder_is_mounted_at_its_place() {
        let mounts = parse_one("assets/public", "/static/").unwrap();
        assert_eq!(mounts[0].source, Path::new("/app/assets/public"));
        assert_eq!(mounts[0].destination, "/static");
        assert!(parse_one("./a", "/a/b").is_ok());
    }

    #[test]
    fn what_lies_elsewhere_is_refused() {
        for (source, destination, word) in [
            ("", "/a", "source"),
            ("/etc", "/a", "source"),
            ("../a", "/a", "source"),
            ("a/../../b", "/a", "source"),
            ("a", "a", "destination"),
            ("a", "", "destination"),
            ("a", "/", "destination"),
            ("a", "/a/../b", "destination"),
            ("a", "/a//b", "destination"),
            ("a", "/./a", "destination"),
        ] {
            let error = parse_one(source, destination).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the {word} ")), "{error}");
        }
    }

    #[test]
    fn patterns_and_second_mounts_are_refused_by_name() {
        let pattern = RawMount::Pattern("assets/**/*".to_owned());
        let error = parse(vec![pattern], Path::new("/app")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("\"assets/**/*\" is not supported by this host")
        );
        let twice = ["/a", "/a/"].map(|destination| RawMount::Placement {
            source: "x".to_owned(),
            destination: destination.to_owned(),
        });
        let error = parse(twice.into(), Path::new("/app")).unwrap_err();
        assert!(error.to_string().contains("given twice"));
    }

    #[test]
    fn a_source_that_is_no_folder_is_named() {
        let mounts = parse_one("not-there", "/a").unwrap();
        let error = mounts[0].check().unwrap_err().to_string();
        assert!(error.contains("\"not-there\" is not a folder"), "{error}");
    }
}
