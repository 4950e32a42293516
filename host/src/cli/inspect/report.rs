//! What `sockserve inspect` knows of a component. The text and the JSON are made from it.

use crate::component::Component;
use crate::contract::{Contract, Dispatch};
use crate::guest::imports::Lack;
use crate::guest::start_cost;
use crate::text;
use serde::{Deserialize, Serialize};

/// A component, as `inspect --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    /// The path or `builtin:NAME`, on one line.
    pub(super) component: String,
    /// The size of the file.
    pub(super) size_bytes: u64,
    pub(super) contract: String,
    /// The contract of the handler that a command is composed of. `None` if it is not
    /// composed.
    pub(super) composed_of: Option<String>,
    /// The dispatches that it can run under.
    pub(super) dispatches: Vec<String>,
    pub(super) default_dispatch: String,
    pub(super) memory: Memory,
    pub(super) hand_over: HandOver,
    /// What it has for the life cycle of its service.
    pub(super) life_cycle: LifeCycle,
    /// The size of the code that `sockserve compile` has put into the file. `None` if there
    /// is none.
    pub(super) compiled_bytes: Option<u64>,
    /// Whether what one instance for all knows passes to the next version.
    pub(super) keeps_state: bool,
    /// It can say that its connections are independent of each other, so that several event
    /// loops have an instance each (`--loops`).
    pub(super) may_have_loops: bool,
    /// What it imports.
    pub(super) imports: Vec<Import>,
}

/// The memory of instances under the default dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Memory {
    /// What an instance begins with.
    pub(super) start_bytes: u64,
    /// What an instance serves.
    pub(super) instance_per: InstancePer,
    /// What would cost less. `None` if instances are small, or one serves all.
    pub(super) advice: Option<String>,
}

/// What an instance serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum InstancePer {
    /// All connections, or all datagrams.
    Service,
    Connection,
    Datagram,
}

/// What happens to live connections at a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct HandOver {
    /// Whether it takes connections of another version over.
    pub(super) takes_over: bool,
    /// It can say that its connections are independent of each other, so that they are given
    /// up one group after another.
    pub(super) may_roll: bool,
    /// Whether it gives its own up.
    pub(super) gives_up: bool,
}

/// What a component has for the life cycle of its service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LifeCycle {
    /// It decides which peers come in.
    pub(super) verify: bool,
    /// It is told which connections have failed.
    pub(super) error: bool,
    /// It has work from time to time.
    pub(super) tick: bool,
}

impl LifeCycle {
    fn of(component: &Component) -> Self {
        let exports = component.life_cycle();
        Self {
            verify: exports.verify,
            error: exports.error,
            tick: exports.tick,
        }
    }
}

/// An import, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Import {
    /// The interface with its version, on one line.
    pub(super) name: String,
    /// Whether the host has it.
    pub(super) provided: bool,
    /// A grant, or what is missing, in words.
    pub(super) need: String,
}

impl Report {
    /// `lacks` are the imports of the component, with what the host lacks of each.
    pub(super) fn new(
        source: &str,
        component: &Component,
        lacks: &[(String, Option<Lack>)],
    ) -> Self {
        let contract = component.contract();
        let is_for_datagrams = contract.takes_datagrams();
        let imports = lacks.iter().map(|(import, lack)| Import {
            name: text::escape(import).into_owned(),
            provided: lack.is_none(),
            need: need(contract, import, lack.as_ref()),
        });
        Self {
            component: source.to_owned(),
            size_bytes: component.bytes().len() as u64,
            contract: contract.to_string(),
            composed_of: component.composed().map(|it| text::escape(it).into_owned()),
            dispatches: contract.dispatches().map(|it| it.to_string()).collect(),
            default_dispatch: contract.default_dispatch().to_string(),
            memory: Memory::of(component),
            hand_over: HandOver {
                takes_over: !is_for_datagrams && component.takes_over(),
                may_roll: !is_for_datagrams
                    && component.may_be_independent()
                    && component.gives_up(),
                gives_up: !is_for_datagrams && component.takes_over() && component.gives_up(),
            },
            life_cycle: LifeCycle::of(component),
            compiled_bytes: component.code().map(|code| code.len() as u64),
            keeps_state: component.keeps_state(),
            may_have_loops: !is_for_datagrams
                && component.may_be_independent()
                && !component.keeps_state()
                && Dispatch::Poll.shares_instance(contract),
            imports: imports.collect(),
        }
    }
}

impl Memory {
    fn of(component: &Component) -> Self {
        let contract = component.contract();
        let dispatch = contract.default_dispatch();
        let instance_per = if dispatch.shares_instance(contract) {
            InstancePer::Service
        } else if contract.takes_datagrams() {
            InstancePer::Datagram
        } else {
            InstancePer::Connection
        };
        Self {
            start_bytes: component.start_memory_bytes(),
            instance_per,
            advice: start_cost::advice(component, dispatch).map(str::to_owned),
        }
    }
}

