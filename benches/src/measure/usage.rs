//! How much processor time a server has used, with the processes that it has made.

use crate::measure::process;
use anyhow::{Context as _, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::time::Duration;

/// Processor time of a process and its descendants, up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system together, exactly.
    total: Duration,
    /// As the kernel counts them, in ticks: good enough to share out the total.
    user_ticks: u64,
    system_ticks: u64,
}

/// Processor time between two moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spent {
    /// User and system together.
    pub(crate) total: Duration,
    /// The user's share of the total, from 0 to 1. `None` if there were too few ticks.
    pub(crate) user_share: Option<f64>,
}

/// So many ticks say how user and system time share out.
const ENOUGH: f64 = 10.0;

impl Usage {
    /// The usage of a process, its threads (also those that have ended), its children
    /// that it has waited for, and of those that still run.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let tick = tick()?;
        let mut usage = Self::of_one(pid, tick)?;
        for child in process::descendants(pid) {
            // A child may end meanwhile. Its parent has its time then.
            if let Ok(its) = Self::of_one(child, tick) {
                usage.total += its.total;
                usage.user_ticks += its.user_ticks;
                usage.system_ticks += its.system_ticks;
            }
        }
        Ok(usage)
    }

    fn of_one(pid: u32, tick: Duration) -> Result<Self> {
        let ticks = process::ticks(pid)?;
        let of = |ticks: u64| -> Result<Duration> { Ok(tick * u32::try_from(ticks)?) };
        let own = match clock(pid) {
            Ok(own) => own,
            // A zombie has no clock.
            Err(_) => of(ticks.user + ticks.system)?,
        };
        Ok(Self {
            total: own + of(ticks.children_user + ticks.children_system)?,
            user_ticks: ticks.user + ticks.children_user,
            system_ticks: ticks.system + ticks.children_system,
        })
    }

    /// What was used since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self) -> Spent {
        let user = count(self.user_ticks.saturating_sub(earlier.user_ticks));
        let system = count(self.system_ticks.saturating_sub(earlier.system_ticks));
        Spent {
            total: self.total.saturating_sub(earlier.total),
            user_share: (user + system >= ENOUGH).then(|| user / (user + system)),
        }
    }
}

fn count(ticks: u64) -> f64 {
    f64::from(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// The processor clock of another process. It has no ticks.
fn clock(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(clock_gettime(clock)?.into())
}

/// How long a tick of `/proc` is.
fn tick() -> Result<Duration> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(Duration::from_secs(1) / u32::try_from(per_second)?)
}

#[cfg(test)]
mod tests {
    use super::{Spent, Usage};
    use std::time::{Duration, Instant};

    #[test]
    fn the_total_is_exact_and_the_ticks_share_it_out() {
        let usage = |total, user_ticks, system_ticks| Usage {
            total: Duration::from_micros(total),
            user_ticks,
            system_ticks,
        };
        let check = |earlier: Usage, later: Usage, total, user_share| {
            let total = Duration::from_micros(total);
            assert_eq!(later.since(&earlier), Spent { total, user_share });
        };
        check(usage(100, 3, 5), usage(1100, 8, 20), 1000, Some(0.25));
        check(usage(100, 3, 5), usage(150, 5, 8), 50, None);
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        // Until 200 ms of processor time are used, on any machine.
        let begun = Instant::now();
        let mut sum = 0_u64;
        loop {
            sum = sum.wrapping_mul(31).wrapping_add(1);
            let spent = Usage::of(pid).unwrap().since(&before);
            if spent.total >= Duration::from_millis(200) {
                assert!(spent.user_share.is_some());
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{sum}");
        }
    }
}
