//! What a service allows, with the defaults documented and asserted here.

use std::time::Duration;

/// The limits of one service.
///
/// Every limit is there to keep one peer or one guest from costing the others
/// anything: descriptors, memory, or time on a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once, those being closed included. By default 1024.
    ///
    /// At the limit the service stops accepting, and further peers wait in the
    /// kernel's backlog.
    pub max_connections: u32,
    /// Linear memories and tables of one instance together, in bytes. By default
    /// 64 MiB.
    ///
    /// An instance that asks for more traps. Under `poll` with `evented` or
    /// `concurrent` it is what all connections share.
    pub max_memory_bytes: u64,
    /// Guest time without a wait and without a byte moved, and the whole time of
    /// an `evented` turn. By default one second; it is counted in steps of 10 ms.
    pub deadline: Duration,
    /// Threads that run guests under `threaded`. By default one a processor.
    pub workers: usize,
    /// Connections that the kernel holds before they are accepted. By default
    /// 1024; the kernel lowers it to `net.core.somaxconn`.
    pub backlog: u32,
    /// How long a closing connection may still take: to send what the guest has
    /// written, and to read and drop what the peer sends until its FIN, so that
    /// no RST overtakes the answer. By default 2 seconds; a peer that has not
    /// taken all by then is reset.
    pub linger: Duration,
    /// How long open connections may go on after the service was told to stop.
    /// By default 10 seconds; what is open then is closed.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_memory_bytes: 64 << 20,
            deadline: Duration::from_secs(1),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            backlog: 1024,
            linger: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_as_documented() {
        let limits = Limits::default();
        assert_eq!(limits.max_connections, 1024);
        assert_eq!(limits.max_memory_bytes, 64 * 1024 * 1024);
        assert_eq!(limits.deadline, Duration::from_secs(1));
        assert_eq!(
            limits.workers,
            std::thread::available_parallelism().unwrap().get()
        );
        assert_eq!(limits.backlog, 1024);
        assert_eq!(limits.linger, Duration::from_secs(2));
        assert_eq!(limits.drain_timeout, Duration::from_secs(10));
    }
}
