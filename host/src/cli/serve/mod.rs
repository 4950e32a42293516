//! `sockserve serve`: one component behind one or more listeners.

mod name;
mod options;

use super::progress::Progress;
use super::signals::{Caught, Ends, HangUps};
use super::watch::{Stamp, Watch};
use super::{Failure, notify, output};
use crate::aside::aside;
use crate::component::builtin;
use crate::control::server::ControlServer;
use crate::text;
use crate::{
    AddressError, CompileCache, Handler, HandlerError, HandlerOptions, ListenError, Service,
    ServiceOptions, StartError,
};
use anyhow::Context as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub(super) use name::parse as parse_name;
pub(super) use options::{GrantOptions, HandlerArgs, Options, parse_memory, resolve};

/// Serves until the process is told to end. Runs on the main thread, which only
/// waits: slow work is on other threads, so that a signal is handled at any time.
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
    // A swap may still be compiling. The process does not wait for it.
    runtime.shutdown_background();
    result
}

/// The running service, and what controls it.
struct Started {
    service: Service,
    control: Option<ControlServer>,
    /// The state of the component's file before it was read.
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
            StartError::Transport { .. }
            | StartError::NoState { .. }
            | StartError::Listen(ListenError::Address(AddressError::Twice(..))) => {
                Failure::usage(error)
            }
            error => error.into(),
        })?;
    Ok(Started {
        service,
        control,
        loaded,
    })
}

/// Reads and compiles the component, which may take a while.
fn load(options: &Options) -> Result<(ServiceOptions, Handler, Option<Stamp>), Failure> {
    let loaded = Stamp::of(options.handler.component.as_ref());
    let (name, handler) = options.handler.load()?;
    let service_options = ServiceOptions {
        name,
        listen: options.listen.clone(),
        listening: options.listening.options(),
        rollback: options.control.rollback(),
        allow_loops: options.listening.allow_loops,
        state_file: options.state_file.clone(),
    };
    Ok((service_options, handler, loaded))
}

impl HandlerArgs {
    /// Reads and compiles the component, which may take a while. Returns it with the name
    /// of its service.
    pub(super) fn load(&self) -> Result<(String, Handler), Failure> {
        let source = text::path(self.component.as_ref());
        let _progress = Progress::show(format!("preparing {source}"));
        let component = builtin::load_argument(&self.component)?;
        let dispatch = self
            .dispatch
            .unwrap_or_else(|| component.contract().default_dispatch());
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name::of_component(&self.component),
        };
        let cache = self.cache.as_deref().map(CompileCache::in_directory);
        let mut grants = self.grants.checked()?;
        grants.send = resolve(&self.allow_send, "--allow-send")?;
        grants.args.clone_from(&self.args);
        let handler_options = HandlerOptions {
            dispatch,
            limits: self.limits.limits(),
            grants,
            cache: cache.transpose()?,
            allow_precompiled: self.allow_precompiled,
        };
        let handler = Handler::new(&source, &component, handler_options);
        let handler = handler.map_err(|error| match error {
            HandlerError::Incompatible(_) => Failure::usage(error),
            error => Failure::from(error),
        })?;
        Ok((name, handler))
    }
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
    let watching = Watch::new(&options.handler.component, loaded, service.handle());
    print_ready(&service).context("cannot print the ready line")?;
    notify::ready();
    let remote = service.handle();
    let draining = async {
        ends.next().await;
        tracing::info!(service = remote.name(), "draining");
        notify::stopping();
        remote.drain();
        ends.next().await;
        remote.status().open
    };
    let changing = async {
        if options.control.watch {
            watching.swap_at_change().await
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        ended = service.ended() => ended.context("the service ended")?,
        // Open connections are not closed in order any more.
        connections = draining => {
            if options.state_file.is_some() {
                // What the instance knows is kept all the same.
                service.abort();
                let _ = tokio::time::timeout(CUT_OFF, service.ended()).await;
            }
            return Ok(status_after_cut_off(connections));
        }
        failed = controlling => {
            let Err(error) = failed.context("cannot watch the control socket");
            return Err(error.into());
        }
        failed = changing => {
            let Err(error) = failed.context("cannot watch the component's file");
            return Err(error.into());
        }
        never = watching.swap_at_hang_up(&mut hang_ups) => match never {},
        never = notify::report(&remote) => match never {},
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

/// How long a service that is cut off may take to keep what its instance knows.
const CUT_OFF: Duration = Duration::from_secs(10);

/// Returns the exit status after a second signal. It is a failure if connections
/// were still open.
fn status_after_cut_off(connections: u64) -> ExitCode {
    if connections == 0 {
        return ExitCode::SUCCESS;
    }
    tracing::warn!(connections, "a second signal, ending with connections open");
    ExitCode::FAILURE
}

/// Prints one ready line per listener, for people and for scripts that wait for it.
fn print_ready(service: &Service) -> std::io::Result<()> {
    let mut stdout = output::stdout();
    for address in service.local_addresses() {
        writeln!(
            stdout,
            "listening {address} service={} contract={} dispatch={}",
            service.name(),
            service.contract(),
            service.dispatch(),
        )?;
    }
    stdout.flush()
}
