//! Reads a component file, whatever the path names.
//!
//! A path can name a FIFO, a device, a file without an end, or a file on a file
//! system that does not answer. So each read has a thread of its own and a time
//! limit, and there is a largest size. A device is never opened, because opening it
//! can have an effect. The first bytes decide whether the rest is read. A thread
//! that still blocks at the time limit is left behind; there are at most
//! [`MAX_READERS`] such threads.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use wasmparser::Parser;

/// The largest component that is taken, in bytes.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// How long the read of a file may take.
const FILE_TIME: Duration = Duration::from_secs(10);
/// How long the read of a pipe may take. Another process still has to write into
/// it.
const PIPE_TIME: Duration = Duration::from_secs(60);

/// The most reads at once, including those that are blocked.
const MAX_READERS: usize = 8;

/// How many bytes show whether a file is a component.
pub(crate) const HEAD: usize = 8;

/// Why a component was not read. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system refused.
    #[error("{0}; name a component file, or builtin:NAME (see `sockserve builtins`)")]
    System(#[from] io::Error),
    /// The path does not name a regular file.
    #[error("this is {0}, and only a regular file is read; name a component file, or builtin:NAME")]
    Kind(&'static str),
    /// The file is larger than a component may be.
    #[error("larger than {} MiB, and no component may be", MAX_BYTES >> 20)]
    TooLarge,
    /// The file system or the pipe's other end does not answer.
    #[error("it could not be read within {}; copy it to a local disk", humantime::format_duration(*.0))]
    Slow(Duration),
    /// The path names an empty pipe without a writer.
    #[error("an empty pipe that nobody writes into; name a component file")]
    EmptyPipe,
    /// Too many reads are blocked.
    #[error(
        "not read, because {0} reads before this one have not come back; see to the file system \
         that they wait for"
    )]
    Stuck(usize),
    /// The system gives no thread for the read.
    #[error("no thread to read it with: {0}; raise the limit on processes (ulimit -u)")]
    Thread(#[source] io::Error),
}

/// Where a path comes from. This decides what the path may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// Anywhere: only a regular file is read.
    Anywhere,
    /// This process's own command line. A pipe with a writer is accepted too:
    /// `/dev/stdin`, `<(command)`.
    ByCommandLine,
}

/// Reads a component file. If the file cannot be a component, only its first
/// [`HEAD`] bytes are read.
///
/// Blocks the calling thread, but for at most 10 seconds (60 for a pipe).
pub(crate) fn read(path: &Path, named: Named) -> Result<Vec<u8>, ReadError> {
    read_if(path, named, may_be_component)
}

/// Reads a core module in the same way.
pub(crate) fn read_module(path: &Path, named: Named) -> Result<Vec<u8>, ReadError> {
    read_if(path, named, Parser::is_core_wasm)
}

/// Whether a file that begins like this is read.
type Wanted = fn(&[u8]) -> bool;

fn read_if(path: &Path, named: Named, wanted: Wanted) -> Result<Vec<u8>, ReadError> {
    static READERS: Readers = Readers::new();
    let limit = match named {
        Named::Anywhere => FILE_TIME,
        Named::ByCommandLine => PIPE_TIME,
    };
    let path = PathBuf::from(path);
    READERS.bounded(limit, move || read_now(&path, named, wanted))?
}

/// Whether a file that begins like this can be a component.
pub(crate) fn may_be_component(head: &[u8]) -> bool {
    Parser::is_component(head)
}

fn read_now(path: &Path, named: Named, wanted: Wanted) -> Result<Vec<u8>, ReadError> {
    let (file, data) = open(path, named)?;
    if data.is_file() && data.len() > MAX_BYTES as u64 {
        return Err(ReadError::TooLarge);
    }
    if data.is_file() && data.len() == 0 {
        // An empty file, or one of the files in /proc that have an effect when they
        // are read.
        return Ok(Vec::new());
    }
    let mut first = [0; HEAD];
    let first = if data.is_file() {
        &[][..]
    } else {
        let count = first_of_pipe(&file, &mut first)?;
        first.get(..count).unwrap_or_default()
    };
    let mut input = first.chain(&file);
    let mut bytes = Vec::with_capacity(HEAD);
    (&mut input).take(HEAD as u64).read_to_end(&mut bytes)?;
    if !wanted(&bytes) {
        return Ok(bytes);
    }
    let expected = usize::try_from(data.len()).unwrap_or(0).max(HEAD);
    bytes
        .try_reserve_exact(expected - HEAD + 1)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // The file may have grown since its size was read.
    let rest = (MAX_BYTES - HEAD + 1) as u64;
    input.take(rest).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    Ok(bytes)
}

fn open(path: &Path, named: Named) -> Result<(File, Metadata), ReadError> {
    let kind = std::fs::metadata(path)?.file_type();
    check(kind, named)?;
    // NONBLOCK also opens a FIFO without a writer. After the open the kind is
    // checked again, because the path may name another file by now.
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let data = file.metadata()?;
    check(data.file_type(), named)?;
    Ok((file, data))
}

