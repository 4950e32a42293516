//! The permits of a service: one per connection that may be open, or per datagram that is
//! served by an instance of its own.

use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore, watch};

/// The permits, whose number a reload may change.
pub(super) struct Permits {
    semaphore: Arc<Semaphore>,
    /// How many there are to be.
    wanted: watch::Sender<u32>,
    /// How many there are, those in use included. Locked while the number changes.
    total: Mutex<u32>,
}

impl Permits {
    pub(super) fn new(count: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(count as usize)),
            wanted: watch::Sender::new(count),
            total: Mutex::new(count),
        }
    }

    /// Where a permit is taken.
    pub(super) fn semaphore(&self) -> Arc<Semaphore> {
        Arc::clone(&self.semaphore)
    }

    /// Says how many there are to be. [`resize`](Self::resize) makes it so many.
    pub(super) fn want(&self, count: u32) {
        self.wanted.send_replace(count);
    }

    /// Changes their number to the one that is wanted. If there are more than that in use,
    /// returns when enough of them are back; none is given out before.
    pub(super) async fn resize(&self) {
        let mut total = self.total.lock().await;
        let mut wanted = self.wanted.subscribe();
        loop {
            let count = *wanted.borrow_and_update();
            if let Some(more) = count.checked_sub(*total) {
                self.semaphore.add_permits(more as usize);
                *total = count;
                return;
            }
            tokio::select! {
                fewer = self.semaphore.acquire_many(*total - count) => {
                    if let Ok(fewer) = fewer {
                        fewer.forget();
                    }
                    *total = count;
                    return;
                }
                // Perhaps there are to be more again, and nobody has to wait for that.
                _ = wanted.changed() => {}
            }
        }
    }

    /// Waits until none is in use, and keeps them all from then on.
    pub(super) async fn all_back(&self) {
        let total = self.total.lock().await;
        // The semaphore is never closed.
        if let Ok(all) = self.semaphore.acquire_many(*total).await {
            all.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn there_are_as_many_as_the_last_change_said() {
        let permits = Permits::new(2);
        let semaphore = permits.semaphore();
        let first = semaphore.acquire().await.unwrap();
        permits.want(4);
        permits.resize().await;
        assert_eq!(semaphore.available_permits(), 3);
        let second = semaphore.acquire().await.unwrap();
        {
            permits.want(1);
            let mut fewer = std::pin::pin!(permits.resize());
            assert!(fewer.as_mut().now_or_never().is_none());
            // It has those that were free, and nobody gets one.
            assert!(semaphore.try_acquire().is_err());
            drop(first);
            fewer.await;
        }
        assert!(semaphore.try_acquire().is_err());
        {
            // More are wanted before there are fewer.
            permits.want(0);
            let mut fewer = std::pin::pin!(permits.resize());
            assert!(fewer.as_mut().now_or_never().is_none());
            permits.want(2);
            fewer.await;
        }
        drop(semaphore.try_acquire().unwrap());
        let mut back = std::pin::pin!(permits.all_back());
        assert!(back.as_mut().now_or_never().is_none());
        drop(second);
        back.await;
    }
}
