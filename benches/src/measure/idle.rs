//! Memory of open connections that do nothing.

use super::{Sample, Times, float, process};
use crate::client::socket;
use crate::servers::running::Running;
use anyhow::Result;
use std::collections::BTreeMap;

/// The growth of the resident memory per connection, in KiB. Each connection has made a
/// round trip. What the kernel holds for a socket is not in it.
pub(super) fn measure(running: &Running, connections: usize, times: Times) -> Result<Sample> {
    // What is made once, is made for this one.
    let first = socket::open(&running.place, 1, times.opening)?;
    let before = process::resident(running.pid())?;
    let all = socket::open(&running.place, connections.saturating_sub(1), times.opening)?;
    let after = process::resident(running.pid())?;
    let grown = float(after.saturating_sub(before)) / 1024.0;
    let count = float(u64::try_from(all.len().max(1))?);
    drop((first, all));
    Ok(Sample {
        value: grown / count,
        more: BTreeMap::from([("RSS, MiB".to_owned(), float(after) / 1048576.0)]),
        ..Sample::default()
    })
}
