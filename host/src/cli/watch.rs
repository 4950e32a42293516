//! Swapping a component's file in when it has changed: by itself, or at SIGHUP.

use crate::service::Remote;
use crate::service::swap::{SwapError, SwapOptions};
use crate::{Component, builtin};
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the file is looked at. A look is one system call.
const INTERVAL: Duration = Duration::from_millis(250);

pub(super) struct Watch {
    source: String,
    /// The file as it was before it was loaded.
    loaded: Option<Stamp>,
    service: Remote,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Nothing if there is no such file now.
    pub(super) fn of(path: &str) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            changed: (data.mtime(), data.mtime_nsec()),
        })
    }
}

impl Watch {
    /// `loaded` was taken before the component was, so that no change is missed.
    pub(super) fn new(source: &str, loaded: Option<Stamp>, service: Remote) -> Self {
        Self {
            source: source.to_owned(),
            loaded,
            service,
        }
    }

    /// Swaps the file in after each SIGHUP.
    pub(super) fn at_hang_up(&self) -> io::Result<impl Future<Output = Infallible>> {
        // From here on the signal does not kill the process.
        let mut hang_ups = signal(SignalKind::hangup())?;
        Ok(async move {
            loop {
                hang_ups.recv().await;
                self.swap().await;
            }
        })
    }

    /// Swaps the file in after each change of it.
    ///
    /// A file that is being written changes from one look to the next, or ends
    /// too early to be a component; it is left alone until it does neither.
    pub(super) async fn at_change(&self) -> Infallible {
        if self.source.starts_with(builtin::PREFIX) {
            // It cannot change.
            return std::future::pending().await;
        }
        let mut seen = self.loaded;
        let mut before = seen;
        let mut complained = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = Stamp::of(&self.source);
            let settled = now == before;
            before = now;
            if now.is_none() || now == seen || !settled {
                continue;
            }
            match Component::from_file(Path::new(&self.source)) {
                Ok(_) => {
                    if self.swap().await {
                        seen = now;
                    }
                }
                Err(error) if complained != now => {
                    complained = now;
                    tracing::warn!(
                        service = self.service.name(),
                        "not swapped, the version before goes on: {error}"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Says whether that was the last word on the file as it is.
    async fn swap(&self) -> bool {
        match self
            .service
            .swap(&self.source, SwapOptions::default())
            .await
        {
            Ok(swapped) if swapped.changed => {}
            Ok(_) => tracing::info!(
                service = self.service.name(),
                "the component has not changed"
            ),
            Err(SwapError::Busy(_)) => return false,
            Err(error) => tracing::warn!(
                service = self.service.name(),
                "not swapped, the version before goes on: {error}"
            ),
        }
        true
    }
}
