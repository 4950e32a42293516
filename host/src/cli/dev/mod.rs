//! `sockserve dev`: `serve` with a build before it, and a build and a swap after each edit.
//!
//! | file | |
//! | --- | --- |
//! | `file` | what a project's file says |
//! | `project` | the loop: an edit, a build, a swap |
//! | `build` | the build's process, and its end |
//! | `edits` | which files have changed, and when that starts a build |
//! | `tree` | the files of a project at one moment |

mod build;
mod edits;
pub(super) mod file;
mod project;
mod tree;

pub(super) use build::Builds;
pub(super) use project::{Begun, Project};

use super::Failure;
use super::serve::{self, Plan, ProcessOptions, ServiceArgs, ServiceKeys};
use super::signals::Caught;
use crate::ListenAddress;
use crate::component::builtin;
use crate::text;
use anyhow::anyhow;
use clap::Args;
use file::ProjectFile;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Args)]
pub(super) struct Options {
    /// The component file that the build makes
    component: Option<OsString>,
    /// The command that builds it, for `sh -c`. Its output goes to standard error
    #[arg(long, value_name = "COMMAND")]
    build: Option<String>,
    /// Where to listen, as for `serve`. May be repeated
    #[arg(long, value_name = "URL")]
    listen: Vec<ListenAddress>,
    #[command(flatten)]
    process: ProcessOptions,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(options: Options, caught: Caught) -> Result<ExitCode, Failure> {
    let file = ProjectFile::read()?;
    let is_project = file.is_some();
    let file = file.unwrap_or_default();
    let component = options.component.or(file.component.map(OsString::from));
    let build = options.build.or(file.build);
    let listen = if options.listen.is_empty() {
        file.listen.into_iter().collect()
    } else {
        options.listen
    };
    let (Some(component), Some(build), false) = (&component, &build, listen.is_empty()) else {
        let all = [
            (component.is_none(), "COMPONENT"),
            (build.is_none(), "--build COMMAND"),
            (listen.is_empty(), "--listen URL"),
        ];
        let missing = all.iter().filter(|(missing, _)| *missing);
        let missing: Vec<_> = missing.map(|(_, what)| *what).collect();
        let (missing, path) = (missing.join(", "), file::PATH);
        return Err(Failure::usage(if is_project {
            anyhow!("{path} does not say all: add what is missing there, or give {missing}")
        } else {
            anyhow!(
                "there is no {path} here: go to a folder that `sockserve new` has made, or give \
                 {missing}"
            )
        }));
    };
    if builtin::is_builtin(component) {
        let shown = text::path(Path::new(component));
        return Err(Failure::usage(anyhow!(
            "{shown} is embedded and never changes; name the file that the build makes, or use \
             `sockserve serve`"
        )));
    }
    let project = Project::new(build.as_str(), component);
    let keys = ServiceKeys {
        listen,
        component: component.clone(),
        watch: false,
        service: options.service,
    };
    let plan = Plan::One(Arc::new(keys));
    serve::run_project(plan, None, options.process, None, Some(project), caught)
}
