//! `sockserve serve`: one component behind one or more listeners.

use super::signals::{Caught, Ends, HangUps};
use super::watch::{Stamp, Watch};
use super::{Failure, output};
use crate::aside::aside;
use crate::component::builtin;
use crate::control::server::ControlServer;
use crate::guest::grants::ConnectPlace;
use crate::limits::{parse_time, parse_time_over_zero};
use crate::text;
use crate::{
    AddressError, CompileCache, Contract, DirGrant, Dispatch, GrantError, Grants, Handler,
    HandlerError, HandlerOptions, Limits, ListenAddress, RollbackOn, RollbackPolicy, Service,
    ServiceOptions, StartError,
};
use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The longest name of a service, in bytes.
const MAX_NAME: usize = 64;

#[derive(Args)]
pub(super) struct Options {
    /// A component file, or builtin:NAME
    component: OsString,
    /// Where to listen: tcp://HOST:PORT. A name stands for all its addresses;
    /// port 0 is any free port, the same for all of them. A link-local IPv6
    /// address has its interface: tcp://[fe80::1%eth0]:7000. May be repeated
    #[arg(long, value_name = "URL", required = true)]
    listen: Vec<ListenAddress>,
    /// sequential, threaded or poll. By default threaded for `blocking`, poll
    /// for `evented` and `concurrent`
    #[arg(long)]
    dispatch: Option<Dispatch>,
    /// The service's name, in the ready line and the log. By default the
    /// component's, without its contract
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    /// Keep compiled components in a directory, so that known ones start and
    /// swap sooner. It must be writable for you only
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    grants: GrantOptions,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    control: ControlOptions,
}

#[derive(Args)]
#[command(next_help_heading = "Control")]
struct ControlOptions {
    /// Take requests (status, swap, rollback, drain, shutdown) on a Unix socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Swap the component's file in whenever it has changed
    #[arg(long)]
    watch: bool,
    /// Go back to the version before when more than this share of a new
    /// version's connections fail; over 100 is never
    #[arg(long, value_name = "PERCENT", default_value_t = RollbackPolicy::default().percent)]
    rollback_percent: u8,
    /// Judge a new version when so many of its connections have ended
    #[arg(long, value_name = "N", default_value_t = RollbackPolicy::default().least)]
    rollback_least: u32,
    /// Judge it no longer than this after the swap
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero, default_value = "60s")]
    rollback_window: Duration,
    /// What speaks against a new version: `fault` is instances that died, `err` is
    /// errors that the handler returned as well
    #[arg(long, value_name = "WHAT", value_enum, default_value = "fault")]
    rollback_on: On,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum On {
    /// Traps, deadlines, memory, and instances that cannot be made
    Fault,
    /// Those, and errors that the handler returned
    Err,
}

impl ControlOptions {
    fn rollback(&self) -> RollbackPolicy {
        RollbackPolicy {
            percent: self.rollback_percent,
            least: self.rollback_least,
            window: self.rollback_window,
            on: match self.rollback_on {
                On::Fault => RollbackOn::Fault,
                On::Err => RollbackOn::Err,
            },
        }
    }
}

/// What the component may do beyond its connections. Nothing by default.
#[derive(Args)]
#[command(next_help_heading = "Grants")]
struct GrantOptions {
    /// Set an environment variable. May be repeated; of a name that is given
    /// twice the last counts
    #[arg(long, value_name = "NAME=VALUE", value_parser = Grants::parse_env)]
    env: Vec<(String, String)>,
    /// Let it read and write a directory, which is opened once for each version.
    /// May be repeated, with another name in the guest each time
    #[arg(long, value_name = "HOST_DIR[::GUEST_DIR]", value_parser = dir_parser())]
    dir: Vec<DirGrant>,
    /// Let it connect to a place over TCP; `*` is any host, or any port. May be
    /// repeated
    #[arg(long, value_name = "HOST:PORT")]
    allow_connect: Vec<ConnectPlace>,
    /// Let it look names up
    #[arg(long)]
    allow_lookup: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitOptions {
    /// Connections open at once; further peers wait in the backlog
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), default_value_t = Limits::default().max_connections)]
    max_connections: u32,
    /// Memory of one instance, its tables included
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, default_value = "64MiB")]
    max_memory: ByteSize,
    /// Guest time without a wait or a byte moved, and the whole time of an
    /// evented turn
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero, default_value = "1s")]
    deadline: Duration,
    /// Threads that run guests under threaded [default: one a processor]
    #[arg(long, value_name = "N", value_parser = parse_workers)]
    workers: Option<usize>,
    /// Connections that wait to be accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = Limits::default().backlog)]
    backlog: u32,
    /// How long a connection may take to close
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "2s")]
    linger: Duration,
    /// How long open connections may go on after SIGTERM or Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "10s")]
    drain_timeout: Duration,
}

