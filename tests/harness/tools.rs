//! Programs that may be there or not.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Whether `name` can be run. If not, says that what needs it is skipped.
pub(crate) fn have(name: &str, probe: &[&str]) -> bool {
    let found = Command::new(name)
        .args(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        println!("skipped: {name} is not installed");
    }
    found
}

/// An `nc` that sends FIN at the end of its input when it is told `-N`.
pub(crate) fn have_nc() -> bool {
    let Ok(help) = Command::new("nc").arg("-h").stdin(Stdio::null()).output() else {
        println!("skipped: nc is not installed");
        return false;
    };
    let text = [help.stdout, help.stderr].concat();
    let found = String::from_utf8_lossy(&text).contains("-N");
    if !found {
        println!("skipped: this nc has no -N");
    }
    found
}

/// Where one of these programs is: in `PATH`, or in `bin` of the directory that
/// `SOCKSERVE_TOOLS` names. If none is anywhere, says that what needs it is skipped, and
/// which command would bring it.
pub(crate) fn find(names: &[&str], command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = env::var_os("SOCKSERVE_TOOLS").map(|tools| PathBuf::from(tools).join("bin"));
    let directories: Vec<_> = env::split_paths(&path).chain(tools).collect();
    let in_directory = |directory: &PathBuf| {
        let mut files = names.iter().map(|name| directory.join(name));
        files.find(|file| file.is_file())
    };
    let found = directories.iter().find_map(in_directory);
    if found.is_none() {
        let name = names.first().unwrap();
        println!("skipped: {name} is not installed; {command}");
    }
    found
}
