//! A component file as far as it is known without compiling it: its contract and
//! its imports.
//!
//! | file | |
//! | --- | --- |
//! | `reading` | the bytes of a file, whatever its path names |
//! | `builtin` | the components that are embedded in the host |
//! | `core_instances` | how many core modules a component instantiates |
//! | `start` | how much memory an instance begins with |
//! | `compiled` | compiled code with what it was made from, and a checksum |
//! | `cache` | compiled components on disk |

pub mod builtin;
pub(crate) mod cache;
pub(crate) mod compiled;
mod core_instances;
pub(crate) mod reading;
mod start;

use crate::component::core_instances::CoreInstances;
use crate::component::reading::{Named, ReadError};
use crate::component::start::StartMemory;
use crate::contract::Contract;
use crate::text;
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use wasm_encoder::{ComponentSection as _, CustomSection};
use wasmparser::{Encoding, Parser, Payload};

/// A component that a service can run: its bytes, and what its sections say.
#[derive(Clone)]
pub struct Component {
    /// Without the section of compiled code.
    bytes: Vec<u8>,
    /// The section of compiled code, if there is one.
    code: Option<Vec<u8>>,
    /// Computed at its first use.
    digest: OnceLock<String>,
    contract: Contract,
    takes_over: bool,
    may_be_independent: bool,
    keeps_state: bool,
    life_cycle: LifeCycleExports,
    imports: Vec<String>,
    composed: Option<String>,
    start_memory: u64,
}

/// Which functions of the life cycle a component has for its service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LifeCycleExports {
    /// It decides which peers come in: it exports `verify`.
    pub verify: bool,
    /// It is told which connections have failed: it exports `error`.
    pub error: bool,
    /// It has work from time to time: it exports `tick`.
    pub tick: bool,
}

/// The custom section with compiled code, which `sockserve compile` adds at the end.
const CODE: &str = "sockserve:code";

/// The custom section of a composed command. It names the contract of the handler.
pub(crate) const COMPOSED: &str = "sockserve:composed";

/// The interface that a component exports, beside its contract, to hand connections
/// over.
const HAND_OVER: &str = "sockserve:handler/hand-over";

/// The interface by which it says whether they are independent of each other.
pub(crate) const ROLLING_HAND_OVER: &str = "sockserve:handler/rolling-hand-over";

/// The interface that it exports to pass on what an instance knows.
const INSTANCE_STATE: &str = "sockserve:handler/instance-state";

/// The interfaces that it exports for the life cycle of its service.
pub(crate) const VERIFY: &str = "sockserve:handler/verify";
pub(crate) const ERROR: &str = "sockserve:handler/error";
pub(crate) const TICK: &str = "sockserve:handler/tick";

/// Whether the host has this version of the contracts.
pub(crate) fn is_supported(version: &str) -> bool {
    version.starts_with("0.1.")
}

/// The most core instances of one instance of a component. wasmtime makes that many
/// of each module that a component and its nested components instantiate. Without a
/// limit, a few bytes could stand for more instances than fit into memory.
const MAX_CORE_INSTANCES: u32 = 1000;

