//! `sockserve run`: a program that listens and connects by itself.

use super::progress::Progress;
use super::serve::{GrantOptions, parse_memory, resolve};
use super::signals::Caught;
use super::{Failure, output};
use crate::aside::aside;
use crate::component::builtin;
use crate::guest::failure::Fault;
use crate::guest::grants::ConnectPlace;
use crate::limits::parse_time_over_zero;
use crate::{CompileCache, Component, Dispatch, Handler, HandlerOptions, Limits, text};
use anyhow::{Context as _, anyhow};
use bytesize::ByteSize;
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A program may compute as long as it likes; `--timeout` ends it.
const NO_DEADLINE: Duration = Duration::from_secs(1 << 32);

/// The exit status of a program that has trapped. wasmtime's command has the same, and a
/// shell shows it for SIGABRT.
const TRAPPED: u8 = 134;

/// The exit status of a program that was ended by its timeout, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    grants: GrantOptions,
    /// Let it listen on an address over TCP; `*` is any address, or any port; port 0 is
    /// any free port. May be repeated
    #[arg(long, value_name = "HOST:PORT", help_heading = "Grants")]
    allow_listen: Vec<ConnectPlace>,
    /// Let it exchange datagrams with a place, and bind a UDP socket to it; `*` is any
    /// host, or any port. May be repeated
    #[arg(long, value_name = "HOST:PORT", help_heading = "Grants")]
    allow_udp: Vec<ConnectPlace>,
    /// Memory of the program, its tables included
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, default_value = "64MiB")]
    max_memory: ByteSize,
    /// Keep compiled components in a directory, so that known ones start sooner. It must
    /// be writable for you only
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Use the code that `sockserve compile` has put into its file. It runs without a
    /// check, so the file must come from you
    #[arg(long)]
    allow_precompiled: bool,
    /// End it after this time, with exit status 124
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero)]
    timeout: Option<Duration>,
    /// A component file, or builtin:NAME; and the arguments of the program
    // One argument for both: so everything after the component is the program's.
    #[arg(trailing_var_arg = true, required = true, value_names = ["COMPONENT", "ARGS"])]
    program: Vec<OsString>,
}

impl Options {
    fn component(&self) -> &OsStr {
        self.program
            .first()
            .map_or(OsStr::new(""), OsString::as_ref)
    }

    /// The program's arguments, which WASI has as Unicode only.
    fn args(&self) -> Result<Vec<String>, Failure> {
        let args = self.program.iter().skip(1).map(|argument| {
            let unicode = argument.to_str().map(ToOwned::to_owned);
            unicode.ok_or_else(|| {
                let argument = text::path(argument.as_ref());
                Failure::usage(anyhow!(
                    "the argument {argument} is not UTF-8; a program can have no other"
                ))
            })
        });
        args.collect()
    }
}

/// Runs the program until it ends, a signal comes, or its time is over.
pub(super) fn run(options: Box<Options>, caught: Caught) -> Result<ExitCode, Failure> {
    let Caught {
        runtime,
        mut ends,
        hang_ups: _,
    } = caught;
    let timeout = options.timeout;
    let name = text::path(options.component().as_ref()).into_owned();
    let running = async {
        let loading = aside("load", move || load(&options));
        let program = loading.await.context("cannot start")??;
        Ok::<_, Failure>(program.run_program().await)
    };
    let over = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            status = ends.next_status() => Ok(ExitCode::from(status)),
            ended = running => Ok(match ended? {
                Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
                Err(failure) => {
                    output::complain(&format!("{name}: {failure}"));
                    let has_trapped = failure.fault() == Fault::Guest;
                    ExitCode::from(if has_trapped { TRAPPED } else { 1 })
                }
            }),
            () = over => {
                output::complain(&format!("{name}: ended by --timeout"));
                Ok(ExitCode::from(TIMED_OUT))
            }
        }
    });
    // A thread may wait for standard input without an end.
    runtime.shutdown_background();
    result
}

/// Reads and compiles the program, which may take a while.
fn load(options: &Options) -> Result<Handler, Failure> {
    let args = options.args()?;
    let source = text::path(options.component().as_ref());
    let _progress = Progress::show(format!("preparing {source}"));
    let component = builtin::load_argument(options.component())?;
    check(&source, &component)?;
    let mut grants = options.grants.checked()?;
    grants.args = args;
    grants.listen = resolve(&options.allow_listen, "--allow-listen")?;
    grants.udp = resolve(&options.allow_udp, "--allow-udp")?;
    grants.tell_refusals = true;
    let mut handler_options = HandlerOptions::new(Dispatch::Sequential);
    handler_options.grants = grants;
    let cache = options.cache.as_deref().map(CompileCache::in_directory);
    handler_options.cache = cache.transpose()?;
    handler_options.allow_precompiled = options.allow_precompiled;
    handler_options.limits = Limits {
        max_connections: 1,
        max_memory_bytes: options.max_memory.as_u64(),
        deadline: NO_DEADLINE,
        ..Limits::default()
    };
    Ok(Handler::new(&source, &component, handler_options)?)
}

/// Refuses a component that is no program.
fn check(source: &str, component: &Component) -> Result<(), Failure> {
    let contract = component.contract();
    if contract.is_command() {
        return Ok(());
    }
    let transport = if contract.takes_datagrams() {
        "udp"
    } else {
        "tcp"
    };
    Err(Failure::usage(anyhow!(
        "{source}: a handler with the contract {contract}, and not a program; serve it: \
         sockserve serve {source} --listen {transport}://127.0.0.1:7000"
    )))
}
