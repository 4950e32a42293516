//! From options to services that serve: all of them or none.

use super::{HandlerArgs, Plan, ProcessOptions, ServiceKeys, name, resolve};
use crate::aside::aside;
use crate::cli::Failure;
use crate::cli::config::{Fault, Mistake, Mistakes};
use crate::cli::progress::Progress;
use crate::cli::watch::Stamp;
use crate::component::builtin;
use crate::control::server::ControlServer;
use crate::service::Standby;
use crate::text;
use crate::{
    AddressError, CompileCache, Handler, HandlerError, HandlerOptions, ListenError, Service,
    ServiceOptions, StartError,
};
use anyhow::Context as _;
use std::ffi::OsStr;
use std::sync::Arc;

/// The running services, and what controls them.
pub(super) struct Started {
    pub(super) services: Vec<One>,
    pub(super) control: Option<ControlServer>,
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
struct Prepared {
    standby: Standby,
    keys: Arc<ServiceKeys>,
    loaded: Option<Stamp>,
}

pub(super) async fn start(plan: &Plan, process: &ProcessOptions) -> Result<Started, Failure> {
    let services = plan.services();
    let preparing = aside("start", move || {
        let prepared = services.into_iter().map(prepare);
        prepared.collect::<Vec<_>>()
    });
    let prepared = all_of(plan, preparing.await.context("cannot start")?)?;
    let control = match &process.control {
        Some(path) => Some(ControlServer::bind(path)?),
        None => None,
    };
    let services = prepared.into_iter().map(|prepared| One {
        service: prepared.standby.begin(),
        keys: prepared.keys,
        loaded: prepared.loaded,
    });
    let services = services.collect();
    Ok(Started { services, control })
}

/// Returns all services, or says of each that failed why it did.
fn all_of(plan: &Plan, all: Vec<Result<Prepared, Failure>>) -> Result<Vec<Prepared>, Failure> {
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

/// Compiles, binds and tries a service. Takes a while.
fn prepare(keys: Arc<ServiceKeys>) -> Result<Prepared, Failure> {
    let Loaded {
        options,
        handler,
        stamp: loaded,
    } = load(&keys)?;
    let standby = Service::prepare(&options, handler).map_err(start_failure)?;
    Ok(Prepared {
        standby,
        keys,
        loaded,
    })
}

/// Whose fault it is that a service does not start.
pub(in crate::cli) fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Transport { .. }
        | StartError::NoState { .. }
        | StartError::Admission(_)
        | StartError::Listen(ListenError::Address(AddressError::Twice(..))) => {
            Failure::usage(error)
        }
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
