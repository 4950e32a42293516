//! A directory of a test's own, and components to put there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Guest;

/// A directory that is gone with this. Its path is short, for a control socket's
/// must be.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "sockserve-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Another build of a guest: the same code in a file with another digest.
    pub(crate) fn build(&self, guest: Guest, number: u8) -> PathBuf {
        let path = self.path(&format!("{}-{number}.wasm", guest.name));
        write_build(&path, guest, number);
        path
    }

    /// A guest that exports `hand-over` under a name that nobody knows, and so
    /// cannot hand over.
    pub(crate) fn without_hand_over(&self, guest: Guest) -> PathBuf {
        const NAME: &[u8] = b"sockserve:handler/hand-over@";
        let mut bytes = fs::read(guest.path()).unwrap();
        let places: Vec<usize> = (0..bytes.len())
            .filter(|&at| bytes[at..].starts_with(NAME))
            .collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at + NAME.len() - 2] = b'x';
        }
        let path = self.path(&format!("{}-without.wasm", guest.name));
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes another build of a guest as one finished file.
pub(crate) fn write_build(path: &Path, guest: Guest, number: u8) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, build(guest, number)).unwrap();
    fs::rename(&unfinished, path).unwrap();
}

/// The guest with a custom section of one byte behind it.
pub(crate) fn build(guest: Guest, number: u8) -> Vec<u8> {
    let mut bytes = fs::read(guest.path()).unwrap();
    // Section 0, three bytes long: a name of one byte, and one byte.
    bytes.extend([0, 3, 1, b'b', number]);
    bytes
}
