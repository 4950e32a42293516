//! `sockserve serve`: one component behind one or more listeners, or the services of a
//! file.
//!
//! | file | |
//! | --- | --- |
//! | `options` | the options of `serve`, which are the keys of a configuration file |
//! | `name` | the names of services |
//! | `start` | from options to services that serve, all or none |
//! | `changes` | what a reload makes beside what serves |
//! | `fleet` | the services of the process, which a reload changes |
//! | `running` | services that serve, until all have ended |

mod admission;
mod changes;
mod fleet;
mod identity;
mod ineffective;
mod moves;
mod name;
mod options;
mod running;
mod start;

use super::Failure;
use super::config::Configuration;
use super::dev::Project;
use super::signals::Caught;
use identity::Identity;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) use identity::IdentityOptions;
pub(super) use ineffective::check_for_datagrams;
pub(super) use name::{NAME_CHARACTERS, parse as parse_name};
pub(super) use options::{
    ChangedLimits, GrantOptions, HandlerArgs, NotKnown, Options, ProcessOptions, ServiceArgs,
    ServiceKeys, parse_memory, resolve,
};
pub(super) use start::{Loaded, load, start_failure};

/// What is to be served.
pub(super) enum Plan {
    /// The service that the command line describes.
    One(Arc<ServiceKeys>),
    /// The services that a file describes.
    File(Configuration),
}

impl Plan {
    /// The options of each service.
    fn services(&self) -> Vec<Arc<ServiceKeys>> {
        match self {
            Self::One(keys) => vec![Arc::clone(keys)],
            Self::File(configuration) => {
                let services = configuration.services.iter();
                services.map(|service| Arc::clone(&service.keys)).collect()
            }
        }
    }
}

/// Serves until the process is told to end. `configuration` is what the file says that the
/// options name. Runs on the main thread, which only waits: slow work is on other threads,
/// so that a signal is handled at any time.
pub(super) fn run(
    options: Options,
    configuration: Option<Configuration>,
    caught: Caught,
) -> Result<ExitCode, Failure> {
    let plan = match (configuration, options.service.0) {
        (Some(configuration), _) => Plan::File(configuration),
        (None, Some(keys)) => Plan::One(Arc::new(keys)),
        // The options ask for one of them.
        (None, None) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "name a component, or a file with --config"
            )));
        }
    };
    let identity = options.identity.identity()?;
    run_project(
        plan,
        options.config,
        options.process,
        identity,
        None,
        caught,
    )
}

/// The same for a component that `project` builds, first and after each edit.
pub(super) fn run_project(
    plan: Plan,
    path: Option<PathBuf>,
    process: ProcessOptions,
    identity: Option<Identity>,
    project: Option<Project>,
    caught: Caught,
) -> Result<ExitCode, Failure> {
    let Caught {
        runtime,
        mut ends,
        hang_ups,
    } = caught;
    let result = runtime.block_on(async {
        let builds = project.as_ref().map(Project::builds);
        let starting = async {
            match project {
                Some(project) => {
                    let start = async || start::start(&plan, &process, identity.as_ref()).await;
                    let (started, begun) = project.start(start).await?;
                    Ok((started, Some(begun)))
                }
                None => Ok((
                    start::start(&plan, &process, identity.as_ref()).await?,
                    None,
                )),
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
                running::serve(plan, path.as_deref(), building, started, ends, hang_ups).await
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
