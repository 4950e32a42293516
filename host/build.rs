//! Builds the guests and makes them available to the crate.
//!
//! The guests are a cargo workspace of their own. They are compiled for
//! wasm32-wasip2 into a target directory of their own, so that neither build waits
//! for the other's lock. If rustup does not have the target yet, it is added.
//!
//! The results, in `OUT_DIR`:
//!
//! - `builtins.rs`: the components that are embedded in the crate.
//! - `templates.rs`: the contracts, templates and libraries that are embedded as files.
//! - `guests.rs`: macros that name every guest, and every pair of a guest and a
//!   dispatch, for the tests.

#[path = "build/templates.rs"]
mod templates;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-wasip2";
/// The families of guests that exist only for the tests and are not embedded.
const TEST_FAMILIES: [&str; 2] = ["door", "faults"];
/// The directory of the runners, and how their names begin.
const RUNNERS: &str = "runner";

/// A contract and a dispatch under which it can run, for the tests. One of them
/// compares the table with what `inspect` prints.
struct Pair {
    contract: &'static str,
    dispatch: &'static str,
    /// Whether one instance serves all connections.
    shared: bool,
    /// Whether this is the contract's default dispatch.
    default: bool,
}

#[rustfmt::skip]
const PAIRS: [Pair; 19] = [
    Pair { contract: "blocking", dispatch: "sequential", shared: false, default: false },
    Pair { contract: "blocking", dispatch: "threaded", shared: false, default: true },
    Pair { contract: "blocking", dispatch: "poll", shared: false, default: false },
    Pair { contract: "evented", dispatch: "poll", shared: true, default: true },
    Pair { contract: "concurrent", dispatch: "sequential", shared: false, default: false },
    Pair { contract: "concurrent", dispatch: "threaded", shared: false, default: false },
    Pair { contract: "concurrent", dispatch: "poll", shared: true, default: true },
    Pair { contract: "datagram", dispatch: "sequential", shared: false, default: false },
    Pair { contract: "datagram", dispatch: "threaded", shared: false, default: false },
    Pair { contract: "datagram", dispatch: "poll", shared: true, default: true },
    Pair { contract: "datagram-concurrent", dispatch: "sequential", shared: false, default: false },
    Pair { contract: "datagram-concurrent", dispatch: "threaded", shared: false, default: false },
    Pair { contract: "datagram-concurrent", dispatch: "poll", shared: true, default: true },
    Pair { contract: "command", dispatch: "sequential", shared: false, default: false },
    Pair { contract: "command", dispatch: "threaded", shared: false, default: true },
    Pair { contract: "command", dispatch: "poll", shared: false, default: false },
    Pair { contract: "command-p3", dispatch: "sequential", shared: false, default: false },
    Pair { contract: "command-p3", dispatch: "threaded", shared: false, default: true },
    Pair { contract: "command-p3", dispatch: "poll", shared: false, default: false },
];

/// Whether a choice takes this pair.
type Choice = fn(&Pair) -> bool;

/// What a test can write after a family's name to take only some of its pairs.
const CHOICES: [(&str, Choice); 11] = [
    ("", |_| true),
    ("by default", |pair| pair.default),
    ("under sequential", |pair| pair.dispatch == "sequential"),
    ("under poll", |pair| pair.dispatch == "poll"),
    ("without sequential", |pair| pair.dispatch != "sequential"),
    ("blocking", |pair| pair.contract == "blocking"),
    ("without evented", |pair| pair.contract != "evented"),
    ("without concurrent", |pair| pair.contract != "concurrent"),
    ("shared", |pair| pair.shared),
    ("isolated", |pair| !pair.shared),
    ("isolated without sequential", |pair| {
        !pair.shared && pair.dispatch != "sequential"
    }),
];

fn main() {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    for input in ["../guests", "../wit"] {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=RUSTUP_TOOLCHAIN");
    let out = PathBuf::from(variable("OUT_DIR"));
    write_templates(&out);
    ensure_target();
    let target = target_directory(&out);
    build(&guests, &target);
    build(&guests.join(RUNNERS), &target);
    let release = target.join(TARGET).join("release");
    let is_runner = |path: &PathBuf| stem(path).starts_with(RUNNERS);
    let (runners, built): (Vec<_>, Vec<_>) = components(&guests, &release)
        .into_iter()
        .partition(is_runner);
    write(&out, &built);
    write_runners(&out, &runners);
}

/// Writes the list of what `sockserve wit` and `sockserve new` write.
fn write_templates(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let list = templates::list(root.unwrap_or(Path::new("..")));
    if let Err(error) = fs::write(out.join("templates.rs"), list) {
        fail(&format!("cannot write templates.rs: {error}"));
    }
}

/// Fails the build. The message is one line: what is wrong and what to type.
fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1);
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set; run this with cargo")))
}

