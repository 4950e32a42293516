//! What holds for any text and any bytes, where they come from others: files, the
//! command line, the control socket. A refusal is a line, and what is taken means
//! the same when it is written and read again.
//!
//! `fuzz/` has the same without an end.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use proptest::prelude::*;
use proptest::sample::Index;
use sockserve::control::SwapRequest;
use sockserve::{Component, ConnectGrant, DirGrant, ListenAddress, Probe};

use crate::harness::Guest;
use crate::harness::guests::{chat_concurrent, echo_blocking, faults_none, time_evented};

/// The longest that a refusal may be, besides what it cites.
const REFUSAL: usize = 400;

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Parses, and checks that a refusal is one that can be shown.
fn parse<T: FromStr<Err: Display>>(text: &str) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let error: String = T::Err::to_string(&error);
            assert!(!error.is_empty());
            assert!(error.len() < REFUSAL + 4 * text.len(), "{error}");
            None
        }
    }
}

/// The same, and that what was taken can be written.
fn parse_and_write<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) {
    if let Some(value) = parse::<T>(text) {
        let written = value.to_string();
        let again = parse::<T>(&written);
        assert_eq!(again.as_ref(), Some(&value), "{text} written as {written}");
    }
}

/// Text made of the pieces that addresses and grants are made of.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("tcp://".to_owned()),
        Just("TCP://".to_owned()),
        Just("[::1]".to_owned()),
        Just("[fe80::1%lo]".to_owned()),
        Just("127.0.0.1".to_owned()),
        Just("localhost".to_owned()),
        Just("65535".to_owned()),
        Just("65536".to_owned()),
        Just("::".to_owned()),
        r"[\[\]:*+%/. 0-9a-f-]",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_an_address_or_refused(text in prop_oneof![any::<String>(), pieces()]) {
        parse_and_write::<ListenAddress>(&text);
        parse_and_write::<ListenAddress>(&format!("tcp://{text}"));
        parse_and_write::<ListenAddress>(&format!("tcp://[{text}]:0"));
        parse_and_write::<ListenAddress>(&format!("tcp://127.0.0.1:{text}"));
    }

    #[test]
    fn addresses_are_what_they_say(ip: std::net::IpAddr, port: u16) {
        // As the standard library writes it, with brackets where they are needed.
        let address = std::net::SocketAddr::new(ip, port);
        let parsed = parse::<ListenAddress>(&format!("tcp://{address}"));
        // A link-local one may be refused for what it lacks.
        prop_assert!(parsed.is_some() || ip.is_ipv6(), "{address}");
    }

    #[test]
    fn any_text_is_a_grant_or_refused(text in prop_oneof![any::<String>(), pieces()]) {
        parse_and_write::<ConnectGrant>(&text);
        parse_and_write::<ConnectGrant>(&format!("{text}:80"));
        parse_and_write::<ConnectGrant>(&format!("*:{text}"));
        let _ = parse::<DirGrant>(&text);
        let _ = parse::<DirGrant>(&format!("/tmp::{text}"));
    }

    #[test]
    fn any_text_is_a_probe_or_refused(text: String) {
        parse_and_write::<Probe>(&text);
        parse_and_write::<Probe>(&format!("send={text},expect=x"));
        parse_and_write::<Probe>(&format!("expect={text}"));
    }

    #[test]
    fn any_bytes_are_a_swap_or_refused(bytes: Vec<u8>) {
        let _ = serde_json::from_slice::<SwapRequest>(&bytes);
    }

    #[test]
    fn a_swap_is_what_was_asked_for(
        component: String,
        drain_timeout: Option<String>,
        probe: Option<String>,
    ) {
        let mut request = SwapRequest::new(&component);
        request.drain_timeout = drain_timeout;
        request.probe = probe;
        let written = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(serde_json::from_slice::<SwapRequest>(&written).unwrap(), request);
    }

    #[test]
    fn any_bytes_are_a_component_or_refused(bytes: Vec<u8>) {
        look_at(bytes.clone());
        look_at([b"\0asm\x01\0\0\0".as_slice(), &bytes].concat());
        look_at([b"\0asm\x0d\0\x01\0".as_slice(), &bytes].concat());
    }
}

/// Whatever a file claims, it is looked at without a panic.
fn look_at(bytes: Vec<u8>) {
    if let Err(error) = Component::from_bytes("file", bytes) {
        let error = error.to_string();
        assert!(error.starts_with("file: "), "{error}");
        assert!(error.len() < 2000, "{error}");
    }
}

/// What becomes of a file on a bad disk, or in bad hands.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Cut(Index),
    Remove(Index, Index),
    Repeat(Index, Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let range = |a: &Index, b: &Index| {
            let (a, b) = (a.index(length), b.index(length));
            a.min(b)..a.max(b).min(a.min(b) + 1000)
        };
        match self {
            Damage::Byte(at, value) => bytes[at.index(length)] = *value,
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Remove(a, b) => drop(bytes.drain(range(a, b))),
            Damage::Repeat(a, b) => {
                let piece = bytes[range(a, b)].to_vec();
                let at = range(a, b).start;
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        6 => (index(), any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
        1 => index().prop_map(Damage::Cut),
        1 => (index(), index()).prop_map(|(a, b)| Damage::Remove(a, b)),
        1 => (index(), index()).prop_map(|(a, b)| Damage::Repeat(a, b)),
    ]
}

/// Real components with damage, most of it where the sections begin and end.
#[test]
fn a_damaged_component_is_one_or_refused() {
    const GUESTS: [Guest; 4] = [echo_blocking, time_evented, chat_concurrent, faults_none];
    for guest in GUESTS {
        let whole = std::fs::read(guest.path()).unwrap();
        // The code of the core module is in the midst, and is nothing to us here.
        let ends = [&whole[..4000], &whole[whole.len() - 20_000..]].concat();
        let mut config = config();
        config.cases = 64;
        proptest!(config, |(damages in prop::collection::vec(damage(), 1..6))| {
            for original in [&whole, &ends] {
                let mut bytes = original.clone();
                for damage in &damages {
                    damage.apply(&mut bytes);
                }
                look_at(bytes);
            }
        });
    }
}
