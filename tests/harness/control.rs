//! A server with a control socket, and the commands for it.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::command::{Outcome, sockserve};
use super::scratch::Scratch;
use super::{Guest, PATIENCE, Serve, Server};

pub(crate) struct Controlled {
    pub(crate) server: Server,
    pub(crate) scratch: Scratch,
}

impl Controlled {
    /// A guest under a dispatch, with a control socket.
    #[track_caller]
    pub(crate) fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Controlled {
        Controlled::listening(guest, dispatch, &[], options)
    }

    /// The same, which listens on these addresses. What comes after `--` is for the
    /// component.
    #[track_caller]
    pub(crate) fn listening(
        guest: Guest,
        dispatch: &str,
        urls: &[&str],
        options: &[&str],
    ) -> Controlled {
        let scratch = Scratch::new();
        let mut parts = options.splitn(2, |option| *option == "--");
        let (options, arguments) = (parts.next(), parts.next());
        let mut serve = Serve::guest(guest, dispatch)
            .args(["--control".as_ref(), scratch.path("control").as_os_str()])
            .args(options.unwrap_or_default())
            .arguments(arguments.unwrap_or_default());
        for url in urls {
            serve = serve.listen(url);
        }
        let server = serve.start();
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

    /// The open connections.
    #[track_caller]
    pub(crate) fn connections(&self) -> Vec<Value> {
        let outcome = self.command(["connections", "--json"]).printed();
        let reply: Value = serde_json::from_str(&outcome[0]).unwrap();
        reply["connections"].as_array().unwrap().clone()
    }

    /// The service's status.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let outcome = self.command(["status", "--json"]);
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        let status: Value = serde_json::from_str(&outcome.stdout[0]).unwrap();
        status["services"][0].clone()
    }

    /// Swaps without a command, which would take longer than the swap itself.
    /// Says what it came to, or why it did not.
    pub(crate) fn try_swap(&self, component: impl AsRef<OsStr>) -> Result<Value, String> {
        self.ask(&self.swap_request(component))
    }

    fn swap_request(&self, component: impl AsRef<OsStr>) -> String {
        let component = component.as_ref().to_str().unwrap();
        let path = format!("/v1/services/{}/swap", self.name());
        request(
            "POST",
            &path,
            &json!({ "component": component }).to_string(),
        )
    }

    /// Swaps, and returns when the version with this number is current, while
    /// connections are still on their way to it.
    #[track_caller]
    pub(crate) fn swap_without_waiting(&self, component: impl AsRef<OsStr>, number: usize) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let request = self.swap_request(component);
        stream.write_all(request.as_bytes()).unwrap();
        self.wait_for_status("the new version", |status| {
            let versions = status["versions"].as_array().unwrap();
            versions.last().unwrap()["number"] == number
        });
    }

    /// The same, and it works. Returns when connections have been handed over, or
    /// had the time for it.
    #[track_caller]
    pub(crate) fn swap_at_once(&self, component: impl AsRef<OsStr>) {
        let swapped = self.try_swap(component).unwrap();
        assert_eq!(swapped["changed"], true);
        assert_eq!(swapped["old"], "hand-over");
    }

    fn ask(&self, request: &str) -> Result<Value, String> {
        let (status, body) = http(&self.socket(), request).map_err(|error| error.to_string())?;
        let body: Value = serde_json::from_str(&body).unwrap();
        if status.contains(" 200 ") {
            Ok(body)
        } else {
            Err(body["error"].as_str().unwrap().to_owned())
        }
    }

    /// Asks for the service's status until it is as wanted.
    #[track_caller]
    pub(crate) fn wait_for_status(
        &self,
        what: &str,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let ask = request("GET", &format!("/v1/services/{}", self.name()), "");
        loop {
            let status = self.ask(&ask).unwrap();
            if wanted(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "waited too long for {what}: {status:#}"
            );
            thread::yield_now();
        }
    }

    /// Waits until the current version is the only one, and has so many
    /// connections.
    #[track_caller]
    pub(crate) fn wait_for_settled(&self, connections: usize) -> Value {
        self.wait_for_status("all connections on the current version", |status| {
            let versions = status["versions"].as_array().unwrap();
            versions.len() == 1 && versions[0]["connections"] == connections
        })
    }

    /// Waits until guests have read so many bytes in all.
    #[track_caller]
    pub(crate) fn wait_for_bytes_in(&self, count: usize) {
        self.wait_for_status("all that was sent", |status| status["bytes-in"] == count);
    }

    /// The name in the ready line.
    pub(crate) fn name(&self) -> String {
        let ready = &self.server.ready[0];
        let (_, rest) = ready.split_once("service=").unwrap();
        rest.split(' ').next().unwrap().to_owned()
    }
}

/// How many connections have failed, for whatever reason.
pub(crate) fn failed(status: &Value) -> u64 {
    let reasons = status["failed"].as_object().unwrap().values();
    reasons.map(|count| count.as_u64().unwrap()).sum()
}

/// How many connections each version has, oldest first.
pub(crate) fn open(status: &Value) -> Vec<u64> {
    let versions = status["versions"].as_array().unwrap().iter();
    versions
        .map(|it| it["connections"].as_u64().unwrap())
        .collect()
}

/// The one line of a command that was refused with status 1.
#[track_caller]
pub(crate) fn refusal(outcome: &Outcome) -> String {
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stdout.is_empty(), "{outcome:?}");
    assert_eq!(outcome.stderr.len(), 1, "{outcome:?}");
    outcome.stderr[0].clone()
}

/// Sends a request as it is and returns the answer's status line and body.
pub(crate) fn http(socket: &Path, request: &str) -> io::Result<(String, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.lines().next().unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

/// A request after which the connection is closed.
pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
