//! A stream that never ends: sent by one side, checked by the other.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Client, noise};

/// A prime, so that no piece which the host or a guest moves fits it.
const BLOCK: usize = 1_000_003;

/// Over and over the same block, which has no pattern in itself.
pub(super) struct Noise(Vec<u8>);

impl Noise {
    pub(super) fn new() -> Noise {
        Noise(noise(BLOCK))
    }

    /// Sends until `done` is raised, and then the end of file. Says how much.
    #[track_caller]
    pub(super) fn send(&self, client: &mut Client, done: &AtomicBool) -> u64 {
        let mut sent = 0;
        while !done.load(Ordering::Relaxed) {
            client.send(&self.0);
            sent += self.0.len() as u64;
        }
        client.finish_sending();
        sent
    }

    /// Reads to the end of file, and nothing else comes. Says how much.
    #[track_caller]
    pub(super) fn receive(&self, client: &Client) -> u64 {
        let mut received = 0;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = client.socket().read(&mut buffer).unwrap();
            if count == 0 {
                return received as u64;
            }
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let due = &self.0[received % BLOCK..];
                let length = due.len().min(rest.len());
                assert!(
                    rest[..length] == due[..length],
                    "within {count} after {received}"
                );
                rest = &rest[length..];
                received += length;
            }
        }
    }
}
