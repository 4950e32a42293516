//! `sockserve serve`: one component behind one or more listeners.

use super::Failure;
use super::signals::Signals;
use super::watch::{Stamp, Watch};
use crate::builtin;
use crate::control::server::ControlServer;
use crate::{
    CompileCache, ConnectGrant, Contract, DirGrant, Dispatch, Grants, Handler, HandlerError,
    HandlerOptions, Limits, ListenAddress, RollbackPolicy, Service, ServiceOptions, StartError,
};
use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Options {
    /// A component file, or builtin:NAME
    component: String,
    /// Where to listen: tcp://HOST:PORT. Port 0 is any free port. May be
    /// repeated
    #[arg(long, value_name = "URL", required = true)]
    listen: Vec<ListenAddress>,
    /// sequential, threaded or poll. By default threaded for `blocking`, poll
    /// for `evented` and `concurrent`
    #[arg(long)]
    dispatch: Option<Dispatch>,
    /// The service's name, in the ready line and the log. By default the
    /// component's, without its contract
    #[arg(long)]
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
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "60s")]
    rollback_window: Duration,
}

impl ControlOptions {
    fn rollback(&self) -> RollbackPolicy {
        RollbackPolicy {
            percent: self.rollback_percent,
            least: self.rollback_least,
            window: self.rollback_window,
        }
    }
}

/// What the component may do beyond its connections. Nothing by default.
#[derive(Args)]
#[command(next_help_heading = "Grants")]
struct GrantOptions {
    /// Set an environment variable. May be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = Grants::parse_env)]
    env: Vec<(String, String)>,
    /// Let it read and write a directory, which is opened once for each version.
    /// May be repeated
    #[arg(long, value_name = "HOST_DIR[::GUEST_DIR]")]
    dir: Vec<DirGrant>,
    /// Let it connect to a place over TCP; `*` is any host, or any port. May be
    /// repeated
    #[arg(long, value_name = "HOST:PORT")]
    allow_connect: Vec<ConnectGrant>,
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
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
    deadline: Duration,
    /// Threads that run guests under threaded [default: one a processor]
    #[arg(long, value_name = "N", value_parser = parse_workers)]
    workers: Option<usize>,
    /// Connections that wait to be accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = Limits::default().backlog)]
    backlog: u32,
    /// How long a connection may take to close
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2s")]
    linger: Duration,
    /// How long open connections may go on after SIGTERM or Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s")]
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

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a time, for example 500ms or 2s"))?;
    if time.is_zero() {
        return Err("it must be longer than zero".to_owned());
    }
    Ok(time)
}

fn parse_workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers @ 1..=1024) => Ok(workers),
        _ => Err("it must be a number from 1 to 1024".to_owned()),
    }
}

impl GrantOptions {
    fn grants(&self) -> Grants {
        Grants {
            env: self.env.clone(),
            dirs: self.dir.clone(),
            connect: self.allow_connect.clone(),
            lookup: self.allow_lookup,
        }
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

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let loaded = Stamp::of(&options.component);
    let component = builtin::load(&options.component)?;
    let dispatch = options
        .dispatch
        .unwrap_or_else(|| component.contract().default_dispatch());
    let name = match &options.name {
        Some(name) if is_name(name) => name.clone(),
        Some(name) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "`{name}` is no service name: write letters, digits, `.`, `_` and `-`"
            )));
        }
        None => service_name(&options.component),
    };
    let cache = options.cache.as_deref().map(CompileCache::in_directory);
    let handler_options = HandlerOptions {
        dispatch,
        limits: options.limits.limits(),
        grants: options.grants.grants(),
        cache: cache.transpose()?,
    };
    let handler = Handler::new(&options.component, &component, handler_options).map_err(
        |error| match error {
            HandlerError::Incompatible(_) | HandlerError::Grant(_) => Failure::usage(error),
            error => error.into(),
        },
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let result = runtime.block_on(serve(options, name, handler, loaded));
    // A swap may be compiling; it is not waited for.
    runtime.shutdown_background();
    result
}

async fn serve(
    options: &Options,
    name: String,
    handler: Handler,
    loaded: Option<Stamp>,
) -> Result<ExitCode, Failure> {
    let control = match &options.control.control {
        Some(path) => Some(ControlServer::bind(path)?),
        None => None,
    };
    let service_options = ServiceOptions {
        name,
        listen: options.listen.clone(),
        rollback: options.control.rollback(),
    };
    let mut service = Service::start(service_options, handler).map_err(|error| match error {
        StartError::Address(_) => Failure::usage(error),
        error => error.into(),
    })?;
    // After the start, which a signal may break off, and before the ready line:
    // whoever reads it may send one at once.
    let mut signals = Signals::new().context("cannot watch for signals")?;
    let services = vec![service.remote()];
    let controlling = async {
        match &control {
            Some(control) => control.run(services).await,
            None => std::future::pending().await,
        }
    };
    let watching = Watch::new(&options.component, loaded, service.remote());
    let hang_ups = watching.at_hang_up().context("cannot watch for SIGHUP")?;
    print_ready(&service).context("cannot print the ready line")?;
    let remote = service.remote();
    let draining = async {
        signals.next().await;
        tracing::info!(service = remote.name(), "draining");
        remote.drain();
        signals.next().await;
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
        // The second signal: no more closing in order.
        () = draining => return Ok(ExitCode::SUCCESS),
        never = controlling => match never {},
        never = hang_ups => match never {},
        never = changing => match never {},
    }
    let status = service.remote().status();
    tracing::info!(
        service = status.name,
        accepted = status.accepted,
        handled = status.handled,
        failed = status.failed.total(),
        "stopped"
    );
    Ok(ExitCode::SUCCESS)
}

/// One line a listener, for people and for scripts that wait for it.
fn print_ready(service: &Service) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
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
    !name.is_empty() && name.chars().all(is_name_character)
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// `echo` for `builtin:echo-blocking`, `path/echo_blocking.wasm`, `echo.wasm`.
fn service_name(component: &str) -> String {
    let name = component.strip_prefix(builtin::PREFIX).unwrap_or(component);
    let stem = std::path::Path::new(name).file_stem();
    let name: String = stem
        .map_or_else(|| name.into(), |stem| stem.to_string_lossy())
        .chars()
        .map(|c| if is_name_character(c) { c } else { '-' })
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
            assert_eq!(service_name(component), name, "{component}");
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
    fn sizes_and_times_are_checked() {
        assert_eq!(parse_memory("64MiB"), Ok(ByteSize::mib(64)));
        assert_eq!(parse_memory("65536"), Ok(ByteSize::kib(64)));
        assert!(parse_memory("1").is_err());
        assert!(parse_memory("5GiB").is_err());
        assert!(parse_memory("much").is_err());
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_time("0s").is_err());
        assert!(parse_time("soon").is_err());
        assert!(parse_workers("0").is_err());
        assert_eq!(parse_workers("4"), Ok(4));
    }
}
