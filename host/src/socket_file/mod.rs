//! Unix sockets as files: how a file is made, and how it is removed.
//!
//! A socket file stays when its process is killed, so a start may find one. Only
//! ECONNREFUSED shows that no process has it open; after every other answer the
//! file stays. Looking, removing and binding are three steps. A process that does
//! them holds a lock on the file `PATH.lock`, which exists only during that time.

mod lock;

use crate::text;
use lock::Lock;
use rustix::fs::{self, AtFlags, CWD, Gid, Mode, Uid, chownat, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a start waits for another start at the same socket.
const TURN: Duration = Duration::from_secs(1);

/// The longest path of a socket, in bytes.
pub(crate) const MAX_PATH: usize = 107;

/// Why a socket file could not be made. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketFileError {
    /// A running process has the socket.
    #[error("a running process has the socket {}; choose another path", path(.0))]
    InUse(PathBuf),
    /// Another start is making the socket now.
    #[error(
        "another process is making the socket {path} and holds {path}.lock; choose another path, \
         or try again",
        path = path(.0)
    )]
    Starting(PathBuf),
    /// The path names something other than a socket.
    #[error("{} is there and is no socket; choose another path for the socket", path(.0))]
    NotASocket(PathBuf),
    /// The path names a socket of another kind.
    #[error(
        "{} is another program's socket, and of another kind; choose another path for the socket",
        path(.0)
    )]
    AnotherKind(PathBuf),
    /// The file under the lock's name is not a lock.
    #[error(
        "{} is in the way, which is to be the lock of the socket; choose another path",
        path(.0)
    )]
    NoLock(PathBuf),
    /// It is unknown whether a process has the socket.
    #[error(
        "{} is there, and whether a running process has it cannot be found out: {}; choose \
         another path, or remove it", path(.0), .1
    )]
    Unknown(PathBuf, #[source] io::Error),
    /// The path does not fit into a socket's address.
    #[error("{}: a socket's path has 1 to {MAX_PATH} bytes; choose a shorter one", path(.0))]
    Length(PathBuf),
    /// The system refused.
    #[error("cannot make the socket {}: {}{}", path(.0), .1, advice(.1))]
    System(PathBuf, #[source] io::Error),
}

/// A path on one line.
fn path(path: &Path) -> std::borrow::Cow<'_, str> {
    text::path(path)
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
pub(crate) fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    if path.as_os_str().len() > MAX_PATH || path.as_os_str().is_empty() {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// Who may open a socket file. By default everybody whom the process's umask permits
/// to, and the group is the process's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// The permission bits of the file, whatever the umask is.
    pub(crate) mode: Option<u32>,
    /// The group of the file, by its number.
    pub(crate) group: Option<u32>,
    /// The user that the file is given to, and its group if there is no `group`.
    pub(crate) owner: Option<(u32, u32)>,
}

/// The file of a bound socket. On drop it is removed, unless the path names another
/// file by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

impl SocketFile {
    /// Makes a socket and binds it to a path. The socket does not block. With a `backlog`
    /// it listens. Replaces a socket that a killed process left behind. Waits for at most a
    /// second, and only for another start.
    ///
    /// A file with a mode or a group of its own can be opened by its owner only until it
    /// has both.
    pub(crate) fn bind(
        path: &Path,
        kind: SocketType,
        access: Access,
        backlog: Option<i32>,
    ) -> Result<(OwnedFd, Self), SocketFileError> {
        let system = |error: io::Error| SocketFileError::System(path.to_owned(), error);
        let address = match address(path) {
            Ok(address) => address,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NAMETOOLONG) => {
                return Err(SocketFileError::Length(path.to_owned()));
            }
            Err(error) => return Err(system(error)),
        };
        let socket = unbound(kind).map_err(|error| system(error.into()))?;
        if access.is_restricted() {
            // The file gets the mode of the socket, less the umask. So the mode is not
            // too wide at any moment, and the process's umask does not change.
            fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|error| system(error.into()))?;
        }
        let _lock = Lock::take(path, TURN)?;
        if is_stale(path, &address, kind)? {
            std::fs::remove_file(path).map_err(system)?;
        }
        rustix::net::bind(&socket, &address).map_err(|error| system(error.into()))?;
        // Under the lock: a socket that does not listen yet looks stale.
        let finish = || {
            access.apply(path)?;
            if let Some(backlog) = backlog {
                rustix::net::listen(&socket, backlog)?;
            }
            identity(path)?.ok_or_else(|| Errno::NOENT.into())
        };
        match finish() {
            Ok(identity) => {
                let path = path.to_owned();
                Ok((socket, Self { path, identity }))
            }
            Err(error) => {
                let _ = std::fs::remove_file(path);
                Err(system(error))
            }
        }
    }
}

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this user may remove the file, as far as its directory is concerned.
    pub(crate) fn may_be_removed(&self) -> bool {
        let parent = self.path.parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        let change = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
        fs::access(parent.unwrap_or(Path::new(".")), change).is_ok()
    }
}

