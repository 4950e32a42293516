//! Which server can do which work.

use super::{Contract, Dispatch, Python, Server};
use crate::work::Work;

/// Whether a server can do some work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Yes,
    /// It is made for such work, but not for this much. Why is printed.
    Skipped(&'static str),
    /// It is made for other work.
    No,
}

/// How many processes a server may make.
const MOST_PROCESSES: usize = 1000;

/// Whether a server can do some work.
pub(crate) fn fit(server: Server, work: Work) -> Fit {
    if !is_made_for(server, work) {
        return Fit::No;
    }
    let connections = work.connections();
    match server {
        Server::Ours(Contract::Blocking | Contract::Concurrent, Dispatch::Sequential)
        | Server::Composed(Contract::Blocking)
            if connections > 1 =>
        {
            Fit::Skipped("it serves one connection after the other")
        }
        Server::Python(Python::Forking) if connections > MOST_PROCESSES => {
            Fit::Skipped("it makes a process per connection, which are too many")
        }
        _ => Fit::Yes,
    }
}

fn is_made_for(server: Server, work: Work) -> bool {
    match work {
        Work::Chat { .. } => match server {
            // Everybody is in one room, so in one instance.
            Server::Tokio
            | Server::Composed(Contract::Evented | Contract::Concurrent)
            | Server::Ours(Contract::Evented | Contract::Concurrent, Dispatch::Poll) => true,
            _ => false,
        },
        Work::Datagrams { .. } => match server {
            Server::Tokio | Server::Recvmmsg | Server::Python(Python::Udp) => true,
            Server::Composed(contract) | Server::Ours(contract, _) => contract.is_of_datagrams(),
            _ => false,
        },
        Work::Unix => match server {
            // WASI has no Unix sockets.
            Server::Wasmtime(_) | Server::Composed(_) => false,
            _ => serves_streams(server),
        },
        Work::Start { cached: true } => match server {
            Server::Tokio | Server::Wasmtime(_) => true,
            Server::Composed(_) | Server::Ours(..) => serves_streams(server),
            _ => false,
        },
        Work::SwapPause { .. } | Work::SwapAnswer { .. } | Work::SwapDrain => match server {
            Server::Ours(contract, dispatch) => {
                !contract.is_of_datagrams() && dispatch != Dispatch::Sequential
            }
            _ => false,
        },
        _ => serves_streams(server),
    }
}

fn serves_streams(server: Server) -> bool {
    match server {
        Server::Tokio | Server::TokioMulti | Server::Epoll | Server::Wasmtime(_) => true,
        Server::Recvmmsg => false,
        Server::Python(python) => python != Python::Udp,
        Server::Composed(contract) | Server::Ours(contract, _) => !contract.is_of_datagrams(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Fit, fit};
    use crate::servers::{Contract, Dispatch, Python, Server};
    use crate::work::Work;

    #[test]
    fn who_cannot_do_it_is_skipped_or_is_not_there() {
        let check = |server, work, expected: &str| {
            let seen = match fit(server, work) {
                Fit::Yes => "yes",
                Fit::Skipped(_) => "skipped",
                Fit::No => "no",
            };
            assert_eq!(seen, expected, "{server} {work}");
        };
        let one_by_one = Server::Ours(Contract::Blocking, Dispatch::Sequential);
        check(one_by_one, Work::PingPong { connections: 1 }, "yes");
        check(one_by_one, Work::PingPong { connections: 64 }, "skipped");
        check(one_by_one, Work::Connect, "yes");
        check(one_by_one, Work::SwapDrain, "no");
        let forking = Server::Python(Python::Forking);
        check(forking, Work::PingPong { connections: 64 }, "yes");
        check(
            forking,
            Work::Idle {
                connections: 10_000,
            },
            "skipped",
        );
        check(forking, Work::Datagrams { bytes: 64 }, "no");
        check(Server::Recvmmsg, Work::Datagrams { bytes: 64 }, "yes");
        check(Server::Recvmmsg, Work::Connect, "no");
        check(Server::Composed(Contract::Evented), Work::Unix, "no");
    }

    #[test]
    fn all_work_but_a_swap_has_a_native_server() {
        for work in Work::all(true) {
            let expected = if work.is_swap() { Fit::No } else { Fit::Yes };
            assert_eq!(fit(Server::Tokio, work), expected, "{work}");
        }
    }
}
