//! What the server needs of the files that it serves.

use std::fmt::Debug;
use std::io;

/// The files of a server. A path has `/` between its parts, and neither at its start nor at
/// its end; no part is empty, `.` or `..`. The empty path is the root.
pub trait Store: Clone + Debug {
    /// A file that is open for reading.
    type File: Debug;

    /// What is at a path. Follows links.
    fn look(&self, path: &str) -> io::Result<Entry>;

    /// Opens a file, to read from `offset` on.
    fn open(&self, path: &str, offset: u64) -> io::Result<Self::File>;

    /// Reads the next bytes of a file, at least one if the file does not end there.
    fn read(file: &mut Self::File, buffer: &mut [u8]) -> io::Result<usize>;

    /// What is in a directory, at most `limit` entries in any order.
    fn list(&self, path: &str, limit: usize) -> io::Result<Vec<Listing>>;
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// How many bytes a file has.
    pub length: u64,
    /// When it was last changed, in seconds since 1970.
    pub modified: u64,
}

/// What is served in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has bytes.
    File,
    /// It is listed.
    Directory,
    /// A device, a pipe or a socket, which is not served.
    Other,
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The name in its directory.
    pub name: String,
    /// Whether it is a directory, or a link to one.
    pub is_directory: bool,
    /// Whether it is a link.
    pub is_link: bool,
}
