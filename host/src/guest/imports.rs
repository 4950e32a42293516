//! Which of a component's imports the host provides.
//!
//! The answers come from the linker itself, so they agree with what an instance
//! gets. The linker cannot list its definitions, but it refuses to define a name
//! twice; that shows whether a name is there. Versions match as they do in
//! wasmtime: a version stands for all versions that are compatible with it, and a
//! pre-release only for itself.

use crate::component::Component;
use crate::contract::Contract;
use crate::guest::State;
use crate::guest::connection_info;
use crate::guest::draining;
use crate::guest::engine;
use crate::sockets;
use crate::sync::lock;
use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex};
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::{Parser, ValidPayload, Validator};
use wasmtime::component::Linker;
use wasmtime::{Engine, WasmFeatures};

/// The versions of the packages that the host provides.
const VERSIONS: [(&str, &str); 3] = [
    ("wasi:", "0.2.12"),
    ("wasi:", "0.3.0"),
    ("sockserve:handler/", "0.1.0"),
];

/// What is missing of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The interface is missing, in every version.
    Interface,
    /// The version is missing. The host has this one instead.
    Version(String),
    /// A function is missing.
    Function {
        name: String,
        /// The interface, with its version, that should have the function.
        of: String,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface => f.write_str(
                "which sockserve does not provide; compose the component with one that exports \
                 it, for example with `wac plug`",
            ),
            Self::Version(provided) => write!(
                f,
                "which sockserve does not provide; it has {provided}: build the component for that"
            ),
            Self::Function { name, of } => write!(
                f,
                "of which sockserve does not provide `{name}`; it has {of}: build the component \
                 for that"
            ),
        }
    }
}

/// Returns for each import of `component`, in its order, what is missing of it.
///
/// What the host provides for a contract is found out once per process.
pub(crate) fn lacks(component: &Component) -> wasmtime::Result<Vec<(String, Option<Lack>)>> {
    let functions = Functions::of(component.bytes());
    with_provided(component.contract(), |provided| {
        let imports = component.imports().iter();
        let lacks = imports.map(|import| {
            let lack = if functions.has_only_types(import) {
                None
            } else {
                provided.lack(import, functions.of_import(import))
            };
            (import.clone(), lack)
        });
        lacks.collect()
    })
}

/// Calls `ask` with what the host provides for `contract`.
fn with_provided<R>(
    contract: Contract,
    ask: impl FnOnce(&mut Provided) -> R,
) -> wasmtime::Result<R> {
    static PROVIDED: LazyLock<Mutex<HashMap<Contract, Provided>>> = LazyLock::new(Mutex::default);
    let mut all = lock(&PROVIDED);
    let mut provided = match all.remove(&contract) {
        Some(provided) if provided.answers.len() < MAX_ANSWERS => provided,
        _ => Provided::new(contract)?,
    };
    let answer = ask(&mut provided);
    all.insert(contract, provided);
    Ok(answer)
}

/// The most names that one linker is asked for; after that a new linker is made. A
/// component can import any name, and each question adds to the linker.
const MAX_ANSWERS: usize = 4096;

/// What the host provides for a contract.
struct Provided {
    linker: Linker<State>,
    /// The answers so far, by interface and function; the function is empty for the
    /// interface itself. Each name is asked for only once, because the question
    /// defines a name that is not there.
    answers: HashMap<(String, String), bool>,
}

impl Provided {
    fn new(contract: Contract) -> wasmtime::Result<Self> {
        let engine = engine::compiler(contract)?;
        let mut linker = linker(&engine, contract)?;
        linker.allow_shadowing(false);
        Ok(Self {
            linker,
            answers: HashMap::new(),
        })
    }

    /// Returns what is missing of an import, of which the component uses `functions`.
    fn lack(&mut self, import: &str, functions: &[String]) -> Option<Lack> {
        let (interface, version) = import.split_once('@').unwrap_or((import, ""));
        let named = |version: &str| format!("{interface}@{version}");
        let provided: Vec<_> = VERSIONS
            .into_iter()
            .filter(|(package, version)| {
                interface.starts_with(package) && self.has_interface(&named(version))
            })
            .map(|(_, version)| version)
            .collect();
        let fitting = provided.iter().find(|provided| {
            **provided == version || track(provided).is_some_and(|it| track(version) == Some(it))
        });
        let Some(fitting) = fitting else {
            let latest = provided.last();
            return Some(latest.map_or(Lack::Interface, |it| Lack::Version(named(it))));
        };
        let of = named(fitting);
        let missing = functions
            .iter()
            .find(|name| !self.has_function(&of, name))?;
        Some(Lack::Function {
            name: missing.clone(),
            of,
        })
    }