/// Reads what the pipe has now, then makes later reads block. Fails for an empty
/// pipe without a writer: a read of it would never end.
fn first_of_pipe(mut file: &File, first: &mut [u8]) -> Result<usize, ReadError> {
    let count = match file.read(first) {
        Ok(0) => return Err(ReadError::EmptyPipe),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error.into()),
    };
    let flags = fcntl_getfl(file).map_err(io::Error::from)?;
    fcntl_setfl(file, flags - OFlags::NONBLOCK).map_err(io::Error::from)?;
    Ok(count)
}

fn check(kind: FileType, named: Named) -> Result<(), ReadError> {
    if kind.is_file() || (kind.is_fifo() && named == Named::ByCommandLine) {
        return Ok(());
    }
    Err(ReadError::Kind(if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }))
}

/// The threads that read. There are at most [`MAX_READERS`].
struct Readers(AtomicUsize);

impl Readers {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Runs `work` on a thread of its own, and waits for at most `limit`.
    fn bounded<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let place = self.place()?;
        let (done, result) = sync_channel(1);
        std::thread::Builder::new()
            .name("read-component".to_owned())
            .spawn(move || {
                let value = work();
                drop(place);
                // The caller may have stopped waiting.
                let _ = done.send(value);
            })
            .map_err(ReadError::Thread)?;
        result.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => ReadError::Slow(limit),
            RecvTimeoutError::Disconnected => io::Error::other("the read was broken off").into(),
        })
    }

    fn place(&'static self) -> Result<Place, ReadError> {
        let place = Place(self);
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0..MAX_READERS => Ok(place),
            others => Err(ReadError::Stuck(others)),
        }
    }
}

/// The place of one thread among the readers. It is free again when this is
/// dropped.
struct Place(&'static Readers);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn the_limits_are_as_documented() {
        assert_eq!(MAX_BYTES, 256 * 1024 * 1024);
        assert_eq!((FILE_TIME.as_secs(), PIPE_TIME.as_secs()), (10, 60));
        assert_eq!(MAX_READERS, 8);
    }

    #[test]
    fn only_regular_files_are_read() {
        let refused = |path: &str, expected: &str| {
            for named in [Named::Anywhere, Named::ByCommandLine] {
                let error = read(path.as_ref(), named).unwrap_err().to_string();
                assert!(error.contains(expected), "{path}: {error}");
            }
        };
        refused("/", "a directory");
        refused("/dev/zero", "a device");
        refused("/dev/null", "a device");
        refused("/dev/tty", "a device");
        refused("/dev/ptmx", "a device");
        refused("", "name a component file");
        refused("/nowhere/at/all", "name a component file");
        refused("a\0b", "name a component file");
        let bytes = std::ffi::OsStr::from_bytes(b"/nowhere/\xff");
        assert!(read(bytes.as_ref(), Named::Anywhere).is_err());
    }

    /// Files in /proc are made when they are read, and a read of /proc/kmsg blocks.
    #[test]
    fn files_without_a_size_are_not_read() {
        for path in ["/proc/kmsg", "/proc/self/maps", "/proc/self/status"] {
            match read(path.as_ref(), Named::Anywhere) {
                Ok(bytes) => assert_eq!(bytes, b"", "{path}"),
                Err(error) => assert!(error.to_string().contains("name a component file")),
            }
        }
    }

    #[test]
    fn a_file_is_judged_by_its_first_bytes() {
        let directory = std::env::temp_dir().join(format!("reading-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("file");
        let check = |bytes: &[u8], size: u64, expected: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(size).unwrap();
            let read = read(&path, Named::Anywhere).unwrap();
            assert!(read == expected, "{} bytes", read.len());
        };
        let component = b"\0asm\x0d\0\x01\0";
        check(b"", 0, b"");
        check(b"\0asm", 4, b"\0asm");
        check(b"#!/bin/sh\n", 100 << 20, b"#!/bin/s");
        check(b"\0asm\x01\0\0\0", 100 << 20, b"\0asm\x01\0\0\0");
        check(component, 8, component);
        check(component, 10, &[&component[..], b"\0\0"].concat());
        let too_large = OpenOptions::new().write(true).open(&path).unwrap();
        too_large.set_len(MAX_BYTES as u64 + 1).unwrap();
        let error = read(&path, Named::Anywhere).unwrap_err().to_string();
        assert!(error.contains("larger than 256 MiB"), "{error}");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn reads_that_are_stuck_are_left_behind_and_are_not_many() {
        static READERS: Readers = Readers::new();
        let soon = Duration::from_millis(1);
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Arc::new(std::sync::Mutex::new(released));
        for _ in 0..MAX_READERS {
            let released = std::sync::Arc::clone(&released);
            let stuck = READERS.bounded(soon, move || {
                let _ = released.lock().map(|released| released.recv());
            });
            assert!(matches!(stuck, Err(ReadError::Slow(_))), "{stuck:?}");
        }
        let refused = READERS.bounded(soon, || ());
        assert!(matches!(refused, Err(ReadError::Stuck(MAX_READERS))));
        drop(release);
        while READERS.0.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(READERS.bounded(PIPE_TIME, || 5).unwrap(), 5);
    }
}
