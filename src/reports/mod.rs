//! The reports of failovers, drills and returns as files (O5): one JSON and one text each, mode
//! 0600, because they name users.
//!
//! A [`Clerk`] files them in a thread of its own: a slow disk delays no REGISTER. What cannot be
//! written waits in memory and is tried again. A [`Shelf`] reads them, also those of earlier lives of
//! the door.

mod text;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tracing::{info, warn};

use crate::door::Report;

pub use text::text;

/// Reports that wait for the disk at most; the oldest gives way.
const WAITING_MAX: usize = 16;
/// Until a disk that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Octets of a report that is read: 100 open bindings are well below.
const OCTETS_MAX: u64 = 1024 * 1024;
/// Octets of an id.
const ID_MAX: usize = 128;

/// Where reports are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Made when the first is written.
    pub directory: PathBuf,
    /// How many are kept; the oldest go.
    pub keep: usize,
}

/// Reads what was filed.
#[derive(Clone, Debug)]
pub struct Shelf {
    directory: PathBuf,
}

/// Files reports. Dropping it files what waits, as far as the disk takes it.
#[derive(Debug)]
pub struct Clerk {
    desk: Option<SyncSender<Box<Report>>>,
    thread: Option<JoinHandle<()>>,
}

impl Clerk {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let (desk, reports) = sync_channel(WAITING_MAX);
        let thread =
            Builder::new().name("reports".to_owned()).spawn(move || work(&settings, &reports))?;
        Ok(Self { desk: Some(desk), thread: Some(thread) })
    }

    /// Where reports are handed in; never waits.
    pub fn desk(&self) -> impl FnMut(Box<Report>) + Send + use<> {
        let desk = self.desk.clone();
        move |report: Box<Report>| {
            let handed = desk.as_ref().map(|desk| desk.try_send(report));
            if let Some(Err(TrySendError::Full(report))) = handed {
                warn!(id = report.id, "too many reports wait for the disk: this one is lost");
            }
        }
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        drop(self.desk.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported where it happened.
            let _panicked = thread.join();
        }
    }
}

