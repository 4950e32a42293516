//! The options that say who may come in.

use crate::cli::Failure;
use crate::limits::parse_time_over_zero;
use crate::{AccessTime, AdmissionOptions, AdmissionPolicy, BlockSource, MaxLoad, OnRefuse, text};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use std::num::NonZeroU32;
use std::time::Duration;

/// The largest number of connections, also per second.
const MOST: i64 = 1_000_000;

#[derive(Args, Default)]
#[command(next_help_heading = "Admission")]
pub(super) struct AdmissionArgs {
    /// Connections that one source may have open; more are refused. A source is an IPv4
    /// address, a network of IPv6, or the user at the other end of a Unix socket
    #[arg(long, value_name = "N", value_parser = count())]
    max_connections_per_source: Option<NonZeroU32>,
    /// The bits of an IPv6 address that are a source [default: 64, which a single host
    /// has for itself]
    #[arg(long, value_name = "LEN", value_parser = clap::value_parser!(u8).range(1..=128))]
    source_prefix: Option<u8>,
    /// Connections that are let in per second; more wait in the backlog
    #[arg(long, value_name = "N", value_parser = count())]
    connections_per_second: Option<NonZeroU32>,
    /// Connections that may be let in at once [default: as many as in a second]
    #[arg(long, value_name = "N", value_parser = count())]
    burst: Option<NonZeroU32>,
    /// How long none is accepted when the burst is used up [default: until the rate
    /// permits the next one]
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero)]
    pause: Option<Duration>,
    /// Connections, or datagrams, of one source per second; more are refused
    #[arg(long, value_name = "N", value_parser = count())]
    connections_per_second_per_source: Option<NonZeroU32>,
    /// Connections, or datagrams, of one source at once [default: as many as in a second]
    #[arg(long, value_name = "N", value_parser = count())]
    burst_per_source: Option<NonZeroU32>,
    /// Let a block of addresses in, and nobody whom no block names; @FILE has a block per
    /// line. The most specific block decides. May be repeated
    #[arg(long, value_name = "CIDR|@FILE", value_parser = block_parser())]
    allow: Vec<BlockSource>,
    /// Refuse a block of addresses; @FILE has a block per line. May be repeated
    #[arg(long, value_name = "CIDR|@FILE", value_parser = block_parser())]
    deny: Vec<BlockSource>,
    /// Let peers in at this time of the day only, in local time; 22:00-06:00 goes over
    /// midnight. May be repeated
    #[arg(long, value_name = "HH:MM-HH:MM")]
    access_times: Vec<AccessTime>,
    /// Accept nobody while the machine's load, its average of a minute, is so high or
    /// higher; peers wait in the backlog
    #[arg(long, value_name = "LOAD")]
    max_load: Option<MaxLoad>,
    /// Send this to a refused peer before the end of file, with the escapes \r, \n, \t,
    /// \0, \\, \, and \xHH
    #[arg(long, value_name = "TEXT", value_parser = parse_banner)]
    banner: Option<Banner>,
    /// What a refused peer gets [default: close]
    #[arg(long, value_name = "WHAT", value_enum)]
    on_refuse: Option<Refuse>,
}

#[derive(Clone, Debug)]
struct Banner(Vec<u8>);

#[derive(Clone, Copy, ValueEnum)]
enum Refuse {
    /// A reset
    Reset,
    /// An end of file
    Close,
    /// Nothing for ten seconds, then a reset, so that it comes again later
    Hold,
}

/// When a service ends by itself.
#[derive(Args, Default)]
#[command(next_help_heading = "End")]
pub(super) struct EndArgs {
    /// Take one connection, or one datagram, and end with it
    #[arg(long, conflicts_with = "exit_after")]
    once: bool,
    /// Take so many connections, or datagrams, and end with the last one; refused ones do
    /// not count
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(std::num::NonZeroU64))]
    exit_after: Option<std::num::NonZeroU64>,
    /// End when nothing has come for at least this long, and nothing is open
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero)]
    pub(super) exit_idle: Option<Duration>,
}

impl EndArgs {
    /// How many connections or datagrams are taken. `None` if any number.
    pub(super) fn exit_after(&self) -> Option<std::num::NonZeroU64> {
        if self.once {
            return Some(std::num::NonZeroU64::MIN);
        }
        self.exit_after
    }
}

/// A parser of numbers from 1 to [`MOST`].
fn count() -> impl TypedValueParser<Value = NonZeroU32> {
    clap::value_parser!(u32)
        .range(1..=MOST)
        .try_map(NonZeroU32::try_from)
}

