//! `sockserve inspect`: what a component is, which dispatches it can run under, and
//! what it needs. The command fails for a component that `serve` would refuse.

use super::{Failure, output};
use crate::component::{LifeCycleExports, builtin};
use crate::guest::imports::{self, Lack};
use crate::guest::start_cost;
use crate::text;
use crate::{Component, Contract, Dispatch, HandlerError};
use bytesize::ByteSize;
use clap::Args;
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// A component file, or builtin:NAME
    component: OsString,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let source = text::path(options.component.as_ref());
    let component = builtin::load_argument(&options.component)?;
    let contract = component.contract();
    let mut stdout = output::stdout();
    writeln!(stdout, "component   {source}")?;
    writeln!(stdout, "size        {} bytes", component.bytes().len())?;
    writeln!(stdout, "contract    {contract}")?;
    if let Some(handler) = component.composed() {
        let handler = text::escape(handler);
        writeln!(
            stdout,
            "composed    of a handler with the contract {handler}; it listens by itself"
        )?;
    }
    writeln!(stdout, "dispatches  {}", dispatches(contract))?;
    writeln!(stdout, "memory      {}", memory(&component))?;
    writeln!(stdout, "hand-over   {}", hand_over(&component))?;
    if let Some(functions) = life_cycle(component.life_cycle()) {
        writeln!(stdout, "life cycle  {functions}")?;
    }
    if let Some(code) = component.code() {
        let bytes = ByteSize(code.len() as u64);
        writeln!(
            stdout,
            "compiled    {bytes} of code; --allow-precompiled uses it"
        )?;
    }
    if component.keeps_state() {
        let state = "what one instance for all knows passes to the next version";
        writeln!(stdout, "state       {state}")?;
    }
    writeln!(stdout, "imports")?;
    let lacks = imports::lacks(&component)?;
    for (import, lack) in &lacks {
        let need = need(contract, import, lack.as_ref());
        writeln!(stdout, "  {:<45} {need}", text::escape(import))?;
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

fn dispatches(contract: Contract) -> String {
    let names: Vec<_> = contract
        .dispatches()
        .map(|dispatch| {
            if dispatch == contract.default_dispatch() {
                format!("{dispatch} (default)")
            } else {
                Dispatch::to_string(&dispatch)
            }
        })
        .collect();
    names.join(", ")
}

/// Returns what an instance begins with, and how many there are.
fn memory(component: &Component) -> String {
    let contract = component.contract();
    let dispatch = contract.default_dispatch();
    let bytes = ByteSize(component.start_memory_bytes());
    if dispatch.shares_instance(contract) {
        return format!("an instance begins with {bytes}, and serves all");
    }
    let served = start_cost::served(contract);
    match start_cost::advice(component, dispatch) {
        Some(advice) => {
            format!("an instance begins with {bytes}, and each {served} has one; {advice}")
        }
        None => format!("an instance begins with {bytes}, and each {served} has one"),
    }
}

/// Returns what happens to the component's live connections at a swap.
fn hand_over(component: &Component) -> &'static str {
    if component.contract().takes_datagrams() {
        return "none; a swap is in effect from the next datagram on";
    }
    match (component.takes_over(), component.gives_up()) {
        (true, true) => "takes connections over, and gives its own up",
        (true, false) => "takes connections over; its own drain",
        (false, _) => "none; its connections drain",
    }
}

/// Returns what the component has for the life cycle of its service. `None` if that is
/// nothing.
fn life_cycle(exports: LifeCycleExports) -> Option<String> {
    let functions = [
        (exports.verify, "verify (which peers come in)"),
        (exports.error, "error (which connections failed)"),
        (exports.tick, "tick (from time to time)"),
    ];
    let exported = functions.into_iter().filter(|(is_there, _)| *is_there);
    let exported: Vec<_> = exported.map(|(_, function)| function).collect();
    (!exported.is_empty()).then(|| exported.join(", "))
}