    fn has_interface(&mut self, name: &str) -> bool {
        self.answer(name, "", |linker| {
            linker.root().func_new(name, |_, _, _, _| Ok(()))
        })
    }

    fn has_function(&mut self, interface: &str, name: &str) -> bool {
        self.answer(interface, name, |linker| {
            let mut instance = linker.instance(interface)?;
            instance.func_new(name, |_, _, _, _| Ok(()))
        })
    }

    /// Whether a name is there already, so that `define` cannot define it.
    fn answer(
        &mut self,
        interface: &str,
        function: &str,
        define: impl FnOnce(&mut Linker<State>) -> wasmtime::Result<()>,
    ) -> bool {
        let asked = (interface.to_owned(), function.to_owned());
        let Self { linker, answers } = self;
        *answers
            .entry(asked)
            .or_insert_with(|| define(linker).is_err())
    }
}

/// Makes the linker: WASI, with our own TCP sockets instead of those of
/// wasmtime-wasi.
pub(super) fn linker(engine: &Engine, contract: Contract) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    sockets::p2::add_to_linker(&mut linker)?;
    // A 0.3 component may use 0.2 as well, as Rust's standard library does.
    if contract.is_p3() {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        sockets::p3::add_to_linker(&mut linker)?;
    }
    connection_info::add_to_linker(&mut linker, contract.is_p3())?;
    draining::add_to_linker(&mut linker, contract.is_p3())?;
    Ok(linker)
}

/// Returns the part of a version that compatible versions share. `None` for a
/// pre-release.
fn track(version: &str) -> Option<(u64, u64)> {
    let release = version.split('+').next().unwrap_or_default();
    let mut numbers = release.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok::<u64, _>(_)), None) = (
        numbers.next(),
        numbers.next(),
        numbers.next(),
        numbers.next(),
    ) else {
        return None;
    };
    match (major, minor) {
        (0, 0) => None,
        (0, minor) => Some((0, minor)),
        (major, _) => Some((major, 0)),
    }
}

/// What a component imports, by interface.
struct Functions(Vec<Imported>);

#[derive(Debug)]
struct Imported {
    name: String,
    functions: Vec<String>,
    /// Whether there is nothing in it that the host would have to provide: it only names
    /// types.
    only_types: bool,
}

impl Functions {
    /// Returns no functions if the component is not valid. The compiler reports
    /// that.
    fn of(bytes: &[u8]) -> Self {
        Self(Self::read(bytes).unwrap_or_default())
    }

