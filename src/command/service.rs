//! `imaild service`: one service of a running server started, stopped or restarted, while the others go on. The server is told through its
//! control socket ([`crate::serve::control`]), and the answer comes when it is done.
//!
//! # Failure
//! Without a server, or with several and none named, nothing is done.

use super::queue::shown;
use super::{CommandError, DataDirectory, Outcome, print};
use crate::serve::Service as Name;
use crate::serve::board;
use crate::serve::control::{self, Order};
use clap::{Args, Subcommand};
use layout::root::Root;
use serde_json::Value;
use std::io::ErrorKind;

/// The arguments of `service`.
#[derive(Args)]
pub(super) struct Service {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(Subcommand)]
enum ServiceCommand {
    /// List the services of the servers on this directory, with what each does.
    List(Place),
    /// Start a service.
    Start(One),
    /// Stop a service: it refuses new clients, and sessions and deliveries under way have ten seconds to end.
    Stop(One),
    /// Stop a service and start it.
    Restart(One),
}

#[derive(Args)]
struct Place {
    #[command(flatten)]
    directory: DataDirectory,
}

#[derive(Args)]
struct One {
    #[command(flatten)]
    directory: DataDirectory,
    /// The service: smtp, queue, pop3, imap or log.
    #[arg(value_name = "NAME")]
    name: Name,
    /// The server's process, if several run on this directory.
    #[arg(long, value_name = "PROCESS")]
    pid: Option<u32>,
}

impl Service {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        match self.command {
            ServiceCommand::List(Place { directory }) => {
                print(&list(&board::running(&directory.open()?)));
                Ok(Outcome::Done)
            }
            ServiceCommand::Start(one) => one.tell(Order::Start),
            ServiceCommand::Stop(one) => one.tell(Order::Stop),
            ServiceCommand::Restart(one) => one.tell(Order::Restart),
        }
    }
}

impl One {
    fn tell(self, order: Order) -> Result<Outcome, CommandError> {
        let root = self.directory.open()?;
        let process = match self.pid {
            Some(process) => process,
            None => the_server(&root)?,
        };
        let answer = control::ask(&root, process, order, self.name).map_err(|error| {
            let why = match error.kind() {
                ErrorKind::PermissionDenied => "only root and the owner of the data directory may".to_owned(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => "no server listens there".to_owned(),
                _ => error.to_string(),
            };
            let socket = root.logs().full().join(control::name(process));
            CommandError::Refused(format!("the server could not be told through {}: {why}", socket.display()))
        })?;
        match answer {
            Ok(done) => {
                print(&format!("{}\n", shown(&done)));
                Ok(Outcome::Done)
            }
            Err(why) => Err(CommandError::Refused(shown(&why))),
        }
    }
}

/// The process of the one server on this directory.
fn the_server(root: &Root) -> Result<u32, CommandError> {
    let servers = board::running(root);
    let processes: Vec<u32> = servers.iter().filter_map(process).collect();
    match processes[..] {
        [process] => Ok(process),
        [] => {
            Err(CommandError::Refused("no imaild runs on this directory: start one with imaild serve".into()))
        }
        _ => {
            let all: Vec<String> = processes.iter().map(u32::to_string).collect();
            Err(CommandError::Refused(format!(
                "several servers run on this directory: say which with --pid, of {}",
                all.join(", ")
            )))
        }
    }
}

fn process(server: &Value) -> Option<u32> {
    server["pid"].as_u64()?.try_into().ok()
}

/// One line for each service. What stands in it came through files that anybody may have written.
fn list(servers: &[Value]) -> String {
    if servers.is_empty() {
        return "No imaild runs on this directory.\n".to_owned();
    }
    let lines = servers.iter().flat_map(|server| {
        let several = servers.len() > 1;
        let of =
            process(server).filter(|_| several).map_or_else(String::new, |pid| format!("  process {pid}"));
        let states = server["states"].as_object().into_iter().flatten();
        states.map(move |(name, state)| {
            format!("{:<8} {}{of}\n", shown(name), shown(state.as_str().unwrap_or("?")))
        })
    });
    lines.collect()
}
