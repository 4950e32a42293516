//! What we want to reach. Targets are printed beside the figures, and never asserted.

use crate::servers::{Contract, Dispatch, Server};
use crate::work::Work;

/// What a target is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Processor time per operation, as a ratio to the native server.
    CostRatio(f64),
    /// The value itself, in the unit of the work.
    Value(f64),
}

/// The four ways in which streams are served, in the order of the tables below.
fn place(server: Server) -> Option<usize> {
    match server {
        Server::Ours(Contract::Evented, Dispatch::Poll) => Some(0),
        Server::Ours(Contract::Blocking, Dispatch::Threaded | Dispatch::Poll) => Some(1),
        Server::Ours(Contract::Concurrent, Dispatch::Poll) => Some(2),
        Server::Ours(Contract::Concurrent, Dispatch::Threaded) => Some(3),
        _ => None,
    }
}

/// The target of a server with this work, if there is one.
pub(crate) fn target(work: Work, server: Server) -> Option<Target> {
    let one_of = |values: [f64; 4]| values.get(place(server)?).copied();
    match work {
        Work::PingPong { .. } | Work::Size { .. } | Work::Unix => {
            one_of([1.05, 1.2, 1.3, 1.4]).map(Target::CostRatio)
        }
        Work::Streaming { .. } => one_of([1.0; 4]).map(Target::CostRatio),
        Work::Connect => one_of([1.1, 1.4, 1.2, 1.8]).map(Target::CostRatio),
        Work::Datagrams { .. } => matches!(
            server,
            Server::Ours(
                Contract::Datagram | Contract::DatagramConcurrent,
                Dispatch::Poll
            )
        )
        .then_some(Target::CostRatio(1.05)),
        Work::Idle { .. } => one_of([1.0, 24.0, 6.0, 40.0]).map(Target::Value),
        Work::SwapPause { connections: 5000 } => one_of([5.0, 20.0, 20.0, 20.0]).map(Target::Value),
        Work::Start { cached: true } => one_of([30.0; 4]).map(Target::Value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, target};
    use crate::servers::{Contract, Dispatch, Server};
    use crate::work::Work;

    #[test]
    fn targets_are_those_of_the_plan() {
        let evented = Server::Ours(Contract::Evented, Dispatch::Poll);
        let isolated = Server::Ours(Contract::Concurrent, Dispatch::Threaded);
        let sequential = Server::Ours(Contract::Blocking, Dispatch::Sequential);
        let check = |work, server, expected| assert_eq!(target(work, server), expected);
        check(Work::Connect, evented, Some(Target::CostRatio(1.1)));
        check(Work::Connect, isolated, Some(Target::CostRatio(1.8)));
        check(Work::Connect, sequential, None);
        check(Work::Connect, Server::Tokio, None);
        let idle = Work::Idle {
            connections: 10_000,
        };
        check(idle, isolated, Some(Target::Value(40.0)));
        let pause = |connections| Work::SwapPause { connections };
        check(pause(5000), evented, Some(Target::Value(5.0)));
        check(pause(200), evented, None);
    }
}
