//! The `millrace` program: the application on a developer's machine, the bare host, and the database's chores.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use millrace::serve::{Limits, ServeOptions, serve};
use millrace::up::{UpArguments, refuse_open_door, resolve, up, wait_for_end};
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
        listen: String,
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
            let listen = resolve(&listen).await?;
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

fn database_url() -> Result<String> {
    std::env::var("DATABASE_URL").context("DATABASE_URL is not set: the database and its owner, as postgres://user:password@host/database")
}
