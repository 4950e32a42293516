//! The component under `sockserve serve`, over loopback.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn each_datagram_is_answered_in_upper_case() {
    let server = Server::start("udp");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    client.connect(&server.address).unwrap();
    client.send(b"hello").unwrap();
    let mut answer = [0; 100];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"HELLO");
}

/// `sockserve serve` with the component of this crate, until it is dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Builds the component and serves it on a free port. `SOCKSERVE` names the program, if
    /// it is not in PATH.
    fn start(transport: &str) -> Server {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = env::var_os("CARGO_TARGET_DIR").map_or(folder.join("target"), PathBuf::from);
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--release",
                "--target",
                "wasm32-wasip2",
                "--target-dir",
            ])
            .arg(&target)
            .current_dir(folder)
            .status()
            .unwrap();
        assert!(built.success());
        let name = env!("CARGO_PKG_NAME").replace('-', "_");
        let program = env::var_os("SOCKSERVE").unwrap_or("sockserve".into());
        let mut process = Command::new(program)
            .arg("serve")
            .arg(target.join(format!("wasm32-wasip2/release/{name}.wasm")))
            .args(["--listen", &format!("{transport}://127.0.0.1:0")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // listening tcp://127.0.0.1:PORT service=…
        let mut ready = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        let url = ready.split(' ').nth(1).expect("no ready line");
        let address = url.split("://").nth(1).unwrap().to_owned();
        Server { process, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
