//! Runs the drivers of shared instances, and replaces one that panics.
//!
//! A driver is the task that all connections of a shared instance depend on. A panic in
//! a call of the guest is caught where the guest is called, and costs that instance. A
//! panic in the driver itself is caught here: its connections have ended by then and
//! count as failed, and a new driver serves the next connection. If drivers die again
//! and again, the service ends, so that a supervisor of the process sees it.

use super::evented::epoll::Poller;
use super::{concurrent, evented};
use crate::panics;
use crate::version::Version;
use crate::version::entrance::Intake;
use crate::version::versions::Versions;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many deaths end the service, if they all come within [`WITHIN`].
const MAX_DEATHS: usize = 5;
/// See [`MAX_DEATHS`].
const WITHIN: Duration = Duration::from_secs(10);

/// Runs the driver of a version until no more connections can come, or until too many
/// drivers have died.
pub(super) async fn run(
    versions: Arc<Versions>,
    version: Arc<Version>,
    mut intake: Intake,
    mut poller: Option<Poller>,
) {
    let mut deaths = Deaths::default();
    loop {
        let mut driver = Box::pin(drive(&versions, &version, &mut intake, poller.as_mut()));
        let ended = poll_fn(|cx| panics::poll(driver.as_mut(), cx)).await;
        // Dropping what the panic left half done may panic again.
        let dropped = panics::catch(|| drop(driver));
        let Err(thrown) = ended.and(dropped) else {
            break;
        };
        let said = panics::take_last().unwrap_or_else(|| panics::message(&*thrown).to_owned());
        tracing::error!(
            service = &*versions.service,
            version = version.number.get(),
            "the host panicked beside the guest, and the connections of the instance are \
             closed: {said}"
        );
        if deaths.are_too_many(Instant::now()) {
            versions.break_off(format!(
                "{MAX_DEATHS} panics of the host within {WITHIN:?}, the last one: {said}"
            ));
            break;
        }
    }
    version.release_next_gate();
}

/// Runs the driver that the contract needs.
async fn drive(
    versions: &Arc<Versions>,
    version: &Arc<Version>,
    intake: &mut Intake,
    poller: Option<&mut Poller>,
) {
    match poller {
        Some(poller) => evented::run(versions, version, intake, poller).await,
        None => concurrent::run(versions, version, intake).await,
    }
}

/// When the last drivers died, oldest first.
#[derive(Default)]
struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// Notes one more death. Returns whether there are too many.
    fn are_too_many(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        while self.0.len() > MAX_DEATHS {
            self.0.pop_front();
        }
        let first = self.0.front().copied().unwrap_or(now);
        self.0.len() == MAX_DEATHS && now.duration_since(first) < WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_too_many_if_they_come_one_after_another() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut deaths = Deaths::default();
        for second in 0..4 {
            assert!(!deaths.are_too_many(at(second)));
        }
        assert!(deaths.are_too_many(at(4)));
        let mut deaths = Deaths::default();
        for second in 0..20 {
            assert!(!deaths.are_too_many(at(second * 3)), "{second}");
        }
    }
}
