//! Who may come in, as it was asked for: the options, what is wrong with them together,
//! and the policy that they make.

use super::blocks::BlockSource;
use super::farewell::OnRefuse;
use super::load::MaxLoad;
use super::rate::{Pace, Rate};
use super::refusal::Refusal;
use super::rules::{Rules, RulesError};
use super::sources::PerSource;
use super::times::{self, AccessTime};
use crate::contract::Contract;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// The longest banner, in bytes. A new connection has room for it.
pub(crate) const MAX_BANNER: usize = 4096;

/// What was asked for. Options that are absent limit nothing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AdmissionOptions {
    /// Connections that one source may have open; further ones are refused. A source is
    /// an IPv4 address, the first bits of an IPv6 address, or the user at the other end
    /// of a Unix socket.
    pub max_connections_per_source: Option<NonZeroU32>,
    /// How many bits of an IPv6 address are a source, 1 to 128. By default 64.
    pub source_prefix: Option<u8>,
    /// Connections that are let in per second; further ones wait in the backlog.
    pub connections_per_second: Option<NonZeroU32>,
    /// Connections that may be let in at once. By default as many as in a second.
    pub burst: Option<NonZeroU32>,
    /// How long none is accepted when the burst is used up. By default until the rate
    /// permits the next one.
    pub pause: Option<Duration>,
    /// Connections, or datagrams, of one source per second; further ones are refused.
    pub connections_per_second_per_source: Option<NonZeroU32>,
    /// Connections, or datagrams, of one source at once. By default as many as in a
    /// second.
    pub burst_per_source: Option<NonZeroU32>,
    /// Who may come in. If there are any, nobody else may.
    pub allow: Vec<BlockSource>,
    /// Who may not come in. The most specific block decides, and between blocks of one
    /// length the one that denies.
    pub deny: Vec<BlockSource>,
    /// When peers may come in. By default at any time.
    pub access_times: Vec<AccessTime>,
    /// The load of the machine at which peers wait in the backlog.
    pub max_load: Option<MaxLoad>,
    /// What a refused peer is sent, before the end of file. By default nothing.
    pub banner: Vec<u8>,
    /// What a refused peer gets. By default [`OnRefuse::Close`].
    pub on_refuse: Option<OnRefuse>,
}

/// Who may come in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdmissionPolicy {
    pub(super) rules: Rules,
    pub(super) times: Vec<AccessTime>,
    pub(super) per_source: PerSource,
    pub(super) pace: Option<Pace>,
    pub(super) max_load: Option<MaxLoad>,
    pub(super) banner: Box<[u8]>,
    pub(super) on_refuse: OnRefuse,
}

/// What a service has to do with a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) contract: Contract,
    /// Connections that may be open at once.
    pub(crate) max_connections: u32,
    /// Whether one of its listeners is on the network, and whether one is not.
    pub(crate) has_ip: bool,
    pub(crate) has_unix: bool,
}

/// Why options were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// An option does nothing without another one.
    #[error("--{option} does nothing without {needs}; give that too, or leave it out")]
    Needs {
        /// The option.
        option: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// A banner cannot be sent to a peer that is reset or held.
    #[error("--banner cannot be sent with --on-refuse {0}; write --on-refuse close")]
    Banner(&'static str),
    /// A banner is too long.
    #[error("--banner is longer than {MAX_BANNER} bytes, which is the longest")]
    LongBanner,
    /// The rules cannot be used.
    #[error("{option}: {error}")]
    Rules {
        /// The options that they come from.
        option: &'static str,
        /// What is wrong.
        #[source]
        error: RulesError,
    },
    /// The system does not say its load.
    #[error("--max-load needs /proc/loadavg, which cannot be read here; leave it out")]
    NoLoad,
    /// A limit per source is that of the service.
    #[error(
        "--max-connections-per-source {per_source} is never reached with --max-connections {all}; \
         write a smaller one"
    )]
    NeverReached {
        /// Connections of one source.
        per_source: NonZeroU32,
        /// Connections of the service.
        all: u32,
    },
    /// An option is for connections, and the service takes datagrams.
    #[error(
        "--{option} is for connections, and the contract {contract} serves datagrams; for these \
         there are --allow, --deny, --access-times and --connections-per-second-per-source"
    )]
    Datagrams {
        /// The option.
        option: &'static str,
        /// The component's contract.
        contract: Contract,
    },
    /// The option is for the network, and no listener is there.
    #[error(
        "{0} for addresses of the network, and the service listens on Unix sockets only; \
         --unix-mode and --unix-group say who may connect there"
    )]
    NoNetwork(&'static str),
    /// Senders of datagrams over Unix sockets are not told apart.
    #[error(
        "--connections-per-second-per-source: the system does not say who has sent a datagram over \
         unix+dgram; listen on udp:// only"
    )]
    UnixDatagrams,
}

