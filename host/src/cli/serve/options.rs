//! The options of `serve`.

use super::admission::{AdmissionArgs, EndArgs};
use super::identity::IdentityOptions;
use super::parse_name;
use crate::cli::Failure;
use crate::guest::grants::ConnectPlace;
pub(in crate::cli) use crate::limits::parse_memory;
use crate::limits::{LimitChanges, MAX_CONNECTIONS, parse_time, parse_time_over_zero};
use crate::{
    AccessLog, ConnectGrant, DirGrant, Dispatch, GlobalLimits, GrantError, Grants, Limits,
    ListenAddress, ListenOptions, RollbackOn, RollbackPolicy,
};
use bytesize::ByteSize;
use clap::builder::{OsStringValueParser, Resettable, TypedValueParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use nix::unistd::Group;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Args)]
pub(in crate::cli) struct Options {
    /// Serve what a file says, in place of one service by the options below:
    /// docs/operating.md describes it, and `sockserve check` checks it
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) process: ProcessOptions,
    #[command(flatten)]
    pub(in crate::cli) identity: IdentityOptions,
    #[command(flatten)]
    pub(in crate::cli) service: OnlyService,
}

/// What belongs to the process and not to one of its services. In a configuration file
/// these options are the keys at the top.
#[derive(Args)]
pub(in crate::cli) struct ProcessOptions {
    /// Take requests (status, swap, rollback, drain, shutdown) on a Unix socket
    #[arg(long, value_name = "PATH", help_heading = "Control")]
    pub(in crate::cli) control: Option<PathBuf>,
    /// Answer who asks how the services are: a page at /, /metrics (Prometheus), /healthz,
    /// /readyz and /v1/status over HTTP, to anybody who reaches the address. HOST is an IP address
    #[arg(long, value_name = "tcp://HOST:PORT", help_heading = "Control", value_parser = parse_observed)]
    pub(in crate::cli) metrics: Option<SocketAddr>,
    /// Connections open at once in all services together; at the limit none of them
    /// accepts. By default each has its own limit only
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(in crate::cli) max_connections_total: Option<NonZeroU32>,
    /// Memory of all instances of all services together; at the limit connections wait for
    /// an instance of their own, and an instance that grows is ended. By default each has
    /// its own limit only
    #[arg(long, value_name = "SIZE", help_heading = "Limits", value_parser = parse_total)]
    pub(in crate::cli) max_memory_total: Option<ByteSize>,
}

impl ProcessOptions {
    /// What the services share.
    pub(super) fn limits(&self) -> Option<Arc<GlobalLimits>> {
        let memory = self.max_memory_total;
        let memory = memory.and_then(|memory| NonZeroU64::new(memory.as_u64()));
        let connections = self.max_connections_total;
        (connections.is_some() || memory.is_some()).then(|| GlobalLimits::new(connections, memory))
    }
}

