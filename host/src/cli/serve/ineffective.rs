//! Options that could have no effect are refused: who writes one expects something of it.

use super::options::{HandlerArgs, ListeningOptions, ServiceKeys};
use crate::cli::Failure;
use crate::component::builtin;
use crate::text;
use crate::{AccessLog, Contract, Dispatch};
use anyhow::anyhow;
use std::path::Path;

/// Refuses what has no effect on these addresses.
pub(super) fn check_listening(keys: &ServiceKeys) -> Result<(), Failure> {
    let ListeningOptions {
        reuse_port,
        unix_mode,
        unix_group,
        ..
    } = &keys.service.listening;
    let has_file = keys.listen.iter().any(|address| address.is_socket_file());
    for (is_given, option) in [
        (unix_mode.is_some(), "--unix-mode"),
        (unix_group.is_some(), "--unix-group"),
    ] {
        if is_given && !has_file {
            return Err(refused(format_args!(
                "{option} is for the file of a Unix socket, and no --listen makes one; add \
                 --listen unix:///PATH or unix+dgram:///PATH, or leave it out"
            )));
        }
    }
    let has_port = keys.listen.iter().any(|address| address.is_ip());
    if *reuse_port && !has_port {
        return Err(refused(format_args!(
            "--reuse-port is for addresses with a port, and there is none; add --listen \
             tcp://HOST:PORT or udp://HOST:PORT, or leave it out"
        )));
    }
    Ok(())
}

/// Refuses to watch what does not change. Looks at the file, which may take long.
pub(super) fn check_watch(component: &Path) -> Result<(), Failure> {
    let shown = text::path(component);
    if builtin::is_builtin(component.as_os_str()) {
        return Err(refused(format_args!(
            "--watch: {shown} is embedded and never changes; name a file, or leave it out"
        )));
    }
    // What is not there is told when it is read.
    if std::fs::metadata(component).is_ok_and(|found| !found.is_file()) {
        return Err(refused(format_args!(
            "--watch: {shown} is read once, because it is no regular file; name a file, or leave \
             it out"
        )));
    }
    Ok(())
}

/// Refuses what has no effect on a component with this contract.
pub(super) fn check_handler(
    args: &HandlerArgs,
    contract: Contract,
    dispatch: Dispatch,
) -> Result<(), Failure> {
    if args.limits.workers.is_some() && dispatch != Dispatch::Threaded {
        let other = if contract.check(Dispatch::Threaded).is_ok() {
            "use --dispatch threaded, or leave it out"
        } else {
            "leave it out"
        };
        return Err(refused(format_args!(
            "--workers is how many threads run guests under --dispatch threaded, and this is \
             {dispatch}, which has one; {other}"
        )));
    }
    if args.limits.loops.is_some() {
        check_loops(contract, dispatch)?;
    }
    if args.limits.reuse.is_some() {
        check_reuse(contract, dispatch)?;
    }
    if !args.allow_send.is_empty() {
        check_for_datagrams(contract, "--allow-send")?;
    }
    Ok(())
}

/// Refuses event loops where no instance serves all connections.
fn check_loops(contract: Contract, dispatch: Dispatch) -> Result<(), Failure> {
    if dispatch.shares_instance(contract) && !contract.takes_datagrams() {
        return Ok(());
    }
    Err(refused(format_args!(
        "--loops is for handlers of evented and concurrent under --dispatch poll, which have one \
         instance per loop, and this is {contract} under {dispatch}; leave it out"
    )))
}

/// Refuses to use an instance again where none serves one connection after another.
fn check_reuse(contract: Contract, dispatch: Dispatch) -> Result<(), Failure> {
    let what = "--reuse is how many connections an instance serves, one after another";
    if !matches!(contract, Contract::Blocking | Contract::Concurrent) {
        let why = if contract.is_command() {
            "a program starts anew for each connection"
        } else if contract.takes_datagrams() {
            "this contract serves datagrams"
        } else {
            "one instance serves all of them here"
        };
        return Err(refused(format_args!("{what}, and {why}; leave it out")));
    }
    if dispatch.shares_instance(contract) {
        return Err(refused(format_args!(
            "{what}, and under --dispatch {dispatch} one instance serves all of them; use \
             --dispatch threaded, or leave it out"
        )));
    }
    Ok(())
}

/// Refuses what has no effect on a service for datagrams.
pub(super) fn check_connections(keys: &ServiceKeys, contract: Contract) -> Result<(), Failure> {
    if !contract.takes_datagrams() {
        return Ok(());
    }
    let limits = keys.service.handler.limits.limits();
    let given = [
        (limits.first_byte_timeout.is_some(), "--first-byte-timeout"),
        (limits.idle_timeout.is_some(), "--idle-timeout"),
        (limits.write_timeout.is_some(), "--write-timeout"),
        (limits.connection_timeout.is_some(), "--connection-timeout"),
        (keys.service.access_log != AccessLog::Off, "--access-log"),
    ];
    match given.into_iter().find(|(is_given, _)| *is_given) {
        None => Ok(()),
        Some((_, option)) => Err(refused(format_args!(
            "{option} is about connections, and the contract {contract} serves datagrams; leave \
             it out"
        ))),
    }
}

/// Refuses an option that is about datagrams, if there are none.
pub(in crate::cli) fn check_for_datagrams(contract: Contract, option: &str) -> Result<(), Failure> {
    if contract.takes_datagrams() {
        return Ok(());
    }
    Err(refused(format_args!(
        "{option} is about datagrams, and the contract {contract} serves connections; leave it out"
    )))
}

fn refused(text: std::fmt::Arguments<'_>) -> Failure {
    Failure::usage(anyhow!("{text}"))
}
