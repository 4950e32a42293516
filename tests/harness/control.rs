//! A server with a control socket, and the commands for it.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::Value;

use super::command::{Outcome, sockserve};
use super::scratch::Scratch;
use super::{Guest, Serve, Server};

pub(crate) struct Controlled {
    pub(crate) server: Server,
    pub(crate) scratch: Scratch,
}

impl Controlled {
    /// A guest under a dispatch, with a control socket.
    #[track_caller]
    pub(crate) fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Controlled {
        let scratch = Scratch::new();
        let server = Serve::guest(guest, dispatch)
            .args(["--control".as_ref(), scratch.path("control").as_os_str()])
            .args(options)
            .start();
        Controlled { server, scratch }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.path("control")
    }

    /// Runs a command for it.
    #[track_caller]
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        let mut all: Vec<_> = args
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        all.extend(["--control".into(), self.socket().into_os_string()]);
        sockserve(all)
    }

    /// Swaps, which works, and says the version's number.
    #[track_caller]
    pub(crate) fn swap(&self, component: impl AsRef<OsStr>, options: &[&str]) -> u64 {
        let mut args = vec!["swap".into(), self.name().into(), component.as_ref().into()];
        args.extend(options.iter().map(|option| OsStr::new(option).to_owned()));
        args.push("--json".into());
        let outcome = self.command::<std::ffi::OsString>(args);
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        let swapped: Value = serde_json::from_str(&outcome.stdout[0]).unwrap();
        assert_eq!(swapped["changed"], true);
        swapped["version"].as_u64().unwrap()
    }

    /// Tries to swap, which does not work, and says why.
    #[track_caller]
    pub(crate) fn swap_refused(&self, component: impl AsRef<OsStr>, options: &[&str]) -> String {
        let mut args = vec![OsStr::new("swap").to_owned(), self.name().into()];
        args.push(component.as_ref().into());
        args.extend(options.iter().map(|option| OsStr::new(option).to_owned()));
        refusal(&self.command(args))
    }

    /// The service's status.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let outcome = self.command(["status", "--json"]);
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        let status: Value = serde_json::from_str(&outcome.stdout[0]).unwrap();
        status["services"][0].clone()
    }

    /// The name in the ready line.
    pub(crate) fn name(&self) -> String {
        let ready = &self.server.ready[0];
        let (_, rest) = ready.split_once("service=").unwrap();
        rest.split(' ').next().unwrap().to_owned()
    }
}

/// The one line of a command that was refused with status 1.
#[track_caller]
pub(crate) fn refusal(outcome: &Outcome) -> String {
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stdout.is_empty(), "{outcome:?}");
    assert_eq!(outcome.stderr.len(), 1, "{outcome:?}");
    outcome.stderr[0].clone()
}