impl AdmissionError {
    /// Whether the system is the reason, and not what was asked for.
    pub(crate) fn is_of_system(&self) -> bool {
        use super::blocks::BlockFileError;
        let read =
            |error: &RulesError| matches!(error, RulesError::File(BlockFileError::Read { .. }));
        match self {
            Self::NoLoad => true,
            Self::Rules { error, .. } => read(error),
            _ => false,
        }
    }
}

impl AdmissionOptions {
    /// Makes the policy, and reads the files of blocks.
    pub fn policy(&self) -> Result<AdmissionPolicy, AdmissionError> {
        self.check()?;
        if self.max_load.is_some() && super::load::read().is_none() {
            return Err(AdmissionError::NoLoad);
        }
        let rules = Rules::load(&self.allow, &self.deny).map_err(|error| {
            let option = match (self.allow.is_empty(), self.deny.is_empty()) {
                (false, true) => "--allow",
                (true, _) => "--deny",
                (false, false) => "--allow or --deny",
            };
            AdmissionError::Rules { option, error }
        })?;
        let pace = self.connections_per_second.map(|per_second| {
            let rate = Rate::new(per_second, self.burst);
            Pace::new(rate, self.pause.unwrap_or_default())
        });
        let rate = self
            .connections_per_second_per_source
            .map(|per_second| Rate::new(per_second, self.burst_per_source));
        Ok(AdmissionPolicy {
            rules,
            times: self.access_times.clone(),
            per_source: PerSource {
                connections: self.max_connections_per_source,
                rate,
                prefix: self.source_prefix.unwrap_or(PerSource::default().prefix),
            },
            pace,
            max_load: self.max_load,
            banner: self.banner.as_slice().into(),
            on_refuse: self.on_refuse.unwrap_or_default(),
        })
    }

    /// Checks that each option has an effect.
    fn check(&self) -> Result<(), AdmissionError> {
        let per_source = self.max_connections_per_source.is_some()
            || self.connections_per_second_per_source.is_some();
        let refuses = per_source
            || !self.allow.is_empty()
            || !self.deny.is_empty()
            || !self.access_times.is_empty();
        let rate = self.connections_per_second.is_some();
        let rate_per_source = self.connections_per_second_per_source.is_some();
        let per_second = "--connections-per-second";
        let anything = "an option that refuses peers, such as --deny or \
                        --max-connections-per-source";
        for (is_given, option, has_what_it_needs, needs) in [
            (self.burst.is_some(), "burst", rate, per_second),
            (self.pause.is_some(), "pause", rate, per_second),
            (
                self.burst_per_source.is_some(),
                "burst-per-source",
                rate_per_source,
                "--connections-per-second-per-source",
            ),
            (
                self.source_prefix.is_some(),
                "source-prefix",
                per_source,
                "--max-connections-per-source or --connections-per-second-per-source",
            ),
            (!self.banner.is_empty(), "banner", refuses, anything),
            (self.on_refuse.is_some(), "on-refuse", refuses, anything),
        ] {
            if is_given && !has_what_it_needs {
                return Err(AdmissionError::Needs { option, needs });
            }
        }
        match self.on_refuse {
            _ if self.banner.is_empty() => {}
            Some(OnRefuse::Reset) => return Err(AdmissionError::Banner("reset")),
            Some(OnRefuse::Hold) => return Err(AdmissionError::Banner("hold")),
            None | Some(OnRefuse::Close) => {}
        }
        if self.banner.len() > MAX_BANNER {
            return Err(AdmissionError::LongBanner);
        }
        Ok(())
    }
}

