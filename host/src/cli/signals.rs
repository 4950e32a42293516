//! The signals of a process that serves. SIGINT and SIGTERM ask for an orderly end.
//! SIGHUP asks to read the component's file again, and SIGUSR1 to open the log's.
//!
//! Handlers are installed before anything slow. The main thread only waits for
//! signals and for the results of other threads. Signals need no thread of their
//! own. Process 1 also ends at these signals: the kernel would ignore them for a
//! process 1 without handlers.

use super::log;
use std::io;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The runtime of the main thread, and the signals that arrive there.
pub(super) struct Caught {
    pub(super) runtime: Runtime,
    pub(super) ends: Ends,
    pub(super) hang_ups: HangUps,
}

impl Caught {
    /// Installs the handlers. From now on these signals do not kill the process. A
    /// signal that arrives before the first wait is kept.
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
        let mut rotations = signal(SignalKind::user_defined1())?;
        // Whatever the main thread waits for meanwhile.
        runtime.spawn(async move {
            while rotations.recv().await.is_some() {
                log::open_again().await;
            }
        });
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
    /// Waits for one of the two signals. Returns the exit status that a shell shows for a
    /// program that the signal has ended.
    pub(super) async fn next_status(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }

    /// Waits for one of the two signals.
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
    /// Waits for one signal. Several signals since the last wait count as one.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
