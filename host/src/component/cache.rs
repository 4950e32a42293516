//! Compiled components on disk.
//!
//! An entry is a file. Its name is the key: what it was made from. Its content has a
//! checksum. A component without a valid entry is compiled again. Compiled
//! code runs without a further check, so no other user may be able to write to the
//! directory. An entry appears complete or not at all. If the directory becomes too
//! large, the entries that were not used for the longest time are removed.

use crate::component::compiled::{Compiled, Key};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The most bytes of all entries together, and of one entry.
const MAX_BYTES: u64 = 512 << 20;
const MAX_ENTRY: u64 = 256 << 20;

/// The part of a file's name that marks an unfinished entry. A process that is
/// killed while it writes leaves such a file behind; after this time it is removed.
const UNFINISHED: &str = ".part";
const UNFINISHED_FOR: Duration = Duration::from_secs(3600);

/// A directory with compiled components. A component that has an entry is loaded in
/// milliseconds. The directory holds at most 512 MiB; entries that were not used
/// for the longest time are removed first.
#[derive(Clone, Debug)]
pub struct CompileCache {
    directory: PathBuf,
    /// The log already says that the cache cannot be used.
    complained: Arc<AtomicBool>,
}

/// A directory that cannot be used as the cache.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {directory} as the cache of compiled components: {reason}", directory = crate::text::path(.directory))]
pub struct CacheError {
    directory: PathBuf,
    reason: String,
}

impl CompileCache {
    /// Uses a directory. If it does not exist, makes it, for this user only.
    ///
    /// The code in the directory is run. So it must belong to this user or to root,
    /// and no other user may be able to write to it. The same must hold for the
    /// directories above it, up to the first one with the sticky bit.
    pub fn in_directory(directory: &Path) -> Result<Self, CacheError> {
        let failed = |reason: String| CacheError {
            directory: directory.to_owned(),
            reason,
        };
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|error| failed(error.to_string()))?;
        let directory = fs::canonicalize(directory).map_err(|error| failed(error.to_string()))?;
        let user = rustix::process::geteuid().as_raw();
        for place in directory.ancestors() {
            let metadata = fs::metadata(place).map_err(|error| failed(error.to_string()))?;
            match Trust::of(&metadata, user) {
                Trust::Trusted => {}
                Trust::Sticky if place == directory => {
                    return Err(failed(writable(place, &metadata)));
                }
                Trust::Sticky => break,
                Trust::Writable => return Err(failed(writable(place, &metadata))),
                Trust::Foreign => {
                    return Err(failed(format!(
                        "{} belongs to user {}, who could put code there; name a directory that \
                         only you can write to",
                        place.display(),
                        metadata.uid()
                    )));
                }
            }
        }
        Ok(Self {
            directory,
            complained: Arc::default(),
        })
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the code of the entry for `key`. `None` if there is no entry, or if
    /// it is damaged.
    pub(crate) fn load(&self, key: &Key) -> Option<Compiled> {
        let path = self.directory.join(&key.0);
        let read = open(&path).and_then(|file| {
            if file.metadata()?.len() > MAX_ENTRY {
                return Ok((file, Vec::new()));
            }
            let mut bytes = Vec::new();
            (&file).take(MAX_ENTRY).read_to_end(&mut bytes)?;
            Ok((file, bytes))
        });
        let (file, bytes) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.complain("cannot be read", &error.to_string());
                return None;
            }
        };
        let compiled = Compiled::unseal(key, &bytes);
        if compiled.is_none() {
            self.complain("has a damaged entry, which is made again", &key.0);
        } else {
            // A used entry must not be the first to be removed. A failure to note
            // the use does no harm.
            let _ = file.set_modified(SystemTime::now());
        }
        compiled
    }

    /// Writes the entry for `key`.
    pub(crate) fn store(&self, key: &Key, compiled: &Compiled) {
        match self.write(key, compiled) {
            Ok(()) => self.complained.store(false, Ordering::Relaxed),
            Err(error) => self.complain("cannot be written", &error.to_string()),
        }
    }

    fn write(&self, key: &Key, compiled: &Compiled) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        if compiled.code.len() as u64 > MAX_ENTRY / 2 {
            return Ok(());
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("{}{UNFINISHED}-{process}-{number}", key.0);
        let unfinished = self.directory.join(name);
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(&compiled.head(key))?;
                file.write_all(&compiled.code)
            })
            .and_then(|()| fs::rename(&unfinished, self.directory.join(&key.0)));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written.and_then(|()| tidy(&self.directory, MAX_BYTES, SystemTime::now()))
    }

    /// Logs that the cache cannot be used. Logs it once, until the cache can be
    /// written again.
    fn complain(&self, what: &str, reason: &str) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                directory = %self.directory.display(),
                reason,
                "the cache of compiled components {what}; components are compiled as without one"
            );
        }
    }
}

