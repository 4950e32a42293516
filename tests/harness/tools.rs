//! Programs that may be there or not.

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
