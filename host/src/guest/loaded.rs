//! The code of the versions that exist, so that another one of the same component and the
//! same settings is not compiled again: the tenth service of a component, or a swap that
//! changes its environment.
//!
//! Each version has an engine of its own, and so its own copy of the code. What is kept here
//! are weak references, from which the code is copied.

use crate::component::compiled::{Compiled, Key};
use crate::sync::lock;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use wasmtime::component::Component;

/// The code of versions that exist, or did a moment ago.
static LOADED: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    key: Key,
    component: Weak<Component>,
    /// How long the compiler has taken for it.
    took: Duration,
}

/// Returns a copy of the code that was compiled for `key`, if a version has it.
pub(super) fn find(key: &Key) -> Option<Compiled> {
    let (component, took) = {
        let mut all = lock(&LOADED);
        all.retain(|entry| entry.component.strong_count() > 0);
        let found = all.iter().find(|entry| entry.key == *key)?;
        (found.component.upgrade()?, found.took)
    };
    let code = component.serialize().ok()?;
    Some(Compiled { code, took })
}

/// Remembers the code of a version for as long as the version has it. Nobody may have to
/// trust somebody else for it: code from a component's own file does not belong here.
pub(super) fn remember(key: Key, component: &Arc<Component>, took: Duration) {
    let mut all = lock(&LOADED);
    all.retain(|entry| entry.component.strong_count() > 0);
    all.push(Entry {
        key,
        component: Arc::downgrade(component),
        took,
    });
}
