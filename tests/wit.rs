//! The contracts in `wit/`: every item of them is documented.

use std::fs;
use std::path::{Path, PathBuf};

use wit_parser::{
    Docs, Interface, PackageName, Resolve, SourceMap, TypeDefKind, UnresolvedPackageGroup,
};

#[test]
fn every_item_of_the_contracts_is_documented() {
    let mut resolve = Resolve::default();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let contracts = parse(&wit_files(&directory)).unwrap();
    // Each file there is a package of its own.
    let dependencies = wit_files(&directory.join("deps"))
        .into_iter()
        .map(|path| parse(&[path]).unwrap())
        .collect();
    let package = resolve.push_groups(contracts, dependencies).unwrap();
    let package = &resolve.packages[package];
    let name = PackageName {
        namespace: "sockserve".to_owned(),
        name: "handler".to_owned(),
        version: package.name.version.clone(),
    };
    assert_eq!(package.name, name);

    let mut items = Items::default();
    items.add("package", &package.docs);
    for (name, id) in &package.worlds {
        items.add(&format!("world {name}"), &resolve.worlds[*id].docs);
    }
    for (name, id) in &package.interfaces {
        items.add_interface(name, &resolve, &resolve.interfaces[*id]);
    }
    assert!(items.undocumented.is_empty(), "{:#?}", items.undocumented);
    // That something was looked at, down to the cases.
    assert!(items.count > 20, "{}", items.count);

    for contract in [
        "blocking",
        "evented",
        "concurrent",
        "datagram",
        "datagram-concurrent",
    ] {
        let world = package.worlds[&format!("{contract}-handler")];
        let world = &resolve.worlds[world];
        assert_eq!(world.exports.len(), 1);
        assert!(package.interfaces.contains_key(contract));
    }
}

fn wit_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wit"));
    paths.sort();
    paths
}

/// Parses the files of one package.
fn parse(paths: &[PathBuf]) -> Result<UnresolvedPackageGroup, String> {
    let mut sources = SourceMap::new();
    for path in paths {
        sources.push_str(
            &path.display().to_string(),
            fs::read_to_string(path).unwrap(),
        );
    }
    sources
        .parse()
        .map_err(|(_, error)| format!("{paths:?}: {error:?}"))
}

#[derive(Default)]
struct Items {
    count: usize,
    undocumented: Vec<String>,
}

impl Items {
    fn add(&mut self, name: &str, docs: &Docs) {
        self.count += 1;
        if docs
            .contents
            .as_ref()
            .is_none_or(|text| text.trim().is_empty())
        {
            self.undocumented.push(name.to_owned());
        }
    }

    fn add_interface(&mut self, name: &str, resolve: &Resolve, interface: &Interface) {
        self.add(name, &interface.docs);
        for (function, item) in &interface.functions {
            self.add(&format!("{name}.{function}"), &item.docs);
        }
        for (type_name, id) in &interface.types {
            let item = &resolve.types[*id];
            let name = format!("{name}.{type_name}");
            // What is used from elsewhere is documented there.
            if matches!(item.kind, TypeDefKind::Type(wit_parser::Type::Id(_))) {
                continue;
            }
            self.add(&name, &item.docs);
            let parts: Vec<(&String, &Docs)> = match &item.kind {
                TypeDefKind::Record(it) => {
                    it.fields.iter().map(|it| (&it.name, &it.docs)).collect()
                }
                TypeDefKind::Flags(it) => it.flags.iter().map(|it| (&it.name, &it.docs)).collect(),
                TypeDefKind::Variant(it) => {
                    it.cases.iter().map(|it| (&it.name, &it.docs)).collect()
                }
                TypeDefKind::Enum(it) => it.cases.iter().map(|it| (&it.name, &it.docs)).collect(),
                _ => Vec::new(),
            };
            for (part, docs) in parts {
                self.add(&format!("{name}.{part}"), docs);
            }
        }
    }
}

/// `sockserve wit` writes what is in `wit/`, and only into a folder of its own.
#[test]
fn the_contracts_are_written_as_files() {
    let scratch = crate::harness::scratch::Scratch::new();
    let folder = scratch.path("contracts");
    let run = |options: &[&str]| {
        let mut args = vec!["wit".as_ref(), folder.as_os_str()];
        args.extend(options.iter().map(std::ffi::OsStr::new));
        crate::harness::command::sockserve(args)
    };
    let source = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit"));
    let written = run(&[]).printed();
    let mut expected = 0;
    for part in ["", "deps"] {
        for entry in std::fs::read_dir(source.join(part)).unwrap() {
            let name = std::path::Path::new(part).join(entry.unwrap().file_name());
            if name.extension().is_some_and(|it| it == "wit") {
                let path = folder.join(&name);
                let (copy, original) = (std::fs::read(&path), std::fs::read(source.join(&name)));
                assert_eq!(copy.unwrap(), original.unwrap(), "{}", name.display());
                assert!(written.contains(&path.display().to_string()), "{written:?}");
                expected += 1;
            }
        }
    }
    assert_eq!(written.len(), expected);

    let refused = run(&[]);
    assert_eq!(refused.status, Some(2), "{refused:#?}");
    let said = "is not empty; name a new folder, or write into this one with --force";
    assert!(refused.stderr[0].ends_with(said), "{refused:#?}");
    assert_eq!(run(&["--force"]).printed(), written);
}
