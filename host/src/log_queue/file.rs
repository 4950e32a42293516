//! Where the lines of the log go: to standard error, or to a file.
//!
//! The file can be opened again while lines are written: whoever rotates it has renamed it.
//! A write that is under way ends in the file before, so no line is lost or cut.

use crate::sync::lock;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags, fchown, fstat, open};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// The file of the process, if its log goes to one.
static FILE: OnceLock<LogFile> = OnceLock::new();

struct LogFile {
    path: PathBuf,
    open: Mutex<Arc<OwnedFd>>,
}

/// From now on the log goes to a file, which is made if it is not there.
pub(crate) fn use_file(path: &Path) -> io::Result<()> {
    let open = Mutex::new(Arc::new(open_to_append(path)?));
    let path = path.to_owned();
    // A program that calls this twice keeps its first file.
    let _ = FILE.set(LogFile { path, open });
    Ok(())
}

/// The path of the log's file. `None` if the log goes to standard error.
pub(crate) fn file_path() -> Option<&'static Path> {
    FILE.get().map(|file| &*file.path)
}

/// Opens the file again by its path, and makes it if it is not there. On failure the log
/// goes on in the file that is open.
pub(crate) fn open_file_again() -> io::Result<()> {
    if let Some(file) = FILE.get() {
        let opened = Arc::new(open_to_append(&file.path)?);
        *lock(&file.open) = opened;
    }
    Ok(())
}

/// Gives a file that belongs to this user to another, who is to open it again.
pub(crate) fn give_file_to((user, group): (u32, u32)) -> io::Result<()> {
    let Some(file) = FILE.get() else {
        return Ok(());
    };
    let open = Arc::clone(&lock(&file.open));
    let found = fstat(&open)?;
    let is_file = FileType::from_raw_mode(found.st_mode).is_file();
    if is_file && found.st_uid == rustix::process::geteuid().as_raw() {
        let (user, group) = (
            rustix::fs::Uid::from_raw(user),
            rustix::fs::Gid::from_raw(group),
        );
        fchown(&open, Some(user), Some(group))?;
    }
    Ok(())
}

/// A pipe without a reader is an error: a plain open would wait for one.
fn open_to_append(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    Ok(open(path, flags | OFlags::NOCTTY | OFlags::NONBLOCK, mode)?)
}

/// Writes whole lines to the file or to standard error.
///
/// Without the lock of `std::io::stderr`: other threads that write there must not wait for
/// a slow reader.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    match FILE.get() {
        Some(file) => {
            let open = Arc::clone(&lock(&file.open));
            write_to(open.as_fd(), bytes)
        }
        None => write_to(io::stderr().as_fd(), bytes),
    }
}

fn write_to(place: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(place, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // A pipe; or another process with the same standard error made it
            // non-blocking.
            Err(Errno::AGAIN) => {
                let mut waiting = [PollFd::from_borrowed_fd(place, PollFlags::OUT)];
                match poll(&mut waiting, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
