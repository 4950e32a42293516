//! The control socket as a file: how it is made, and how it is removed.
//!
//! A socket file stays when its process is killed, so a start may find one. Only
//! ECONNREFUSED shows that no process has it open; after every other answer the
//! file stays. Looking, removing and binding are three steps. A process that does
//! them holds a lock on the file `PATH.lock`, which exists only during that time.

mod lock;

use lock::Lock;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a start waits for another start at the same socket.
const TURN: Duration = Duration::from_secs(1);

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;

/// The longest path of a socket, in bytes.
pub(super) const MAX_PATH: usize = 107;

/// Why a control socket could not be made. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A running process has the socket.
    #[error("a running process has the control socket {}; choose another path", .0.display())]
    InUse(PathBuf),
    /// Another start is making the socket now.
    #[error(
        "another process is making the control socket {path} and holds {path}.lock; choose \
         another path, or try again",
        path = .0.display()
    )]
    Starting(PathBuf),
    /// The path names something other than a socket.
    #[error(
        "{} is there and is no socket; choose another path for the control socket",
        .0.display()
    )]
    NotASocket(PathBuf),
    /// The path names a socket of another kind.
    #[error(
        "{} is another program's socket, and of another kind; choose another path for the \
         control socket",
        .0.display()
    )]
    AnotherKind(PathBuf),
    /// The file under the lock's name is not a lock.
    #[error(
        "{} is in the way, which is to be the lock of the control socket; choose another path",
        .0.display()
    )]
    NoLock(PathBuf),
    /// It is unknown whether a process has the socket.
    #[error(
        "{} is there, and whether a running process has it cannot be found out: {}; choose \
         another path, or remove it", .0.display(), .1
    )]
    Unknown(PathBuf, #[source] io::Error),
    /// The path does not fit into a socket's address.
    #[error(
        "{}: a control socket's path has 1 to {MAX_PATH} bytes; choose a shorter one",
        .0.display()
    )]
    Length(PathBuf),
    /// The system refused.
    #[error("cannot make the control socket {}: {}{}", .0.display(), .1, advice(.1))]
    System(PathBuf, #[source] io::Error),
}

/// Returns what helps against an error of the system.
fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => "; make its directory first",
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            "; choose a directory that you may write to"
        }
        Some(Errno::MFILE) => "; raise the limit on open files (ulimit -n)",
        _ => "",
    }
}

