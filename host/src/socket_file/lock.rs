//! The lock on a socket's file.

use super::{SocketFileError, identity};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The right to look at a socket file and to replace it.
///
/// It is a lock on `PATH.lock`. The holder removes that file at the end. So after
/// locking a file, a process checks that the path still names the locked file.
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock for the socket file `socket`. Waits for another holder for at
    /// most `patience`.
    pub(super) fn take(socket: &Path, patience: Duration) -> Result<Self, SocketFileError> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let since = Instant::now();
        loop {
            let file = Self::open(&path, socket)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let path = path.clone();
                    let lock = Self { path, file };
                    if lock.is_there() {
                        return Ok(lock);
                    }
                    // The last holder has removed this file. Try again.
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if since.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => return Err(SocketFileError::Starting(socket.to_owned())),
                Err(error) => {
                    return Err(SocketFileError::System(socket.to_owned(), error.into()));
                }
            }
        }
    }

    /// Opens or makes the lock file. Refuses anything but an empty regular file.
    fn open(path: &Path, socket: &Path) -> Result<File, SocketFileError> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            // An empty file can be removed without loss.
            Ok((data, file)) if data.is_file() && data.len() == 0 => Ok(file),
            Ok(_) => Err(SocketFileError::NoLock(path.to_owned())),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::ISDIR | Errno::LOOP | Errno::NXIO) => {
                    Err(SocketFileError::NoLock(path.to_owned()))
                }
                _ => Err(SocketFileError::System(socket.to_owned(), error)),
            },
        }
    }

    /// Whether the path still names the locked file.
    fn is_there(&self) -> bool {
        let held = self.file.metadata().map(|held| (held.dev(), held.ino()));
        held.is_ok_and(|held| identity(&self.path).is_ok_and(|found| found == Some(held)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
