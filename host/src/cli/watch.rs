//! Swaps components' files in: after each change of a file, or at SIGHUP.
//!
//! The file is looked at on a thread of its own, because a file system may not
//! answer. Each state of the file is tried once, after it has settled. A state that
//! the system could not read is tried again, at longer and longer intervals.

use crate::component::builtin::{self, LoadError};
use crate::service::ServiceHandle;
use crate::service::swap::{SwapError, SwapOptions, Swapped};
use crate::{ComponentError, ReadError};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The time between two looks at the file. A look is one system call.
const INTERVAL: Duration = Duration::from_millis(250);

/// The pause before the second try of a file that could not be read.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. Each pause is twice as long as the one before.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Swaps one service's component.
pub(super) struct Watch {
    /// The path or `builtin:NAME`, as it was given.
    source: OsString,
    /// The state of the file before it was loaded.
    loaded: Option<Stamp>,
    service: ServiceHandle,
}

/// What distinguishes one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// mtime.
    modified: (i64, i64),
    /// ctime. No program can set it back, as mtime can be.
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the state of the file. `None` if there is no such file now. May
    /// block for a while.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(Self::from_data(&std::fs::metadata(path).ok()?))
    }

    /// The state that this says of a file.
    pub(super) fn from_data(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }

    /// Whether the file has had this state for less than `time`. The future is young.
    pub(super) fn is_younger_than(&self, time: Duration) -> bool {
        let since = SystemTime::now().checked_sub(time);
        let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let seconds = since.and_then(|since| i64::try_from(since.as_secs()).ok());
        // Whole seconds: at most one more than is asked for.
        seconds.is_none_or(|seconds| self.changed.0 >= seconds)
    }
}

impl Watch {
    /// `loaded` is the state of the file before the component was read, so that no
    /// change is missed.
    pub(super) fn new(source: &OsStr, loaded: Option<Stamp>, service: ServiceHandle) -> Self {
        Self {
            source: source.to_owned(),
            loaded,
            service,
        }
    }

    /// Swaps the file in after each change of it.
    ///
    /// A file that is being written differs from one look to the next, or is too
    /// short for a component. Such a file is left alone until it is complete.
    ///
    /// Fails if there is no thread for the looks.
    pub(super) async fn swap_at_change(&self) -> io::Result<Infallible> {
        if builtin::is_builtin(&self.source) {
            // An embedded component does not change.
            return std::future::pending().await;
        }
        let mut states = start_looking(self.source.as_ref(), self.loaded)?;
        let mut again = false;
        let mut pause = FIRST_PAUSE;
        loop {
            let timeout = async {
                if again {
                    tokio::time::sleep(pause).await;
                } else {
                    std::future::pending().await
                }
            };
            let is_new = tokio::select! {
                changed = states.changed() => {
                    changed.map_err(io::Error::other)?;
                    true
                }
                () = timeout => false,
            };
            // The pause before the next try, if there is one.
            pause = if is_new {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LAST_PAUSE)
            };
            let result = self.swap_and_say().await;
            again = result.as_ref().is_err_and(may_succeed_later);
            if let Err(error) = result
                && (is_new || !again)
            {
                self.warn(&error);
            }
        }
    }

    /// Swaps the file in, after a swap that is under way.
    pub(super) async fn swap(&self) -> Result<Swapped, SwapError> {
        let options = SwapOptions::default();
        self.service.swap_in_turn(&self.source, options).await
    }

    /// The same, with a line if the file is the component that is current.
    async fn swap_and_say(&self) -> Result<(), SwapError> {
        if !self.swap().await?.changed {
            tracing::info!(
                service = self.service.name(),
                "the component has not changed"
            );
        }
        Ok(())
    }

    /// Swaps the file in, and says in the log why not.
    pub(super) async fn swap_at_request(&self) {
        if let Err(error) = self.swap_and_say().await {
            self.warn(&error);
        }
    }

    /// The service that it swaps for.
    pub(super) fn service(&self) -> &ServiceHandle {
        &self.service
    }

    /// The number of the version that is current.
    pub(super) fn version(&self) -> u32 {
        self.service.shared.versions.current().number.get()
    }

    /// Says why there was no swap.
    pub(super) fn warn(&self, error: &SwapError) {
        tracing::warn!(
            service = self.service.name(),
            "not swapped, the version before goes on: {error}"
        );
    }
}

