//! What `/proc` says of a process.

use anyhow::{Context as _, Result};
use std::fs;

/// Processor time in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub(crate) user: u64,
    pub(crate) system: u64,
    /// Of the children that were waited for, and of theirs.
    pub(crate) children_user: u64,
    pub(crate) children_system: u64,
}

/// The processor time of a process.
pub(crate) fn ticks(pid: u32) -> Result<Ticks> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("/proc/PID/stat")?;
    parse_stat(&stat).with_context(|| format!("/proc/{pid}/stat is not understood: {stat}"))
}

/// Reads `/proc/PID/stat`. The name of the program, in parentheses, may have spaces and
/// parentheses of its own.
fn parse_stat(stat: &str) -> Option<Ticks> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // The third field of the line is the first here; `utime` is its 14th.
    let mut numbers = after_name.split_ascii_whitespace().skip(14 - 3);
    let mut next = || numbers.next()?.parse().ok();
    Some(Ticks {
        user: next()?,
        system: next()?,
        children_user: next()?,
        children_system: next()?,
    })
}

/// A value of `/proc/PID/status` in bytes, such as `VmRSS` and `VmHWM`.
pub(crate) fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("/proc/PID/status")?;
    parse_status(&status, name).with_context(|| format!("/proc/{pid}/status has no {name}"))
}

fn parse_status(status: &str, name: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The resident memory of a process and its descendants, in bytes. What they share is
/// counted in each of them.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let own = memory(pid, "VmRSS")?;
    // A child may end meanwhile.
    let theirs = descendants(pid).into_iter();
    Ok(own + theirs.flat_map(|child| memory(child, "VmRSS")).sum::<u64>())
}

/// Sets the peak of the resident memory, `VmHWM`, to what is resident now.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("/proc/PID/clear_refs")
}

/// All children of a process that have not been waited for, and theirs. It is empty where
/// the kernel does not list them.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&child) = found.get(next) {
        found.extend(children(child));
        next += 1;
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .map(|thread| thread.path().join("children"));
    let lists = lists.flat_map(fs::read_to_string);
    lists.flat_map(|list| parse_children(&list)).collect()
}

fn parse_children(list: &str) -> Vec<u32> {
    let numbers = list.split_ascii_whitespace();
    numbers.flat_map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::{Ticks, children, memory, parse_children, parse_stat, parse_status, ticks};
    use std::process::{Command, Stdio};

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let line = |name: &str| {
            format!("4711 ({name}) S 1 4711 4711 0 -1 4194560 900 70 0 0 12 34 5 6 20 0 3 0 99")
        };
        let expected = Some(Ticks {
            user: 12,
            system: 34,
            children_user: 5,
            children_system: 6,
        });
        for name in ["sockserve", "a b", "a) S 1 (b", "(()"] {
            assert_eq!(parse_stat(&line(name)), expected, "{name}");
        }
        for broken in [
            "",
            "4711 (a",
            "4711 (a) S 1 2 3",
            "1 (a) S 1 1 1 0 -1 4 9 7 0 0 x 3 5 6",
        ] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tVmRSS\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t1\n";
        assert_eq!(parse_status(status, "VmRSS"), Some(1 << 20));
        assert_eq!(parse_status(status, "VmHWM"), Some(2 << 20));
        assert_eq!(parse_status(status, "Threads"), None);
        assert_eq!(parse_status(status, "Vm"), None);
    }

    #[test]
    fn children_are_numbers() {
        assert_eq!(parse_children("12 345 \n"), [12, 345]);
        assert!(parse_children("").is_empty());
    }

    #[test]
    fn the_kernel_says_the_same() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        assert!(memory(child.id(), "VmRSS").unwrap() > 0);
        ticks(child.id()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
