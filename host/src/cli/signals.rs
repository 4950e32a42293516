//! The signals of a process that serves: SIGINT and SIGTERM ask for an orderly
//! end, SIGHUP for the component's file once more.
//!
//! They are caught before anything that takes time, and main's thread does
//! nothing but wait for them and for others' results. It needs no thread for
//! that. As process 1, which the kernel spares signals without a handler, it ends
//! like any other.

use std::io;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The runtime of the process's main thread, and the signals that come to it.
pub(super) struct Caught {
    pub(super) runtime: Runtime,
    pub(super) ends: Ends,
    pub(super) hang_ups: HangUps,
}

impl Caught {
    /// From here on the signals do not kill the process. One that comes before
    /// anybody waits for it is not lost.
    pub(super) fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let ends = Ends {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        let hang_ups = HangUps(signal(SignalKind::hangup())?);
        drop(entered);
        Ok(Self {
            runtime,
            ends,
            hang_ups,
        })
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    /// Waits for one of the two.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// SIGHUP.
pub(super) struct HangUps(Signal);

impl HangUps {
    /// Waits for one. Several that came meanwhile are one.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
