//! Reads the bytes of a configuration file, whatever the path names.
//!
//! Only a regular file is read, because a reload reads it again. A file system may not
//! answer, so the read has a thread of its own that may be left behind.

use super::mistake::{Mistake, Mistakes, Source};
use rustix::fs::OFlags;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// How long the read may take.
const TIME: Duration = Duration::from_secs(10);

/// Reads the text of a file. Blocks the calling thread for at most ten seconds.
pub(super) fn read(path: &Path) -> Result<Source, Mistakes> {
    let wrong = |text: String| Mistakes::of_reading(path, &text);
    let bytes = bounded(path).map_err(wrong)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(path, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = Source::new(path, text);
            let mistake = Mistake::new(at, "this byte is not UTF-8; save the file as UTF-8");
            let mistakes = Mistakes::new(&source, vec![mistake]);
            Err(mistakes.unwrap_or_else(|| wrong("it is not UTF-8".to_owned())))
        }
    }
}

/// Reads the bytes on a thread of its own.
fn bounded(path: &Path) -> Result<Vec<u8>, String> {
    let path = PathBuf::from(path);
    let (done, result) = sync_channel(1);
    std::thread::Builder::new()
        .name("read-config".to_owned())
        .spawn(move || {
            // The caller may have stopped waiting.
            let _ = done.send(now(&path));
        })
        .map_err(|error| format!("no thread to read it with: {error}"))?;
    result.recv_timeout(TIME).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => {
                let time = humantime::format_duration(TIME);
                format!("it could not be read within {time}; copy it to a local disk")
            }
            RecvTimeoutError::Disconnected => "the read was broken off".to_owned(),
        })
    })
}

fn now(path: &Path) -> Result<Vec<u8>, String> {
    let system = |error: io::Error| format!("{error}; name a configuration file");
    check(std::fs::metadata(path).map_err(system)?.file_type())?;
    let file = open(path).map_err(system)?;
    // The path may name another file by now.
    check(file.metadata().map_err(system)?.file_type())?;
    let mut bytes = Vec::new();
    let mut limited = file.take(MAX_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(system)?;
    if bytes.len() as u64 > MAX_BYTES {
        let most = MAX_BYTES >> 20;
        return Err(format!(
            "it is larger than {most} MiB, and no configuration file may be; name another file"
        ));
    }
    Ok(bytes)
}

/// Opens a file without waiting for the other end of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn check(kind: FileType) -> Result<(), String> {
    let kind = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(format!(
        "this is {kind}, and only a regular file is read; name a configuration file"
    ))
}
