//! Swapping a component's file in when it has changed: by itself, or at SIGHUP.
//!
//! The file is looked at on a thread of its own, because a file system may not
//! answer. Each state of it is judged once, when it has settled; a state that the
//! system did not let us read is tried again, at longer and longer intervals.

use super::signals::HangUps;
use crate::component::builtin::{self, LoadError};
use crate::service::ServiceHandle;
use crate::service::swap::{SwapError, SwapOptions};
use crate::{ComponentError, ReadError};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// How often the file is looked at. A look is one system call.
const INTERVAL: Duration = Duration::from_millis(250);

/// The pause before the second try of what could not be read.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest; each pause is twice the one before.
const LAST_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Watch {
    source: OsString,
    /// The file as it was before it was loaded.
    loaded: Option<Stamp>,
    service: ServiceHandle,
}

/// What tells one state of a file from another. `changed` is ctime: unlike mtime
/// no program can set it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Nothing if there is no such file now. May not return for a while.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

impl Watch {
    /// `loaded` was taken before the component was, so that no change is missed.
    pub(super) fn new(source: &OsStr, loaded: Option<Stamp>, service: ServiceHandle) -> Self {
        Self {
            source: source.to_owned(),
            loaded,
            service,
        }
    }

    /// Swaps the file in after each SIGHUP.
    pub(super) async fn at_hang_up(&self, hang_ups: &mut HangUps) -> Infallible {
        loop {
            hang_ups.next().await;
            if let Err(error) = self.swap().await {
                self.warn(&error);
            }
        }
    }

    /// Swaps the file in after each change of it.
    ///
    /// A file that is being written changes from one look to the next, or ends
    /// too early to be a component; it is left alone until it does neither.
    ///
    /// Fails if there is no thread to look at it with.
    pub(super) async fn at_change(&self) -> io::Result<Infallible> {
        if builtin::is_builtin(&self.source) {
            // It cannot change.
            return std::future::pending().await;
        }
        let mut states = look(self.source.as_ref(), self.loaded)?;
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
            // Before the next try, if there is one.
            pause = if is_new {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LAST_PAUSE)
            };
            let result = self.swap().await;
            again = result.as_ref().is_err_and(may_pass);
            if let Err(error) = result
                && (is_new || !again)
            {
                self.warn(&error);
            }
        }
    }

    /// Swaps the file in, after the swap that is under way.
    async fn swap(&self) -> Result<(), SwapError> {
        let options = SwapOptions::default();
        let swapped = self.service.swap_in_turn(&self.source, options).await?;
        if !swapped.changed {
            tracing::info!(
                service = self.service.name(),
                "the component has not changed"
            );
        }
        Ok(())
    }

    fn warn(&self, error: &SwapError) {
        tracing::warn!(
            service = self.service.name(),
            "not swapped, the version before goes on: {error}"
        );
    }
}

/// Whether the same file may be taken later: the error is not about what it is.
fn may_pass(error: &SwapError) -> bool {
    match error {
        SwapError::Host(_) => true,
        SwapError::Load(LoadError::Component(ComponentError::Read { error, .. })) => !matches!(
            error,
            ReadError::Kind(_) | ReadError::TooLarge | ReadError::EmptyPipe
        ),
        _ => false,
    }
}

/// Has a thread look at a file, which was `loaded`, until nobody wants to know
/// any more. Each state that settles is the channel's next value.
fn look(path: &OsStr, loaded: Option<Stamp>) -> io::Result<watch::Receiver<Option<Stamp>>> {
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

/// Which states of a file are worth a try.
struct Settling<T> {
    before: Option<T>,
    tried: Option<T>,
}

impl<T: Copy + PartialEq> Settling<T> {
    fn new(loaded: Option<T>) -> Self {
        Self {
            before: loaded,
            tried: loaded,
        }
    }

    /// Takes note of a look, and says whether what it saw is to be tried.
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
    fn what_may_pass_is_tried_again() {
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
            assert_eq!(may_pass(&error), again, "{error}");
        }
    }
}
