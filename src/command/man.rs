//! `imaild man`: the manual pages of `imaild` and of each of its commands, made from what `--help` is made from. Packages are built with it, so it
//! is not in the list of commands. The companion programs print theirs with `--man`.
//!
//! # Failure
//! A directory that cannot be written to; pages that are there are replaced.

use super::{CommandError, CommandLine, Outcome};
use clap::{Args, Command, CommandFactory as _};
use std::io;
use std::path::{Path, PathBuf};

/// The manual's section: programs for administrators.
const SECTION: &str = "8";

/// Write the manual pages.
#[derive(Args)]
pub(super) struct Man {
    /// The directory to write them into; it is made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        let mut command = CommandLine::command();
        // Names a sub-command after all the words that lead to it.
        command.build();
        let written = std::fs::create_dir_all(&self.out).and_then(|()| write(&command, &self.out));
        written.map_err(CommandError::file(self.out.display()))?;
        Ok(Outcome::Done)
    }
}

fn write(command: &Command, dir: &Path) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone()).section(SECTION);
    let mut source = Vec::new();
    page.render(&mut source)?;
    std::fs::write(dir.join(page.get_filename()), source)?;
    command.get_subcommands().filter(|one| !one.is_hide_set()).try_for_each(|one| write(one, dir))
}