fn work(settings: &Settings, reports: &Receiver<Box<Report>>) {
    let mut waiting: Vec<Box<Report>> = Vec::new();
    let mut failing = false;
    loop {
        let patience = if waiting.is_empty() { Duration::MAX } else { AGAIN_AFTER };
        let ended = match reports.recv_timeout(patience) {
            Ok(report) => {
                waiting.retain(|older| older.id != report.id);
                if waiting.len() == WAITING_MAX {
                    let lost = waiting.remove(0);
                    warn!(id = lost.id, "too many reports wait for the disk: this one is lost");
                }
                waiting.push(report);
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        waiting.retain(|report| match file(settings, report) {
            Ok(()) => {
                failing = false;
                info!(
                    id = report.id,
                    outcome = &*report.outcome,
                    "report written; frontdoor reports shows it"
                );
                false
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let directory = settings.directory.display();
                    warn!(%error, %directory, "a report cannot be written, and is tried again; see to reports.directory");
                }
                true
            }
        });
        if ended {
            return;
        }
    }
}

/// Both files, whole or not at all; then the oldest beyond what is kept go.
fn file(settings: &Settings, report: &Report) -> io::Result<()> {
    let directory = &settings.directory;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let json = serde_json::to_vec_pretty(report)?;
    put(directory, &format!("{}.txt", report.id), text(report).as_bytes())?;
    put(directory, &format!("{}.json", report.id), &json)?;
    let ids = ids(directory)?;
    for old in ids.iter().rev().skip(settings.keep) {
        // Gone already: just as well.
        let _gone = fs::remove_file(directory.join(format!("{old}.txt")));
        let _gone = fs::remove_file(directory.join(format!("{old}.json")));
    }
    Ok(())
}

fn put(directory: &Path, name: &str, octets: &[u8]) -> io::Result<()> {
    let draft = directory.join(format!(".{name}.draft"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(octets).and_then(|()| file.sync_all()));
    let done = written.and_then(|()| fs::rename(&draft, directory.join(name)));
    if done.is_err() {
        // Half a draft on a full disk is in the way of the next.
        let _gone = fs::remove_file(&draft);
    }
    done
}

/// The ids of what is filed, oldest first.
fn ids(directory: &Path) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
        ids.extend(id.filter(|id| is_id(id)).map(str::to_owned));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Whether it can be the name of a report: nothing that leads out of the directory.
fn is_id(id: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    (1..=ID_MAX).contains(&id.len()) && id.bytes().all(fits)
}

impl Shelf {
    /// Of this directory, which need not be there yet.
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The newest reports, oldest of them first. Blocks on the disk. One that cannot be read is left
    /// out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn newest(&self, count: usize) -> io::Result<Vec<Report>> {
        let ids = match ids(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            ids => ids?,
        };
        let newest = ids.iter().skip(ids.len().saturating_sub(count));
        Ok(newest.filter_map(|id| self.report(id)).collect())
    }

    /// One report; `None` if there is none of this id, or it cannot be read. Blocks on the disk.
    pub fn report(&self, id: &str) -> Option<Report> {
        if !is_id(id) {
            return None;
        }
        let file = File::open(self.directory.join(format!("{id}.json"))).ok()?;
        let mut octets = Vec::new();
        file.take(OCTETS_MAX).read_to_end(&mut octets).ok()?;
        serde_json::from_slice(&octets).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn report(id: &str) -> Report {
        Report { id: id.to_owned(), outcome: "done".into(), ..Report::default() }
    }

    fn place(name: &str) -> (PathBuf, Settings) {
        let place = std::env::temp_dir().join(format!("frontdoor-{name}-{}", std::process::id()));
        let _gone = fs::remove_dir_all(&place);
        let settings = Settings { directory: place.join("reports"), keep: 3 };
        (place, settings)
    }

    #[test]
    fn what_is_filed_can_be_read_and_only_the_newest_are_kept() {
        let (place, settings) = place("reports-kept");
        let shelf = Shelf::new(settings.directory.clone());
        assert_eq!(shelf.newest(9).unwrap(), [], "a directory that is not there yet");
        let clerk = Clerk::start(settings.clone()).unwrap();
        let mut desk = clerk.desk();
        for id in ["1-failover-a", "2-failover-a", "3-return-a", "4-failover-b"] {
            desk(Box::new(report(id)));
        }
        let again = Report { users: 7, ..report("4-failover-b") };
        desk(Box::new(again.clone()));
        drop((desk, clerk));
        let kept: Vec<String> = shelf.newest(9).unwrap().into_iter().map(|it| it.id).collect();
        assert_eq!(kept, ["2-failover-a", "3-return-a", "4-failover-b"]);
        assert_eq!(shelf.newest(1).unwrap(), [again], "the last word counts");
        assert_eq!(fs::read_dir(&settings.directory).unwrap().count(), 6);
        let file = settings.directory.join("3-return-a.txt");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        for id in ["", ".", "../x", "a/b", "x.json", &"a".repeat(129)] {
            assert_eq!(shelf.report(id), None, "{id}");
        }
        fs::write(settings.directory.join("5-x.json"), b"{\"form\":").unwrap();
        assert_eq!(shelf.newest(9).unwrap().len(), 3, "half a report is none");
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_cannot_be_written_now_is_written_when_the_next_comes() {
        let (place, settings) = place("reports-again");
        fs::create_dir_all(&place).unwrap();
        fs::write(&settings.directory, b"in the way").unwrap();
        let (desk, reports) = sync_channel(WAITING_MAX);
        let thread = {
            let settings = settings.clone();
            std::thread::spawn(move || work(&settings, &reports))
        };
        for number in 0..WAITING_MAX + 3 {
            desk.send(Box::new(report(&format!("{number:03}-failover-a")))).unwrap();
        }
        fs::remove_file(&settings.directory).unwrap();
        desk.send(Box::new(report("999-failover-a"))).unwrap();
        drop(desk);
        thread.join().unwrap();
        let shelf = Shelf::new(settings.directory);
        let ids: Vec<String> = shelf.newest(9).unwrap().into_iter().map(|it| it.id).collect();
        assert_eq!(ids.last().map(String::as_str), Some("999-failover-a"));
        assert_eq!(ids.len(), 3);
        fs::remove_dir_all(place).unwrap();
    }
}
