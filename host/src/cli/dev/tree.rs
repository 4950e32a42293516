//! The files of a project at one moment: which there are, and what is in them.
//!
//! A file's state (see [`Stamp`]) says whether it has to be read again. Only its content
//! says whether it has changed: a build or an editor may write what was there before.

use crate::cli::watch::Stamp;
use ignore::{DirEntry, WalkBuilder};
use rustix::fs::fstat;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders of build products, whether a .gitignore names them or not. Those that begin
/// with a dot are hidden, and left out for that.
const PRODUCTS: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// A file whose state changed so shortly before it was read is read at the next look too:
/// another write within the same tick of the file system's clock leaves the state as it
/// is. The coarsest clock in use has ticks of two seconds (FAT).
const TICK: Duration = Duration::from_secs(2);

/// The longest file that is read. A longer one has changed if its state has.
const MAX_READ: u64 = 16 << 20;

/// Where to look, and what is left out there beside what is no source anywhere.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    /// What the build makes.
    component: PathBuf,
    /// Device and inode of the files that this process writes its output to.
    outputs: Vec<(u64, u64)>,
}

impl Place {
    pub(super) fn new(root: &Path, component: &Path) -> Self {
        let (stdout, stderr) = (fstat(io::stdout()), fstat(io::stderr()));
        Self {
            root: root.to_owned(),
            component: root.join(component),
            outputs: [stdout, stderr]
                .into_iter()
                .filter_map(|data| data.ok().map(|data| (data.st_dev, data.st_ino)))
                .collect(),
        }
    }
}

/// The files of a folder, but hidden ones, build products, and what .gitignore names.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// By their paths in the folder.
    files: BTreeMap<PathBuf, Entry>,
    /// When the look began.
    pub(super) looked: SystemTime,
}

impl Default for Tree {
    /// The tree before the first look.
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            looked: SystemTime::UNIX_EPOCH,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    stamp: Stamp,
    modified: Option<SystemTime>,
    /// The file may have changed since it was read, without another state.
    is_young: bool,
    /// SHA-256 of its bytes. `None` if it was not read.
    content: Option<[u8; 32]>,
}

impl Entry {
    fn has_content_of(&self, other: &Self) -> bool {
        match (self.content, other.content) {
            (Some(one), Some(other)) => one == other,
            _ => self.stamp == other.stamp,
        }
    }
}

/// A file that differs from one tree to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Its path in the project's folder.
    pub(super) path: PathBuf,
    /// When it was last written. `None` if it is gone.
    pub(super) modified: Option<SystemTime>,
}