/// `OUT_DIR` is `TARGET_DIR/PROFILE/build/PACKAGE/out`.
fn target_directory(out: &Path) -> PathBuf {
    match out.ancestors().nth(4) {
        Some(target) => target.join("guests"),
        None => fail("OUT_DIR is not inside a target directory; run this with cargo"),
    }
}

/// Adds the wasm target if it is missing.
fn ensure_target() {
    let installed = || {
        let libraries = Command::new(variable("RUSTC"))
            .args(["--print", "target-libdir", "--target", TARGET])
            .output();
        libraries.is_ok_and(|output| {
            let path = String::from_utf8_lossy(&output.stdout);
            output.status.success() && Path::new(path.trim()).is_dir()
        })
    };
    if installed() {
        return;
    }
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    if !added.is_ok_and(|status| status.success()) || !installed() {
        fail(&format!(
            "the target {TARGET} is missing and could not be added; type: rustup target add {TARGET}"
        ));
    }
}

/// Builds a workspace: the packages that its manifest calls `apart` by a call of cargo each,
/// and the others by one. The manifest says why.
fn build(workspace: &Path, target_directory: &Path) {
    let manifest = workspace.join("Cargo.toml");
    let Some(apart) = fs::read_to_string(&manifest)
        .ok()
        .as_deref()
        .and_then(apart)
    else {
        fail(&format!("{} has no line `apart`", manifest.display()));
    };
    let others = apart.iter().flat_map(|package| ["--exclude", package]);
    cargo_build(
        workspace,
        target_directory,
        ["--workspace"].into_iter().chain(others),
    );
    for package in &apart {
        cargo_build(workspace, target_directory, ["--package", package]);
    }
}

/// The packages of the line `apart = ["…", "…"]` of a manifest.
fn apart(manifest: &str) -> Option<Vec<String>> {
    let list = manifest
        .lines()
        .find_map(|line| line.strip_prefix("apart = [")?.strip_suffix(']'))?;
    let packages = list.split(',').map(|name| name.trim().trim_matches('"'));
    let packages = packages.filter(|name| !name.is_empty());
    Some(packages.map(str::to_owned).collect())
}

fn cargo_build<'a>(
    workspace: &Path,
    target_directory: &Path,
    packages: impl IntoIterator<Item = &'a str>,
) {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_directory)
        .args(packages)
        .current_dir(workspace);
    // Cargo sets these variables for the host's build, and not for the guests':
    // flags, wrappers (that of clippy too), and the host's compiler settings.
    for (name, _) in env::vars() {
        let meant_for_host = name == "RUSTFLAGS"
            || name == "RUSTDOCFLAGS"
            || name == "CARGO_ENCODED_RUSTFLAGS"
            || name == "CARGO_ENCODED_RUSTDOCFLAGS"
            || name == "CARGO_BUILD_TARGET"
            || name == "CLIPPY_ARGS"
            || name.starts_with("CARGO_PROFILE_")
            || name.ends_with("_WRAPPER");
        if meant_for_host {
            cargo.env_remove(name);
        }
    }
    let output = match cargo.output() {
        Ok(output) => output,
        Err(error) => fail(&format!("cannot run cargo for the guests: {error}")),
    };
    if !output.status.success() {
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            println!("cargo::error={line}");
        }
        fail("the guests do not build; try: guests/build-all");
    }
}

