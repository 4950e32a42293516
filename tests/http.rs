//! H1: the HTTP server, beside CPython's own, `curl`, `wrk`, Chromium, and a client that
//! says what no client should.

mod answer;
mod clients;
mod files;
mod wrong;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::harness::scratch::Scratch;
use crate::harness::{Guest, Serve, Server};

/// What must never be sent. It lies beside the directory.
const SECRET: &str = "the secret beside the directory";

/// A directory to serve, with something of each kind.
struct Site {
    scratch: Scratch,
}

impl Site {
    fn new() -> Site {
        let scratch = Scratch::new();
        let site = Site { scratch };
        fs::write(site.scratch.path("secret.txt"), SECRET).unwrap();
        fs::create_dir(site.scratch.path("outside")).unwrap();
        fs::write(site.scratch.path("outside/secret.txt"), SECRET).unwrap();
        for directory in ["", "empty", "home", "some files", "some files/deeper"] {
            fs::create_dir(site.path(directory)).unwrap();
        }
        for (name, text) in [
            ("a.txt", "some text\n"),
            ("nothing.bin", ""),
            (
                "page.html",
                "<!DOCTYPE html><title>page</title><p>hello from a page",
            ),
            ("data.json", "{}"),
            ("UPPER.PNG", "no png"),
            ("home/index.html", "<p>home"),
            ("some files/<b>&\"'.txt", "marked up"),
            ("some files/ü %41#?.txt", "odd"),
            ("some files/.hidden", "hidden"),
            ("some files/deeper/b", "deep"),
        ] {
            fs::write(site.path(name), text).unwrap();
        }
        symlink("a.txt", site.path("inside")).unwrap();
        symlink("some files", site.path("inside-directory")).unwrap();
        symlink("../secret.txt", site.path("out")).unwrap();
        symlink("../outside", site.path("out-directory")).unwrap();
        symlink("/etc", site.path("out-absolute")).unwrap();
        site
    }

    /// A path in the directory.
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path("site").join(name)
    }

    /// The option that grants it.
    fn grant(&self) -> String {
        format!("{}::/", self.path("").display())
    }

    fn serve(&self, guest: Guest, dispatch: &str) -> Server {
        Serve::guest(guest, dispatch)
            .compiled_once()
            .args(["--dir", &self.grant(), "--max-connections", "100"])
            .start()
    }
}
