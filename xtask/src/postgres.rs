//! Makes sure that there is a Postgres to run: `DATABASE_URL`, or the server's programs on this machine.

use std::fs;
use std::path::Path;

use crate::command::Outcome;
use crate::debian;
use crate::postgres_programs::{OLDEST, find};

/// Does nothing where `DATABASE_URL` is set or the programs are found; as root on Debian installs them; else
/// says what to install.
pub fn ensure() -> Outcome {
    if std::env::var_os("DATABASE_URL").is_some() || find(None).is_some() {
        return Ok(());
    }
    if !debian::can_install() {
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
    let settings = Path::new("/etc/postgresql-common/createcluster.d");
    let no_cluster = settings.join("millrace-setup.conf");
    fs::create_dir_all(settings)?;
    fs::write(&no_cluster, "create_main_cluster = false\n")?;
    let installed = debian::install(&["postgresql"]);
    let _ = fs::remove_file(&no_cluster);
    installed
}