/// Returns what an import needs: nothing, a grant, or something that the host does
/// not have.
fn need(contract: Contract, import: &str, lack: Option<&Lack>) -> Cow<'static, str> {
    match lack {
        None => need_of_provided(contract, import).into(),
        Some(Lack::Interface) => {
            "not provided: compose the component with one that exports it".into()
        }
        Some(Lack::Version(provided)) => format!("not provided: there is {provided}").into(),
        Some(Lack::Function { name, of }) => {
            format!("not provided: there is no `{name}` in {of}").into()
        }
    }
}

/// Returns what an import needs that the host provides.
fn need_of_provided(contract: Contract, import: &str) -> &'static str {
    let interface = import.split('@').next().unwrap_or_default();
    if contract.draining() == Some(interface) {
        return "provided; tells when a connection is to be handed over";
    }
    match interface {
        "sockserve:handler/connection-info"
        | "sockserve:handler/concurrent-connection-info"
        | "sockserve:handler/connection-types" => "provided; says who the peer is",
        "wasi:cli/environment" => "provided; variables by --env NAME=VALUE, arguments after --",
        "wasi:cli/stdin" | "wasi:cli/stdout" if contract.is_command() => {
            "provided; is the connection"
        }
        "wasi:cli/stdout" | "wasi:cli/stderr" => "provided; goes to the log",
        "wasi:filesystem/types" | "wasi:filesystem/preopens" => {
            "provided; directories by --dir HOST_DIR[::GUEST_DIR]"
        }
        "wasi:sockets/tcp" => {
            "provided for the accepted connection; others by --allow-connect HOST:PORT"
        }
        "wasi:sockets/tcp-create-socket" => "denied but by --allow-connect HOST:PORT",
        "wasi:sockets/types" => {
            "provided for the accepted connection; others by --allow-connect HOST:PORT; no UDP"
        }
        "wasi:sockets/ip-name-lookup" => "denied but by --allow-lookup",
        "wasi:sockets/udp" | "wasi:sockets/udp-create-socket" => "denied",
        _ => "provided",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_import_says_what_it_takes() {
        let check = |import, expected: &str| {
            let said = need(Contract::Blocking, import, None);
            assert!(said.contains(expected), "{import}: {said}");
        };
        check("wasi:io/streams@0.2.12", "provided");
        check("wasi:cli/environment@0.2.6", "--env");
        check("wasi:filesystem/types@0.2.6", "--dir");
        check("wasi:sockets/tcp@0.2.12", "--allow-connect");
        check("wasi:sockets/ip-name-lookup@0.2.12", "--allow-lookup");
        check("sockserve:handler/blocking-draining@0.1.0", "handed over");
        let lacking = |lack| need(Contract::Blocking, "a:b/c@0.2.6", Some(&lack));
        assert!(lacking(Lack::Interface).starts_with("not provided: compose"));
        let version = Lack::Version("a:b/c@0.2.12".to_owned());
        assert_eq!(lacking(version), "not provided: there is a:b/c@0.2.12");
        let (name, of) = ("f".to_owned(), "a:b/c@0.2.12".to_owned());
        assert_eq!(
            lacking(Lack::Function { name, of }),
            "not provided: there is no `f` in a:b/c@0.2.12"
        );
    }

    #[test]
    fn the_life_cycle_names_what_is_there() {
        let none = LifeCycleExports::default();
        assert_eq!(life_cycle(none), None);
        let two = LifeCycleExports {
            verify: true,
            tick: true,
            ..none
        };
        assert_eq!(
            life_cycle(two).unwrap(),
            "verify (which peers come in), tick (from time to time)"
        );
    }

    #[test]
    fn the_default_dispatch_is_marked() {
        assert_eq!(
            dispatches(Contract::Blocking),
            "sequential, threaded (default), poll"
        );
        assert_eq!(dispatches(Contract::Evented), "poll (default)");
    }
}
