//! How much memory an instance of a component begins with.

use wasmparser::{DataKind, Payload};

/// Counts the data of a component's modules. It is written into the memories of an
/// instance when that is made, so each instance has a copy of its own. An interpreter has
/// many MiB of it: its own heap, with the program already loaded.
///
/// A module that is instantiated several times counts once.
#[derive(Default)]
pub(super) struct StartMemory {
    bytes: u64,
}

impl StartMemory {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn count(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        if let Payload::DataSection(data) = payload {
            for data in data.clone() {
                let data = data?;
                if matches!(data.kind, DataKind::Active { .. }) {
                    self.bytes += data.data.len() as u64;
                }
            }
        }
        Ok(())
    }
}
