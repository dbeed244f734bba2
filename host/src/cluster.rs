//! A private Postgres: a cluster of our own in one folder, on a free port of 127.0.0.1, that ends with us.
//!
//! Postgres refuses to run as root, so root starts it as another user. It runs under a small supervising shell that
//! holds the reading end of a pipe of ours: however this process ends, killed included, the pipe closes and the shell
//! shuts the server down. What was committed survives, and the next start recovers it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::NoTls;

use crate::postgres_programs;

const SUPERUSER: &str = "postgres";
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the server, ends it when standard input closes, and removes the folder in $1 if there is one. It ends
/// when the server does.
const SUPERVISOR: &str = r#"
remove=$1; shift
"$@" </dev/null & server=$!
exec 3<&0
{ cat <&3 >/dev/null; kill -INT "$server" 2>/dev/null; } &
wait "$server"
[ -z "$remove" ] || rm -rf "$remove"
"#;

/// How a cluster is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For good: what is committed is on disk.
    Durable,
    /// For this process: nothing is synced, and the folder goes when the server ends.
    Throwaway,
}

/// A running private server.
pub struct Cluster {
    folder: PathBuf,
    keep: Keep,
    settings: Vec<&'static str>,
    port: u16,
    password: String,
    supervisor: Supervisor,
}

/// The supervising shell and our end of its pipe.
struct Supervisor {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Cluster {
    /// Starts the cluster in `folder`, making it first if it is not there yet. Errors say what is missing on the machine.
    pub async fn start(folder: &Path, keep: Keep) -> Result<Self> {
        Self::start_with(folder, keep, &[]).await
    }

    /// The same with more settings, each as `name=value`, that win over ours.
    pub async fn start_with(folder: &Path, keep: Keep, more: &[&'static str]) -> Result<Self> {
        let settings = [settings(keep).as_slice(), more].concat();
        let owner = Owner::choose()?;
        let folder = owner.prepare(folder)?;
        let programs = programs_for(&folder)?;
        if !folder.join("data/PG_VERSION").exists() {
            initialise(&programs, &folder, &owner, keep)?;
        }
        let password =
            fs::read_to_string(folder.join("password")).context("the cluster's password")?;
        wait_for_predecessor(&folder)?;
        let port = free_port()?;
        let supervisor = Supervisor::start(&programs, &folder, &owner, keep, &settings, port)?;
        let mut cluster = Self {
            folder,
            keep,
            settings,
            port,
            password,
            supervisor,
        };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// The connection string of the cluster's superuser for `database`. It holds the password.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// The port on 127.0.0.1; it stays the same through `restart`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Shuts the server down, its connections ended, and returns once it is gone.
    pub fn stop(mut self) -> Result<()> {
        self.supervisor.stop()
    }

    /// Shuts the server down but keeps the cluster: `restart` starts it again.
    pub fn halt(&mut self) -> Result<()> {
        ensure!(
            self.keep == Keep::Durable,
            "a throw-away cluster is gone once it stops"
        );
        self.supervisor.stop()
    }

    /// Ends the server, unless it has ended already, and starts it again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(
            self.keep == Keep::Durable,
            "a throw-away cluster is gone once it stops"
        );
        self.supervisor.stop()?;
        let programs = programs_for(&self.folder)?;
        self.supervisor = Supervisor::start(
            &programs,
            &self.folder,
            &Owner::choose()?,
            self.keep,
            &self.settings,
            self.port,
        )?;
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match tokio_postgres::connect(&self.url("postgres"), NoTls).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if self.supervisor.has_ended() || Instant::now() > deadline {
                let log = tail(&self.folder.join("log"));
                bail!("Postgres did not start ({error}); its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Supervisor {
    fn start(
        programs: &Path,
        folder: &Path,
        owner: &Owner,
        keep: Keep,
        settings: &[&str],
        port: u16,
    ) -> Result<Self> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .custom_flags(libc::O_NOFOLLOW) // as root in a folder that another user may write to
            .open(folder.join("log"))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISOR, "millrace-postgres"]);
        command.arg(if keep == Keep::Throwaway {
            folder.as_os_str()
        } else {
            "".as_ref()
        });
        command
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(folder.join("data"))
            .arg("-p")
            .arg(port.to_string());
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        command
            .current_dir(folder)
            .env_remove("PGDATA")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.process_group(0); // Ctrl-C is for us to handle, not for it
        owner.apply(&mut command);
        let mut shell = command.spawn().context("starting Postgres")?;
        let lifeline = shell.stdin.take();
        Ok(Self { shell, lifeline })
    }

    fn has_ended(&mut self) -> bool {
        self.shell.try_wait().is_ok_and(|status| status.is_some())
    }