/// Parses how much memory all instances may have.
fn parse_total(text: &str) -> Result<ByteSize, String> {
    match text.parse()? {
        ByteSize(0) => Err("it must be more than nothing".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Parses the address of the metrics.
fn parse_observed(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.strip_prefix("tcp://").and_then(|it| it.parse().ok());
    address.ok_or("write tcp:// with an IP address and a port, for example tcp://127.0.0.1:9090")
}

/// The service that the command line describes. `None` if a file describes all services.
pub(in crate::cli) struct OnlyService(pub(in crate::cli) Option<ServiceKeys>);

impl FromArgMatches for OnlyService {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if !matches.contains_id("component") {
            return Ok(Self(None));
        }
        ServiceKeys::from_arg_matches(matches).map(|keys| Self(Some(keys)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for OnlyService {
    /// Adds the options of a service. None of them goes together with `--config`.
    fn augment_args(command: Command) -> Command {
        let keys = ServiceKeys::augment_args(Command::new("service"));
        let is_key = |id: &clap::Id| keys.get_arguments().any(|key| key.get_id() == id);
        ServiceKeys::augment_args(command).mut_args(|arg| {
            if !is_key(arg.get_id()) {
                return arg;
            }
            let arg = if arg.is_required_set() {
                arg.required(false).required_unless_present("config")
            } else {
                arg
            };
            arg.conflicts_with("config")
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// One service: its addresses, its component, and how it serves. In a configuration file
/// each of these options is a key of a service.
#[derive(Args)]
pub(in crate::cli) struct ServiceKeys {
    /// Where to listen: tcp://HOST:PORT, unix:///PATH or unix:@NAME for
    /// connections, udp://HOST:PORT, unix+dgram:///PATH or unix+dgram:@NAME for
    /// datagrams; fd://N or fd://NAME for a socket of systemd's. HOST may be * for
    /// all addresses; a name stands for all its addresses; port 0 is any free port,
    /// the same for all of them. A link-local IPv6 address has its interface:
    /// tcp://[fe80::1%eth0]:7000. May be repeated
    #[arg(long, value_name = "URL", required = true)]
    pub(in crate::cli) listen: Vec<ListenAddress>,
    /// A component file, or builtin:NAME
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) component: OsString,
    /// Swap the component's file in whenever it has changed
    #[arg(long, help_heading = "Control")]
    pub(in crate::cli) watch: bool,
    #[command(flatten)]
    pub(in crate::cli) service: ServiceArgs,
}

/// How a service serves, whatever its component and its addresses. `dev` has these options
/// too.
#[derive(Args)]
pub(in crate::cli) struct ServiceArgs {
    #[command(flatten)]
    pub(super) handler: HandlerArgs,
    #[command(flatten)]
    pub(super) listening: ListeningOptions,
    #[command(flatten)]
    pub(super) admission: AdmissionArgs,
    #[command(flatten)]
    pub(super) end: EndArgs,
    #[command(flatten)]
    pub(super) rollback: RollbackArgs,
    /// Keep what the instance knows (instance-state) in a file when the service ends,
    /// and give it to the first instance of the next start
    #[arg(long, value_name = "FILE", help_heading = "Control")]
    pub(in crate::cli) state_file: Option<PathBuf>,
    /// Log a line per connection when it has ended, of all, failed, or 1/N for one in N:
    /// peer, version, time, bytes, outcome and reason
    #[arg(long, value_name = "WHICH", default_value_t = AccessLog::default(), help_heading = "Control")]
    pub(super) access_log: AccessLog,
}

impl ServiceArgs {
    /// Whether its addresses may be listened on by others too.
    pub(in crate::cli) fn shares_ports(&self) -> bool {
        self.listening.reuse_port
    }
}

/// What a component may do and take. `inetd` has these options too.
#[derive(Args)]
pub(in crate::cli) struct HandlerArgs {
    /// sequential, threaded or poll. By default threaded for `blocking` and
    /// `command`, and poll for the other contracts
    #[arg(long)]
    pub(super) dispatch: Option<Dispatch>,
    /// The service's name, in the ready line and the log. By default the
    /// component's, without its contract
    #[arg(long, value_parser = parse_name)]
    pub(super) name: Option<String>,
    /// Keep compiled components in a directory, so that known ones start and
    /// swap sooner. It must be writable for you only
    #[arg(long, value_name = "DIR")]
    pub(super) cache: Option<PathBuf>,
    /// Use the code that `sockserve compile` has put into a component's file, also of
    /// later versions. It runs without a check, so the file must come from you
    #[arg(long)]
    pub(super) allow_precompiled: bool,
    #[command(flatten)]
    pub(super) grants: GrantOptions,
    /// Let it send datagrams to a place that has not written to it; `*` is any
    /// host, or any port. May be repeated
    #[arg(long, value_name = "HOST:PORT", help_heading = "Grants")]
    pub(super) allow_send: Vec<ConnectPlace>,
    #[command(flatten)]
    pub(super) limits: LimitOptions,
    /// Arguments for the component
    #[arg(last = true, value_name = "ARGS")]
    pub(super) args: Vec<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Listening")]
pub(super) struct ListeningOptions {
    /// Share addresses and ports with other processes that do the same; the kernel
    /// shares out what comes
    #[arg(long)]
    pub(super) reuse_port: bool,
    /// Permissions of socket files, in octal, whatever the umask is. By default
    /// what the umask leaves of 777, and 660 with --unix-group
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub(super) unix_mode: Option<FileMode>,
    /// Group of socket files, by name or number
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    pub(super) unix_group: Option<GroupNumber>,
    /// Take datagrams from the ports of inetd's small services (7, 13, 17, 19, 37) and
    /// from the service itself, whose answers could be answered without end
    #[arg(long)]
    pub(super) allow_loops: bool,
}

impl ListeningOptions {
    pub(super) fn options(&self) -> ListenOptions {
        ListenOptions {
            reuse_port: self.reuse_port,
            unix_mode: self.unix_mode.map(|mode| mode.0),
            unix_group: self.unix_group.map(|group| group.0),
            unix_owner: None,
        }
    }
}

/// Permission bits. A type of its own, because it is written in octal and so is no number
/// in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileMode(u32);

/// The number of a group, which may be written as a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupNumber(pub(super) u32);

/// A value that is well written, and that this machine does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct NotKnown(pub(super) String);

/// Parses permission bits: three octal digits, also with a zero in front.
fn parse_mode(text: &str) -> Result<FileMode, &'static str> {
    let is_mode = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok();
    let mode = mode.filter(|mode| is_mode && *mode <= 0o777);
    let mode = mode.ok_or("write three octal digits, for example 660")?;
    Ok(FileMode(mode))
}

/// Parses the name or the number of a group.
pub(super) fn parse_group(text: &str) -> Result<GroupNumber, NotKnown> {
    let not_known = |text: &str| NotKnown(text.to_owned());
    if let Ok(number) = text.parse() {
        return match number {
            // For chown(2) and setresgid(2) the number stands for no change.
            u32::MAX => Err(not_known("no group has this number")),
            number => Ok(GroupNumber(number)),
        };
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(GroupNumber(group.gid.as_raw())),
        Ok(None) => Err(not_known(
            "this machine has no such group; `getent group` lists them",
        )),
        Err(error) => Err(NotKnown(format!(
            "it cannot be looked up: {error}; write its number"
        ))),
    }
}

#[derive(Args)]
#[command(next_help_heading = "Control")]
pub(super) struct RollbackArgs {
    /// Go back to the version before when more than this share of a new
    /// version's connections fail; over 100 is never
    #[arg(long, value_name = "PERCENT", default_value_t = RollbackPolicy::default().percent)]
    rollback_percent: u8,
    /// Judge a new version when so many of its connections have ended
    #[arg(long, value_name = "N", default_value_t = RollbackPolicy::default().min_ended)]
    rollback_least: u32,
    /// Judge it no longer than this after the swap
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero, default_value = "60s")]
    rollback_window: Duration,
    /// What speaks against a new version: `fault` is instances that died, `err` is
    /// errors that the handler returned as well
    #[arg(long, value_name = "WHAT", value_enum, default_value = "fault")]
    rollback_on: On,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum On {
    /// Traps, deadlines, memory, and instances that cannot be made
    Fault,
    /// Those, and errors that the handler returned
    Err,
}

impl RollbackArgs {
    pub(super) fn policy(&self) -> RollbackPolicy {
        RollbackPolicy {
            percent: self.rollback_percent,
            min_ended: self.rollback_least,
            window: self.rollback_window,
            on: match self.rollback_on {
                On::Fault => RollbackOn::Fault,
                On::Err => RollbackOn::Err,
            },
        }
    }
}

/// What the component may do beyond its connections. Nothing by default.
#[derive(Args)]
#[command(next_help_heading = "Grants")]
pub(in crate::cli) struct GrantOptions {
    /// Set an environment variable. May be repeated; of a name that is given
    /// twice the last counts
    #[arg(long, value_name = "NAME=VALUE", value_parser = Grants::parse_env)]
    env: Vec<(String, String)>,
    /// Let it read and write a directory, which is opened once for each version.
    /// May be repeated, with another name in the guest each time
    #[arg(long, value_name = "HOST_DIR[::GUEST_DIR]", value_parser = dir_parser())]
    dir: Vec<DirGrant>,
    /// Let it connect to a place over TCP; `*` is any host, or any port. May be
    /// repeated
    #[arg(long, value_name = "HOST:PORT")]
    allow_connect: Vec<ConnectPlace>,
    /// Let it look names up
    #[arg(long)]
    allow_lookup: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitOptions {
    /// Connections open at once, or datagrams served at once by instances of their
    /// own; what comes beyond that waits with the kernel
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONNECTIONS)), default_value_t = Limits::default().max_connections)]
    max_connections: u32,
    /// Memory of one instance, its tables included
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, default_value = "64MiB")]
    max_memory: ByteSize,
    /// Guest time without a wait or a byte moved, and the whole time of an
    /// evented turn or of a batch of datagrams under poll
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero, default_value = "1s")]
    deadline: Duration,
    /// Threads that run guests under threaded [default: one a processor]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub(super) workers: Option<usize>,
    /// Event loops under poll for a handler whose instance serves all connections; each
    /// has a thread, an instance and its share of the connections, which must be
    /// independent of each other [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub(super) loops: Option<usize>,
    /// Connections that an instance serves, one after another, where each has an
    /// instance for itself; what the handler keeps of one is there for the next
    /// [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) reuse: Option<u32>,
    /// Connections that wait to be accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = Limits::default().backlog)]
    backlog: u32,
    /// How long a connection may take to close
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "2s")]
    linger: Duration,
    /// How long open connections may continue after SIGTERM or Ctrl-C, or on the version
    /// before after a swap that cannot hand them over
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "10s")]
    drain_timeout: Duration,
    /// Close a connection whose peer has sent nothing for so long after it connected. By
    /// default never
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero)]
    first_byte_timeout: Option<Duration>,
    /// Close a connection on which no byte was moved for so long, in either direction. By
    /// default never
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero)]
    idle_timeout: Option<Duration>,
    /// Reset a connection whose peer has taken nothing for so long, though there is
    /// something for it. By default never
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero)]
    write_timeout: Option<Duration>,
    /// Close a connection that was open for so long. By default never
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero)]
    connection_timeout: Option<Duration>,
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("it must be a number from 1 to 1024".to_owned()),
    }
}

