//! Work that is done again and again for some time: how often, and what it costs.

use super::usage::Usage;
use super::{Cost, Sample, Times, float};
use crate::client::{self, Done, chat::Room, events, socket};
use crate::servers::running::Running;
use crate::work::{SEVERAL, SMALL, Work};
use anyhow::{Result, bail};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::Duration;

/// Does the work for the time of a window. Connections are open before the time begins,
/// unless their opening is the work.
pub(super) fn measure(running: &Running, work: Work, times: Times) -> Result<Sample> {
    let place = &running.place;
    match work {
        Work::PingPong { connections } => ping_pong(running, connections, SMALL, times),
        Work::Cores { .. } | Work::Unix => ping_pong(running, SEVERAL, SMALL, times),
        Work::Size { bytes } => ping_pong(running, SEVERAL, bytes, times),
        Work::Streaming { connections } => {
            let open = socket::open(place, connections, times.opening)?;
            let sample = watch(running, || client::streaming::run(open, times.window))?;
            // An operation is a block of 64 KiB, and the value is in MiB.
            let value = sample.value / 16.0;
            Ok(Sample { value, ..sample })
        }
        Work::Connect => {
            drop(socket::open(place, 1, times.opening)?);
            watch(running, || client::connecting::run(place, times.window))
        }
        Work::Chat { listeners } => {
            let room = Room::join(place, listeners)?;
            watch(running, || room.run(times.window))
        }
        Work::Datagrams { bytes } => watch(running, || {
            client::datagrams::run(place, bytes, times.window)
        }),
        Work::Idle { .. }
        | Work::Start { .. }
        | Work::SwapPause { .. }
        | Work::SwapAnswer { .. }
        | Work::SwapDrain => bail!("{work} has no rate"),
    }
}

fn ping_pong(running: &Running, connections: usize, size: usize, times: Times) -> Result<Sample> {
    let open = socket::open(&running.place, connections, times.opening)?;
    watch(running, || {
        client::ping_pong::run(&open, size, times.window)
    })
}

/// Looks at the processor time of both sides before and after the work.
fn watch(running: &Running, work: impl FnOnce() -> Result<Done>) -> Result<Sample> {
    let (on_core_before, idle_before) = (on_core()?, events::idle());
    let before = Usage::of(running.pid())?;
    let done = work()?;
    let spent = Usage::of(running.pid())?.since(&before);
    // Where somebody else has the core, a client that looks again and again has waited longer
    // than it was on the core.
    let idle = events::idle().saturating_sub(idle_before);
    let own = on_core()?.saturating_sub(on_core_before + idle);
    let elapsed = done.elapsed.as_secs_f64();
    let mut more = BTreeMap::new();
    if done.lost > 0 {
        more.insert("lost".to_owned(), float(done.lost));
    }
    Ok(Sample {
        value: float(done.operations) / elapsed,
        cost: Some(Cost::per_operation(&spent, done.operations)),
        server_busy: Some(spent.total.as_secs_f64() / elapsed),
        client_busy: Some(own.as_secs_f64() / elapsed),
        more,
    })
}

/// For how long this thread has been on a core.
fn on_core() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
