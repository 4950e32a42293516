//! A panic on request, for the tests of this crate: it stands for a bug in a driver.

#[cfg(test)]
pub(crate) use armed::{arm, disarm};
#[cfg(test)]
use std::collections::HashSet;
#[cfg(test)]
use std::sync::Mutex;

/// Panics if a test has asked for it in this service. Does nothing outside of test
/// builds.
pub(super) fn point(service: &str) {
    #[cfg(test)]
    armed::strike(service);
    let _ = service;
}

#[cfg(test)]
mod armed {
    use super::{HashSet, Mutex};
    use crate::sync::lock;

    static ARMED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

    /// Makes the drivers of a service panic at every connection.
    pub(crate) fn arm(service: &str) {
        lock(&ARMED)
            .get_or_insert_default()
            .insert(service.to_owned());
    }

    /// Stops these panics.
    pub(crate) fn disarm(service: &str) {
        lock(&ARMED).get_or_insert_default().remove(service);
    }

    /// Panics if the service is armed.
    pub(super) fn strike(service: &str) {
        let armed = lock(&ARMED);
        let strikes = armed.as_ref().is_some_and(|armed| armed.contains(service));
        drop(armed);
        assert!(!strikes, "a fault that a test has asked for");
    }
}
