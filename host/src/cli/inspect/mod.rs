//! `sockserve inspect`: what a component is, which dispatches it can run under, and
//! what it needs. The command fails for a component that `serve` would refuse.

mod report;

use super::{Failure, output};
use crate::HandlerError;
use crate::component::builtin;
use crate::guest::imports;
use crate::text;
use bytesize::ByteSize;
use clap::Args;
use report::{HandOver, InstancePer, LifeCycle, Memory, Report};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// A component file, or builtin:NAME
    component: OsString,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let source = text::path(options.component.as_ref());
    let component = builtin::load_argument(&options.component)?;
    let lacks = imports::lacks(&component)?;
    let report = Report::new(&source, &component, &lacks);
    let mut stdout = output::stdout();
    if options.json {
        writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
    } else {
        print(&mut stdout, &report)?;
    }
    stdout.flush()?;
    // Fails like `serve`, with the same message.
    let lacking = lacks
        .into_iter()
        .find_map(|(import, lack)| Some((import, lack?)));
    match lacking {
        Some((import, lack)) => Err(HandlerError::lacking(&source, import, &lack).into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a report for people.
fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "component   {}", report.component)?;
    writeln!(out, "size        {} bytes", report.size_bytes)?;
    writeln!(out, "contract    {}", report.contract)?;
    if let Some(handler) = &report.composed_of {
        writeln!(
            out,
            "composed    of a handler with the contract {handler}; it listens by itself"
        )?;
    }
    writeln!(out, "dispatches  {}", dispatches(report))?;
    writeln!(out, "memory      {}", memory(&report.memory))?;
    writeln!(out, "hand-over   {}", hand_over(report))?;
    if report.may_have_loops {
        let loops = "says whether its connections are independent, as --loops needs it";
        writeln!(out, "loops       {loops}")?;
    }
    if let Some(functions) = life_cycle(report.life_cycle) {
        writeln!(out, "life cycle  {functions}")?;
    }
    if let Some(bytes) = report.compiled_bytes {
        let bytes = ByteSize(bytes);
        writeln!(
            out,
            "compiled    {bytes} of code; --allow-precompiled uses it"
        )?;
    }
    if report.keeps_state {
        let state = "what one instance for all knows passes to the next version";
        writeln!(out, "state       {state}")?;
    }
    writeln!(out, "imports")?;
    for import in &report.imports {
        writeln!(out, "  {:<45} {}", import.name, import.need)?;
    }
    Ok(())
}

fn dispatches(report: &Report) -> String {
    let names = report.dispatches.iter().map(|dispatch| {
        if *dispatch == report.default_dispatch {
            format!("{dispatch} (default)")
        } else {
            dispatch.clone()
        }
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Returns what an instance begins with, and how many there are.
fn memory(memory: &Memory) -> String {
    let bytes = ByteSize(memory.start_bytes);
    let served = match memory.instance_per {
        InstancePer::Service => {
            return format!("an instance begins with {bytes}, and serves all");
        }
        InstancePer::Connection => "connection",
        InstancePer::Datagram => "datagram",
    };
    let said = format!("an instance begins with {bytes}, and each {served} has one");
    match &memory.advice {
        Some(advice) => format!("{said}; {advice}"),
        None => said,
    }
}

/// Returns what a component has for the life cycle of its service. `None` if that is
/// nothing.
fn life_cycle(exports: LifeCycle) -> Option<String> {
    let functions = [
        (exports.verify, "verify (which peers come in)"),
        (exports.error, "error (which connections failed)"),
        (exports.tick, "tick (from time to time)"),
    ];
    let exported = functions.into_iter().filter(|(is_there, _)| *is_there);
    let exported: Vec<_> = exported.map(|(_, function)| function).collect();
    (!exported.is_empty()).then(|| exported.join(", "))
}

/// Returns what happens to the component's live connections at a swap.
fn hand_over(report: &Report) -> &'static str {
    if report.contract.starts_with("datagram") {
        return "none; a swap is in effect from the next datagram on";
    }
    match report.hand_over {
        HandOver {
            may_roll: true,
            gives_up: true,
            ..
        } => "takes connections over, and gives its own up; says whether one group after another",
        HandOver {
            takes_over: true,
            gives_up: true,
            ..
        } => "takes connections over, and gives its own up",
        HandOver {
            takes_over: true, ..
        } => "takes connections over; its own drain",
        HandOver { .. } => "none; its connections drain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_cycle_names_what_is_there() {
        assert_eq!(life_cycle(LifeCycle::default()), None);
        let two = LifeCycle {
            verify: true,
            tick: true,
            ..LifeCycle::default()
        };
        assert_eq!(
            life_cycle(two).unwrap(),
            "verify (which peers come in), tick (from time to time)"
        );
    }

    #[test]
    fn the_default_dispatch_is_marked() {
        let check = |builtin: &str, expected: &str| {
            let component = builtin::load(builtin).unwrap();
            let report = Report::new(builtin, &component, &[]);
            assert_eq!(dispatches(&report), expected);
        };
        check(
            "builtin:echo-blocking",
            "sequential, threaded (default), poll",
        );
        check("builtin:echo-evented", "poll (default)");
    }
}
