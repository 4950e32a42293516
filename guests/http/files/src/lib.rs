//! The files that the HTTP server serves: a directory that was granted, by the standard
//! library.
//!
//! Nothing here keeps a path inside of the directory. The protocol gives no path that
//! leads out, and WASI follows no link that leads out of what was granted.

use http_protocol::{Entry, Kind, Listing, Store};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::UNIX_EPOCH;

/// A directory, as the option `ROOT` names it.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Default for Directory {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl FromStr for Directory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(EXPECTED.to_owned());
        }
        Ok(Self(PathBuf::from(text)))
    }
}

const EXPECTED: &str = "a directory that was granted, as by --dir HOST_DIR::/";

impl Directory {
    /// Checks that it is there. The error is one line that names the option.
    pub fn check(self, option: &str) -> Result<Self, String> {
        if self.0.is_dir() {
            return Ok(self);
        }
        Err(format!(
            "{option}={}: expected {EXPECTED}",
            self.0.display()
        ))
    }

    fn place(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            return self.0.clone();
        }
        self.0.join(path)
    }
}

impl Store for Directory {
    type File = File;

    fn look(&self, path: &str) -> io::Result<Entry> {
        fs::metadata(self.place(path)).map(|found| entry(&found))
    }

    fn open(&self, path: &str, offset: u64) -> io::Result<File> {
        let mut file = File::open(self.place(path))?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(file)
    }

    fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
        file.read(buffer)
    }

    fn list(&self, path: &str, limit: usize) -> io::Result<Vec<Listing>> {
        let place = self.place(path);
        let names = fs::read_dir(&place)?.take(limit);
        // What is removed meanwhile, or has a name that is not text, is not listed.
        Ok(names
            .flatten()
            .filter_map(|it| listing(&place, it.file_name().to_str()?))
            .collect())
    }
}

fn listing(place: &Path, name: &str) -> Option<Listing> {
    let path = place.join(name);
    let own = fs::symlink_metadata(&path).ok()?;
    let is_link = own.is_symlink();
    Some(Listing {
        name: name.to_owned(),
        is_link,
        // A link that leads out cannot be followed, and is listed.
        is_directory: own.is_dir() || is_link && path.is_dir(),
    })
}

fn entry(found: &Metadata) -> Entry {
    let kind = match found {
        found if found.is_dir() => Kind::Directory,
        found if found.is_file() => Kind::File,
        _ => Kind::Other,
    };
    let modified = found.modified().ok();
    Entry {
        kind,
        length: found.len(),
        modified: modified
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |time| time.as_secs()),
    }
}
