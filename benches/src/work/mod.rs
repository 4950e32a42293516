//! What the servers are given to do, and what is measured of it.

pub(crate) mod filter;
pub(crate) mod targets;

use std::fmt;

/// The size of a message where nothing else is said.
pub(crate) const SMALL: usize = 64;

/// How many connections there are where nothing else is said.
pub(crate) const SEVERAL: usize = 64;

/// How many connections each of two versions has in [`Work::SwapDrain`].
pub(crate) const EACH: usize = 200;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Round trips of 64 bytes.
    PingPong { connections: usize },
    /// Round trips of another size, on 64 connections.
    Size { bytes: usize },
    /// Round trips of 64 bytes on 64 connections, with a server on so many cores.
    Cores { cores: usize },
    /// As much as goes through, both ways at once.
    Streaming { connections: usize },
    /// Connect, a round trip, close.
    Connect,
    /// A line to so many listeners.
    Chat { listeners: usize },
    /// Datagrams there and back, on 64 sockets.
    Datagrams { bytes: usize },
    /// Round trips of 64 bytes on 64 connections, over a Unix socket.
    Unix,
    /// What an open connection that does nothing costs in memory.
    Idle { connections: usize },
    /// From the start of the process to its ready line.
    Start { cached: bool },
    /// The longest round trip of a live connection while the handler is swapped.
    SwapPause { connections: usize },
    /// From the request for a swap to the first answer of the new version.
    SwapAnswer { cached: bool },
    /// Memory of two versions with 200 connections each, while the old one drains.
    SwapDrain,
}

/// What the issue of speed asks for; the default.
const USUAL: [Work; 23] = [
    Work::PingPong { connections: 1 },
    Work::PingPong { connections: 64 },
    Work::PingPong { connections: 1000 },
    Work::PingPong {
        connections: 10_000,
    },
    Work::Size { bytes: 4 << 10 },
    Work::Streaming { connections: 1 },
    Work::Streaming { connections: 8 },
    Work::Connect,
    Work::Chat { listeners: 100 },
    Work::Chat { listeners: 1000 },
    Work::Datagrams { bytes: 64 },
    Work::Datagrams { bytes: 1400 },
    Work::Unix,
    Work::Idle {
        connections: 10_000,
    },
    Work::Start { cached: false },
    Work::Start { cached: true },
    Work::SwapPause { connections: 1 },
    Work::SwapPause { connections: 200 },
    Work::SwapPause { connections: 5000 },
    Work::SwapAnswer { cached: false },
    Work::SwapAnswer { cached: true },
    Work::SwapDrain,
    Work::Cores { cores: 2 },
];

/// Points between those, for the plots.
const GROWTH: [Work; 7] = [
    Work::PingPong { connections: 10 },
    Work::PingPong { connections: 100 },
    Work::Size { bytes: 256 },
    Work::Size { bytes: 1 << 10 },
    Work::Size { bytes: 6 << 10 },
    Work::Size { bytes: 16 << 10 },
    Work::Size { bytes: 64 << 10 },
];

impl Work {
    /// All work; without what only the plots need if `growth` is false.
    pub(crate) fn all(growth: bool) -> Vec<Self> {
        let more = GROWTH.iter().filter(|_| growth);
        USUAL.iter().chain(more).copied().collect()
    }