impl AdmissionPolicy {
    /// Checks that it has an effect on what a service serves.
    pub(crate) fn check(&self, served: Served) -> Result<(), AdmissionError> {
        let contract = served.contract;
        if !served.has_ip && !self.rules.is_empty() {
            return Err(AdmissionError::NoNetwork("--allow and --deny are"));
        }
        if contract.takes_datagrams() {
            for (is_given, option) in [
                (
                    self.per_source.connections.is_some(),
                    "max-connections-per-source",
                ),
                (self.pace.is_some(), "connections-per-second"),
                (self.max_load.is_some(), "max-load"),
                (!self.banner.is_empty(), "banner"),
                (self.on_refuse != OnRefuse::default(), "on-refuse"),
            ] {
                if is_given {
                    return Err(AdmissionError::Datagrams { option, contract });
                }
            }
            if served.has_unix && self.per_source.rate.is_some() {
                return Err(AdmissionError::UnixDatagrams);
            }
        }
        let all = served.max_connections;
        match self.per_source.connections {
            Some(per_source) if per_source.get() >= all => {
                Err(AdmissionError::NeverReached { per_source, all })
            }
            _ => Ok(()),
        }
    }

    /// Whether peers may have to wait.
    pub(super) fn holds_up(&self) -> bool {
        self.max_load.is_some() || self.pace.is_some()
    }

    /// Whether it refuses nobody who has been accepted.
    pub(super) fn is_open(&self) -> bool {
        self.rules.is_empty() && self.times.is_empty() && !self.counts_sources()
    }

    /// Looks at where a peer comes from, and when. `None` is a peer that is not on the
    /// network; rules do not concern it.
    pub(super) fn check_peer(&self, address: Option<SocketAddr>) -> Result<(), Refusal> {
        if address.is_some_and(|address| !self.rules.let_in(address.ip())) {
            return Err(Refusal::Rules);
        }
        if !times::let_in(&self.times, times::minute_of_day) {
            return Err(Refusal::AccessTimes);
        }
        Ok(())
    }

    /// Whether it limits what a source may do.
    pub(super) fn counts_sources(&self) -> bool {
        self.per_source.connections.is_some() || self.per_source.rate.is_some()
    }

