//! The contracts, the three dispatches, and which of them go together.

use std::fmt;
use std::str::FromStr;

/// What a handler component exports, and so how the host calls it.
///
/// The interfaces and what they promise are in `wit/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Contract {
    /// `sockserve:handler/blocking`: one WASI 0.2 call per connection.
    Blocking,
    /// `sockserve:handler/evented`: one WASI 0.2 call per batch of events.
    Evented,
    /// `sockserve:handler/concurrent`: one asynchronous WASI 0.3 call per
    /// connection.
    Concurrent,
    /// `sockserve:handler/datagram`: one WASI 0.2 call per batch of datagrams.
    Datagram,
    /// `sockserve:handler/datagram-concurrent`: one asynchronous WASI 0.3 call, with a
    /// stream of datagrams each way.
    DatagramConcurrent,
    /// `wasi:cli/run` of WASI 0.2: a program that is started once per connection.
    Command,
    /// `wasi:cli/run` of WASI 0.3, which is the same for everybody but the host.
    CommandP3,
}

/// How a service spreads connections over threads and instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// One connection or datagram at a time. Each has its own instance.
    Sequential,
    /// Worker threads. Each connection or datagram has its own instance.
    Threaded,
    /// One thread that waits for readiness. One instance serves all connections or
    /// datagrams; only `blocking` and `command` have one suspended instance per
    /// connection.
    Poll,
}

/// A contract and a dispatch that do not work together.
#[derive(Debug, thiserror::Error)]
#[error("contract {contract} cannot run under dispatch {dispatch}: {reason}; use --dispatch {}", contract.default_dispatch())]
pub struct Incompatible {
    contract: Contract,
    dispatch: Dispatch,
    reason: &'static str,
}

impl Contract {
    /// All contracts, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Blocking,
        Self::Evented,
        Self::Concurrent,
        Self::Datagram,
        Self::DatagramConcurrent,
        Self::Command,
        Self::CommandP3,
    ];

    /// Whether it serves datagrams. The others serve connections.
    pub const fn takes_datagrams(self) -> bool {
        matches!(self, Self::Datagram | Self::DatagramConcurrent)
    }

    /// Whether it is on WASI 0.3. The others are on 0.2.
    pub(crate) const fn is_p3(self) -> bool {
        matches!(
            self,
            Self::Concurrent | Self::DatagramConcurrent | Self::CommandP3
        )
    }

    /// Whether the component is a program, whose standard input and output are the
    /// connection.
    pub const fn is_command(self) -> bool {
        matches!(self, Self::Command | Self::CommandP3)
    }

    /// Returns the interface that a component with this contract exports, without
    /// its version.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Blocking => "sockserve:handler/blocking",
            Self::Evented => "sockserve:handler/evented",
            Self::Concurrent => "sockserve:handler/concurrent",
            Self::Datagram => "sockserve:handler/datagram",
            Self::DatagramConcurrent => "sockserve:handler/datagram-concurrent",
            Self::Command | Self::CommandP3 => "wasi:cli/run",
        }
    }

    /// Returns the interface through which the host asks a handler with this
    /// contract to hand its connections over, without its version. `None` for
    /// `evented`, where the host calls `hand-over` between two turns, for datagrams,
    /// which have no connections, and for commands, which keep theirs.
    pub const fn draining(self) -> Option<&'static str> {
        match self {
            Self::Blocking => Some("sockserve:handler/blocking-draining"),
            Self::Evented
            | Self::Datagram
            | Self::DatagramConcurrent
            | Self::Command
            | Self::CommandP3 => None,
            Self::Concurrent => Some("sockserve:handler/concurrent-draining"),
        }
    }

    /// Returns the dispatch to use if none was asked for.
    pub const fn default_dispatch(self) -> Dispatch {
        match self {
            Self::Blocking | Self::Command | Self::CommandP3 => Dispatch::Threaded,
            Self::Evented | Self::Concurrent | Self::Datagram | Self::DatagramConcurrent => {
                Dispatch::Poll
            }
        }
    }

    /// Returns the dispatches that this contract can run under.
    pub fn dispatches(self) -> impl Iterator<Item = Dispatch> {
        Dispatch::ALL
            .into_iter()
            .filter(move |dispatch| self.check(*dispatch).is_ok())
    }

    /// Checks that the contract can run under `dispatch`. The error says why it
    /// cannot.
    pub fn check(self, dispatch: Dispatch) -> Result<(), Incompatible> {
        match (self, dispatch) {
            (Self::Evented, Dispatch::Sequential | Dispatch::Threaded) => Err(Incompatible {
                contract: self,
                dispatch,
                reason: "it serves every connection from one instance",
            }),
            _ => Ok(()),
        }
    }
}

impl Dispatch {
    /// All dispatches, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Sequential, Self::Threaded, Self::Poll];

    /// Whether all connections of a handler with this contract share one
    /// instance.
    pub const fn shares_instance(self, contract: Contract) -> bool {
        matches!(self, Self::Poll)
            && !matches!(contract, Contract::Blocking)
            && !contract.is_command()
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking",
            Self::Evented => "evented",
            Self::Concurrent => "concurrent",
            Self::Datagram => "datagram",
            Self::DatagramConcurrent => "datagram-concurrent",
            Self::Command | Self::CommandP3 => "command",
        })
    }
}

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sequential => "sequential",
            Self::Threaded => "threaded",
            Self::Poll => "poll",
        })
    }
}

impl FromStr for Dispatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|dispatch| dispatch.to_string() == text)
            .ok_or_else(|| "write sequential, threaded or poll".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_decided() {
        let runs = |contract: Contract| contract.dispatches().collect::<Vec<_>>();
        assert_eq!(runs(Contract::Blocking), Dispatch::ALL);
        assert_eq!(runs(Contract::Concurrent), Dispatch::ALL);
        assert_eq!(runs(Contract::Evented), [Dispatch::Poll]);
        assert_eq!(runs(Contract::Datagram), Dispatch::ALL);
        assert_eq!(runs(Contract::DatagramConcurrent), Dispatch::ALL);
        assert_eq!(runs(Contract::Command), Dispatch::ALL);
        assert_eq!(runs(Contract::CommandP3), Dispatch::ALL);
    }

    #[test]
    fn the_default_dispatch_can_work() {
        for contract in Contract::ALL {
            contract.check(contract.default_dispatch()).unwrap();
        }
    }

    #[test]
    fn a_refusal_names_what_would_work() {
        let error = Contract::Evented.check(Dispatch::Threaded).unwrap_err();
        assert_eq!(
            error.to_string(),
            "contract evented cannot run under dispatch threaded: it serves every connection \
             from one instance; use --dispatch poll"
        );
    }
}
