//! Chromium without a window, by its debugging protocol over two pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::scratch::Scratch;
use super::tools::find;

/// How long anything may take. A browser starts slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page. Dropping it kills it.
pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    next: u64,
    session: String,
    /// What the page has done wrong: exceptions, and what its policy did not let through.
    pub(crate) wrong: Vec<Value>,
    _profile: Scratch,
}

impl Browser {
    /// Loads a page. `None` if there is no Chromium, which is then said.
    #[track_caller]
    pub(crate) fn open(url: &str) -> Option<Browser> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let program = find(&names, "apt-get install chromium")?;
        let profile = Scratch::new();
        // The protocol is on the descriptors 3 and 4.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#])
            .arg(program)
            .args(["--headless", "--remote-debugging-pipe", "--disable-gpu"])
            .args(["--no-first-run", "--disable-dev-shm-usage"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!(
                "--user-data-dir={}",
                profile.path("profile").display()
            ))
            .env("HOME", profile.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            // Its sandbox does not work for root.
            command.arg("--no-sandbox");
        }
        let mut child = command.arg("about:blank").spawn().unwrap();
        let (sender, messages) = channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output
                .read_until(0, &mut message)
                .is_ok_and(|count| count > 0)
            {
                message.pop();
                let parsed = serde_json::from_slice(&message);
                if parsed.is_ok_and(|parsed| sender.send(parsed).is_err()) {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            commands: child.stdin.take().unwrap(),
            child,
            messages,
            next: 0,
            session: String::new(),
            wrong: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", target);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            browser.call(domain, json!({}));
        }
        browser.call("Page.navigate", json!({"url": url}));
        Some(browser)
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut command = json!({"id": self.next, "method": method, "params": parameters});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.clone().into();
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.next {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(message);
        }
    }

    fn note(&mut self, message: Value) {
        let is_wrong = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            // A server that does not answer is an entry of another source.
            Some("Log.entryAdded") => message["params"]["entry"]["source"] == "security",
            _ => false,
        };
        if is_wrong {
            self.wrong.push(message);
        }
    }

    /// Evaluates an expression in the page. A promise is waited for.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// The text of the element, or nothing.
    #[track_caller]
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let selector = Value::from(selector);
        let found = self.evaluate(&format!("document.querySelector({selector})?.textContent"));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of an element is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, selector: &str, mut wanted: impl FnMut(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text(selector);
            if wanted(&text) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited too long for {selector}, which is {text:?}: {:?}",
                self.wrong
            );
            std::thread::yield_now();
        }
    }
}

impl Browser {
    /// Waits until the page has done something wrong, which has this text.
    #[track_caller]
    pub(crate) fn wait_for_wrong(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.wrong.iter().any(|it| it.to_string().contains(text)) {
            assert!(Instant::now() < deadline, "{text}: {:?}", self.wrong);
            // Messages come between answers.
            self.evaluate("0");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
