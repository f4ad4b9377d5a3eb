//! What `imaild check` and `imaild import` say: findings, notes and the inventory, as text or as JSON.
//!
//! A finding is something that the admin should do something about; a note is good to know and no fault.
//!
//! # Failure
//! Only `--report` can fail; its directory is looked at before anything else is done.
//!
//! # Limits
//! [`LISTED_MAX`] findings of each area, and as many notes, are listed; the rest are counted.

use super::inventory::Inventory;
use super::{CommandError, print, write_private};
use clap::Args;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Most findings, and most notes, of one area that are listed; more say nothing new.
const LISTED_MAX: usize = 10_000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Area {
    Registry,
    Domain,
    User,
    Mailbox,
    List,
    Alias,
    Rule,
    Spool,
    Permissions,
}

impl Area {
    fn name(self) -> &'static str {
        match self {
            Area::Registry => "registry",
            Area::Domain => "domain",
            Area::User => "user",
            Area::Mailbox => "mailbox",
            Area::List => "list",
            Area::Alias => "alias",
            Area::Rule => "rule",
            Area::Spool => "spool",
            Area::Permissions => "permissions",
        }
    }
}

/// Lines about the directory, at most [`LISTED_MAX`] of each area.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) count: usize,
    pub(super) listed: Vec<(Area, String)>,
    by_area: HashMap<Area, usize>,
}

impl Lines {
    fn add(&mut self, area: Area, text: String) {
        self.count += 1;
        let listed = self.by_area.entry(area).or_default();
        if *listed < LISTED_MAX {
            *listed += 1;
            self.listed.push((area, text));
        }
    }

    fn json(&self) -> Value {
        let lines = self.listed.iter().map(|(area, text)| json!({ "area": area.name(), "text": text }));
        lines.collect()
    }
}

/// A line of a rules file that is not understood.
pub(super) struct RuleLine {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) why: String,
}

/// What was found.
#[derive(Default)]
pub(super) struct Report {
    pub(super) findings: Lines,
    pub(super) notes: Lines,
    /// Lines of rules files that are not understood; each is a finding too.
    pub(super) odd_rules: Vec<RuleLine>,
}

impl Report {
    pub(super) fn finding(&mut self, area: Area, text: impl Into<String>) {
        self.findings.add(area, text.into());
    }

    pub(super) fn note(&mut self, area: Area, text: impl Into<String>) {
        self.notes.add(area, text.into());
    }

    /// Findings and notes, a line each.
    pub(super) fn lines(&self) -> String {
        let mut out = String::new();
        for (area, text) in &self.findings.listed {
            let _ = writeln!(out, "{}: {text}", area.name());
        }
        for (area, text) in &self.notes.listed {
            let _ = writeln!(out, "note: {}: {text}", area.name());
        }
        let more = self.findings.count - self.findings.listed.len();
        if more > 0 {
            let _ = writeln!(out, "{more} more findings are not listed: put these right, and run this again");
        }
        out
    }

    /// How many findings there are, in words.
    pub(super) fn verdict(&self) -> String {
        match self.findings.count {
            0 => "nothing is wrong".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        }
    }

    /// All fields of a report.
    pub(super) fn json(&self, inventory: &Inventory<'_>) -> Map<String, Value> {
        let mut fields = inventory.json(&self.odd_rules);
        fields.insert("findings".to_owned(), self.findings.json());
        fields.insert("notes".to_owned(), self.notes.json());
        fields.insert("finding_count".to_owned(), json!(self.findings.count));
        fields
    }
}

/// In which form a report is told, and where it is kept.
#[derive(Args)]
pub(super) struct Form {
    /// Report as JSON.
    #[arg(long)]
    json: bool,
    /// Keep the report in this file too, which only you will be able to read: as JSON if its name ends in .json, else as text.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Form {
    /// Refuses a file that could not be written, before there is anything to write.
    pub(super) fn refuse(&self) -> Result<(), CommandError> {
        let Some(file) = &self.report else { return Ok(()) };
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match dir.is_dir() && !file.is_dir() {
            true => Ok(()),
            false => Err(CommandError::Refused(format!(
                "--report {}: name a file in a directory that exists",
                file.display()
            ))),
        }
    }

    /// Prints the report, and keeps it.
    pub(super) fn tell(
        &self,
        text: impl Fn() -> String,
        json: impl Fn() -> Value,
    ) -> Result<(), CommandError> {
        let json = || format!("{:#}\n", json());
        print(&if self.json { json() } else { text() });
        let Some(file) = &self.report else { return Ok(()) };
        let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let kept = if is_json { json() } else { text() };
        write_private(file, kept.as_bytes()).map_err(CommandError::file(file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_area_does_not_crowd_out_another() {
        let mut report = Report::default();
        (0..LISTED_MAX + 5).for_each(|number| report.finding(Area::Mailbox, number.to_string()));
        report.finding(Area::Spool, "seen");
        assert_eq!(report.verdict(), format!("{} findings", LISTED_MAX + 6));
        let lines = report.lines();
        assert!(lines.contains("spool: seen\n") && lines.contains("5 more findings are not listed"));
    }
}