/// Returns the component of every crate that makes one, sorted by name. Leaves out files
/// of crates that no longer exist.
fn components(guests: &Path, release: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for family in directories(guests) {
        for member in directories(&family) {
            let (Some(family), Some(member)) = (family.file_name(), member.file_name()) else {
                continue;
            };
            let member = member.to_string_lossy().replace('-', "_");
            let name = format!("{}_{member}", family.to_string_lossy());
            let path = release.join(format!("{name}.wasm"));
            if path.exists() {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        fail("the guests' build made no component");
    }
    found.sort();
    found
}

/// A file's name without its ending.
fn stem(path: &Path) -> &str {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(of) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect()
}

/// Writes the files for the crate.
fn write(out: &Path, components: &[PathBuf]) {
    let mut builtins = "&[".to_owned();
    let mut guests = Vec::new();
    for path in components {
        let stem = stem(path);
        guests.push(stem);
        let family = stem.split('_').next().unwrap_or_default();
        if !TEST_FAMILIES.contains(&family) {
            let name = stem.replace('_', "-");
            let _ = write!(builtins, "({name:?}, include_bytes!({path:?})),");
        }
        println!("cargo::rerun-if-changed={}", path.display());
    }
    builtins.push(']');
    for (file, text) in [("builtins.rs", builtins), ("guests.rs", macros(&guests))] {
        if let Err(error) = fs::write(out.join(file), text) {
            fail(&format!("cannot write {file}: {error}"));
        }
    }
    if let Some(directory) = components.first().and_then(|path| path.parent()) {
        println!(
            "cargo::rustc-env=SOCKSERVE_GUESTS_DIR={}",
            directory.display()
        );
    }
}

/// Writes the runners into one file each, and a list of them. The debugging names of a
/// component are left out: they would be a sixth of each composed command.
fn write_runners(out: &Path, runners: &[PathBuf]) {
    let mut list = "&[".to_owned();
    for path in runners {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = stem(path).trim_start_matches("runner_").replace('_', "-");
        let small = out.join(format!("runner-{name}.wasm"));
        let written = fs::read(path).and_then(|bytes| match without_names(&bytes) {
            Some(bytes) => fs::write(&small, bytes),
            None => Err(std::io::ErrorKind::InvalidData.into()),
        });
        if let Err(error) = written {
            fail(&format!("cannot make {}: {error}", small.display()));
        }
        let _ = write!(list, "({name:?}, include_bytes!({small:?})),");
    }
    list.push(']');
    if let Err(error) = fs::write(out.join("runners.rs"), list) {
        fail(&format!("cannot write runners.rs: {error}"));
    }
}

/// A component without its custom section `component-name`. `None` if it is damaged.
fn without_names(component: &[u8]) -> Option<Vec<u8>> {
    let (header, mut rest) = component.split_at_checked(8)?;
    let mut kept = header.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        let (size, after) = number(after)?;
        let (section, next) = after.split_at_checked(size)?;
        let is_names =
            id == 0 && number(section).is_some_and(|(_, text)| text.starts_with(b"component-name"));
        if !is_names {
            let length = rest.len() - next.len();
            kept.extend_from_slice(rest.get(..length)?);
        }
        rest = next;
    }
    Some(kept)
}

/// Reads a number as WebAssembly writes it, and returns it with what follows.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (place, &byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

/// Returns the macros with which the tests list guests and pairs. A family's guests for
/// datagrams are a family of their own there, because no test drives both kinds; and so
/// are its programs, which hand nothing over.
fn macros(guests: &[&str]) -> String {
    let mut families: BTreeMap<String, Vec<(&str, &Pair)>> = BTreeMap::new();
    for guest in guests {
        let Some((family, contract)) = guest.split_once('_') else {
            continue;
        };
        let pairs = PAIRS.iter();
        let pairs = pairs.filter(|pair| pair.contract.replace('-', "_") == contract);
        let all = pairs.map(|pair| (*guest, pair));
        let family = match contract {
            "command" => format!("{family}_commands"),
            "command_p3" => format!("{family}_commands_p3"),
            _ if contract.starts_with("datagram") => format!("{family}_datagrams"),
            _ => family.to_owned(),
        };
        families.entry(family).or_default().extend(all);
    }
    let (mut rows, mut lists) = (String::new(), String::new());
    for (family, pairs) in families {
        let _ = writeln!(rows, "        {family} {{");
        for (guest, pair) in &pairs {
            let Pair {
                contract,
                dispatch,
                shared,
                default,
            } = pair;
            let contract = contract.replace('-', "_");
            let _ = writeln!(
                rows,
                "            {contract}_{dispatch}({guest}, {dispatch:?}, \
                 shared: {shared}, default: {default})"
            );
        }
        rows.push_str("        }\n");
        for (words, chosen) in CHOICES {
            let list: String = pairs
                .iter()
                .filter(|(_, pair)| chosen(pair))
                .map(|(_, pair)| format!(" {}_{}", pair.contract, pair.dispatch).replace('-', "_"))
                .collect();
            // A choice that takes no pair does not compile.
            if !list.is_empty() {
                let _ = writeln!(
                    lists,
                    "    ($callback:ident $args:tt {family} {words}) => \
                     {{ $callback! {{ $args {family}{list} }} }};"
                );
            }
        }
    }
    format!(
        "/// Gives `$callback` the name of every guest.\n\
         macro_rules! for_each_guest {{\n    \
         ($callback:ident) => {{ $callback! {{ {guests} }} }};\n\
         }}\n\
         /// Gives `$callback` every pair, by family.\n\
         macro_rules! for_each_family {{\n    \
         ($callback:ident) => {{ $callback! {{\n{rows}    }} }};\n\
         }}\n\
         /// Gives `$callback` the pairs of a family, or those that the words after it choose.\n\
         macro_rules! pairs_of {{\n{lists}}}\n",
        guests = guests.join(" "),
    )
}