    /// What it is, for the headline of its table.
    pub(crate) fn description(self) -> String {
        match self {
            Self::PingPong { connections } => {
                format!("round trips of 64 B on {}", count(connections))
            }
            Self::Size { bytes } => format!("round trips of {bytes} B on 64 connections"),
            Self::Cores { cores } => {
                format!("round trips of 64 B on 64 connections, the server on {cores} cores")
            }
            Self::Streaming { connections } => {
                format!(
                    "both ways at once on {}, every byte checked",
                    count(connections)
                )
            }
            Self::Connect => "connect, a round trip of 64 B, close; 16 at a time".to_owned(),
            Self::Chat { listeners } => format!("a line of one member to {listeners} others"),
            Self::Datagrams { bytes } => format!("datagrams of {bytes} B on 64 sockets"),
            Self::Unix => "round trips of 64 B on 64 connections over a Unix socket".to_owned(),
            Self::Idle { connections } => {
                format!("resident memory per connection, with {connections} idle ones")
            }
            Self::Start { cached: false } => "start to ready, everything compiled".to_owned(),
            Self::Start { cached: true } => "start to ready, with compiled code".to_owned(),
            Self::SwapPause { connections } => {
                format!(
                    "the longest round trip in a swap with {}",
                    count(connections)
                )
            }
            Self::SwapAnswer { cached: false } => {
                "from the request to the new version's first answer, compiled".to_owned()
            }
            Self::SwapAnswer { cached: true } => {
                "from the request to the new version's first answer, from the cache".to_owned()
            }
            Self::SwapDrain => {
                format!("memory per connection of two versions with {EACH} each, one drains")
            }
        }
    }

    /// The unit of the value that is measured.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::PingPong { .. } | Self::Size { .. } | Self::Cores { .. } | Self::Unix => {
                "trips/s"
            }
            Self::Streaming { .. } => "MiB/s",
            Self::Connect => "connections/s",
            Self::Chat { .. } => "lines/s",
            Self::Datagrams { .. } => "datagrams/s",
            Self::Idle { .. } | Self::SwapDrain => "KiB",
            Self::Start { .. } | Self::SwapPause { .. } | Self::SwapAnswer { .. } => "ms",
        }
    }

    /// How many connections are open at once, at most.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::PingPong { connections }
            | Self::Streaming { connections }
            | Self::Idle { connections }
            | Self::SwapPause { connections } => connections,
            Self::Size { .. } | Self::Cores { .. } | Self::Unix => SEVERAL,
            Self::Chat { listeners } => listeners + 1,
            Self::SwapDrain => 2 * EACH,
            // A server that serves one after the other has time for that.
            Self::Connect
            | Self::Datagrams { .. }
            | Self::Start { .. }
            | Self::SwapAnswer { .. } => 1,
        }
    }

    /// How many cores the server gets.
    pub(crate) fn cores(self) -> usize {
        match self {
            Self::Cores { cores } => cores,
            _ => 1,
        }
    }

    /// Whether the handler is swapped.
    pub(crate) fn is_swap(self) -> bool {
        matches!(
            self,
            Self::SwapPause { .. } | Self::SwapAnswer { .. } | Self::SwapDrain
        )
    }
}

fn count(connections: usize) -> String {
    match connections {
        1 => "1 connection".to_owned(),
        _ => format!("{connections} connections"),
    }
}

impl fmt::Display for Work {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = |cached| if cached { "cached" } else { "cold" };
        match self {
            Self::PingPong { connections } => write!(out, "ping-pong/{connections}"),
            Self::Size { bytes } => write!(out, "size/{bytes}"),
            Self::Cores { cores } => write!(out, "cores/{cores}"),
            Self::Streaming { connections } => write!(out, "streaming/{connections}"),
            Self::Connect => write!(out, "connect"),
            Self::Chat { listeners } => write!(out, "chat/{listeners}"),
            Self::Datagrams { bytes } => write!(out, "datagrams/{bytes}"),
            Self::Unix => write!(out, "unix"),
            Self::Idle { connections } => write!(out, "idle/{connections}"),
            Self::Start { cached } => write!(out, "start/{}", how(*cached)),
            Self::SwapPause { connections } => write!(out, "swap-pause/{connections}"),
            Self::SwapAnswer { cached } => write!(out, "swap-answer/{}", how(*cached)),
            Self::SwapDrain => write!(out, "swap-drain"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Work;
    use std::collections::BTreeSet;

    #[test]
    fn each_work_has_a_name_of_its_own() {
        let all = Work::all(true);
        let names: BTreeSet<_> = all.iter().map(Work::to_string).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.contains("ping-pong/64") && names.contains("size/65536"));
        assert!(Work::all(false).len() < all.len());
    }
}
