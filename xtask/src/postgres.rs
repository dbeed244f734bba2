//! Makes sure that there is a Postgres to run: `DATABASE_URL`, or the server's programs on this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{Outcome, read, run, step};
use crate::postgres_programs::{OLDEST, find};

/// Does nothing where `DATABASE_URL` is set or the programs are found; as root on Debian installs them; else
/// says what to install.
pub fn ensure() -> Outcome {
    if std::env::var_os("DATABASE_URL").is_some() || find(None).is_some() {
        return Ok(());
    }
    let has_apt = read(Command::new("apt-get").arg("--version")).is_ok();
    let is_root = read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !(has_apt && is_root) {
        return Err(format!(
            "no Postgres found. Install the server, version {OLDEST} or newer (Debian and Ubuntu: apt-get install postgresql; \
             macOS: brew install postgresql), or set DATABASE_URL to a server of yours"
        )
        .into());
    }
    install()?;
    find(None)
        .map(drop)
        .ok_or_else(|| format!("Debian's postgresql is older than {OLDEST}").into())
}

/// Installs Debian's package, but lets it make no cluster of its own: ours are private.
fn install() -> Outcome {
    step("installing Debian's postgresql");
    let settings = Path::new("/etc/postgresql-common/createcluster.d");
    let no_cluster = settings.join("millrace-setup.conf");
    fs::create_dir_all(settings)?;
    fs::write(&no_cluster, "create_main_cluster = false\n")?;
    let installed = run(Command::new("apt-get").args(["--quiet=2", "update"])).and_then(|()| {
        run(Command::new("apt-get")
            .args([
                "--quiet=2",
                "--yes",
                "--no-install-recommends",
                "install",
                "postgresql",
            ])
            .env("DEBIAN_FRONTEND", "noninteractive"))
    });
    let _ = fs::remove_file(&no_cluster);
    installed
}