/// Why a file is not a handler. Each error is one line, with what would work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// The file cannot be read.
    #[error("{name}: {error}")]
    Read {
        /// The file's name as given.
        name: String,
        /// Why not.
        error: ReadError,
    },
    /// The file is not WebAssembly.
    #[error("{0}: not a WebAssembly component; build one for the target wasm32-wasip2")]
    NotWasm(String),
    /// The file is a core module.
    #[error(
        "{0}: a core module, not a component; make a component of it: sockserve componentize {0} \
         -o COMPONENT.wasm, or build it for the target wasm32-wasip2"
    )]
    CoreModule(String),
    /// Its sections are damaged.
    #[error("{name}: a damaged component: {reason}; build it again")]
    Damaged {
        /// The file's name as given.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// It exports no contract.
    #[error(
        "{0}: exports none of sockserve:handler/blocking, evented, concurrent, datagram or \
         datagram-concurrent, nor wasi:cli/run of WASI 0.2 or 0.3; it must export one of them"
    )]
    NoContract(String),
    /// It exports more than one contract.
    #[error("{name}: exports both {first} and {second}; it must export exactly one contract")]
    Ambiguous {
        /// The file's name as given.
        name: String,
        /// One contract.
        first: Contract,
        /// Another.
        second: Contract,
    },
    /// It exports a version of a contract that the host does not have.
    #[error("{name}: exports {export}; this sockserve speaks version 0.1 of the contracts")]
    Version {
        /// The file's name as given.
        name: String,
        /// The export, with its version.
        export: String,
    },
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("bytes", &self.bytes.len())
            .field("contract", &self.contract)
            .field("takes_over", &self.takes_over)
            .field("may_be_independent", &self.may_be_independent)
            .field("keeps_state", &self.keeps_state)
            .field("imports", &self.imports)
            .finish_non_exhaustive()
    }
}

impl Component {
    /// Reads a component file: a regular file of at most 256 MiB.
    ///
    /// Blocks the calling thread until the file is read, but no longer than 10
    /// seconds, also if the file system does not answer.
    pub fn from_file(path: &Path) -> Result<Self, ComponentError> {
        Self::read(path, Named::Anywhere)
    }

    /// Reads a component that this process's command line names. Here a pipe
    /// (`/dev/stdin`, `<(command)`) is accepted as well as a file.
    ///
    /// Blocks the calling thread until the end of the file or pipe, but no longer
    /// than 60 seconds.
    pub fn from_command_line(path: &Path) -> Result<Self, ComponentError> {
        Self::read(path, Named::ByCommandLine)
    }

    fn read(path: &Path, named: Named) -> Result<Self, ComponentError> {
        let name = text::path(path).into_owned();
        match reading::read(path, named) {
            Ok(bytes) => Self::from_bytes(&name, bytes),
            Err(error) => Err(ComponentError::Read { name, error }),
        }
    }