/// Whether other users can put files into a directory.
#[derive(Debug, PartialEq, Eq)]
enum Trust {
    Trusted,
    /// They can, but they cannot move or remove the files of other users.
    Sticky,
    Writable,
    /// It belongs to another user.
    Foreign,
}

impl Trust {
    fn of(metadata: &Metadata, user: u32) -> Self {
        Self::by(metadata.uid(), metadata.mode(), user)
    }

    fn by(owner: u32, mode: u32, user: u32) -> Self {
        if owner != 0 && owner != user {
            return Self::Foreign;
        }
        match (mode & 0o022, mode & 0o1000) {
            (0, _) => Self::Trusted,
            (_, 0) => Self::Writable,
            _ => Self::Sticky,
        }
    }
}

fn writable(place: &Path, metadata: &Metadata) -> String {
    format!(
        "others can write to {place} (mode {:04o}) and could put code there; chmod go-w {place}, \
         or name a directory that only you can write to",
        metadata.mode() & 0o7777,
        place = place.display(),
    )
}

/// Opens a regular file. Does not block on a file of another kind.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Removes the entries that were not used for the longest time, until the rest has
/// at most `most` bytes. Also removes old unfinished files.
fn tidy(directory: &Path, most: u64, now: SystemTime) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Another process may have removed the file.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if !metadata.is_file() || !is_ours(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if entry.file_name().to_string_lossy().contains(UNFINISHED) {
            let age = now.duration_since(used).unwrap_or_default();
            if age > UNFINISHED_FOR {
                let _ = fs::remove_file(entry.path());
            }
            continue;
        }
        entries.push((used, metadata.len(), entry.path()));
    }
    entries.sort();
    let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
    // The newest entry is in use now.
    let others = entries.len().saturating_sub(1);
    for (_, size, path) in entries.into_iter().take(others) {
        if bytes <= most {
            break;
        }
        if fs::remove_file(path).is_ok() {
            bytes -= size;
        }
    }
    Ok(())
}

/// Whether the name is that of an entry. Other files are left alone.
fn is_ours(name: &str) -> bool {
    let hash = name.split(UNFINISHED).next().unwrap_or_default();
    hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("sockserve-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        place
    }

    #[test]
    fn others_must_not_be_able_to_write() {
        assert_eq!(Trust::by(1000, 0o700, 1000), Trust::Trusted);
        assert_eq!(Trust::by(0, 0o755, 1000), Trust::Trusted);
        assert_eq!(Trust::by(1000, 0o775, 1000), Trust::Writable);
        assert_eq!(Trust::by(1000, 0o757, 1000), Trust::Writable);
        assert_eq!(Trust::by(0, 0o1777, 1000), Trust::Sticky);
        assert_eq!(Trust::by(1001, 0o700, 1000), Trust::Foreign);
        assert_eq!(Trust::by(1001, 0o1777, 0), Trust::Foreign);
    }

    #[test]
    fn a_directory_that_is_made_is_for_its_owner_only() {
        let place = scratch("made");
        let cache = CompileCache::in_directory(&place.join("deeper")).unwrap();
        for directory in [place.as_path(), cache.directory()] {
            assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
        }
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let place = scratch("tidy");
        let cache = CompileCache::in_directory(&place).unwrap();
        let now = SystemTime::now();
        let name = |letter: &str| cache.directory().join(letter.repeat(64));
        for (age, letter) in [(30, "a"), (20, "b"), (10, "c")] {
            let compiled = Compiled {
                code: vec![0; 1000],
                took: Duration::ZERO,
            };
            cache.store(&Key(letter.repeat(64)), &compiled);
            let file = File::options().write(true).open(name(letter)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        let left = place.join(format!("{}{UNFINISHED}-1-1", "d".repeat(64)));
        fs::write(&left, "x").unwrap();
        fs::write(place.join("notes"), "mine").unwrap();
        // A load counts as a use.
        assert!(cache.load(&Key("a".repeat(64))).is_some());
        tidy(&place, 2500, now).unwrap();
        let there = ["a", "b", "c"].map(|letter| name(letter).exists());
        assert_eq!(there, [true, false, true]);
        assert!(left.exists());
        tidy(&place, 0, now + UNFINISHED_FOR * 2).unwrap();
        let there = ["a", "b", "c"].map(|letter| name(letter).exists());
        assert_eq!(there, [true, false, false]);
        assert!(!left.exists());
        assert!(place.join("notes").exists());
        fs::remove_dir_all(&place).unwrap();
    }
}
