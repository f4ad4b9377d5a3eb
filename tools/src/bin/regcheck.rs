//! `regcheck`: says whether the domain keys of the registry fit each other and this machine (IMail 12 manual 6-2).
//!
//! It only reads. Exit code: 0 no fault, 1 faults, 2 could not run.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use layout::registry::{check, store};
use tools::program::switches::{Operands, Table};
use tools::program::{Failure, Outcome, Program, complain, open_root, say};

const USAGE: &str = "\
Usage: regcheck [--root DIR]

Checks that the domain keys in registry.ini point at each other and at addresses of this machine.
Nothing is changed.

  --root DIR   the IMail directory; without it the environment variable IMAIL_ROOT counts, then the
               current directory if it holds registry.ini
  --help       this text
  --version    the version

Exit code: 0 no fault found, 1 at least one fault, 2 the check could not be made.";

/// IMail's program has no switches.
const PROGRAM: Program = Program {
    name: "regcheck",
    about: "Checks the domain keys of the registry",
    usage: USAGE,
    table: Table { switches: &[], operands: Operands::None },
};

fn main() -> ExitCode {
    PROGRAM.main(|given| {
        let fault = run(given.root.as_deref()).map_err(Failure::NotRun)?;
        Ok(Outcome::of(fault))
    })
}

/// Prints the check; `true` = there is a fault.
fn run(root: Option<&Path>) -> Result<bool, String> {
    let root = open_root(root).map_err(|error| error.to_string())?;
    let loaded = store::load(&root).map_err(|error| error.to_string())?;
    for complaint in &loaded.complaints {
        complain(&format!("{}: {complaint}", root.registry_ini()));
    }
    let addresses = local_addresses().map_err(|error| format!("the addresses of this machine: {error}"))?;
    let (lines, fault) = check::regcheck(&loaded.registry, &addresses);
    lines.iter().for_each(|line| say(line));
    Ok(fault)
}

/// Every IP address of this machine, each once, in the order of the interfaces.
fn local_addresses() -> nix::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let found = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())));
        if let Some(found) = found.filter(|found| !addresses.contains(found)) {
            addresses.push(found);
        }
    }
    Ok(addresses)
}