    fn stop(&mut self) -> Result<()> {
        drop(self.lifeline.take());
        self.shell.wait().context("waiting for Postgres to end")?;
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn settings(keep: Keep) -> Vec<&'static str> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        "shared_buffers=256MB",
        "wal_level=minimal",
        "max_wal_senders=0",
        "max_wal_size=2GB",
        "log_min_messages=warning",
        "log_min_error_statement=panic", // statements may hold payloads: keep them out of the log
    ];
    if keep == Keep::Throwaway {
        settings.extend([
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
        ]);
    }
    settings
}

/// The user that the server runs as.
enum Owner {
    Ourselves,
    Other { uid: u32, gid: u32 },
}

impl Owner {
    fn choose() -> Result<Self> {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(Self::Ourselves);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
        let account = |name: &str| {
            let line = passwd
                .lines()
                .find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some(Self::Other {
                uid: fields.next()?.parse().ok()?,
                gid: fields.next()?.parse().ok()?,
            })
        };
        account("postgres").context(
            "Postgres refuses to run as root, and there is no user `postgres` to run it as",
        )
    }

    /// Makes the cluster's folder, owned by this user, and returns where it really is: below `folder`, or in /var/lib/millrace
    /// (linked from `folder`) where this user may not come near it, as in a checkout below root's home.
    fn prepare(&self, folder: &Path) -> Result<PathBuf> {
        let folder = std::path::absolute(folder)?;
        let Self::Other { uid, gid } = *self else {
            fs::create_dir_all(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
            return Ok(folder.canonicalize()?);
        };
        let parent = folder
            .parent()
            .context("the cluster's folder has no parent")?;
        fs::create_dir_all(parent)?;
        ensure!(
            folder.exists() || !folder.is_symlink(),
            "the cluster that {} leads to is gone: remove the link to begin anew",
            folder.display()
        );
        if !folder.exists() && !parent.canonicalize()?.ancestors().all(open_to_others) {
            let outside = new_folder_below(Path::new("/var/lib/millrace"))?;
            std::os::unix::fs::symlink(&outside, &folder)?;
        }
        fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        chown(&folder, Some(uid), Some(gid))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        Ok(folder)
    }

    fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid } = *self {
            command.uid(uid).gid(gid);
        }
    }
}

fn open_to_others(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|m| m.mode() & 0o001 != 0)
}

fn new_folder_below(parent: &Path) -> Result<PathBuf> {
    let path = parent.join(format!("{:016x}", rand::random::<u64>()));
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn initialise(programs: &Path, folder: &Path, owner: &Owner, keep: Keep) -> Result<()> {
    let password: String = format!("{:032x}", rand::random::<u128>());
    let file = folder.join("password");
    fs::File::create(&file)?.write_all(password.as_bytes())?;
    if let Owner::Other { uid, gid } = *owner {
        chown(&file, Some(uid), Some(gid))?;
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;

    let mut command = Command::new(programs.join("initdb"));
    command.arg("--pgdata").arg(folder.join("data")).args([
        "--username",
        SUPERUSER,
        "--auth",
        "scram-sha-256",
    ]);
    command
        .args(["--encoding", "UTF8", "--locale", "C"])
        .arg("--pwfile")
        .arg(&file)
        .current_dir(folder)
        .stdin(Stdio::null());
    if keep == Keep::Throwaway {
        command.arg("--no-sync");
    }
    owner.apply(&mut command);
    let output = command.output().context("running initdb")?;
    ensure!(
        output.status.success(),
        "initdb failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// A server that a killed predecessor left behind ends by itself within moments; two at once can't be.
fn wait_for_predecessor(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(pid) = running_server(folder) {
        ensure!(
            Instant::now() < deadline,
            "the cluster in {} is in use by another process ({pid})",
            folder.display()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The process that runs on the cluster's data. After a crash of the machine the number in `postmaster.pid` may be that of
/// a stranger: where it can be asked, the process has to name the folder.
fn running_server(folder: &Path) -> Option<i32> {
    let data = folder.join("data");
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    if Path::new("/proc/self/cmdline").exists() {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return String::from_utf8_lossy(&command)
            .contains(&*data.to_string_lossy())
            .then_some(pid);
    }
    // SAFETY: signal 0 is never delivered; kill only tells whether the process is there.
    let is_alive = unsafe { libc::kill(pid, 0) } == 0
        || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    is_alive.then_some(pid)
}

/// The programs of the version that made the cluster, or the newest for one that is yet to be made.
fn programs_for(folder: &Path) -> Result<PathBuf> {
    match fs::read_to_string(folder.join("data/PG_VERSION")) {
        Ok(version) => {
            let version = version.trim();
            postgres_programs::find(version.parse().ok()).with_context(|| {
                let folder = folder.display();
                format!("the cluster in {folder} needs Postgres {version}, which is not here: install it, or remove the folder to begin anew")
            })
        }
        Err(_) => postgres_programs::find(None).with_context(|| {
            let oldest = postgres_programs::OLDEST;
            format!(
                "no Postgres {oldest} or newer found: run `cargo xtask setup`, or set DATABASE_URL"
            )
        }),
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
