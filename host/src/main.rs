//! The `millrace` program: the application on a developer's machine, the bare host, and the database's chores.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use millrace::serve::{Limits, ServeOptions, serve};
use millrace::up::{UpArguments, up, wait_for_end};
use millrace::{database, doctor, migrate};

/// A job queue in your own Postgres, served by WebAssembly functions.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a private Postgres (or use DATABASE_URL), migrate it, and serve the application with keys of its own
    Up(UpArguments),
    /// Serve a manifest, its variables taken from SPIN_VARIABLE_*; starts no database and migrates none
    Serve {
        /// Address to serve on
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
        listen: SocketAddr,
        /// The manifest to serve
        #[arg(long, value_name = "FILE", default_value = "spin.toml")]
        manifest: PathBuf,
    },
    /// Bring the database in DATABASE_URL to this version's schema
    Migrate,
    /// Look the database in DATABASE_URL over and say what is wrong with it
    Doctor,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "info,refinery_core=warn".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(arguments) => up(arguments).await,
        Command::Serve { listen, manifest } => {
            refuse_open_door(listen)?;
            let options = ServeOptions {
                manifest,
                variables: Default::default(),
                use_environment: true,
                listen,
                limits: Limits::default(),
                access_log: true,
            };
            let server = serve(options).await?;
            eprintln!("==> serving http://{}", server.addr());
            wait_for_end().await?;
            server.shutdown().await;
            Ok(())
        }
        Command::Migrate => {
            let url = database_url()?;
            let applied = migrate::migrate(&url).await?;
            println!(
                "{}: {applied} migrations applied",
                database::without_credentials(&url)
            );
            Ok(())
        }
        Command::Doctor => doctor::examine(&database_url()?).await,
    }
}

/// Without a key or a token secret the functions let nobody in: better said now than by each request. On a
/// loopback address they may be configured later.
///
/// # Errors
/// Neither is set, and the address can be reached from elsewhere (contract: the server refuses to start).
fn refuse_open_door(listen: SocketAddr) -> Result<()> {
    let names = [
        "SPIN_VARIABLE_COLLAB_API_KEY",
        "SPIN_VARIABLE_SUPABASE_JWT_SECRET",
    ];
    let is_set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
    if listen.ip().is_loopback() || names.into_iter().any(is_set) {
        return Ok(());
    }
    bail!(
        "no key and no token secret is configured: set {} or {}",
        names[0],
        names[1]
    )
}

fn database_url() -> Result<String> {
    std::env::var("DATABASE_URL").context("DATABASE_URL is not set: the database and its owner, as postgres://user:password@host/database")
}