    /// Reads a component's sections. `name` is its name in errors.
    pub fn from_bytes(name: &str, mut bytes: Vec<u8>) -> Result<Self, ComponentError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(ComponentError::NotWasm(name.to_owned()));
        }
        if Parser::is_core_wasm(&bytes) {
            return Err(ComponentError::CoreModule(name.to_owned()));
        }
        let sections = Sections::read(&bytes).map_err(|error| ComponentError::Damaged {
            name: name.to_owned(),
            reason: error.message().to_owned(),
        })?;
        if sections.core_instances > MAX_CORE_INSTANCES {
            return Err(ComponentError::Damaged {
                name: name.to_owned(),
                reason: format!(
                    "it instantiates more than {MAX_CORE_INSTANCES} core modules, or a component \
                     that it does not contain"
                ),
            });
        }
        let contract = sections.contract(name)?;
        let takes_over = sections.exports(HAND_OVER, name)?;
        let may_be_independent = sections.exports(ROLLING_HAND_OVER, name)?;
        let keeps_state = sections.exports(INSTANCE_STATE, name)?;
        let life_cycle = sections.life_cycle(contract, name)?;
        let code = sections.code.and_then(|at| at.cut_off(&mut bytes));
        Ok(Self {
            bytes,
            code,
            digest: OnceLock::new(),
            contract,
            takes_over,
            may_be_independent,
            keeps_state,
            life_cycle,
            imports: sections.imports,
            composed: sections.composed,
            start_memory: sections.start_memory.bytes(),
        })
    }

    /// Returns the contract that the component exports.
    pub fn contract(&self) -> Contract {
        self.contract
    }

    /// Whether the component can take over live connections of another version: it
    /// exports `hand-over`.
    pub fn takes_over(&self) -> bool {
        self.takes_over
    }

    /// Whether the component can give its live connections up to another version:
    /// it exports `hand-over`, and imports its contract's `draining` interface, if
    /// there is one.
    pub fn gives_up(&self) -> bool {
        self.takes_over
            && self.contract.draining().is_none_or(|draining| {
                self.imports.iter().any(|import| {
                    let interface = import.split('@').next().unwrap_or_default();
                    interface == draining
                })
            })
    }

    /// Whether an instance is asked if its connections are independent of each other: the
    /// component exports `rolling-hand-over`. Then they can be given up one after another, if
    /// they can be given up, and several event loops can have an instance each.
    pub fn may_be_independent(&self) -> bool {
        self.may_be_independent
    }

    /// Whether what an instance knows can pass to another version: the component exports
    /// `instance-state`.
    pub fn keeps_state(&self) -> bool {
        self.keeps_state
    }

    /// Returns which functions of the life cycle the host calls. Those that make no sense
    /// for the contract are not among them.
    pub fn life_cycle(&self) -> LifeCycleExports {
        self.life_cycle
    }

    /// Returns the contract of the handler of which `sockserve compose` has made this
    /// command. `None` for any other component.
    pub fn composed(&self) -> Option<&str> {
        self.composed.as_deref()
    }

    /// Returns the names of the component's imports, with their versions, in the
    /// order of the component.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Returns how many bytes of memory an instance begins with: the data in its modules,
    /// which is written into its memories when it is made. What it uses after that comes
    /// on top.
    pub fn start_memory_bytes(&self) -> u64 {
        self.start_memory
    }

    /// Returns the section of compiled code.
    pub(crate) fn code(&self) -> Option<&[u8]> {
        self.code.as_deref()
    }

    /// Returns the component with a section of compiled code.
    pub(crate) fn with_code(&self, section: &[u8]) -> Vec<u8> {
        let mut file = self.bytes.clone();
        let section = CustomSection {
            name: CODE.into(),
            data: section.into(),
        };
        section.append_to_component(&mut file);
        file
    }

    /// Returns the SHA-256 of the component, in hexadecimal. Compiled code that
    /// `sockserve compile` has added is not counted.
    pub fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let mut text = String::with_capacity(64);
            for byte in Sha256::digest(&self.bytes) {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
            }
            text
        })
    }

    /// Returns the bytes of the component, without compiled code that `sockserve compile`
    /// has added.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The sections of the outermost component that matter here.
#[derive(Default)]
struct Sections {
    exports: Vec<String>,
    imports: Vec<String>,
    composed: Option<String>,
    code: Option<CodeSection>,
    core_instances: u32,
    start_memory: StartMemory,
}

/// Where the section with compiled code is.
struct CodeSection {
    /// Its name and its data.
    content: Range<usize>,
    /// Its data.
    data: Range<usize>,
}

impl CodeSection {
    /// Takes the section off the end of the file. A section elsewhere is not from
    /// `sockserve compile`, and stays where it is.
    fn cut_off(self, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
        // Before the content are the section's kind, which is zero, and its length, with
        // seven bits in each byte.
        let bits = usize::BITS - self.content.len().leading_zeros();
        let length = usize::try_from(bits.div_ceil(7).max(1)).ok()?;
        let begin = self.content.start.checked_sub(length + 1)?;
        if self.content.end != bytes.len() || bytes.get(begin) != Some(&0) {
            return None;
        }
        let data = bytes.get(self.data)?.to_vec();
        bytes.truncate(begin);
        Some(data)
    }
}

