//! The command line.

mod cmd;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Private peer-to-peer clusters for people, devices and robots that share a place.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: cmd::Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(cmd::up::Up),
    Relay(cmd::relay::Relay),
    Manager(cmd::manager::Manager),
    Join(cmd::join::Join),
    Data(cmd::data::Data),
    Task(cmd::task::Task),
    Domain(cmd::domain::Domain),
    Invite(cmd::domain::Invite),
    Evict(cmd::domain::Evict),
    Delegate(cmd::domain::Delegate),
    Approve(cmd::domain::Approve),
    Deny(cmd::domain::Deny),
    Doctor(cmd::doctor::Doctor),
    Sim(cmd::sim::Sim),
}

/// Open files and connections, at most, as far as the system lets this process have them.
const FILES: u64 = 65_536;

fn main() -> ExitCode {
    // Usage errors end the process with code 2 in here.
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("PEERAGE_LOG").unwrap_or_else(|_| "error,libp2p_webrtc=off,webrtc=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    peerage::platform::native::install_crypto();
    // Each connection takes a descriptor, and the usual limit is 1,024. Where it cannot be raised, that many have to do.
    let _ = rlimit::increase_nofile_limit(FILES);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("peerage: no threads to run on ({error})");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Up(up) => up.run(&cli.common).await,
            Command::Relay(relay) => relay.run(&cli.common).await,
            Command::Manager(manager) => manager.run(&cli.common).await,
            Command::Join(join) => join.run(&cli.common).await,
            Command::Data(data) => data.run(&cli.common).await,
            Command::Task(task) => task.run(&cli.common).await,
            Command::Domain(domain) => domain.run(&cli.common),
            Command::Invite(invite) => invite.run(&cli.common),
            Command::Evict(evict) => evict.run(&cli.common),
            Command::Delegate(delegate) => delegate.run(&cli.common),
            Command::Approve(approve) => approve.run(&cli.common),
            Command::Deny(deny) => deny.run(&cli.common),
            Command::Doctor(doctor) => doctor.run(&cli.common).await,
            Command::Sim(sim) => sim.run(),
        }
    });
    // Reading standard input blocks a thread that nothing can wake.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peerage: {} [{}]", error.one_line(), error.code());
            ExitCode::FAILURE
        }
    }
}
