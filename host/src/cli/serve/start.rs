//! From options to services that serve: all of them or none.

use super::identity::Identity;
use super::{
    HandlerArgs, Plan, ProcessOptions, ServiceKeys, check_for_datagrams, ineffective, name, resolve,
};
use crate::aside::aside;
use crate::cli::Failure;
use crate::cli::config::{Fault, Mistake, Mistakes};
use crate::cli::progress::Progress;
use crate::cli::watch::Stamp;
use crate::component::builtin;
use crate::control::observer::Observer;
use crate::control::server::ControlServer;
use crate::listen::opening::{Opened, open};
use crate::log_queue;
use crate::service::Standby;
use crate::text;
use crate::{
    AddressError, CompileCache, GlobalLimits, Handler, HandlerError, HandlerOptions, ListenError,
    Service, ServiceOptions, StartError,
};
use anyhow::Context as _;
use std::ffi::OsStr;
use std::sync::Arc;

/// The running services, and what controls them.
pub(super) struct Started {
    pub(super) services: Vec<One>,
    pub(super) control: Option<ControlServer>,
    pub(super) observer: Option<Observer>,
    /// What the services share.
    pub(super) limits: Option<Arc<GlobalLimits>>,
}

/// One of them.
pub(super) struct One {
    pub(super) service: Service,
    pub(super) keys: Arc<ServiceKeys>,
    /// The state of the component's file before it was read.
    pub(super) loaded: Option<Stamp>,
}

/// A service whose component is read, compiled and checked.
pub(in crate::cli) struct Loaded {
    pub(in crate::cli) options: ServiceOptions,
    pub(in crate::cli) handler: Handler,
    /// The state of the component's file before it was read.
    stamp: Option<Stamp>,
}

/// A service that can begin.
pub(super) struct Prepared {
    pub(super) standby: Standby,
    pub(super) keys: Arc<ServiceKeys>,
    pub(super) loaded: Option<Stamp>,
}

pub(super) async fn start(
    plan: &Plan,
    process: &ProcessOptions,
    identity: Option<&Identity>,
) -> Result<Started, Failure> {
    let services = plan.services();
    if let Plan::One(keys) = plan {
        // A file may have what only some of its services can use, in its defaults.
        ineffective::check_listening(keys)?;
        if keys.watch {
            ineffective::check_watch(keys.component.as_ref())?;
        }
    }
    let bind_control = |owner| match &process.control {
        Some(path) => ControlServer::bind_for(path, owner).map(Some),
        None => Ok(None),
    };
    let observer =
        match process.metrics {
            Some(address) => {
                let bound = Observer::bind(address);
                let advice = "choose a free address of this machine";
                Some(bound.with_context(|| {
                    format!("cannot listen on --metrics tcp://{address}; {advice}")
                })?)
            }
            None => None,
        };
    let mut control = None;
    let mut opened: Vec<_> = services.iter().map(|_| Vec::new()).collect();
    if let Some(identity) = identity {
        control = bind_control(Some(identity.owner()))?;
        opened = open_and_become(plan, identity, control.as_ref()).await?;
    }
    let limits = process.limits();
    let shared = limits.clone();
    let preparing = aside("start", move || {
        let prepared = services.into_iter().zip(opened);
        let prepared = prepared.map(|(keys, opened)| prepare(keys, &opened, shared.as_ref()));
        prepared.collect::<Vec<_>>()
    });
    let prepared = all_of(plan, preparing.await.context("cannot start")?)?;
    if let (Plan::One(keys), [prepared]) = (plan, &prepared[..]) {
        ineffective::check_connections(keys, prepared.standby.contract())?;
    }
    if identity.is_none() {
        control = bind_control(None)?;
    }
    let services = prepared.into_iter().map(|prepared| One {
        service: prepared.standby.begin(),
        keys: prepared.keys,
        loaded: prepared.loaded,
    });
    let services = services.collect();
    Ok(Started {
        services,
        control,
        observer,
        limits,
    })
}

