//! Cleaning up once a day, as the program `isplcln` does: with `CleanAfterDays` in `[Global]`, logs of days longer ago than that, and what broke
//! off in the spool as long ago, are deleted, at the first look behind `CleanAt`. Off unless the registry says so, since IMail keeps all.
//!
//! Which files these are is said in [`layout::logdate`] and [`layout::spool::clean`]: never today's log, never what a message needs.
//! Several servers on one directory may clean at the same time: whatever is gone is gone.
//!
//! # Failure
//! What cannot be deleted is named in the log, and the rest goes on; the next day tries again.
//!
//! # Limits
//! [`NAMED_MAX`] faults are named.

use crate::config::{Config, Live};
use crate::logs::Log;
use chrono::{Local, NaiveDate, NaiveDateTime, NaiveTime};
use layout::disk::Disk;
use layout::logdate;
use layout::path::TreePath;
use layout::registry::places;
use layout::spool::clean;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The most faults that the log names for one cleaning.
const NAMED_MAX: usize = 20;
/// The seconds of a day.
const DAY: u64 = 24 * 3600;

/// Cleans every day, for ever.
pub async fn run(live: Arc<Live>, log: Log) {
    let mut done = None;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (config, now) = (live.now(), Local::now().naive_local());
        let global = &config.registry.global;
        if global.clean_after_days == 0 || !is_due(global.clean_at, done, now) {
            continue;
        }
        done = Some(now.date());
        let cleaned = tokio::task::block_in_place(|| clean(&config, global.clean_after_days, now.date()));
        cleaned.faults.iter().take(NAMED_MAX).for_each(|fault| log.note(fault));
        let Cleaned { files, bytes, .. } = cleaned;
        log.note(&format!("cleaned up: {files} files with {bytes} bytes were deleted"));
    }
}

/// Once a day, when its time has come.
fn is_due(at: NaiveTime, done: Option<NaiveDate>, now: NaiveDateTime) -> bool {
    done != Some(now.date()) && now.time() >= at
}

/// What was done.
#[derive(Default)]
struct Cleaned {
    files: u64,
    bytes: u64,
    faults: Vec<String>,
}

impl Cleaned {
    fn delete(&mut self, disk: &dyn Disk, file: &TreePath) -> io::Result<()> {
        let (stamp, _) = disk.stat(file)?;
        disk.unlink(file)?;
        self.files += 1;
        self.bytes += stamp.size;
        Ok(())
    }

    /// Notes what went wrong; that a file is gone is what was wanted.
    fn check(&mut self, path: &TreePath, done: io::Result<()>) {
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.faults.push(format!("{path} could not be cleaned up: {error}"));
            }
            _ => {}
        }
    }
}

fn clean(config: &Config, days: u32, today: NaiveDate) -> Cleaned {
    let (root, mut cleaned) = (config.root(), Cleaned::default());
    let disk = root.disk();
    for dir in places::log_dirs(root, &config.registry) {
        let found = logdate::older(disk, &dir, days, today);
        for file in found.as_deref().unwrap_or_default() {
            let done = cleaned.delete(disk, file);
            cleaned.check(file, done);
        }
        cleaned.check(&dir, found.map(drop));
    }
    let spool = root.spool();
    let age = Duration::from_secs(u64::from(days) * DAY);
    let found = clean::left_over(disk, &spool, age, disk.now());
    for left in found.as_deref().unwrap_or_default() {
        let done = clean::remove(disk, left, |file| cleaned.delete(disk, file)).map(drop);
        cleaned.check(left.files.first().unwrap_or(&spool), done);
    }
    cleaned.check(&spool, found.map(drop));
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Timelike as _;

    #[test]
    fn once_a_day_when_its_time_has_come() {
        let day = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
        let at = NaiveTime::from_hms_opt(3, 0, 0).unwrap();
        for (now, done, due) in [
            (at, None, true),
            (at.with_hour(2).unwrap(), None, false),
            (at.with_hour(23).unwrap(), None, true),
            (at, Some(day), false),
            (at, day.pred_opt(), true),
            (at.with_hour(2).unwrap(), day.pred_opt(), false),
        ] {
            assert_eq!(is_due(at, done, day.and_time(now)), due, "{now} {done:?}");
        }
    }
}
