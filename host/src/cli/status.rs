//! What `sockserve status` prints of a service.

use crate::{HandOverCounts, LatencyCounts, Status, VersionState};
use bytesize::ByteSize;
use std::io::Write;
use std::time::Duration;

/// Prints a service on a few lines.
pub(super) fn print(out: &mut dyn Write, status: &Status) -> std::io::Result<()> {
    let state = serde_json::to_value(status.state)?;
    writeln!(
        out,
        "{}  {}  contract={} dispatch={} {}",
        status.name,
        state.as_str().unwrap_or_default(),
        status.contract,
        status.dispatch,
        status.listeners.join(" "),
    )?;
    let datagrams = status.datagrams;
    let is_for_datagrams = status.contract.starts_with("datagram");
    writeln!(
        out,
        "  {:<12} accepted {}  open {}  handled {}  refused {}  failed {}",
        if is_for_datagrams {
            "datagrams"
        } else {
            "connections"
        },
        status.accepted,
        status.open,
        status.handled,
        status.refused.total(),
        status.failed.total(),
    )?;
    let refused = &status.refused;
    if refused.total() > 0 {
        writeln!(
            out,
            "  refused      rules {}  access-times {}  connections-per-source {}  \
             rate-per-source {}  handler {}",
            refused.rules,
            refused.access_times,
            refused.connections_per_source,
            refused.rate_per_source,
            refused.handler,
        )?;
    }
    let failed = &status.failed;
    if failed.total() > 0 {
        writeln!(
            out,
            "  failed       error {}  trap {}  deadline {}  memory {}  instantiate {}  panic {}  \
             host {}  peer {}  timeout {}  killed {}  aborted {}",
            failed.error,
            failed.trap,
            failed.deadline,
            failed.memory,
            failed.instantiate,
            failed.panic,
            failed.host,
            failed.peer,
            failed.timeout,
            failed.killed,
            failed.aborted,
        )?;
    }
    if is_for_datagrams {
        writeln!(
            out,
            "  received     {}  oversized {}  loops {}  dropped by the kernel {}",
            datagrams.received, datagrams.oversized, datagrams.loops, datagrams.dropped_by_kernel
        )?;
        writeln!(
            out,
            "  sent         {}  refused {}  unsent {}",
            datagrams.sent, datagrams.refused, datagrams.unsent
        )?;
    }
    writeln!(
        out,
        "  bytes        in {}  out {}",
        status.bytes_in, status.bytes_out
    )?;
    print_lately(out, status)?;
    let moved = status.hand_overs;
    if moved != HandOverCounts::default() {
        writeln!(
            out,
            "  hand-overs   done {}  refused {}",
            moved.handed_over, moved.refused
        )?;
    }
    if status.log_lines_dropped > 0 {
        writeln!(
            out,
            "  log          lines dropped {}",
            status.log_lines_dropped
        )?;
    }
    for version in &status.versions {
        let mark = match version.state {
            VersionState::Current => "*",
            VersionState::Canary => "+",
            VersionState::Draining => " ",
        };
        write!(
            out,
            "{mark} version {:<4} {}  sha256 {}  loaded {}  connections {}",
            version.number,
            version.source,
            version.sha256.get(..12).unwrap_or(&version.sha256),
            version.loaded_at,
            version.connections,
        )?;
        if let Some(percent) = version.canary_percent {
            write!(out, "  canary {percent} %")?;
        }
        if !version.env.is_empty() {
            write!(out, "  env {}", version.env.join(" "))?;
        }
        writeln!(out)?;
    }
    if let Some(previous) = &status.previous {
        write!(
            out,
            "  rollback     to version {} {}",
            previous.number, previous.source
        )?;
        match &previous.condemned {
            None => writeln!(out)?,
            Some(reason) => writeln!(
                out,
                ", only if named (--to {}): it was taken back because {reason}",
                previous.number
            )?,
        }
    }
    if let Some(reason) = &status.rolled_back {
        writeln!(out, "  {reason}")?;
    }
    Ok(())
}

/// Prints how busy the service is, what that takes, and its limits.
fn print_lately(out: &mut dyn Write, status: &Status) -> std::io::Result<()> {
    let rates = &status.rates;
    writeln!(
        out,
        "  per second   accepted {:.1}  failed {:.1}  refused {:.1}  in {:.0} B  out {:.0} B  \
         (over {:.0} s)",
        rates.accepted, rates.failed, rates.refused, rates.bytes_in, rates.bytes_out, rates.seconds,
    )?;
    if status.calls.count > 0 {
        writeln!(
            out,
            "  calls        {}  half {}  99 of 100 {}",
            status.calls.count,
            within(&status.calls, 50),
            within(&status.calls, 99),
        )?;
    }
    let memory = &status.memory;
    writeln!(
        out,
        "  memory       instances {}  bytes {}",
        memory.instances,
        ByteSize(memory.bytes)
    )?;
    let limits = &status.limits;
    write!(
        out,
        "  limits       connections {}  memory {}  deadline {}",
        limits.max_connections,
        ByteSize(limits.max_memory_bytes),
        time(limits.deadline_seconds),
    )?;
    let timeouts = [
        ("first-byte-timeout", limits.first_byte_timeout_seconds),
        ("idle-timeout", limits.idle_timeout_seconds),
        ("write-timeout", limits.write_timeout_seconds),
        ("connection-timeout", limits.connection_timeout_seconds),
    ];
    for (name, seconds) in timeouts {
        if let Some(seconds) = seconds {
            write!(out, "  {name} {}", time(seconds))?;
        }
    }
    writeln!(out)
}

/// Within which time so many percent of the calls were done.
pub(super) fn within(calls: &LatencyCounts, percent: u8) -> String {
    let longest = calls.buckets.iter().rev().find_map(|it| it.at_most_seconds);
    match (calls.at_most(percent), longest) {
        (Some(seconds), _) => format!("within {}", time(seconds)),
        (None, Some(longest)) => format!("longer than {}", time(longest)),
        (None, None) => "unknown".to_owned(),
    }
}

/// A time as the options write it. What came over the socket may be no time.
fn time(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) => humantime::format_duration(time).to_string(),
        Err(_) => seconds.to_string(),
    }
}