impl Tree {
    /// Looks at all files of a place. Files that have the state that they had in `self` are
    /// not read again.
    pub(super) fn look(&self, place: &Place) -> Self {
        let root = &place.root;
        let looked = SystemTime::now();
        let mut files = BTreeMap::new();
        let walk = WalkBuilder::new(root)
            // What counts is in the project, so that a project is the same wherever it is.
            .parents(false)
            .git_global(false)
            .git_exclude(false)
            .ignore(false)
            // A project need not be in git yet.
            .require_git(false)
            .filter_entry(|entry| !is_product(entry))
            .build();
        // A folder that cannot be read has no files.
        for entry in walk.filter_map(Result::ok) {
            let path = entry.path();
            let kind = entry.file_type();
            if kind.is_none_or(|kind| kind.is_dir()) || path == place.component {
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(path);
            if let Some(entry) = Entry::of(path, self.files.get(name), &place.outputs) {
                files.insert(name.to_owned(), entry);
            }
        }
        Self { files, looked }
    }

    /// Takes over how one file is in a later tree.
    pub(super) fn take(&mut self, path: &Path, later: &Self) {
        match later.files.get(path) {
            Some(entry) => self.files.insert(path.to_owned(), entry.clone()),
            None => self.files.remove(path),
        };
    }

    /// The files that are in one of the two only, or with another content. `self` is the
    /// later one.
    pub(super) fn changed_since(&self, before: &Self) -> Vec<Changed> {
        let is_same = |path, entry: &Entry| {
            let earlier: Option<&Entry> = before.files.get(path);
            earlier.is_some_and(|earlier| earlier.has_content_of(entry))
        };
        let changed = self
            .files
            .iter()
            .filter(|(path, entry)| !is_same(*path, entry));
        let changed = changed.map(|(path, entry)| (path, entry.modified));
        let gone = before
            .files
            .keys()
            .filter(|path| !self.files.contains_key(*path));
        changed
            .chain(gone.map(|path| (path, None)))
            .map(|(path, modified)| Changed {
                path: path.clone(),
                modified,
            })
            .collect()
    }
}

fn is_product(entry: &DirEntry) -> bool {
    let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
    // The project's folder itself may have such a name.
    entry.depth() > 0 && is_folder && PRODUCTS.iter().any(|name| entry.file_name() == *name)
}

impl Entry {
    /// `None` for what is no file, for a file that has gone, and for one of `outputs`.
    fn of(path: &Path, before: Option<&Self>, outputs: &[(u64, u64)]) -> Option<Self> {
        let data = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        if outputs.contains(&(data.dev(), data.ino())) {
            return None;
        }
        let stamp = Stamp::from_data(&data);
        if let Some(before) = before
            && before.stamp == stamp
            && !before.is_young
        {
            return Some(before.clone());
        }
        // Before it is read: what is written after this is young.
        let is_young = stamp.is_younger_than(TICK);
        Some(Self {
            stamp,
            modified: data.modified().ok(),
            is_young,
            content: (data.len() <= MAX_READ)
                .then(|| digest(path).ok())
                .flatten(),
        })
    }
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut bytes = Vec::new();
    // It may grow while it is read.
    File::open(path)?.take(MAX_READ).read_to_end(&mut bytes)?;
    Ok(Sha256::digest(&bytes).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A folder that is gone with this.
    pub(in crate::cli::dev) struct Folder(PathBuf);

    impl Folder {
        pub(in crate::cli::dev) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tree-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(in crate::cli::dev) fn path(&self) -> &Path {
            &self.0
        }

        pub(in crate::cli::dev) fn write(&self, path: &str, content: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn look(&self, before: &Tree) -> Tree {
            before.look(&Place::new(&self.0, "out/it.wasm".as_ref()))
        }

        fn changed(&self, before: &mut Tree) -> Vec<String> {
            let now = self.look(before);
            let changed = now.changed_since(before);
            *before = now;
            let name = |it: Changed| it.path.to_str().unwrap().to_owned();
            changed.into_iter().map(name).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_sources_are_in_the_tree() {
        let folder = Folder::new("sources");
        for path in [
            "src/lib.rs",
            "src/deep/er/a.rs",
            "out/other.wasm",
            "target.rs",
            ".hidden",
            ".venv/lib.py",
            "target/release/a.wasm",
            "sub/node_modules/a.js",
            "__pycache__/a.pyc",
            "out/it.wasm",
            "build.log",
            "sub/generated/a.rs",
        ] {
            folder.write(path, "");
        }
        folder.write(".gitignore", "*.log\n");
        folder.write("sub/.gitignore", "/generated\n");
        std::os::unix::fs::symlink("/dev/zero", folder.0.join("endless")).unwrap();
        let mut tree = Tree::default();
        assert_eq!(
            folder.changed(&mut tree),
            [
                "out/other.wasm",
                "src/deep/er/a.rs",
                "src/lib.rs",
                "target.rs"
            ]
        );
        // A change of what is ignored is one, too.
        folder.write(".gitignore", "src\n");
        assert_eq!(
            folder.changed(&mut tree),
            ["build.log", "src/deep/er/a.rs", "src/lib.rs"]
        );
    }

    #[test]
    fn the_output_of_the_process_is_no_source() {
        let folder = Folder::new("outputs");
        folder.write("log", "a line");
        folder.write("source", "");
        let mut place = Place::new(&folder.0, "it.wasm".as_ref());
        assert_eq!(Tree::default().look(&place).files.len(), 2);
        let log = fs::metadata(folder.0.join("log")).unwrap();
        place.outputs.push((log.dev(), log.ino()));
        let seen = Tree::default().look(&place);
        assert!(seen.files.keys().eq(["source".as_ref() as &Path]));
    }

    #[test]
    fn a_change_is_another_content() {
        let folder = Folder::new("content");
        folder.write("a", "one");
        let mut tree = folder.look(&Tree::default());
        // Each within the tick of the one before, and of one length.
        for content in ["two", "six", "one"] {
            folder.write("a", content);
            assert_eq!(folder.changed(&mut tree), ["a"], "{content}");
            folder.write("a", content);
            assert!(folder.changed(&mut tree).is_empty(), "{content}");
        }
        folder.write("b", "one");
        fs::rename(folder.0.join("b"), folder.0.join("a")).unwrap();
        assert!(folder.changed(&mut tree).is_empty());
        fs::rename(folder.0.join("a"), folder.0.join("c")).unwrap();
        assert_eq!(folder.changed(&mut tree), ["c", "a"]);
    }
}
