//! The servers: which there are, what each can do, and how it is started.

pub(crate) mod command;
pub(crate) mod fit;
pub(crate) mod running;
pub(crate) mod tools;

use std::fmt;

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// Tokio on one thread. This is what the ratios are to.
    Tokio,
    /// Tokio with a worker per core.
    TokioMulti,
    /// A bare epoll loop.
    Epoll,
    /// A bare loop of `recvmmsg` and `sendmmsg`.
    Recvmmsg,
    /// A server of CPython's standard library.
    Python(Python),
    /// A program that listens by itself, under the stock `wasmtime run`.
    Wasmtime(Listening),
    /// A builtin handler, composed to a command, under the stock `wasmtime run`.
    Composed(Contract),
    /// A builtin handler under `sockserve serve`.
    Ours(Contract, Dispatch),
}

/// A server of CPython's standard library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Python {
    Threading,
    Forking,
    Asyncio,
    Udp,
}

/// A program that listens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listening {
    /// With wstd, on WASI 0.2.
    Wstd,
    /// On WASI 0.3.
    Wasi03,
}

/// A contract of `sockserve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    Blocking,
    Evented,
    Concurrent,
    Datagram,
    DatagramConcurrent,
}

/// A dispatch of `sockserve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispatch {
    Sequential,
    Threaded,
    Poll,
}

const CONTRACTS: [Contract; 5] = [
    Contract::Blocking,
    Contract::Evented,
    Contract::Concurrent,
    Contract::Datagram,
    Contract::DatagramConcurrent,
];

const DISPATCHES: [Dispatch; 3] = [Dispatch::Sequential, Dispatch::Threaded, Dispatch::Poll];

impl Server {
    /// All servers. The first is native, and the ratios are to it.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Tokio,
            Self::TokioMulti,
            Self::Epoll,
            Self::Recvmmsg,
            Self::Python(Python::Threading),
            Self::Python(Python::Forking),
            Self::Python(Python::Asyncio),
            Self::Python(Python::Udp),
            Self::Wasmtime(Listening::Wstd),
            Self::Wasmtime(Listening::Wasi03),
        ];
        all.extend(CONTRACTS.map(Self::Composed));
        for contract in CONTRACTS {
            let dispatches = DISPATCHES.into_iter();
            let allowed = dispatches.filter(|&dispatch| contract.allows(dispatch));
            all.extend(allowed.map(|dispatch| Self::Ours(contract, dispatch)));
        }
        all
    }
}

impl Server {
    /// Whether the server is by others, so that we cannot mend it.
    pub(crate) fn is_of_others(self) -> bool {
        matches!(self, Self::Python(_) | Self::Wasmtime(_))
    }
}

impl Contract {
    fn allows(self, dispatch: Dispatch) -> bool {
        self != Self::Evented || dispatch == Dispatch::Poll
    }

    /// Whether it is about datagrams.
    pub(crate) fn is_of_datagrams(self) -> bool {
        matches!(self, Self::Datagram | Self::DatagramConcurrent)
    }

    /// Whether one instance serves all connections, under `poll`.
    pub(crate) fn serves_all(self) -> bool {
        matches!(self, Self::Evented | Self::Concurrent)
    }

    /// As it is called in the names of builtins.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Evented => "evented",
            Self::Concurrent => "concurrent",
            Self::Datagram => "datagram",
            Self::DatagramConcurrent => "datagram-concurrent",
        }
    }
}

impl Dispatch {
    /// As `--dispatch` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Threaded => "threaded",
            Self::Poll => "poll",
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tokio => "native/tokio",
            Self::TokioMulti => "native/tokio-multi",
            Self::Epoll => "native/epoll",
            Self::Recvmmsg => "native/recvmmsg",
            Self::Python(Python::Threading) => "python/threading",
            Self::Python(Python::Forking) => "python/forking",
            Self::Python(Python::Asyncio) => "python/asyncio",
            Self::Python(Python::Udp) => "python/udp",
            Self::Wasmtime(Listening::Wstd) => "wasmtime/wstd",
            Self::Wasmtime(Listening::Wasi03) => "wasmtime/wasi-0.3",
            Self::Composed(contract) => return write!(out, "composed/{}", contract.name()),
            Self::Ours(contract, dispatch) => {
                return write!(out, "{}/{}", contract.name(), dispatch.name());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Server;
    use std::collections::BTreeSet;

    #[test]
    fn each_server_has_a_name_of_its_own_and_the_first_is_native() {
        let all = Server::all();
        let names: BTreeSet<_> = all.iter().map(Server::to_string).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(all.first(), Some(&Server::Tokio));
        assert!(names.contains("evented/poll") && !names.contains("evented/threaded"));
    }
}