impl Access {
    /// Whether the file has another mode than what the umask leaves.
    fn is_restricted(self) -> bool {
        self.mode.is_some() || self.group.is_some()
    }

    /// Sets the file's owner and group, and then its mode.
    fn apply(self, path: &Path) -> io::Result<()> {
        let owner = self.owner.map(|(user, _)| Uid::from_raw(user));
        let group = self.group.or(self.owner.map(|(_, group)| group));
        let group = group.map(Gid::from_raw);
        if owner.is_some() || group.is_some() {
            chownat(CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if self.is_restricted() {
            let mode = self.mode.unwrap_or(GROUP_MODE);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// The mode of a file that was given a group and no mode: that group may open it.
const GROUP_MODE: u32 = 0o660;

impl Drop for SocketFile {
    fn drop(&mut self) {
        let lock = Lock::take(&self.path, Duration::ZERO);
        if matches!(lock, Err(SocketFileError::Starting(_))) {
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
fn unbound(kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
}

/// Whether the path has a socket that no process has open. False if the path has
/// nothing.
fn is_stale(
    path: &Path,
    address: &SocketAddrUnix,
    kind: SocketType,
) -> Result<bool, SocketFileError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketFileError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(SocketFileError::System(path.to_owned(), error)),
    }
    // Does not block: the process that has the socket may be stopped, with a full
    // backlog.
    let tried = unbound(kind).and_then(|probe| rustix::net::connect(&probe, address));
    match tried {
        // EAGAIN is a full backlog. EPERM is a datagram socket that is connected to
        // somebody else.
        Ok(()) | Err(Errno::AGAIN | Errno::PERM) => Err(SocketFileError::InUse(path.to_owned())),
        Err(Errno::CONNREFUSED) => Ok(true),
        // The file was removed in the meantime.
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::PROTOTYPE) => Err(SocketFileError::AnotherKind(path.to_owned())),
        Err(error) => Err(SocketFileError::Unknown(path.to_owned(), error.into())),
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

    const OWNERS: Access = Access {
        mode: Some(0o600),
        group: None,
        owner: None,
    };

    /// A listening socket, and its file.
    fn bind(path: &Path) -> Result<(SocketFile, OwnedFd), SocketFileError> {
        let (socket, file) = SocketFile::bind(path, SocketType::STREAM, OWNERS, Some(16))?;
        Ok((file, socket))
    }

    fn refused(path: &Path) -> String {
        bind(path).err().unwrap().to_string()
    }

    #[test]
    fn the_socket_is_its_owners_and_leaves_nothing_behind() {
        let directory = Directory::new("bind");
        let path = directory.socket();
        let socket = bind(&path).unwrap();
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
        drop(bind(&path).unwrap());
        drop(UnixListener::bind(&path).unwrap());
        drop(bind(&path).unwrap());
        let stopped = unbound(SocketType::STREAM).unwrap();
        rustix::net::bind(&stopped, &address(&path).unwrap()).unwrap();
        rustix::net::listen(&stopped, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert!(refused(&path).contains("a running process has"));
        assert!(path.exists());
    }

    #[test]
    fn what_fails_after_the_bind_leaves_nothing_behind() {
        let directory = Directory::new("undone");
        let path = directory.socket();
        // A datagram socket cannot listen.
        let bound = SocketFile::bind(&path, SocketType::DGRAM, OWNERS, Some(1));
        assert!(matches!(bound, Err(SocketFileError::System(..))));
        assert!(directory.names().is_empty());
    }

    #[test]
    fn a_socket_that_came_later_stays() {
        let directory = Directory::new("later");
        let path = directory.socket();
        let first = bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = bind(&path).unwrap();
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
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| bind(&path))).collect();
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
