//! The file that a command makes, by the name that `-o` gives.

use super::{Failure, output};
use crate::text;
use anyhow::{Context as _, anyhow};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

/// Writes the file and prints its name, its size, and `what` it is. A file that exists is
/// replaced only if `force` says so.
pub(super) fn write(
    path: &Path,
    bytes: &[u8],
    force: bool,
    what: &str,
) -> Result<ExitCode, Failure> {
    let shown = text::path(path);
    match try_write(path, bytes, force) {
        Ok(Written::File) => {
            let mut stdout = output::stdout();
            writeln!(stdout, "{shown}  {} bytes{what}", bytes.len())?;
            stdout.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        // Standard output may be that.
        Ok(Written::Elsewhere) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(anyhow!(
            "{shown} exists; write another file, or replace it with --force"
        ))),
        Err(error) => Err(error).with_context(|| format!("cannot write {shown}"))?,
    }
}

/// What was written to.
enum Written {
    /// A file, which was made or replaced.
    File,
    /// A pipe or a device, which is there already and stays.
    Elsewhere,
}

/// Writes the whole file, or nothing.
fn try_write(path: &Path, bytes: &[u8], replace: bool) -> io::Result<Written> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => {
            // A pipe that nobody reads is refused, and not waited for.
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let mut there = fs::File::options()
                .write(true)
                .custom_flags(flags)
                .open(path)?;
            let flags = fcntl_getfl(&there)?;
            fcntl_setfl(&there, flags - OFlags::NONBLOCK)?;
            there.write_all(bytes)?;
            there.flush()?;
            Ok(Written::Elsewhere)
        }
        // A link stays one, and leads to the new file.
        Ok(_) if replace => replace_file(&fs::canonicalize(path)?, bytes),
        _ => {
            // A link that leads to no file yet may be followed, if it may be replaced.
            let mut options = fs::File::options();
            options.write(true).create(replace).create_new(!replace);
            let mut file = options.open(path)?;
            file.write_all(bytes).inspect_err(|_| {
                let _ = fs::remove_file(path);
            })?;
            Ok(Written::File)
        }
    }
}

/// Whoever reads the old file meanwhile has the whole of it.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<Written> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let mut file = fs::File::create_new(&part)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| fs::set_permissions(&part, fs::metadata(path)?.permissions()))
        .and_then(|()| fs::rename(&part, path));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })?;
    Ok(Written::File)
}
