//! What is asked of the system: cores, and the limit on open files.

use crate::report::Machine;
use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Which cores servers run on, and which one the clients run on.
#[derive(Debug, Clone)]
pub(crate) struct Cores {
    /// All that this process may use, in order.
    all: Vec<usize>,
}

impl Cores {
    /// The cores that this process may use.
    pub(crate) fn available() -> Result<Self> {
        let set = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
        let all = (0..CpuSet::count()).filter(|&core| set.is_set(core) == Ok(true));
        Ok(Self { all: all.collect() })
    }

    /// The cores of a server that gets `count` of them.
    pub(crate) fn of_server(&self, count: usize) -> Vec<usize> {
        self.all.iter().copied().take(count.max(1)).collect()
    }

    /// The clients' core: the first that a server with `count` cores does not have. On a
    /// machine that has no more, the clients share the server's last one.
    pub(crate) fn of_client(&self, count: usize) -> Option<usize> {
        self.all.get(count).or(self.all.last()).copied()
    }

    /// Whether the clients have a core of their own beside a server on `count` cores.
    pub(crate) fn are_apart(&self, count: usize) -> bool {
        self.all.len() > count
    }
}

/// Keeps this thread, and the processes that it starts from now on, on some cores.
pub(crate) fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core).context("a core's number")?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context("sched_setaffinity")
}

/// Raises the limit on open files to what is allowed, and returns it. Servers inherit it.
pub(crate) fn raise_open_files() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit")?;
    Ok(hard)
}

/// What matters of this machine.
pub(crate) fn machine(cores: &Cores) -> Machine {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (cpuinfo, release) = (read("/proc/cpuinfo"), read("/proc/sys/kernel/osrelease"));
    let congestion_control = read("/proc/sys/net/ipv4/tcp_congestion_control");
    Machine {
        congestion_control: congestion_control.trim().to_owned(),
        ..Machine::new(&cpuinfo, &release, cores.all.len(), cores.are_apart(1))
    }
}

/// What is known of the machine, without its name.
impl Machine {
    pub(crate) fn unknown() -> String {
        "unknown".to_owned()
    }

    /// With what the files of `/proc` say.
    pub(crate) fn new(cpuinfo: &str, release: &str, cores: usize, clients_apart: bool) -> Self {
        let processor = cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        let version = release.trim();
        // Behind the numbers a kernel may have the name of who built it.
        let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
        let version = version.get(..end.unwrap_or(version.len()));
        Self {
            processor: processor.unwrap_or_else(Self::unknown),
            kernel: version.map_or_else(Self::unknown, str::to_owned),
            congestion_control: Self::unknown(),
            cores,
            clients_apart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cores;
    use crate::report::Machine;

    #[test]
    fn the_client_has_a_core_of_its_own_if_there_is_one() {
        let check = |all: &[usize], count, server: &[usize], client, apart| {
            let cores = Cores { all: all.to_vec() };
            assert_eq!(cores.of_server(count), server);
            assert_eq!(cores.of_client(count), client);
            assert_eq!(cores.are_apart(count), apart);
        };
        check(&[0, 1], 1, &[0], Some(1), true);
        check(&[2, 5, 7], 2, &[2, 5], Some(7), true);
        check(&[0, 1], 2, &[0, 1], Some(1), false);
        check(&[3], 1, &[3], Some(3), false);
    }

    #[test]
    fn a_machine_is_described_without_its_name() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some Processor 3000\ncores : 1\n";
        let machine = Machine::new(cpuinfo, "6.18.44-somebody-v657\n", 2, true);
        assert_eq!(machine.processor, "Some Processor 3000");
        assert_eq!(machine.kernel, "6.18.44");
        assert_eq!(Machine::new("", "6.1", 2, true).processor, "unknown");
    }
}
