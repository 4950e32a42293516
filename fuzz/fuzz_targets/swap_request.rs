//! Any bytes are a swap's request or are refused; what is taken means the same when
//! it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockserve::Probe;
use sockserve::control::SwapRequest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = serde_json::from_slice::<SwapRequest>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&request).expect("it was read");
    let again: SwapRequest = serde_json::from_slice(&written).expect("it was written");
    assert_eq!(again, request);
    if let Some(probe) = &request.probe {
        let _ = probe.parse::<Probe>();
    }
});