/// A parser of blocks and files of blocks. The path need not be UTF-8.
fn block_parser() -> impl TypedValueParser<Value = BlockSource> {
    OsStringValueParser::new().try_map(|text| BlockSource::parse(&text))
}

fn parse_banner(text: &str) -> Result<Banner, &'static str> {
    match text::unescape(text) {
        Some(banner) if banner.is_empty() => Err("it is empty; leave it out"),
        Some(banner) => Ok(Banner(banner)),
        None => Err("write the escapes \\r, \\n, \\t, \\0, \\\\, \\, and \\xHH, and no others"),
    }
}

impl AdmissionArgs {
    /// Makes the policy, and reads the files of blocks.
    pub(super) fn policy(&self) -> Result<AdmissionPolicy, Failure> {
        let policy = self.options().policy();
        policy.map_err(|error| {
            if error.is_of_system() {
                error.into()
            } else {
                Failure::usage(error)
            }
        })
    }

    fn options(&self) -> AdmissionOptions {
        AdmissionOptions {
            max_connections_per_source: self.max_connections_per_source,
            source_prefix: self.source_prefix,
            connections_per_second: self.connections_per_second,
            burst: self.burst,
            pause: self.pause,
            connections_per_second_per_source: self.connections_per_second_per_source,
            burst_per_source: self.burst_per_source,
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            access_times: self.access_times.clone(),
            max_load: self.max_load,
            banner: self
                .banner
                .clone()
                .map(|banner| banner.0)
                .unwrap_or_default(),
            on_refuse: self.on_refuse.map(|how| match how {
                Refuse::Reset => OnRefuse::Reset,
                Refuse::Close => OnRefuse::Close,
                Refuse::Hold => OnRefuse::Hold,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        admission: AdmissionArgs,
        #[command(flatten)]
        end: EndArgs,
    }

    fn parse(args: &[&str]) -> Result<Only, clap::Error> {
        Only::try_parse_from([&["only"], args].concat())
    }

    #[test]
    fn without_an_option_everybody_may_come_in_for_ever() {
        let only = parse(&[]).unwrap();
        assert_eq!(only.admission.options(), AdmissionOptions::default());
        let policy = only.admission.policy().unwrap();
        assert_eq!(policy, AdmissionPolicy::default());
        assert_eq!(only.end.exit_after(), None);
        assert_eq!(only.end.exit_idle, None);
    }

    #[test]
    fn each_option_has_its_value() {
        let only = parse(&[
            "--max-connections-per-source=3",
            "--source-prefix=56",
            "--connections-per-second=10",
            "--burst=20",
            "--pause=5s",
            "--connections-per-second-per-source=4",
            "--burst-per-source=5",
            "--allow=10.0.0.0/8",
            "--allow=@/etc/allowed",
            "--deny=::1",
            "--access-times=08:00-17:00",
            "--max-load=2.5",
            "--banner=no\\r\\n",
            "--on-refuse=close",
            "--once",
            "--exit-idle=5min",
        ])
        .unwrap();
        let options = only.admission.options();
        let block = |text: &str| BlockSource::parse(text.as_ref()).unwrap();
        assert_eq!(options.allow, [block("10.0.0.0/8"), block("@/etc/allowed")]);
        let count = NonZeroU32::new;
        let expected = AdmissionOptions {
            max_connections_per_source: count(3),
            source_prefix: Some(56),
            connections_per_second: count(10),
            burst: count(20),
            pause: Some(Duration::from_secs(5)),
            connections_per_second_per_source: count(4),
            burst_per_source: count(5),
            allow: options.allow.clone(),
            deny: vec![block("::1")],
            access_times: vec!["08:00-17:00".parse().unwrap()],
            max_load: Some("2.5".parse().unwrap()),
            banner: b"no\r\n".to_vec(),
            on_refuse: Some(OnRefuse::Close),
        };
        assert_eq!(options, expected);
        assert_eq!(only.end.exit_after(), std::num::NonZeroU64::new(1));
        assert_eq!(only.end.exit_idle, Some(Duration::from_secs(300)));
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in [
            &["--max-connections-per-source=0"][..],
            &["--source-prefix=0"],
            &["--source-prefix=129"],
            &["--connections-per-second=1000001"],
            &["--pause=0s"],
            &["--allow=10.0.0.1/8"],
            &["--allow=@"],
            &["--access-times=8-9"],
            &["--max-load=0"],
            &["--banner="],
            &["--banner=\\q"],
            &["--on-refuse=ignore"],
            &["--exit-after=0"],
            &["--exit-idle=0s"],
            &["--once", "--exit-after=2"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