/// Returns a parser of directory grants. The path need not be UTF-8.
fn dir_parser() -> impl TypedValueParser<Value = DirGrant> {
    OsStringValueParser::new().try_map(|grant| DirGrant::parse(&grant))
}

/// Looks the names of places up that `option` has granted.
pub(in crate::cli) fn resolve(
    places: &[ConnectPlace],
    option: &'static str,
) -> Result<Vec<ConnectGrant>, GrantError> {
    let all = places.iter().map(|place| place.resolve(option));
    all.collect()
}

impl GrantOptions {
    /// The environment, as it is written.
    pub(super) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Returns the grants. Looks names up, which may fail and may take long.
    fn grants(&self) -> Result<Grants, GrantError> {
        let grants = Grants {
            env: self.env.clone(),
            dirs: self.dir.clone(),
            connect: resolve(&self.allow_connect, "--allow-connect")?,
            lookup: self.allow_lookup,
            ..Grants::default()
        };
        grants.check_names()?;
        Ok(grants)
    }

    /// The same, with the exit status of what is wrong.
    pub(in crate::cli) fn checked(&self) -> Result<Grants, Failure> {
        self.grants().map_err(|error| match error {
            error @ GrantError::DirTwice { .. } => Failure::usage(error),
            error => error.into(),
        })
    }
}

