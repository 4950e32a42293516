//! The options of the room.

use std::str::FromStr;

/// The option `QUEUE_LIMIT`: how many bytes may be queued for one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimit(pub(crate) usize);

impl Default for QueueLimit {
    fn default() -> Self {
        Self(256 * 1024)
    }
}

impl FromStr for QueueLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text).map(Self)
    }
}

/// The option `ROOM_LIMIT`: how many bytes may be queued for all members together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomLimit(pub(crate) usize);

impl Default for RoomLimit {
    fn default() -> Self {
        Self(16 * 1024 * 1024)
    }
}

impl FromStr for RoomLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text).map(Self)
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err("a number of bytes of at least 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        #[track_caller]
        fn check(text: &str, expected: Option<usize>) {
            assert_eq!(text.parse().ok(), expected.map(QueueLimit), "{text:?}");
            assert_eq!(text.parse().ok(), expected.map(RoomLimit), "{text:?}");
        }
        assert_eq!(QueueLimit::default(), QueueLimit(262_144));
        assert_eq!(RoomLimit::default(), RoomLimit(16_777_216));
        check("1", Some(1));
        check("65536", Some(65536));
        check("0", None);
        check("", None);
        check("64k", None);
        check("-1", None);
    }
}