    /// How many sockets of refused peers may be open at once.
    pub(crate) fn room(&self) -> u32 {
        if self.is_open() {
            0
        } else {
            self.on_refuse.room()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(count)
    }

    fn refused(options: AdmissionOptions) -> String {
        options.policy().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_as_documented() {
        let options = AdmissionOptions {
            max_connections_per_source: count(1),
            connections_per_second: count(7),
            connections_per_second_per_source: count(3),
            ..AdmissionOptions::default()
        };
        let policy = options.policy().unwrap();
        assert_eq!(policy.per_source.prefix, 64);
        assert_eq!(policy.on_refuse, OnRefuse::Close);
        let pace = policy.pace.unwrap();
        assert_eq!(
            (pace.rate.burst, pace.pause),
            (count(7).unwrap(), Duration::ZERO)
        );
        assert_eq!(policy.per_source.rate.unwrap().burst, count(3).unwrap());
        let nothing = AdmissionOptions::default().policy().unwrap();
        assert!(nothing.is_open() && nothing.room() == 0);
        assert!(nothing.pace.is_none() && nothing.max_load.is_none());
    }

    #[test]
    fn an_option_that_does_nothing_is_refused() {
        let none = AdmissionOptions::default;
        let check = |options: AdmissionOptions, expected: &str| {
            let error = refused(options);
            assert!(error.starts_with(expected), "{error}");
        };
        let burst = count(5);
        check(
            AdmissionOptions { burst, ..none() },
            "--burst does nothing without --connections-per-second; give that too",
        );
        let pause = Some(Duration::from_secs(1));
        check(
            AdmissionOptions { pause, ..none() },
            "--pause does nothing without --connections-per-second;",
        );
        check(
            AdmissionOptions {
                burst_per_source: burst,
                connections_per_second: burst,
                ..none()
            },
            "--burst-per-source does nothing without --connections-per-second-per-source",
        );
        check(
            AdmissionOptions {
                source_prefix: Some(56),
                connections_per_second: burst,
                ..none()
            },
            "--source-prefix does nothing without --max-connections-per-source or",
        );
        let banner = b"no".to_vec();
        check(
            AdmissionOptions {
                banner: banner.clone(),
                ..none()
            },
            "--banner does nothing without an option that refuses peers",
        );
        check(
            AdmissionOptions {
                on_refuse: Some(OnRefuse::Hold),
                ..none()
            },
            "--on-refuse does nothing without",
        );
        for (how, word) in [(OnRefuse::Hold, "hold"), (OnRefuse::Reset, "reset")] {
            check(
                AdmissionOptions {
                    banner: banner.clone(),
                    on_refuse: Some(how),
                    max_connections_per_source: count(1),
                    ..none()
                },
                &format!("--banner cannot be sent with --on-refuse {word}; write"),
            );
        }
        check(
            AdmissionOptions {
                banner: vec![0; MAX_BANNER + 1],
                max_connections_per_source: count(1),
                ..none()
            },
            "--banner is longer than 4096 bytes",
        );
    }

    #[test]
    fn what_a_service_cannot_honour_is_refused() {
        let served = |contract, has_ip, has_unix| Served {
            contract,
            max_connections: 10,
            has_ip,
            has_unix,
        };
        let check = |options: &AdmissionOptions, served: Served, expected: &str| {
            let checked = options.policy().unwrap().check(served);
            match checked {
                Ok(()) => assert_eq!(expected, ""),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!expected.is_empty() && error.contains(expected), "{error}");
                }
            }
        };
        let none = AdmissionOptions::default;
        let stream = served(Contract::Blocking, true, true);
        let datagram = served(Contract::Datagram, true, false);
        let deny = AdmissionOptions {
            deny: vec![BlockSource::Block("10.0.0.0/8".parse().unwrap())],
            ..none()
        };
        check(&deny, stream, "");
        check(&deny, datagram, "");
        let unix = served(Contract::Blocking, false, true);
        check(&deny, unix, "--unix-mode and --unix-group");
        let most = |most| AdmissionOptions {
            max_connections_per_source: count(most),
            ..none()
        };
        check(&most(9), stream, "");
        check(&most(9), unix, "");
        check(&most(10), stream, "never reached with --max-connections 10");
        check(
            &most(1),
            datagram,
            "--max-connections-per-source is for connections",
        );
        let rate = AdmissionOptions {
            connections_per_second_per_source: count(5),
            ..none()
        };
        check(&rate, datagram, "");
        let both = served(Contract::DatagramConcurrent, true, true);
        check(&rate, both, "listen on udp:// only");
        for (options, expected) in [
            (
                AdmissionOptions {
                    connections_per_second: count(5),
                    ..none()
                },
                "--connections-per-second is for connections",
            ),
            (
                AdmissionOptions {
                    max_load: Some("5".parse().unwrap()),
                    ..none()
                },
                "--max-load is for",
            ),
            (
                AdmissionOptions {
                    banner: b"no".to_vec(),
                    ..deny.clone()
                },
                "--banner is for",
            ),
            (
                AdmissionOptions {
                    on_refuse: Some(OnRefuse::Reset),
                    ..deny.clone()
                },
                "--on-refuse is for",
            ),
        ] {
            check(&options, datagram, expected);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_the_systems_word() {
        let options = AdmissionOptions {
            deny: vec![BlockSource::File("/no/such".into())],
            ..AdmissionOptions::default()
        };
        let error = options.policy().unwrap_err();
        assert!(error.is_of_system());
        let expected = "--deny: cannot read /no/such: No such file";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