/// The limits that a swap changes, by the options of `serve` and as they are written. What
/// is not named stays as it is.
#[derive(Debug)]
pub(in crate::cli) struct ChangedLimits(pub(in crate::cli) BTreeMap<String, String>);

impl FromArgMatches for ChangedLimits {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut changed = BTreeMap::new();
        for name in LimitChanges::NAMES {
            // The options' own parsers have checked it.
            let mut values = matches
                .get_raw(&name.replace('-', "_"))
                .into_iter()
                .flatten();
            if let Some(value) = values.next_back() {
                changed.insert(name.to_owned(), value.to_string_lossy().into_owned());
            }
        }
        Ok(Self(changed))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ChangedLimits {
    fn augment_args(command: Command) -> Command {
        let limits = LimitOptions::augment_args(Command::new("limits"));
        let changes = |arg: &&Arg| {
            let name = arg.get_long();
            name.is_some_and(|name| LimitChanges::NAMES.contains(&name))
        };
        let changes = limits.get_arguments().filter(changes).map(|arg| {
            let arg = arg.clone().default_value(Resettable::Reset);
            arg.help_heading("Limits, which stay as they are unless they are named")
        });
        command.args(changes)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl LimitOptions {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_memory_bytes: self.max_memory.as_u64(),
            deadline: self.deadline,
            workers: self.workers.unwrap_or(Limits::default().workers),
            loops: self.loops.unwrap_or(Limits::default().loops),
            reuse: self.reuse.unwrap_or(Limits::default().reuse),
            backlog: self.backlog,
            close_timeout: self.linger,
            drain_timeout: self.drain_timeout,
            first_byte_timeout: self.first_byte_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            connection_timeout: self.connection_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_defaults_are_the_librarys() {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            limits: LimitOptions,
            #[command(flatten)]
            rollback: RollbackArgs,
        }
        let only = <Only as clap::Parser>::parse_from(["only"]);
        assert_eq!(only.limits.limits(), Limits::default());
        assert_eq!(only.rollback.policy(), RollbackPolicy::default());
    }

    /// What the server parses again is what the options have checked.
    #[test]
    fn a_swap_has_the_options_of_the_limits_without_their_defaults() {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            changed: ChangedLimits,
        }
        let parse =
            |args: &[&str]| <Only as clap::Parser>::try_parse_from([&["only"], args].concat());
        assert!(parse(&[]).ok().unwrap().changed.0.is_empty());
        for name in LimitChanges::NAMES {
            let option = format!("--{name}");
            assert!(parse(&[&option, "soon"]).is_err(), "{name}");
            let value = ["1MiB", "7s", "7"].into_iter().find(|value| {
                let only = parse(&[&option, value]).ok();
                only.is_some_and(|it| it.changed.0.get(name).is_some_and(|it| it == value))
            });
            let value = value.unwrap_or_else(|| panic!("{name} takes none"));
            LimitChanges::default().set(name, value).unwrap();
        }
        assert!(parse(&["--backlog", "7"]).is_err());
    }

    #[test]
    fn sizes_and_numbers_are_checked() {
        assert_eq!(parse_memory("64MiB"), Ok(ByteSize::mib(64)));
        assert_eq!(parse_memory("65536"), Ok(ByteSize::kib(64)));
        assert!(parse_memory("1").is_err());
        assert!(parse_memory("5GiB").is_err());
        assert!(parse_memory("much").is_err());
        assert!(parse_threads("0").is_err());
        assert_eq!(parse_threads("4"), Ok(4));
    }

    #[test]
    fn modes_are_octal_and_groups_exist() {
        assert_eq!(parse_mode("660"), Ok(FileMode(0o660)));
        assert_eq!(parse_mode("0777"), Ok(FileMode(0o777)));
        for text in ["", "66", "1777", "888", "rw-", "+66", "00660"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
        assert_eq!(parse_group("0").unwrap(), GroupNumber(0));
        assert_eq!(parse_group("root").unwrap(), GroupNumber(0));
        assert!(parse_group("4294967295").is_err());
        let error = parse_group("no-such-group").unwrap_err().to_string();
        assert!(error.contains("getent"), "{error}");
    }
}
