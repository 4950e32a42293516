//! Compiled code with what it was made from, and a checksum. It is an entry of the cache,
//! or a section of a component that `sockserve compile` has written.

use crate::component::Component;
use sha2::{Digest as _, Sha256};
use std::hash::{Hash as _, Hasher};
use std::time::Duration;
use wasmtime::Engine;

/// The first bytes of sealed code.
const MAGIC: &[u8; 16] = b"sockserve code 2";
const CHECKSUM: usize = 32;
const TIME: usize = 8;

/// How many bytes a key has as text.
const KEY: usize = 64;

/// What code was made from: the component, the version of this crate, the settings of
/// wasmtime, and the features of the processor. As text it is a SHA-256 in hexadecimal.
#[derive(PartialEq, Eq)]
pub(crate) struct Key(pub(super) String);

impl Key {
    pub(crate) fn of(component: &Component, engine: &Engine) -> Self {
        let mut hash = Hashing(Sha256::new());
        hash.0.update(MAGIC);
        hash.0.update(component.digest());
        hash.0.update(env!("CARGO_PKG_VERSION"));
        engine.precompile_compatibility_hash().hash(&mut hash);
        Self(format!("{:x}", hash.0.finalize()))
    }
}

/// Compiled code, and how long the compiler has taken for it.
pub(crate) struct Compiled {
    pub(crate) code: Vec<u8>,
    pub(crate) took: Duration,
}

impl Compiled {
    /// What stands before the code when it is sealed: its checksum and the time.
    pub(super) fn head(&self, key: &Key) -> Vec<u8> {
        let micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        let time = micros.to_le_bytes();
        let mut head = MAGIC.to_vec();
        head.extend(checksum(key, &time, &self.code));
        head.extend(time);
        head
    }

    /// Takes the code out, if it is complete and was made for `key`.
    pub(super) fn unseal(key: &Key, sealed: &[u8]) -> Option<Self> {
        let rest = sealed.strip_prefix(MAGIC)?;
        let (found, rest) = rest.split_at_checked(CHECKSUM)?;
        let (time, code) = rest.split_first_chunk::<TIME>()?;
        (checksum(key, time, code) == *found).then(|| Self {
            code: code.to_vec(),
            took: Duration::from_micros(u64::from_le_bytes(*time)),
        })
    }

    /// The content of a section with this code: the key, and the sealed code.
    pub(crate) fn section(&self, key: &Key) -> Vec<u8> {
        [key.0.as_bytes(), &self.head(key), &self.code].concat()
    }

    /// Takes the code out of a section.
    pub(crate) fn in_section(key: &Key, section: &[u8]) -> Result<Self, Unusable> {
        let (found, sealed) = section.split_at_checked(KEY).ok_or(Unusable::Damaged)?;
        if found != key.0.as_bytes() {
            return Err(Unusable::Other);
        }
        Self::unseal(key, sealed).ok_or(Unusable::Damaged)
    }
}

/// Why the code in a component is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("is damaged")]
    Damaged,
    #[error("is of another sockserve, another processor, or other limits")]
    Other,
}

/// The checksum of all that is sealed. With the key in it, code under another key is not
/// valid.
fn checksum(key: &Key, time: &[u8; TIME], code: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = Sha256::new();
    hash.update(&key.0);
    hash.update(time);
    hash.update(code);
    hash.finalize().into()
}

/// Feeds values that implement `Hash` to a hash without collisions.
struct Hashing(Sha256);

impl Hasher for Hashing {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_code_is_whole_and_of_its_key_or_none() {
        let (key, other) = (Key("a".repeat(64)), Key("b".repeat(64)));
        let took = Duration::from_micros(1_234_567);
        let code = b"code".to_vec();
        let compiled = Compiled { code, took };
        let section = compiled.section(&key);
        let found = Compiled::in_section(&key, &section).unwrap();
        assert_eq!((&found.code[..], found.took), (&b"code"[..], took));
        let why = |key: &Key, section: &[u8]| Compiled::in_section(key, section).err();
        assert_eq!(why(&other, &section), Some(Unusable::Other));
        for at in 0..section.len() {
            let mut flipped = section.clone();
            flipped[at] ^= 1;
            assert!(why(&key, &flipped).is_some(), "{at}");
            assert_eq!(why(&key, &section[..at]), Some(Unusable::Damaged), "{at}");
        }
        // The key alone does not make it valid.
        let renamed = [other.0.as_bytes(), &section[KEY..]].concat();
        assert_eq!(why(&other, &renamed), Some(Unusable::Damaged));
    }
}
