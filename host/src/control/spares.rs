//! Descriptors that are reserved for the control socket's connections, so that it
//! answers even if peers have used up the limit on open files.

use crate::sync::lock;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use std::io;
use std::sync::{Mutex, MutexGuard};

/// How many descriptors are reserved.
const COUNT: usize = 4;

/// Open descriptors that only keep places.
pub(super) struct Spares {
    /// The descriptor that the spares are duplicates of.
    original: OwnedFd,
    kept: Mutex<Vec<OwnedFd>>,
}

impl Spares {
    /// Makes duplicates of `original`: `COUNT`, or as many as the system gives.
    pub(super) fn of(original: impl AsFd) -> io::Result<Self> {
        let duplicate = || fcntl_dupfd_cloexec(&original, 0);
        let spares = (0..COUNT).map_while(|_| duplicate().ok());
        Ok(Self {
            original: duplicate()?,
            kept: Mutex::new(spares.collect()),
        })
    }

    /// Closes one spare, so that an accept can succeed. Returns false if there is
    /// none.
    pub(super) fn release(&self) -> bool {
        self.lock().pop().is_some()
    }

    /// Closes `used`, or replaces it by a spare. `dup3` does both in one step, so
    /// that no other thread can get the descriptor in between.
    pub(super) fn take_back(&self, mut used: OwnedFd) {
        let mut spares = self.lock();
        if spares.len() < COUNT && dup3(&self.original, &mut used, DupFlags::CLOEXEC).is_ok() {
            spares.push(used);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        lock(&self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_comes_back_as_a_spare() {
        let original = std::fs::File::open("/dev/null").unwrap();
        let spares = Spares::of(&original).unwrap();
        assert!((0..COUNT).all(|_| spares.release()));
        assert!(!spares.release());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let number = theirs.as_raw_fd();
        spares.take_back(theirs.into());
        let end = std::io::Read::read(&mut ours, &mut [0]).unwrap();
        assert_eq!(end, 0, "it was closed");
        assert_eq!(spares.lock().first().unwrap().as_raw_fd(), number);
        assert!(spares.release());
    }
}
