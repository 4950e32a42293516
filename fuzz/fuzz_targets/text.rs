//! Any text is an address, a grant, a probe, or is refused; what is taken means the
//! same when it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockserve::{ConnectGrant, DirGrant, ListenAddress, Probe};
use std::fmt::{Debug, Display};
use std::str::FromStr;

fuzz_target!(|text: &str| {
    round_trip::<ListenAddress>(text);
    round_trip::<ListenAddress>(&format!("tcp://{text}"));
    round_trip::<ConnectGrant>(text);
    round_trip::<Probe>(text);
    round_trip::<Probe>(&format!("expect={text}"));
    if let Err(error) = text.parse::<DirGrant>() {
        assert!(!error.to_string().is_empty());
    }
});

fn round_trip<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => match value.to_string().parse::<T>() {
            Ok(again) => assert_eq!(again, value),
            Err(error) => panic!("{value} is written so, and is refused: {error}"),
        },
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