/// Returns what an import needs: nothing, a grant, or something that the host does
/// not have.
fn need(contract: Contract, import: &str, lack: Option<&Lack>) -> String {
    match lack {
        None => need_of_provided(contract, import).to_owned(),
        Some(Lack::Interface) => {
            "not provided: compose the component with one that exports it".to_owned()
        }
        Some(Lack::Version(provided)) => format!("not provided: there is {provided}"),
        Some(Lack::Function { name, of }) => format!("not provided: there is no `{name}` in {of}"),
    }
}

/// Returns what an import needs that the host provides.
fn need_of_provided(contract: Contract, import: &str) -> &'static str {
    let interface = import.split('@').next().unwrap_or_default();
    if contract.draining() == Some(interface) {
        return "provided; tells when a connection is to be handed over";
    }
    match interface {
        "sockserve:handler/connection-info"
        | "sockserve:handler/concurrent-connection-info"
        | "sockserve:handler/connection-types" => "provided; says who the peer is",
        "wasi:cli/environment" => "provided; variables by --env NAME=VALUE, arguments after --",
        "wasi:cli/stdin" | "wasi:cli/stdout" if contract.is_command() => {
            "provided; is the connection"
        }
        "wasi:cli/stdout" | "wasi:cli/stderr" => "provided; goes to the log",
        "wasi:filesystem/types" | "wasi:filesystem/preopens" => {
            "provided; directories by --dir HOST_DIR[::GUEST_DIR]"
        }
        "wasi:sockets/tcp" => {
            "provided for the accepted connection; others by --allow-connect HOST:PORT"
        }
        "wasi:sockets/tcp-create-socket" => "denied but by --allow-connect HOST:PORT",
        "wasi:sockets/types" => {
            "provided for the accepted connection; others by --allow-connect HOST:PORT; no UDP"
        }
        "wasi:sockets/ip-name-lookup" => "denied but by --allow-lookup",
        "wasi:sockets/udp" | "wasi:sockets/udp-create-socket" => "denied",
        _ => "provided",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a component that exports these can say: that its connections move in groups, and
    /// that it can have several event loops.
    #[test]
    fn connections_may_be_independent_without_hand_over() {
        let check = |exports: &[&str], expected: [bool; 2]| {
            let exports = exports
                .iter()
                .map(|name| format!("(component (export \"sockserve:handler/{name}@0.1.0\"))"));
            let text = format!("(component {})", exports.collect::<String>());
            let bytes = wat::parse_str(&text).unwrap();
            let component = Component::from_bytes("x.wasm", bytes).unwrap();
            let report = Report::new("x.wasm", &component, &[]);
            let said = [report.hand_over.may_roll, report.may_have_loops];
            assert_eq!(said, expected, "{text}");
        };
        check(&["evented"], [false, false]);
        check(&["evented", "hand-over"], [false, false]);
        check(&["evented", "rolling-hand-over"], [false, true]);
        check(&["evented", "hand-over", "rolling-hand-over"], [true, true]);
        // What an instance knows goes with all its connections.
        let keeping = ["evented", "rolling-hand-over", "instance-state"];
        check(&keeping, [false, false]);
        // Each connection has an instance of its own.
        check(&["blocking", "rolling-hand-over"], [false, false]);
        check(&["datagram", "rolling-hand-over"], [false, false]);
    }

    #[test]
    fn every_import_says_what_it_takes() {
        let check = |import, expected: &str| {
            let said = need(Contract::Blocking, import, None);
            assert!(said.contains(expected), "{import}: {said}");
        };
        check("wasi:io/streams@0.2.12", "provided");
        check("wasi:cli/environment@0.2.6", "--env");
        check("wasi:filesystem/types@0.2.6", "--dir");
        check("wasi:sockets/tcp@0.2.12", "--allow-connect");
        check("wasi:sockets/ip-name-lookup@0.2.12", "--allow-lookup");
        check("sockserve:handler/blocking-draining@0.1.0", "handed over");
        let lacking = |lack| need(Contract::Blocking, "a:b/c@0.2.6", Some(&lack));
        assert!(lacking(Lack::Interface).starts_with("not provided: compose"));
        let version = Lack::Version("a:b/c@0.2.12".to_owned());
        assert_eq!(lacking(version), "not provided: there is a:b/c@0.2.12");
        let (name, of) = ("f".to_owned(), "a:b/c@0.2.12".to_owned());
        assert_eq!(
            lacking(Lack::Function { name, of }),
            "not provided: there is no `f` in a:b/c@0.2.12"
        );
    }
}