fn parse_memory(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "write a size, for example 64MiB".to_owned())?;
    // wasmtime's address arithmetic, and what wasm can address.
    if (ByteSize::kib(64)..=ByteSize::gib(4)).contains(&size) {
        Ok(size)
    } else {
        Err("it must be between 64KiB and 4GiB".to_owned())
    }
}

fn parse_workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers @ 1..=1024) => Ok(workers),
        _ => Err("it must be a number from 1 to 1024".to_owned()),
    }
}

/// A directory's path need not be UTF-8.
fn dir_parser() -> impl TypedValueParser<Value = DirGrant> {
    OsStringValueParser::new().try_map(|grant| DirGrant::parse(&grant))
}

/// The name of a service, as arguments have it.
pub(super) fn parse_name(name: &str) -> Result<String, &'static str> {
    if is_name(name) {
        Ok(name.to_owned())
    } else {
        Err("a service's name has letters, digits, `.`, `_` and `-`, and at most 64 of them")
    }
}

impl GrantOptions {
    /// Looks names up, which may fail and may take long.
    fn grants(&self) -> Result<Grants, GrantError> {
        let connect = self.allow_connect.iter().map(ConnectPlace::resolve);
        let grants = Grants {
            env: self.env.clone(),
            dirs: self.dir.clone(),
            connect: connect.collect::<Result<_, _>>()?,
            lookup: self.allow_lookup,
        };
        grants.check_names()?;
        Ok(grants)
    }
}

impl LimitOptions {
    fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_memory_bytes: self.max_memory.as_u64(),
            deadline: self.deadline,
            workers: self.workers.unwrap_or(Limits::default().workers),
            backlog: self.backlog,
            linger: self.linger,
            drain_timeout: self.drain_timeout,
        }
    }
}

/// Runs on the main thread, which only waits: what takes a while is on other
/// threads, and a signal is seen at any time.
pub(super) fn run(options: Box<Options>, caught: Caught) -> Result<ExitCode, Failure> {
    let Caught {
        runtime,
        mut ends,
        hang_ups,
    } = caught;
    let options = Arc::from(options);
    let result = runtime.block_on(async {
        let started = tokio::select! {
            biased;
            () = ends.next() => {
                tracing::info!("ended by a signal before it served");
                return Ok(ExitCode::SUCCESS);
            }
            started = start(&options) => started?,
        };
        serve(&options, started, ends, hang_ups).await
    });
    // A swap may be compiling; it is not waited for.
    runtime.shutdown_background();
    result
}

/// What serves, and what changes it.
struct Started {
    service: Service,
    control: Option<ControlServer>,
    /// The component's file as it was before it was read.
    loaded: Option<Stamp>,
}

async fn start(options: &Arc<Options>) -> Result<Started, Failure> {
    let for_loading = Arc::clone(options);
    let loading = aside("load", move || load(&for_loading)).await;
    let (service_options, handler, loaded) = loading.context("cannot start")??;
    let control = match &options.control.control {
        Some(path) => Some(ControlServer::bind(path)?),
        None => None,
    };
    let starting = aside("start", move || Service::start(service_options, handler)).await;
    let service = starting
        .context("cannot start")?
        .map_err(|error| match error {
            StartError::Address(AddressError::Twice(..)) => Failure::usage(error),
            error => error.into(),
        })?;
    Ok(Started {
        service,
        control,
        loaded,
    })
}

/// Reads and compiles the component. May take a while.
fn load(options: &Options) -> Result<(ServiceOptions, Handler, Option<Stamp>), Failure> {
    let source = text::path(options.component.as_ref());
    let loaded = Stamp::of(options.component.as_ref());
    let component = builtin::load_argument(&options.component)?;
    let dispatch = options
        .dispatch
        .unwrap_or_else(|| component.contract().default_dispatch());
    let name = match &options.name {
        Some(name) => name.clone(),
        None => service_name(&options.component),
    };
    let cache = options.cache.as_deref().map(CompileCache::in_directory);
    let handler_options = HandlerOptions {
        dispatch,
        limits: options.limits.limits(),
        grants: options.grants.grants().map_err(|error| match error {
            error @ GrantError::DirTwice { .. } => Failure::usage(error),
            error => error.into(),
        })?,
        cache: cache.transpose()?,
    };
    let handler = Handler::new(&source, &component, handler_options);
    let handler = handler.map_err(|error| match error {
        HandlerError::Incompatible(_) => Failure::usage(error),
        error => error.into(),
    })?;
    let service_options = ServiceOptions {
        name,
        listen: options.listen.clone(),
        rollback: options.control.rollback(),
    };
    Ok((service_options, handler, loaded))
}

