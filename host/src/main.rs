//! The `millrace` program: the application on a developer's machine, the bare host, and the database's chores.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use millrace::keys::{Keys, keys};
use millrace::new_handler::new_handler;
use millrace::secrets::{Secrets, secrets};
use millrace::serve::{Limits, ServeOptions, serve};
use millrace::up::{UpArguments, refuse_open_door, resolve, tick_at, up, wait_for_end};
use millrace::watch::{WatchArguments, watch};
use millrace::{channels, database, doctor, migrate};

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
        /// Let no cron trigger fire: another scheduler calls what is to be called
        #[arg(long)]
        no_cron: bool,
    },
    /// Bring the database in DATABASE_URL to this version's schema
    Migrate,
    /// Look the database in DATABASE_URL over and say what is wrong with it
    Doctor,
    /// Make, list and revoke the API keys that the database in DATABASE_URL knows
    #[command(subcommand)]
    Keys(Keys),
    /// Keep, list and re-encrypt the tokens by which workspaces let their calendars be written. The keys are those of SPIN_VARIABLE_CALENDAR_TOKEN_KEY
    #[command(subcommand)]
    Secrets(Secrets),
    /// Begin a handler of your own: its crate, its component and route in spin.toml. In a checkout of Millrace
    NewHandler {
        /// The name of its queue, such as slack
        name: String,
    },
    /// Follow a job to its end, or a queue: exits with 0 if the job succeeded, 1 if it failed or was cancelled, 2 on errors.
    /// The credentials are TOKEN or COLLAB_API_KEY of the environment
    Watch(WatchArguments),
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
    let command = Arguments::parse().command;
    // To `watch` a failure is what a job may come to.
    let on_error = match &command {
        Command::Watch(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    };
    match run(command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            on_error
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(arguments) => up(arguments).await?,
        Command::Serve {
            listen,
            manifest,
            no_cron,
        } => {
            let listen = resolve(&listen).await?;
            refuse_open_door(listen)?;
            let options = ServeOptions {
                manifest,
                variables: Default::default(),
                use_environment: true,
                listen,
                limits: Limits::default(),
                access_log: true,
                cron: !no_cron,
                at_address: tick_at,
                local_pass: None,
            };
            let server = serve(options).await?;
            channels::check(&server).await?;
            let _listener = channels::listen(&server)?;
            eprintln!("==> serving http://{}", server.addr());
            wait_for_end().await?;
            server.shutdown().await;
        }
        Command::Migrate => {
            let url = database_url()?;
            let applied = migrate::migrate(&url).await?;
            println!(
                "{}: {applied} migrations applied",
                database::without_credentials(&url)
            );
        }
        Command::Doctor => doctor::examine(&database_url()?).await?,
        Command::Keys(what) => keys(&database_url()?, what).await?,
        Command::Secrets(what) => secrets(database_url, what).await?,
        Command::NewHandler { name } => print!("{}", new_handler(Path::new("."), &name)?),
        Command::Watch(arguments) => return watch(arguments).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn database_url() -> Result<String> {
    std::env::var("DATABASE_URL").context("DATABASE_URL is not set: the database and its owner, as postgres://user:password@host/database")
}