/// Returns the address of a socket with this path. The empty path is refused: for
/// it the kernel would choose an address.
pub(super) fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    if path.as_os_str().len() > MAX_PATH || path.as_os_str().is_empty() {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// A listening control socket. On drop it removes its file, unless the file is
/// another socket's by then.
pub(super) struct Socket {
    listener: Arc<OwnedFd>,
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

impl Socket {
    /// Makes the socket with the mode 0600. Replaces a socket that a killed process
    /// left behind. Waits for at most a second, and only for another start.
    pub(super) fn bind(path: &Path) -> Result<Self, ControlError> {
        let address = match address(path) {
            Ok(address) => address,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NAMETOOLONG) => {
                return Err(ControlError::Length(path.to_owned()));
            }
            Err(error) => return Err(ControlError::System(path.to_owned(), error)),
        };
        let system = |error: Errno| ControlError::System(path.to_owned(), error.into());
        let listener = stream().map_err(system)?;
        // The file gets the mode of the socket. So the mode is right from the first
        // moment, and the process's umask does not change.
        fchmod(&listener, Mode::RUSR | Mode::WUSR).map_err(system)?;
        let _lock = Lock::take(path, TURN)?;
        if is_stale(path, &address)? {
            std::fs::remove_file(path)
                .map_err(|error| ControlError::System(path.to_owned(), error))?;
        }
        rustix::net::bind(&listener, &address).map_err(system)?;
        let identity = identity(path)
            .map_err(|error| ControlError::System(path.to_owned(), error))?
            .ok_or_else(|| system(Errno::NOENT))?;
        let socket = Self {
            listener: Arc::new(listener),
            path: path.to_owned(),
            identity,
        };
        rustix::net::listen(&socket.listener, BACKLOG).map_err(system)?;
        Ok(socket)
    }

    pub(super) fn listener(&self) -> &Arc<OwnedFd> {
        &self.listener
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let lock = Lock::take(&self.path, Duration::ZERO);
        if matches!(lock, Err(ControlError::Starting(_))) {
            // The holder of the lock is about to replace the socket, or to be
            // refused.
            return;
        }
        if identity(&self.path).is_ok_and(|found| found == Some(self.identity)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes a socket that is not bound yet.
fn stream() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Whether the path has a socket that no process has open. False if the path has
/// nothing.
fn is_stale(path: &Path, address: &SocketAddrUnix) -> Result<bool, ControlError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(ControlError::System(path.to_owned(), error)),
    }
    // Does not block: the process that has the socket may be stopped, with a full
    // backlog.
    let tried = stream().and_then(|probe| rustix::net::connect(&probe, address));
    match tried {
        // EAGAIN is a full backlog.
        Ok(()) | Err(Errno::AGAIN) => Err(ControlError::InUse(path.to_owned())),
        Err(Errno::CONNREFUSED) => Ok(true),
        // The file was removed in the meantime.
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::PROTOTYPE) => Err(ControlError::AnotherKind(path.to_owned())),
        Err(error) => Err(ControlError::Unknown(path.to_owned(), error.into())),
    }
}

/// Returns device and inode of the file under the path, if there is one.
fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("s")
        }

        fn names(&self) -> Vec<OsString> {
            let entries = std::fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn refused(path: &Path) -> String {
        Socket::bind(path).err().unwrap().to_string()
    }

    #[test]
    fn the_socket_is_its_owners_and_leaves_nothing_behind() {
        let directory = Directory::new("bind");
        let path = directory.socket();
        let socket = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(directory.names(), ["s"], "the lock is there only meanwhile");
        UnixStream::connect(&path).unwrap();
        assert!(refused(&path).contains("a running process has"));
        drop(socket);
        assert!(directory.names().is_empty());
    }

    #[test]
    fn only_a_socket_that_nobody_has_open_is_replaced() {
        let directory = Directory::new("stale");
        let path = directory.socket();
        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(refused(&path).contains("of another kind"));
        assert!(path.exists());
        drop(datagrams);
        drop(Socket::bind(&path).unwrap());
        drop(UnixListener::bind(&path).unwrap());
        drop(Socket::bind(&path).unwrap());
        let stopped = stream().unwrap();
        rustix::net::bind(&stopped, &address(&path).unwrap()).unwrap();
        rustix::net::listen(&stopped, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert!(refused(&path).contains("a running process has"));
        assert!(path.exists());
    }

    #[test]
    fn a_socket_that_came_later_stays() {
        let directory = Directory::new("later");
        let path = directory.socket();
        let first = Socket::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Socket::bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    /// Of many simultaneous starts over a stale socket, one gets it and all others
    /// are refused.
    #[test]
    fn of_many_starts_one_gets_the_socket() {
        let directory = Directory::new("many");
        let path = directory.socket();
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let sockets: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| Socket::bind(&path)))
                    .collect();
                starts
                    .into_iter()
                    .map(|start| start.join().unwrap())
                    .collect()
            });
            let made = sockets.iter().filter(|socket| socket.is_ok()).count();
            assert_eq!(made, 1);
            UnixStream::connect(&path).unwrap();
            drop(sockets);
            assert!(directory.names().is_empty());
        }
    }

    #[test]
    fn what_is_in_the_way_stays_and_is_named() {
        let directory = Directory::new("way");
        let path = directory.socket();
        let lock = directory.0.join("s.lock");
        std::fs::write(&lock, "a text").unwrap();
        assert!(refused(&path).contains("s.lock is in the way"));
        assert_eq!(std::fs::read(&lock).unwrap(), b"a text");
        std::fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
        assert!(refused(&path).contains("s.lock is in the way"));
        std::fs::remove_file(&lock).unwrap();
        std::fs::create_dir(&lock).unwrap();
        assert!(refused(&path).contains("s.lock is in the way"));
        std::fs::remove_dir(&lock).unwrap();
        std::fs::write(&path, "a file").unwrap();
        assert!(refused(&path).contains("is there and is no socket"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(refused(&path).contains("is there and is no socket"));
        assert!(refused(&directory.0).contains("is there and is no socket"));
        assert!(refused(Path::new("")).contains("choose a shorter one"));
        let long = directory.0.join("x".repeat(MAX_PATH));
        assert!(refused(&long).contains("choose a shorter one"));
        assert!(refused(&path.join("s")).contains("make its directory first"));
    }
}
