//! `sockserve serve`: one component behind one or more listeners.

mod identity;
mod ineffective;
mod name;
mod options;

use super::dev::{Begun, Builds, Project};
use super::progress::Progress;
use super::signals::{Caught, Ends, HangUps};
use super::watch::{Stamp, Watch};
use super::{Failure, notify, output};
use crate::aside::aside;
use crate::component::builtin;
use crate::control::server::ControlServer;
use crate::listen::opening::{Opened, open};
use crate::log_queue;
use crate::text;
use crate::{
    AddressError, CompileCache, Handler, HandlerError, HandlerOptions, ListenError, Service,
    ServiceOptions, StartError,
};
use anyhow::Context as _;
use identity::Identity;
use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub(super) use identity::IdentityOptions;
pub(super) use ineffective::check_for_datagrams;
pub(super) use name::parse as parse_name;
pub(super) use options::{GrantOptions, HandlerArgs, Options, ServiceArgs, parse_memory, resolve};

/// Serves until the process is told to end. Runs on the main thread, which only
/// waits: slow work is on other threads, so that a signal is handled at any time.
pub(super) fn run(options: Box<Options>, caught: Caught) -> Result<ExitCode, Failure> {
    run_project(options, None, caught)
}

/// The same for a component that `project` builds, first and after each edit.
pub(super) fn run_project(
    options: Box<Options>,
    project: Option<Project>,
    caught: Caught,
) -> Result<ExitCode, Failure> {
    let Caught {
        runtime,
        mut ends,
        hang_ups,
    } = caught;
    let options = Arc::from(options);
    let result = runtime.block_on(async {
        let builds = project.as_ref().map(Project::builds);
        let starting = async {
            match project {
                Some(project) => {
                    let (started, begun) = project.start(async || start(&options).await).await?;
                    Ok((started, Some(begun)))
                }
                None => Ok((start(&options).await?, None)),
            }
        };
        let started = tokio::select! {
            biased;
            () = ends.next() => None,
            started = starting => Some(started),
        };
        let result = match started {
            Some(Ok((started, begun))) => {
                let building = begun.zip(builds.clone());
                serve(&options, building, started, ends, hang_ups).await
            }
            Some(Err(failure)) => Err(failure),
            None => {
                tracing::info!("ended by a signal before it served");
                Ok(ExitCode::SUCCESS)
            }
        };
        if let Some(builds) = builds {
            builds.end().await;
        }
        result
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
    ineffective::check_listening(options)?;
    let control = |owner| match &options.service.control.control {
        Some(path) => ControlServer::bind_for(path, owner).map(Some),
        None => Ok(None),
    };
    let opened = match options.identity.identity()? {
        Some(identity) => {
            let control = control(Some(identity.owner()))?;
            let opened = open_and_become(options, identity, control.as_ref()).await?;
            Some((control, opened))
        }
        None => None,
    };
    let for_loading = Arc::clone(options);
    let loading = aside("load", move || load(&for_loading)).await;
    let (service_options, handler, loaded) = loading.context("cannot start")??;
    let (control, listeners) = match opened {
        Some((control, listeners)) => (control, Some(listeners)),
        None => (control(None)?, None),
    };
    let starting = aside("start", move || match listeners {
        Some(listeners) => Service::start_opened(&service_options, handler, listeners),
        None => Service::start(service_options, handler),
    });
    let service = starting.await.context("cannot start")?;
    let service = service.map_err(|error| match error {
        StartError::Transport { .. } | StartError::NoState { .. } => Failure::usage(error),
        StartError::Listen(error) => listen_failure(error),
        error => error.into(),
    })?;
    Ok(Started {
        service,
        control,
        loaded,
    })
}

/// Opens the addresses, and becomes the user. Peers wait with the kernel until the component
/// is ready.
async fn open_and_become(
    options: &Arc<Options>,
    identity: Identity,
    control: Option<&ControlServer>,
) -> Result<Vec<Opened>, Failure> {
    let mut listening = options.service.listening.options();
    listening.unix_owner = Some(identity.owner());
    let backlog = options.service.handler.limits.limits().backlog;
    let options = Arc::clone(options);
    let opening = aside("open", move || open(&options.listen, backlog, listening)).await;
    let opened = opening.context("cannot start")?.map_err(listen_failure)?;
    // Whoever rotates the log has it opened again, by the user.
    if let Err(error) = log_queue::give_file_to(identity.owner()) {
        tracing::warn!(%error, "the log's file stays its owner's");
    }
    identity.assume()?;
    let listeners = opened.iter().filter_map(|opened| opened.file.as_ref());
    identity.warn_of_files_that_stay(listeners.chain(control.map(ControlServer::file)));
    Ok(opened)
}

/// The exit status of an address that cannot be listened on.
fn listen_failure(error: ListenError) -> Failure {
    match error {
        ListenError::Address(AddressError::Twice(..)) => Failure::usage(error),
        error => error.into(),
    }
}

/// Reads and compiles the component, which may take a while.
fn load(options: &Options) -> Result<(ServiceOptions, Handler, Option<Stamp>), Failure> {
    if options.watch {
        ineffective::check_watch(options.component.as_ref())?;
    }
    let loaded = Stamp::of(options.component.as_ref());
    let service = &options.service;
    let (name, handler) = service.handler.load(&options.component)?;
    if service.listening.allow_loops {
        check_for_datagrams(handler.contract(), "--allow-loops")?;
    }
    let service_options = ServiceOptions {
        name,
        listen: options.listen.clone(),
        listening: service.listening.options(),
        rollback: service.control.rollback(),
        allow_loops: service.listening.allow_loops,
        state_file: service.state_file.clone(),
    };
    Ok((service_options, handler, loaded))
}

impl HandlerArgs {
    /// Reads and compiles the component, which may take a while. Returns it with the name
    /// of its service.
    pub(super) fn load(&self, argument: &OsStr) -> Result<(String, Handler), Failure> {
        let source = text::path(argument.as_ref());
        let _progress = Progress::show(format!("preparing {source}"));
        let component = builtin::load_argument(argument)?;
        let dispatch = self
            .dispatch
            .unwrap_or_else(|| component.contract().default_dispatch());
        ineffective::check_handler(self, component.contract(), dispatch)?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name::of_component(argument),
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
    building: Option<(Begun, Arc<Builds>)>,
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
    let (begun, builds) = building.unzip();
    print_ready(&service).context("cannot print the ready line")?;
    notify::ready();
    let remote = service.handle();
    let draining = async {
        ends.next().await;
        tracing::info!(service = remote.name(), "draining");
        notify::stopping();
        remote.drain();
        if let Some(builds) = &builds {
            builds.stop();
        }
        ends.next().await;
        remote.status().open
    };
    let changing = async {
        match begun {
            Some(begun) => begun.swap_at_edit(&watching).await,
            None if options.watch => watching.swap_at_change().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = service.ended() => ended.context("the service ended")?,
        // Open connections are not closed in order any more.
        connections = draining => {
            if options.service.state_file.is_some() {
                // What the instance knows is kept all the same.
                service.abort();
                if let Ok(ended) = tokio::time::timeout(CUT_OFF, service.ended()).await {
                    ended.context("the service ended")?;
                }
            }
            return Ok(status_after_cut_off(connections));
        }
        failed = controlling => {
            let Err(error) = failed.context("cannot watch the control socket");
            return Err(error.into());
        }
        failed = changing => {
            let Err(error) = failed.context("cannot watch the files");
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
        // In one write: the log may be on the same terminal.
        let line = format!(
            "listening {address} service={} contract={} dispatch={}\n",
            service.name(),
            service.contract(),
            service.dispatch(),
        );
        stdout.write_all(line.as_bytes())?;
    }
    stdout.flush()
}
