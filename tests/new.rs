//! `sockserve new`: what it writes and what it refuses. That the projects build and serve
//! is tested in `sdk` for Rust, and in the target `languages` for the others.

use std::fs;
use std::path::Path;

use crate::harness::command::{Outcome, sockserve};
use crate::harness::scratch::Scratch;

fn new(folder: &Path, options: &[&str]) -> Outcome {
    let mut args = vec!["new".as_ref(), folder.as_os_str()];
    args.extend(options.iter().map(std::ffi::OsStr::new));
    sockserve(args)
}

/// All files of a folder but those of `.sockserve`.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(".sockserve") {
            assert!(fs::read_dir(&path).unwrap().count() > 0);
        } else if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(fs::read_to_string(path).unwrap());
        }
    }
    all
}

#[test]
fn every_template_is_written_under_the_projects_name() {
    let all = [
        ("rust", "blocking"),
        ("rust", "evented"),
        ("rust", "concurrent"),
        ("rust", "datagram"),
        ("rust", "datagram-concurrent"),
        ("rust", "command"),
        ("python", "blocking"),
        ("python", "evented"),
        ("python", "concurrent"),
        ("python", "datagram"),
        ("python", "command"),
        ("js", "blocking"),
        ("c", "blocking"),
        ("c", "evented"),
        ("c", "datagram"),
        ("c", "command"),
        ("go", "command"),
    ];
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut count = 0;
    for language in fs::read_dir(examples).unwrap() {
        count += fs::read_dir(language.unwrap().path()).unwrap().count();
    }
    assert_eq!(count, all.len(), "every template is in this list");
    let scratch = Scratch::new();
    for (language, contract) in all {
        let folder = scratch.path(&format!("a-{language}-{contract}"));
        let outcome = new(&folder, &["--lang", language, "--contract", contract]);
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        assert!(outcome.stderr.is_empty(), "{outcome:?}");
        assert_eq!(outcome.stdout.len(), 7, "{outcome:?}");
        let files = files(&folder);
        assert!(
            (2..=5).contains(&files.len()),
            "{language}: {}",
            files.len()
        );
        assert!(!files.iter().any(|text| text.contains("my-handler")));
        if language != "python" {
            let name = format!("a-{language}-{contract}");
            assert!(files.iter().any(|text| text.contains(&name)), "{language}");
        }
    }
}

#[test]
fn the_default_contract_is_what_the_language_has() {
    let scratch = Scratch::new();
    let folder = scratch.path("it");
    let outcome = new(&folder, &["--lang", "rust"]);
    assert_eq!(
        outcome.stdout[0],
        "it: a handler in rust, contract blocking"
    );
    let library = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
    assert!(
        library.contains("sockserve_handler::blocking!"),
        "{library}"
    );
    // Go has no other one.
    let outcome = new(&scratch.path("program"), &["--lang", "go"]);
    assert_eq!(
        outcome.stdout[0],
        "program: a handler in go, contract command"
    );
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let scratch = Scratch::new();
    let refused = |folder: &Path, options: &[&str], expected: &str| {
        let outcome = new(folder, options);
        assert_eq!(
            (outcome.status, outcome.stderr.len()),
            (Some(2), 1),
            "{outcome:?}"
        );
        assert!(outcome.stderr[0].contains(expected), "{outcome:?}");
    };
    let folder = scratch.path("there");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("mine"), "kept").unwrap();
    refused(
        &folder,
        &["--lang", "rust"],
        "is there and not empty; name a new folder",
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let folder = scratch.path("fresh");
    refused(&folder, &["--lang", "cobol"], "rust, python, js, c, go");
    refused(&folder, &[], "--lang");
    let options = ["--lang", "js", "--contract", "evented"];
    refused(
        &folder,
        &options,
        "there is no template in js for the contract evented; there is blocking",
    );
    refused(
        &folder,
        &["--lang", "go", "--contract", "blocking"],
        "there is no template in go for the contract blocking; there is command",
    );
    refused(
        &folder,
        &["--lang", "rust", "--contract", "x\n"],
        "blocking, command, concurrent, datagram",
    );
    // A link that leads nowhere stays.
    let link = scratch.path("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let outcome = new(&link, &["--lang", "rust"]);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(link.is_symlink());
    refused(
        &scratch.path("My_Handler"),
        &["--lang", "rust"],
        "for example my-handler",
    );
    assert!(!folder.exists());
}
