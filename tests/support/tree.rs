//! A scratch copy of the sample IMail directory.

use super::{Run, fixture, fixtures, run};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory that is removed at the end of the test.
pub struct Tree {
    dir: TempDir,
}

impl Tree {
    /// An empty directory.
    pub fn empty() -> Tree {
        Tree { dir: tempfile::Builder::new().prefix("imaild-test-").tempdir().unwrap() }
    }

    /// The sample directory as it comes from the old server: no `registry.ini`.
    pub fn copied() -> Tree {
        let tree = Tree::empty();
        copy_directory(&fixtures().join("imail"), tree.root());
        tree
    }

    /// The sample directory with both parts of the registry imported.
    pub fn imported() -> Tree {
        let tree = Tree::copied();
        tree.import(&["software.reg", "system.reg"], &[]).expect_code(0);
        tree
    }

    /// The imported sample without the mail that waits in the spool, so that a server finds
    /// nothing to deliver.
    pub fn quiet() -> Tree {
        let tree = Tree::imported();
        for name in ["D7c1e0000b0010c44.SMD", "Q7c1e0000b0010c44.SMD"] {
            fs::remove_file(tree.path("spool").join(name)).unwrap();
        }
        tree
    }

    /// The same in memory, where the system has a file system for that: for tests that would wait for the disk most of their time.
    pub fn quiet_in_memory() -> Tree {
        let (memory, tree) = (Path::new("/dev/shm"), Tree::quiet());
        let Ok(dir) = tempfile::Builder::new().prefix("imaild-test-").tempdir_in(memory) else { return tree };
        copy_directory(tree.root(), dir.path());
        Tree { dir }
    }

    /// Imports files of `fixtures/registry`.
    pub fn import(&self, files: &[&str], more: &[&str]) -> Run {
        let paths: Vec<String> = files.iter().map(|file| fixture(&format!("registry/{file}"))).collect();
        let mut args = vec!["import", "--root", self.text()];
        args.extend(paths.iter().map(String::as_str));
        args.extend(more);
        run("imaild", &args)
    }

    /// Runs a companion program on this directory.
    pub fn tool(&self, name: &str, args: &[&str]) -> Run {
        let mut all = vec!["--root", self.text()];
        all.extend(args);
        run(name, &all)
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory as an argument.
    pub fn text(&self) -> &str {
        self.root().to_str().unwrap()
    }

    /// A path below the root, spelled as it is on disk.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// A file's bytes.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The registry as text.
    pub fn registry(&self) -> String {
        String::from_utf8(self.read("registry.ini")).expect("registry.ini is UTF-8")
    }

    /// Writes the registry as most editors do: truncate, then write.
    pub fn save_registry(&self, text: &str) {
        fs::write(self.path("registry.ini"), text).unwrap();
    }

    /// Does no message wait in the spool? What a list lays out is there before it counts.
    pub fn spool_is_empty(&self) -> bool {
        !fs::read_dir(self.path("spool")).unwrap().flatten().any(|file| {
            let name = file.file_name().to_string_lossy().to_ascii_uppercase();
            name.starts_with(['Q', '_']) || (name.starts_with('T') && name.ends_with(".LST"))
        })
    }

    /// Every file with its bytes, by path below the root.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        snapshot(self.root())
    }
}

/// Every file below a directory with its bytes.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir(dir).into_iter();
    files.map(|path| (path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// All regular files below a directory.
fn walkdir(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walkdir(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// Copies a directory with everything in it.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Fails the test unless every file of `before` is there with the same bytes. Files that came
/// on top must carry one of the names that the server keeps beside IMail's.
#[track_caller]
pub fn assert_same_bytes(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in before {
        let now = after.get(path).unwrap_or_else(|| panic!("{} is gone", path.display()));
        assert!(now == bytes, "{} has changed", path.display());
    }
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        assert!(is_ours(path), "{} was made, and is not one of our own file names", path.display());
    }
}

/// Whether a file is one that real IMail does not have and that may appear by reading.
pub fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let kind = path.extension().and_then(|text| text.to_str()).unwrap_or("");
    let top = path.parent() == Some(Path::new(""));
    matches!(kind, "rsx" | "rsj" | "rsu" | "rsc")
        || name.ends_with(".rsx.1")
        || matches!(name, "user.lck" | "login.last" | "imap.sub" | "public.seen" | "next.id")
        || (top && matches!(name, "registry.lck" | "registry.ini.good"))
        || path.starts_with("logs")
        || path.starts_with("certs")
}