/// Opens the addresses of all services, and becomes the user. Peers wait with the kernel until
/// the components are ready.
async fn open_and_become(
    plan: &Plan,
    identity: &Identity,
    control: Option<&ControlServer>,
) -> Result<Vec<Vec<Opened>>, Failure> {
    let (services, owner) = (plan.services(), identity.owner());
    let opening = aside("open", move || {
        let opened = services.iter().map(|keys| {
            let mut listening = keys.service.listening.options();
            listening.unix_owner = Some(owner);
            let backlog = keys.service.handler.limits.limits().backlog;
            open(&keys.listen, backlog, listening, &[]).map_err(listen_failure)
        });
        opened.collect::<Vec<_>>()
    });
    let opened = all_of(plan, opening.await.context("cannot start")?)?;
    // Whoever rotates the log has it opened again, by the user.
    if let Err(error) = log_queue::give_file_to(owner) {
        tracing::warn!(%error, "the log's file stays its owner's");
    }
    identity.assume()?;
    let files = opened.iter().flatten();
    let files = files.filter_map(|opened| opened.file.as_deref());
    identity.warn_of_files_that_stay(files.chain(control.map(ControlServer::file)));
    Ok(opened)
}

/// Returns what came of each service, or says of each that failed why it did.
fn all_of<T>(plan: &Plan, all: Vec<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let Plan::File(configuration) = plan else {
        return all.into_iter().collect();
    };
    let (mut prepared, mut mistakes) = (Vec::new(), Vec::new());
    for (result, service) in all.into_iter().zip(&configuration.services) {
        match result {
            Ok(one) => prepared.push(one),
            Err(failure) => mistakes.push(service.mistake(&failure)),
        }
    }
    match Mistakes::new(&configuration.source, mistakes) {
        Some(mistakes) => Err(Failure::Mistakes(mistakes)),
        None => Ok(prepared),
    }
}

/// Compiles, binds and tries a service. Sockets of `present` are open already. Takes a while.
pub(super) fn prepare(
    keys: Arc<ServiceKeys>,
    present: &[Opened],
    limits: Option<&Arc<GlobalLimits>>,
) -> Result<Prepared, Failure> {
    let Loaded {
        mut options,
        handler,
        stamp: loaded,
    } = load(&keys)?;
    options.global = limits.cloned();
    let standby = Service::prepare(&options, handler, present);
    Ok(Prepared {
        standby: standby.map_err(start_failure)?,
        keys,
        loaded,
    })
}

/// The exit status of an address that cannot be listened on.
fn listen_failure(error: ListenError) -> Failure {
    match error {
        ListenError::Address(AddressError::Twice(..)) => Failure::usage(error),
        error => error.into(),
    }
}

/// Whose fault it is that a service does not start.
pub(in crate::cli) fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Transport { .. }
        | StartError::NoState { .. }
        | StartError::Admission(_)
        | StartError::Handler(HandlerError::Dependent { .. }) => Failure::usage(error),
        StartError::Listen(error) => listen_failure(error),
        error => error.into(),
    }
}

/// Reads and compiles the component, which may take a while.
pub(in crate::cli) fn load(keys: &ServiceKeys) -> Result<Loaded, Failure> {
    let stamp = Stamp::of(keys.component.as_ref());
    let service = &keys.service;
    // Before the component is compiled, which takes longer.
    let admission = service.admission.policy()?;
    let (name, handler) = service.handler.load(&keys.component)?;
    if service.listening.allow_loops {
        check_for_datagrams(handler.contract(), "--allow-loops")?;
    }
    let options = ServiceOptions {
        name,
        listen: keys.listen.clone(),
        listening: service.listening.options(),
        rollback: service.rollback.policy(),
        allow_loops: service.listening.allow_loops,
        state_file: service.state_file.clone(),
        access_log: service.access_log,
        admission,
        global: None,
        exit_after: service.end.exit_after(),
        exit_idle: service.end.exit_idle,
    };
    Ok(Loaded {
        options,
        handler,
        stamp,
    })
}

impl HandlerArgs {
    /// Reads and compiles the component, which may take a while. Returns it with the name
    /// of its service.
    pub(in crate::cli) fn load(&self, argument: &OsStr) -> Result<(String, Handler), Failure> {
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

impl crate::cli::config::Described {
    /// A failure of this service as a mistake of its file.
    pub(in crate::cli) fn mistake(&self, failure: &Failure) -> Mistake {
        let fault = match failure {
            Failure::Usage(_) => Fault::File,
            Failure::Failed(_) | Failure::Mistakes(_) => Fault::System,
        };
        Mistake {
            at: Some(self.at),
            text: format!("the service {}: {failure}", self.name),
            fault,
        }
    }
}