impl Sections {
    fn read(bytes: &[u8]) -> wasmparser::Result<Self> {
        let mut sections = Self::default();
        let mut instances = CoreInstances::default();
        // How deep the parser is in nested modules and components.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            instances.count(&payload)?;
            sections.start_memory.count(&payload)?;
            match payload {
                Payload::Version { encoding, .. } if depth == 0 => {
                    if encoding != Encoding::Component {
                        break;
                    }
                    depth = 1;
                }
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        sections.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        sections.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if depth == 1 && section.name() == COMPOSED => {
                    let contract = String::from_utf8_lossy(section.data());
                    sections.composed = Some(contract.into_owned());
                }
                Payload::CustomSection(section) if depth == 1 && section.name() == CODE => {
                    sections.code = Some(CodeSection {
                        content: section.range(),
                        data: section.data_offset()..section.data_offset() + section.data().len(),
                    });
                }
                _ => {}
            }
        }
        sections.core_instances = instances.of_whole();
        Ok(sections)
    }

    fn contract(&self, name: &str) -> Result<Contract, ComponentError> {
        let mut found = None;
        let mut command = None;
        let handlers = Contract::ALL.into_iter().filter(|it| !it.is_command());
        for export in &self.exports {
            let (interface, version) = export.split_once('@').unwrap_or((export, ""));
            if interface == Contract::Command.interface() {
                command = command_of(version).or(command);
            }
            let mut handlers = handlers.clone();
            let Some(contract) = handlers.find(|it| it.interface() == interface) else {
                continue;
            };
            check_version(name, export, version)?;
            if let Some(first) = found.replace(contract) {
                return Err(ComponentError::Ambiguous {
                    name: name.to_owned(),
                    first,
                    second: contract,
                });
            }
        }
        // A handler may be a program as well.
        found
            .or(command)
            .ok_or_else(|| ComponentError::NoContract(name.to_owned()))
    }

    /// What the component exports for the life cycle of a service with this contract.
    fn life_cycle(
        &self,
        contract: Contract,
        name: &str,
    ) -> Result<LifeCycleExports, ComponentError> {
        // Datagrams are refused and failed by what is done with them; a program has no
        // service.
        let has_connections = !contract.takes_datagrams() && !contract.is_command();
        Ok(LifeCycleExports {
            verify: self.exports(VERIFY, name)? && has_connections,
            error: self.exports(ERROR, name)? && has_connections,
            tick: self.exports(TICK, name)? && !contract.is_command(),
        })
    }

    /// Whether the component exports `wanted`, in the version that the host knows.
    fn exports(&self, wanted: &str, name: &str) -> Result<bool, ComponentError> {
        for export in &self.exports {
            let (interface, version) = export.split_once('@').unwrap_or((export, ""));
            if interface == wanted {
                check_version(name, export, version)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The contract of a program, by the version of its `wasi:cli/run`.
fn command_of(version: &str) -> Option<Contract> {
    if version.starts_with("0.2.") {
        Some(Contract::Command)
    } else if version.starts_with("0.3.") {
        Some(Contract::CommandP3)
    } else {
        None
    }
}

/// Refuses a version of the contracts that the host does not have.
fn check_version(name: &str, export: &str, version: &str) -> Result<(), ComponentError> {
    if is_supported(version) {
        return Ok(());
    }
    Err(ComponentError::Version {
        name: name.to_owned(),
        export: export.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract_of(exports: &[&str]) -> Result<Contract, String> {
        let sections = Sections {
            exports: exports.iter().map(ToString::to_string).collect(),
            ..Sections::default()
        };
        sections
            .contract("x.wasm")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_life_cycle_is_what_makes_sense_for_the_contract() {
        let check = |contract, expected: [bool; 3]| {
            let names = [VERIFY, ERROR, TICK].map(|name| format!("{name}@0.1.0"));
            let sections = Sections {
                exports: names.to_vec(),
                ..Sections::default()
            };
            let LifeCycleExports {
                verify,
                error,
                tick,
            } = sections.life_cycle(contract, "x.wasm").unwrap();
            assert_eq!([verify, error, tick], expected, "{contract}");
        };
        check(Contract::Blocking, [true, true, true]);
        check(Contract::Evented, [true, true, true]);
        check(Contract::Concurrent, [true, true, true]);
        check(Contract::Datagram, [false, false, true]);
        check(Contract::DatagramConcurrent, [false, false, true]);
        check(Contract::Command, [false, false, false]);
        let foreign = Sections {
            exports: vec![format!("{TICK}@9.0.0")],
            ..Sections::default()
        };
        let error = foreign
            .life_cycle(Contract::Blocking, "x.wasm")
            .unwrap_err();
        assert!(error.to_string().contains("tick@9.0.0"), "{error}");
    }

    #[test]
    fn the_contract_is_what_the_exports_say() {
        assert_eq!(
            contract_of(&["wasi:cli/run@0.2.12", "sockserve:handler/evented@0.1.7"]),
            Ok(Contract::Evented)
        );
        assert_eq!(contract_of(&["wasi:cli/run@0.2.0"]), Ok(Contract::Command));
        assert_eq!(
            contract_of(&["wasi:cli/run@0.3.1"]),
            Ok(Contract::CommandP3)
        );
        for exports in [&["wasi:cli/run@0.4.0", "wasi:cli/run"][..], &["a:b/c"], &[]] {
            let error = contract_of(exports).unwrap_err();
            assert!(
                error.contains("nor wasi:cli/run of WASI 0.2 or 0.3"),
                "{error}"
            );
        }
        assert!(
            contract_of(&[
                "sockserve:handler/evented@0.1.0",
                "sockserve:handler/blocking@0.1.0"
            ])
            .unwrap_err()
            .contains("both evented and blocking")
        );
        assert!(
            contract_of(&["sockserve:handler/blocking@0.2.0"])
                .unwrap_err()
                .contains("speaks version 0.1")
        );
    }

    #[test]
    fn bytes_that_are_no_component_are_told_apart() {
        let check = |bytes: &[u8], expected: &str| {
            let error = Component::from_bytes("x.wasm", bytes.to_vec())
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(error.contains(expected), "{error}");
        };
        check(b"", "not a WebAssembly component");
        check(b"#!/bin/sh", "not a WebAssembly component");
        check(b"\0asm\x01\0\0\0", "a core module");
        check(b"\0asm\x0d\0\x01\0", "exports none of");
        check(b"\0asm\x0d\0\x01\0\xff", "a damaged component");
        check(b"\0asm", "a damaged component");
        let claims = b"\0asm\x0d\0\x01\0\x02\x05\xff\xff\xff\xff\x0f";
        check(claims, "a damaged component");
        check(&[&claims[..], &claims[8..]].concat(), "a damaged component");
    }

    #[test]
    fn compiled_code_comes_off_again() {
        let text = "(component (core module (memory 1) (data (i32.const 0) \"abc\")) \
                    (component (export \"sockserve:handler/evented@0.1.0\")))";
        let whole = wat::parse_str(text).unwrap();
        let read = |bytes: &[u8]| Sections::read(bytes).unwrap();
        let with = |before: &[u8], name: &str, data: &[u8]| {
            let mut file = before.to_vec();
            let (name, data) = (name.into(), data.into());
            CustomSection { name, data }.append_to_component(&mut file);
            file
        };
        assert!(read(&whole).code.is_none());
        assert_eq!(read(&whole).start_memory.bytes(), 3);
        for size in [0, 1, 110, 111, 112, 113, 16_367, 16_368, 16_369, 1 << 20] {
            let data = vec![7; size];
            let mut file = with(&whole, CODE, &data);
            let code = read(&file).code.unwrap();
            assert_eq!(code.cut_off(&mut file), Some(data), "{size}");
            assert_eq!(file, whole, "{size}");
        }
        // Something behind the section: not from us.
        let mut file = with(&with(&whole, CODE, b"data"), "other", b"more");
        let (code, before) = (read(&file).code.unwrap(), file.clone());
        assert_eq!(code.cut_off(&mut file), None);
        assert_eq!(file, before);
    }
}
