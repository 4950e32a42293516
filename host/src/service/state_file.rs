//! The file in which a service keeps what its instance knows, from its end to its next
//! start.
//!
//! It begins with a line that says what it is, and a line of JSON: the state's tag, its
//! length in bytes and its SHA-256, which covers the tag too. Then the state's bytes follow,
//! and nothing after them.

use crate::guest::instance_state::InstanceState;
use crate::text;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The first line.
const MAGIC: &[u8] = b"sockserve state 1\n";

/// The largest file that is read, in bytes: no instance has more memory than 4 GiB.
const MAX_BYTES: u64 = (4 << 30) + (1 << 16);

/// A file for the state of a service's instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateFile(PathBuf);

/// Why a state file cannot be used. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// The system refused.
    #[error("--state-file {}: {error}", text::path(.path))]
    System {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// It is not what was written.
    #[error(
        "--state-file {}: {what}; nothing of it was changed: put a whole one in its place, or move it \
         away to begin with nothing", text::path(.path)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The component does not take it.
    #[error(
        "--state-file {}: the component does not take it: {reason}; nothing of it was changed: serve \
         the component that wrote it, or move it away to begin with nothing", text::path(.path)
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why the component does not take it.
        reason: String,
    },
}

/// The second line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    tag: String,
    bytes: u64,
    sha256: String,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Reads the state. `None` if there is no file. Checks that one can be written later.
    pub(crate) fn read(&self) -> Result<Option<InstanceState>, StateFileError> {
        let system = |error| {
            let path = self.0.clone();
            StateFileError::System { path, error }
        };
        let found = match fs::metadata(&self.0) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(system(error)),
        };
        // What cannot be written at the end has to be known at the start.
        let beside = self.beside();
        let writable = File::create(&beside).and_then(|_| fs::remove_file(&beside));
        writable.map_err(system)?;
        let Some(found) = found else {
            return Ok(None);
        };
        let damaged = |what| {
            let path = self.0.clone();
            StateFileError::Damaged { path, what }
        };
        if !found.is_file() {
            return Err(damaged("it is no regular file"));
        }
        if found.len() > MAX_BYTES {
            return Err(damaged("it is larger than any state"));
        }
        let bytes = fs::read(&self.0).map_err(system)?;
        parse(bytes).map(Some).map_err(damaged)
    }

    /// Puts a state into the file, in one step: whatever happens, there is the old one or
    /// the new one. Without a state there is no file afterwards.
    pub(crate) fn write(&self, state: Option<&InstanceState>) -> Result<(), StateFileError> {
        let system = |error| {
            let path = self.0.clone();
            StateFileError::System { path, error }
        };
        let Some(state) = state else {
            return match fs::remove_file(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(error)),
                _ => Ok(()),
            };
        };
        let (place, beside) = (self.place(), self.beside());
        let written = write_to(&beside, state, &place)
            .and_then(|()| fs::rename(&beside, &place))
            .and_then(|()| sync_directory_of(&place));
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            system(error)
        })
    }

    /// The component does not take what the file has.
    pub(crate) fn refused(&self, reason: String) -> StateFileError {
        let path = self.0.clone();
        StateFileError::Refused { path, reason }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the file is. A link stays one, and leads to the new file.
    fn place(&self) -> PathBuf {
        fs::canonicalize(&self.0).unwrap_or_else(|_| self.0.clone())
    }

    /// A file of this process in the same directory.
    fn beside(&self) -> PathBuf {
        let mut name = self.place().into_os_string();
        name.push(format!(".{}.part", std::process::id()));
        name.into()
    }
}

/// Writes a file that is to take the place of `old`, with its mode. Without one only this
/// user can read it, because what an instance knows is nobody else's.
fn write_to(path: &Path, state: &InstanceState, old: &Path) -> io::Result<()> {
    let header = Header {
        tag: state.tag.clone(),
        bytes: state.bytes.len() as u64,
        sha256: digest(state),
    };
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    if let Ok(old) = fs::metadata(old) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(MAGIC)?;
    serde_json::to_writer(&mut file, &header)?;
    file.write_all(b"\n")?;
    file.write_all(&state.bytes)?;
    file.sync_all()
}

/// Has the system remember that a file was renamed.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads what [`write_to`] has written. The error says what is wrong with it.
fn parse(mut file: Vec<u8>) -> Result<InstanceState, &'static str> {
    let rest = file.strip_prefix(MAGIC).ok_or("it is no state file")?;
    let mut parts = rest.splitn(2, |&byte| byte == b'\n');
    let (Some(line), Some(bytes)) = (parts.next(), parts.next()) else {
        return Err("it is cut off");
    };
    let header: Header = serde_json::from_slice(line).map_err(|_| "its second line is damaged")?;
    match (bytes.len() as u64).cmp(&header.bytes) {
        std::cmp::Ordering::Less => return Err("it is cut off"),
        std::cmp::Ordering::Greater => return Err("it has more bytes than its state"),
        std::cmp::Ordering::Equal => {}
    }
    let start = file.len() - bytes.len();
    file.drain(..start);
    let state = InstanceState {
        tag: header.tag,
        bytes: file,
    };
    if digest(&state) == header.sha256 {
        Ok(state)
    } else {
        Err("its bytes are not those that were written")
    }
}

/// SHA-256 of a state, in hexadecimal.
fn digest(state: &InstanceState) -> String {
    let mut hash = Sha256::new();
    hash.update((state.tag.len() as u64).to_le_bytes());
    hash.update(&state.tag);
    hash.update(&state.bytes);
    hash.finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> InstanceState {
        InstanceState {
            tag: "test \"1\"\n".to_owned(),
            bytes: b"\n\0bytes\n".to_vec(),
        }
    }

    #[test]
    fn a_state_comes_back_as_it_was_and_damage_is_found() {
        let directory = std::env::temp_dir().join(format!("state-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let file = StateFile::new(directory.join("kept"));
        assert_eq!(file.read().unwrap(), None);
        file.write(Some(&state())).unwrap();
        assert_eq!(file.read().unwrap(), Some(state()));
        let whole = fs::read(file.path()).unwrap();
        // Whatever byte is changed, left out or added.
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert_ne!(parse(changed).ok(), Some(state()), "{place}");
            assert!(parse(whole[..place].to_vec()).is_err(), "{place}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(parse(longer), Err("it has more bytes than its state"));
        file.write(None).unwrap();
        file.write(None).unwrap();
        assert_eq!(file.read().unwrap(), None);
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn a_link_stays_one_and_a_mode_too() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = std::env::temp_dir().join(format!("state-link-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (target, link) = (directory.join("target"), directory.join("link"));
        StateFile::new(target.clone())
            .write(Some(&state()))
            .unwrap();
        assert_eq!(mode(&target), 0o600);
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        let file = StateFile::new(link.clone());
        assert_eq!(file.read().unwrap(), Some(state()));
        fs::write(&target, "other").unwrap();
        file.write(Some(&state())).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            StateFile::new(target.clone()).read().unwrap(),
            Some(state())
        );
        assert_eq!(mode(&target), 0o640);
        fs::remove_dir_all(&directory).unwrap();
    }
}