async fn serve(
    options: &Options,
    started: Started,
    mut ends: Ends,
    mut hang_ups: HangUps,
) -> Result<ExitCode, Failure> {
    let Started {
        mut service,
        control,
        loaded,
    } = started;
    let services = vec![service.handle()];
    let controlling = async {
        match &control {
            Some(control) => control.run(services).await,
            None => std::future::pending().await,
        }
    };
    let watching = Watch::new(&options.component, loaded, service.handle());
    print_ready(&service).context("cannot print the ready line")?;
    let remote = service.handle();
    let draining = async {
        ends.next().await;
        tracing::info!(service = remote.name(), "draining");
        remote.drain();
        ends.next().await;
        remote.status().open
    };
    let changing = async {
        if options.control.watch {
            watching.at_change().await
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        ended = service.ended() => ended.context("the service ended")?,
        // No more closing in order.
        connections = draining => return Ok(cut_off(connections)),
        failed = controlling => {
            let Err(error) = failed.context("cannot watch the control socket");
            return Err(error.into());
        }
        failed = changing => {
            let Err(error) = failed.context("cannot watch the component's file");
            return Err(error.into());
        }
        never = watching.at_hang_up(&mut hang_ups) => match never {},
    }
    let status = service.handle().status();
    tracing::info!(
        service = status.name,
        accepted = status.accepted,
        handled = status.handled,
        failed = status.failed.total(),
        "stopped"
    );
    Ok(ExitCode::SUCCESS)
}

/// How the process ends at the second signal. Connections that were open are no
/// success.
fn cut_off(connections: u64) -> ExitCode {
    if connections == 0 {
        return ExitCode::SUCCESS;
    }
    tracing::warn!(connections, "a second signal, ending with connections open");
    ExitCode::FAILURE
}

/// One line a listener, for people and for scripts that wait for it.
fn print_ready(service: &Service) -> std::io::Result<()> {
    let mut stdout = output::stdout();
    for address in service.local_addresses() {
        writeln!(
            stdout,
            "listening tcp://{address} service={} contract={} dispatch={}",
            service.name(),
            service.contract(),
            service.dispatch(),
        )?;
    }
    stdout.flush()
}

/// Whether it can stand in a ready line and in a path.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_name_character)
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// `echo` for `builtin:echo-blocking`, `path/echo_blocking.wasm`, `echo.wasm`.
fn service_name(component: &OsStr) -> String {
    let component = component.to_string_lossy();
    let name = component
        .strip_prefix(builtin::PREFIX)
        .unwrap_or(&component);
    let stem = std::path::Path::new(name).file_stem();
    let name: String = stem
        .map_or_else(|| name.into(), |stem| stem.to_string_lossy())
        .chars()
        .map(|c| if is_name_character(c) { c } else { '-' })
        .take(MAX_NAME)
        .collect();
    for contract in Contract::ALL {
        for separator in ['-', '_'] {
            let suffix = format!("{separator}{contract}");
            if let Some(family) = name.strip_suffix(&suffix)
                && !family.is_empty()
            {
                return family.to_owned();
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_component() {
        for (component, name) in [
            ("builtin:echo-blocking", "echo"),
            ("target/release/time_concurrent.wasm", "time"),
            ("echo.wasm", "echo"),
            ("my-handler.wasm", "my-handler"),
            ("-blocking.wasm", "-blocking"),
            ("my handler/it is.wasm", "it-is"),
        ] {
            assert_eq!(service_name(component.as_ref()), name, "{component}");
        }
    }

    #[test]
    fn the_options_defaults_are_the_librarys() {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            limits: LimitOptions,
            #[command(flatten)]
            control: ControlOptions,
        }
        let only = <Only as clap::Parser>::parse_from(["only"]);
        assert_eq!(only.limits.limits(), Limits::default());
        assert_eq!(only.control.rollback(), RollbackPolicy::default());
    }

    #[test]
    fn sizes_and_numbers_are_checked() {
        assert_eq!(parse_memory("64MiB"), Ok(ByteSize::mib(64)));
        assert_eq!(parse_memory("65536"), Ok(ByteSize::kib(64)));
        assert!(parse_memory("1").is_err());
        assert!(parse_memory("5GiB").is_err());
        assert!(parse_memory("much").is_err());
        assert!(parse_workers("0").is_err());
        assert_eq!(parse_workers("4"), Ok(4));
    }
}
