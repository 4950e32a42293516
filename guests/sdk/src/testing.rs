//! For the tests of a handler: builds its component, and serves it on this machine.

use std::env;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `sockserve serve` with the component of the crate that is tested, until it is dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Builds the component and serves it on a free port of 127.0.0.1, over `tcp` or `udp`.
    /// The variable `SOCKSERVE` names the program, by default `sockserve` in `PATH`.
    ///
    /// An error if the component does not build, or if the program does not start or does
    /// not listen; what it said is on standard error. Only a test that cargo runs can call
    /// this, because cargo says where the crate is.
    pub fn start(transport: &str) -> io::Result<Self> {
        let component = build()?;
        let program = env::var_os("SOCKSERVE").unwrap_or("sockserve".into());
        let mut process = Command::new(program)
            .arg("serve")
            .arg(component)
            .args(["--listen", &format!("{transport}://127.0.0.1:0")])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take();
        let mut server = Self {
            process,
            address: String::new(),
        };
        // listening tcp://127.0.0.1:PORT service=…
        let mut ready = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        let url = ready
            .split(' ')
            .nth(1)
            .and_then(|url| url.split_once("://"));
        let (_, address) = url.ok_or_else(|| io::Error::other("it does not listen"))?;
        address.clone_into(&mut server.address);
        Ok(server)
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Builds the component. Returns where it is.
fn build() -> io::Result<PathBuf> {
    let told = |name: &str| {
        env::var(name).map_err(|_| io::Error::other(format!("{name} is not set; use cargo test")))
    };
    let folder = told("CARGO_MANIFEST_DIR")?;
    let folder = Path::new(&folder);
    let target = env::var_os("CARGO_TARGET_DIR").map_or(folder.join("target"), PathBuf::from);
    let name = told("CARGO_PKG_NAME")?.replace('-', "_");
    let built = Command::new(told("CARGO")?)
        .args(["build", "--release", "--target", "wasm32-wasip2"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(folder)
        .status()?;
    if built.success() {
        Ok(target.join(format!("wasm32-wasip2/release/{name}.wasm")))
    } else {
        Err(io::Error::other("the component does not build"))
    }
}
