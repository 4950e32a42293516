//! Blocks of addresses, as `--allow` and `--deny` have them, and files of such blocks.

use crate::text;
use ipnet::IpNet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The largest file of blocks, in bytes. A million blocks fit.
const MAX_FILE: u64 = 64 << 20;

/// The block `::ffff:0:0/96` has the IPv4 addresses, as an IPv6 socket sees them.
const MAPPED: u8 = 96;

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address without a prefix.
///
/// A block of IPv4-mapped IPv6 addresses means the IPv4 addresses: `::ffff:10.0.0.0/104`
/// is `10.0.0.0/8`. A larger block of IPv6 addresses, such as `::/0`, has no IPv4
/// addresses in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(pub(super) IpNet);

impl From<Block> for IpNet {
    fn from(block: Block) -> Self {
        block.0
    }
}

/// Where blocks come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockSource {
    /// This block.
    Block(Block),
    /// A file with a block per line; what follows a `#` is a comment.
    File(PathBuf),
}

/// Why a text is no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// It has another form.
    #[error("write a block such as 10.0.0.0/8 or 2001:db8::/32, or one address")]
    Syntax,
    /// It has addresses with bits beyond the prefix.
    #[error("it has bits beyond its prefix; write {block}, or {address} for the one address")]
    HostBits {
        /// The block that the address is in.
        block: IpNet,
        /// The address.
        address: IpAddr,
    },
}

/// Why a file of blocks was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFileError {
    /// The system did not let it be read.
    #[error("cannot read {file}: {error}")]
    Read {
        /// The file's path, on one line.
        file: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A line is no block.
    #[error("{file}:{line}: {text}: {error}")]
    Line {
        /// The file's path, on one line.
        file: String,
        /// The number of the line, from 1.
        line: usize,
        /// What is written there.
        text: String,
        /// What is wrong with it.
        #[source]
        error: BlockError,
    },
}

impl FromStr for Block {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Self, BlockError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BlockError::Syntax)?;
        let Some(prefix) = prefix else {
            return Ok(Self(canonical(address.into())));
        };
        // Digits only: a number may also begin with a sign.
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| is_number);
        let block = prefix.and_then(|prefix| IpNet::new(address, prefix).ok());
        let block = block.ok_or(BlockError::Syntax)?;
        if block.network() != address {
            let block = block.trunc();
            return Err(BlockError::HostBits { block, address });
        }
        Ok(Self(canonical(block)))
    }
}

/// The block of IPv4 addresses that a block of IPv4-mapped addresses means. Other blocks
/// stay as they are.
fn canonical(block: IpNet) -> IpNet {
    if let IpNet::V6(mapped) = block
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Some(prefix) = mapped.prefix_len().checked_sub(MAPPED)
        && let Ok(block) = IpNet::new(address.into(), prefix)
    {
        return block;
    }
    block
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl BlockSource {
    /// Parses a block, or `@FILE`. The path need not be UTF-8.
    pub fn parse(text: &OsStr) -> Result<Self, BlockError> {
        if let Some(file) = text.as_bytes().strip_prefix(b"@") {
            return match file {
                [] => Err(BlockError::Syntax),
                file => Ok(Self::File(OsStr::from_bytes(file).into())),
            };
        }
        let text = text.to_str().ok_or(BlockError::Syntax)?;
        Ok(Self::Block(text.parse()?))
    }

    /// Returns the blocks; reads the file, if it is one.
    pub(super) fn blocks(&self) -> Result<Vec<Block>, BlockFileError> {
        match self {
            Self::Block(block) => Ok(vec![*block]),
            Self::File(path) => {
                let file = text::path(path).into_owned();
                match read(path) {
                    Ok(content) => parse(&file, &content),
                    Err(error) => Err(BlockFileError::Read { file, error }),
                }
            }
        }
    }
}

/// Reads a file, whatever the path names: a pipe would be waited for, and a device has no
/// end.
fn read(path: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = String::new();
    if file.take(MAX_FILE + 1).read_to_string(&mut content)? as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    Ok(content)
}

/// Reads the blocks in a file's text.
fn parse(file: &str, content: &str) -> Result<Vec<Block>, BlockFileError> {
    let lines = content.lines().enumerate().filter_map(|(at, line)| {
        let text = line.split('#').next().unwrap_or_default().trim();
        (!text.is_empty()).then_some((at + 1, text))
    });
    let blocks = lines.map(|(line, text)| {
        text.parse().map_err(|error| BlockFileError::Line {
            file: file.to_owned(),
            line,
            text: text::one_line(text),
            error,
        })
    });
    blocks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_is_an_address_or_a_cidr() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Block>().unwrap().to_string(), expected);
        };
        check("10.0.0.0/8", "10.0.0.0/8");
        check("10.1.2.3", "10.1.2.3/32");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("2001:db8::/32", "2001:db8::/32");
        check("::1", "::1/128");
        check("::/0", "::/0");
        check("::ffff:10.0.0.0/104", "10.0.0.0/8");
        check("::ffff:10.1.2.3", "10.1.2.3/32");
        check("::ffff:0:0/96", "0.0.0.0/0");
        check("::/95", "::/95");
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<Block>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("10.1.2.3/8", "write 10.0.0.0/8, or 10.1.2.3 for");
        check("2001:db8::1/32", "write 2001:db8::/32, or 2001:db8::1 for");
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0/8",
            "::/129",
            "::/999",
            "fe80::1%eth0",
            "example.org",
            "10.0.0.0/255.0.0.0",
            " ::1",
        ] {
            check(text, "write a block such as");
        }
        assert_eq!(BlockSource::parse("@".as_ref()), Err(BlockError::Syntax));
        let file = OsStr::from_bytes(b"@/etc/\xff");
        let expected = BlockSource::File(OsStr::from_bytes(b"/etc/\xff").into());
        assert_eq!(BlockSource::parse(file), Ok(expected));
    }

    #[test]
    fn a_file_has_a_block_per_line() {
        let content = "# office\n10.0.0.0/8 # all of it\r\n\n  ::1\t\n#\n192.0.2.1#x";
        let blocks: Vec<_> = parse("f", content)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(blocks, ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]);
        let error = parse("f", "::1\n\n10.0.0.1/8\n").unwrap_err().to_string();
        let expected = "f:3: 10.0.0.1/8: it has bits beyond its prefix; write 10.0.0.0/8, or 10.0.0.1 \
                        for the one address";
        assert_eq!(error, expected);
    }

    #[test]
    fn only_a_file_is_read() {
        let read = |path: &str| BlockSource::File(path.into()).blocks();
        for (path, expected) in [
            ("/no/such", "cannot read /no/such: No such file"),
            ("/dev/zero", "it is no regular file"),
            ("/", "it is no regular file"),
        ] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_block_that_is_written_is_read_again(address: IpAddr, prefix in 0..=128u8) {
            if let Ok(block) = IpNet::new(address, prefix) {
                let block = Block(canonical(block.trunc()));
                prop_assert_eq!(block.to_string().parse(), Ok(block));
            }
        }

        #[test]
        fn any_text_is_a_block_or_refused(text in r"[0-9a-f:./%+ -]{0,24}|\PC{0,20}") {
            if let Err(error) = text.parse::<Block>() {
                prop_assert!(!error.to_string().contains(char::is_control));
            }
        }
    }
}
