//! When a service has had nothing to do for so long that it may end.

use super::Shared;
use crate::lifecycle::Phase;
use std::time::Duration;
use tokio::time::Instant;

/// How often a service is looked at: so many times in the time that it may be idle.
const LOOKS: u32 = 8;

/// How often it is looked at, at most.
const SHORTEST: Duration = Duration::from_millis(10);

impl Shared {
    /// Drains the service when nothing was open, and nothing has come, for as long as it
    /// may be idle, or an eighth longer. Never returns.
    pub(super) async fn drain_when_idle(&self) -> std::convert::Infallible {
        if let Some(time) = self.exit_idle {
            self.idle(time).await;
            if self.versions.is_serving() {
                let (service, time) = (self.name(), humantime::format_duration(time));
                tracing::info!(service, "draining, because nothing has come for {time}");
                self.versions.enter(Phase::Draining);
            }
        }
        std::future::pending().await
    }

    /// Returns when nothing was open, and nothing has come, for at least this long.
    async fn idle(&self, time: Duration) {
        let mut before = None;
        let mut since = Instant::now();
        loop {
            // A peer that was refused has come too: a program that starts the service for
            // each peer would otherwise do that for nothing again and again.
            let now = (self.versions.open() == 0).then(|| self.came());
            if now.is_none() || now != before {
                since = Instant::now();
            } else if since.elapsed() >= time {
                return;
            }
            before = now;
            tokio::time::sleep((time / LOOKS).max(SHORTEST)).await;
        }
    }

    /// How many connections or datagrams have come, whatever became of them.
    fn came(&self) -> u64 {
        let datagrams = self.versions.datagrams.counts().received;
        self.accepted() + self.admission.refused().total() + datagrams
    }
}