    fn read(bytes: &[u8]) -> wasmparser::Result<Vec<Imported>> {
        // Accepts all proposals. The compiler refuses those that are off.
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut names = Vec::new();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            match &payload {
                wasmparser::Payload::Version { .. } => depth = depth.saturating_add(1),
                wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
                wasmparser::Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports.clone() {
                        names.push(import?.name.name.to_owned());
                    }
                }
                _ => {}
            }
            // Only the types of functions matter here, not the code.
            let ValidPayload::End(types) = validator.payload(&payload)? else {
                continue;
            };
            if depth > 0 {
                continue;
            }
            let types = types.as_ref();
            let functions = names.into_iter().map(|name| {
                let item = types.component_item_for_import(&name);
                let instance = match item.map(|item| item.ty) {
                    Some(ComponentEntityType::Instance(instance)) => types.get(instance),
                    _ => None,
                };
                let exports = || instance.iter().flat_map(|it| &it.exports);
                let functions = exports()
                    .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
                    .map(|(name, _)| name.clone())
                    .collect();
                let only_types = instance.is_some()
                    && exports().all(|(_, item)| match item.ty {
                        ComponentEntityType::Type { referenced, .. } => {
                            !matches!(referenced, ComponentAnyTypeId::Resource(_))
                        }
                        _ => false,
                    });
                Imported {
                    name,
                    functions,
                    only_types,
                }
            });
            return Ok(functions.collect());
        }
        Ok(Vec::new())
    }

    fn of_import(&self, import: &str) -> &[String] {
        self.find(import).map_or(&[], |found| &found.functions)
    }

    fn has_only_types(&self, import: &str) -> bool {
        self.find(import).is_some_and(|found| found.only_types)
    }

    fn find(&self, import: &str) -> Option<&Imported> {
        self.0.iter().find(|found| found.name == import)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_linker() {
        let mut provided = Provided::new(Contract::Concurrent).unwrap();
        for interface in [
            "wasi:sockets/tcp@0.2.12",
            "wasi:sockets/types@0.3.0",
            "sockserve:handler/concurrent-draining@0.1.0",
        ] {
            assert!(provided.has_interface(interface), "{interface}");
        }
        assert!(provided.has_function("wasi:io/poll@0.2.12", "poll"));
        assert!(!provided.has_function("wasi:io/poll@0.2.12", "pool"));
    }

    #[test]
    fn imports_are_looked_up_as_wasmtime_does() {
        let check = |contract, import: &str, functions: &[&str], expected: Option<Lack>| {
            let mut provided = Provided::new(contract).unwrap();
            let functions: Vec<_> = functions.iter().map(ToString::to_string).collect();
            assert_eq!(provided.lack(import, &functions), expected, "{import}");
        };
        let version = |text: &str| Some(Lack::Version(text.to_owned()));
        let now = &["now"][..];
        let clock = "wasi:clocks/wall-clock@0.2";
        let provided = format!("{clock}.12");
        check(Contract::Blocking, "wasi:sockets/tcp@0.2.12", &[], None);
        check(Contract::Blocking, &format!("{clock}.0"), now, None);
        check(Contract::Blocking, &format!("{clock}.99+build"), now, None);
        check(
            Contract::Blocking,
            &format!("{clock}.99"),
            &["now", "later"],
            Some(Lack::Function {
                name: "later".to_owned(),
                of: provided.clone(),
            }),
        );
        check(
            Contract::Blocking,
            &format!("{clock}.0-rc-2023-11-10"),
            now,
            version(&provided),
        );
        check(
            Contract::Concurrent,
            "wasi:clocks/wall-clock@0.3.0-rc-2025-09-16",
            now,
            version(&provided),
        );
        check(
            Contract::Blocking,
            "wasi:sockets/types@0.3.0",
            &[],
            Some(Lack::Interface),
        );
        check(Contract::Concurrent, "wasi:sockets/types@0.3.0", &[], None);
        check(
            Contract::Concurrent,
            "wasi:cli/environment@0.2.6",
            &["get-environment"],
            None,
        );
        for import in [
            "wasi:random/nothing@0.2.6",
            "wasi:http/types@0.2.12",
            "acme:vault/secrets",
            "plain",
            "@",
            "",
        ] {
            check(Contract::Blocking, import, &[], Some(Lack::Interface));
        }
        let draining = "sockserve:handler/blocking-draining";
        check(Contract::Blocking, &format!("{draining}@0.1.7"), &[], None);
        check(
            Contract::Blocking,
            &format!("{draining}@0.2.0"),
            &[],
            version(&format!("{draining}@0.1.0")),
        );
        check(
            Contract::Concurrent,
            &format!("{draining}@0.1.0"),
            &[],
            Some(Lack::Interface),
        );
    }

    #[test]
    fn the_functions_are_those_of_the_imported_instances() {
        let bytes = wat::parse_str(
            r#"(component
                (import "a:b/c@0.1.0" (instance
                    (export "r" (type (sub resource)))
                    (export "[method]r.m" (func (param "self" (borrow 0))))
                    (export "f" (func))))
                (component (import "inner" (instance (export "g" (func)))))
                (import "a:b/types@0.1.0" (instance
                    (type (enum "x"))
                    (export "t" (type (eq 0)))))
                (import "a:b/resources@0.1.0" (instance
                    (export "r" (type (sub resource)))))
                (import "p" (func)))"#,
        );
        let functions = Functions::of(&bytes.unwrap());
        assert_eq!(functions.of_import("a:b/c@0.1.0"), ["[method]r.m", "f"]);
        assert!(functions.of_import("inner").is_empty());
        assert!(functions.of_import("p").is_empty());
        for import in ["a:b/c@0.1.0", "a:b/resources@0.1.0", "p", "nothing"] {
            assert!(!functions.has_only_types(import), "{import}");
        }
        assert!(functions.has_only_types("a:b/types@0.1.0"));
    }
}
