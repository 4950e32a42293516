//! What a service manager is told (sd_notify(3)): that the service is ready, reads its
//! component again, stops, how many connections it has, and that it is alive.
//!
//! Nothing is told without `NOTIFY_SOCKET` in the environment. A message that cannot be
//! sent is not reported: the manager sees that itself.

use crate::{Registry, ServiceHandle, ServiceState};
use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::convert::Infallible;
use std::time::Duration;

/// How often the number of connections is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// The service accepts connections.
pub(super) fn ready() {
    let _ = notify(&[NotifyState::Ready]);
}

/// The component is read again; `ready` follows.
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    let _ = notify(&states);
}

/// The service drains.
pub(super) fn stopping() {
    let _ = notify(&[NotifyState::Stopping]);
}

/// Tells the number of connections whenever it has changed, and twice per watchdog time
/// that the services are alive. Never returns.
pub(super) async fn report(registry: &Registry) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    let watchdog = watchdog_enabled();
    let interval = watchdog.map_or(INTERVAL, |time| (time / 2).min(INTERVAL));
    let mut told = None;
    loop {
        let services = registry.all();
        let open: u64 = services.iter().map(|service| service.status().open).sum();
        if told != Some(open) {
            let said = format!("{open} connections open");
            let _ = notify(&[NotifyState::Status(&said)]);
            told = Some(open);
        }
        if watchdog.is_some() && all_answer(&services).await {
            let _ = notify(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(interval).await;
    }
}

/// Whether the threads of all services run. A service whose threads hang is not alive,
/// whatever this thread does. One that drains may have ended.
async fn all_answer(services: &[ServiceHandle]) -> bool {
    for service in services {
        if !service.answers().await && service.status().state == ServiceState::Serving {
            return false;
        }
    }
    true
}