/// Whether a later try of the same file may succeed. That is so if the error is not
/// about the file's content.
fn may_succeed_later(error: &SwapError) -> bool {
    match error {
        SwapError::Host(_) => true,
        SwapError::Load(LoadError::Component(ComponentError::Read { error, .. })) => !matches!(
            error,
            ReadError::Kind(_) | ReadError::TooLarge | ReadError::EmptyPipe
        ),
        _ => false,
    }
}

/// Starts a thread that looks at a file until the receiver is dropped. `loaded` is
/// the state that was loaded. Each state that has settled becomes the channel's
/// value.
fn start_looking(
    path: &OsStr,
    loaded: Option<Stamp>,
) -> io::Result<watch::Receiver<Option<Stamp>>> {
    let path = PathBuf::from(path);
    let (sender, states) = watch::channel(loaded);
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || {
            let mut settling = Settling::new(loaded);
            while !sender.is_closed() {
                std::thread::sleep(INTERVAL);
                if let Some(state) = settling.see(Stamp::of(&path)) {
                    sender.send_replace(Some(state));
                }
            }
        })?;
    Ok(states)
}

/// Decides which states of a file are worth a try.
struct Settling<T> {
    /// What the last look saw.
    before: Option<T>,
    /// The last state that was tried.
    tried: Option<T>,
}

impl<T: Copy + PartialEq> Settling<T> {
    fn new(loaded: Option<T>) -> Self {
        Self {
            before: loaded,
            tried: loaded,
        }
    }

    /// Takes the state that a look saw. Returns it if it is to be tried.
    fn see(&mut self, now: Option<T>) -> Option<T> {
        let settled = now == self.before;
        self.before = now;
        if !settled || now.is_none() || now == self.tried {
            return None;
        }
        self.tried = now;
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_tried_once_when_it_has_settled() {
        let mut settling = Settling::new(Some(1));
        let looks = [
            (Some(1), None),
            (Some(2), None),
            (Some(3), None),
            (Some(3), Some(3)),
            (Some(3), None),
            (None, None),
            (None, None),
            (Some(3), None),
            (Some(3), None),
            (Some(1), None),
            (Some(1), Some(1)),
        ];
        for (number, (look, tried)) in looks.into_iter().enumerate() {
            assert_eq!(settling.see(look), tried, "look {number}");
        }
    }

    #[test]
    fn ctime_belongs_to_a_state() {
        let path = std::env::temp_dir().join(format!("stamp-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let before = Stamp::of(&path).unwrap();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let seen = loop {
            // The kernel's clock for files is a coarse one.
            std::fs::write(&path, "two").unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
            let now = Stamp::of(&path).unwrap();
            if now != before {
                break now;
            }
        };
        assert_eq!((seen.size, seen.modified), (before.size, before.modified));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_may_succeed_later_is_tried_again() {
        let read = |error| {
            let name = "x".to_owned();
            SwapError::Load(ComponentError::Read { name, error }.into())
        };
        for (error, again) in [
            (read(ReadError::Kind("a pipe")), false),
            (read(ReadError::TooLarge), false),
            (read(ReadError::Slow(INTERVAL)), true),
            (read(ReadError::Stuck(8)), true),
            (
                read(io::Error::from(io::ErrorKind::OutOfMemory).into()),
                true,
            ),
            (SwapError::Host(String::new()), true),
            (SwapError::Ending(String::new()), false),
        ] {
            assert_eq!(may_succeed_later(&error), again, "{error}");
        }
    }
}
