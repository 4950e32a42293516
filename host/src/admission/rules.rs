//! Which addresses may come in.
//!
//! The most specific block that names an address decides, as in xinetd; between two of
//! the same length the one that denies. What no block names may come in, unless there is
//! an allowed block.

use super::blocks::{Block, BlockFileError, BlockSource};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Allowed and denied blocks of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    v4: Table,
    v6: Table,
    /// Whether an address that no block names is refused.
    is_closed: bool,
}

/// The blocks of one address family, by their prefix length.
///
/// A look-up takes as many steps as there are lengths, however many blocks there are:
/// lists of countries have tens of thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table(BTreeMap<u8, HashMap<u128, Verdict>>);

/// What a block says of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
}

/// Why rules were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// A file of blocks cannot be used.
    #[error(transparent)]
    File(#[from] BlockFileError),
    /// There is an allow list without a block.
    #[error("the allowed blocks are files without a block, so nobody could come in; write one")]
    NobodyAllowed,
}

impl Rules {
    /// Makes the rules, and reads their files.
    pub(super) fn load(allow: &[BlockSource], deny: &[BlockSource]) -> Result<Self, RulesError> {
        let blocks = |sources: &[BlockSource]| {
            let all: Result<Vec<_>, _> = sources.iter().map(BlockSource::blocks).collect();
            all.map(|all| all.concat())
        };
        let allowed = blocks(allow)?;
        if allowed.is_empty() && !allow.is_empty() {
            return Err(RulesError::NobodyAllowed);
        }
        Ok(Self::new(&allowed, &blocks(deny)?))
    }

    /// Makes the rules.
    pub(super) fn new(allow: &[Block], deny: &[Block]) -> Self {
        let mut rules = Self {
            is_closed: !allow.is_empty(),
            ..Self::default()
        };
        // The denied ones last: they replace allowed ones of the same length.
        for (blocks, verdict) in [(allow, Verdict::Allow), (deny, Verdict::Deny)] {
            for block in blocks {
                rules.insert(*block, verdict);
            }
        }
        rules
    }

    fn insert(&mut self, Block(block): Block, verdict: Verdict) {
        let (table, bits) = match block {
            IpNet::V4(_) => (&mut self.v4, 32),
            IpNet::V6(_) => (&mut self.v6, 128),
        };
        let length = block.prefix_len();
        let key = first_bits(block.network(), bits - length);
        table.0.entry(length).or_default().insert(key, verdict);
    }

    /// Whether an address may come in.
    pub(super) fn let_in(&self, address: IpAddr) -> bool {
        // On a socket for both families an IPv4 peer has an IPv4-mapped address.
        let address = address.to_canonical();
        let (table, bits) = match address {
            IpAddr::V4(_) => (&self.v4, 32),
            IpAddr::V6(_) => (&self.v6, 128),
        };
        let mut verdicts = table.0.iter().rev().filter_map(|(length, blocks)| {
            blocks.get(&first_bits(address, bits - length)).copied()
        });
        match verdicts.next() {
            Some(verdict) => verdict == Verdict::Allow,
            None => !self.is_closed,
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }
}

/// The bits of an address without the last ones.
fn first_bits(address: IpAddr, without: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    bits.checked_shr(u32::from(without)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(allow: &[&str], deny: &[&str]) -> Rules {
        let blocks = |texts: &[&str]| -> Vec<Block> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        Rules::new(&blocks(allow), &blocks(deny))
    }

    #[test]
    fn the_most_specific_block_decides() {
        let check = |allow: &[&str], deny: &[&str], cases: &[(&str, bool)]| {
            let rules = rules(allow, deny);
            for (address, expected) in cases {
                let found = rules.let_in(address.parse().unwrap());
                assert_eq!(found, *expected, "{address}: {allow:?} {deny:?}");
            }
        };
        check(&[], &[], &[("10.0.0.1", true), ("::1", true)]);
        // With allowed blocks, what none names is refused.
        check(
            &["10.0.0.0/8"],
            &[],
            &[("10.0.0.1", true), ("11.0.0.1", false), ("::1", false)],
        );
        check(
            &[],
            &["10.0.0.0/8"],
            &[("10.0.0.1", false), ("11.0.0.1", true), ("::1", true)],
        );
        check(
            &["10.0.0.0/8", "10.1.2.3"],
            &["10.1.0.0/16"],
            &[
                ("10.0.0.1", true),
                ("10.1.0.1", false),
                ("10.1.2.3", true),
                ("10.1.2.4", false),
            ],
        );
        // Of the same length: the denied one, in whatever order.
        check(&["10.0.0.0/8"], &["10.0.0.0/8"], &[("10.0.0.1", false)]);
        check(
            &["0.0.0.0/0"],
            &["::/0"],
            &[("192.0.2.1", true), ("2001:db8::1", false)],
        );
        check(
            &["2001:db8::/32"],
            &["2001:db8:0:1::/64", "2001:db8::5"],
            &[
                ("2001:db8::1", true),
                ("2001:db8:0:1::1", false),
                ("2001:db8::5", false),
                ("2001:db9::1", false),
            ],
        );
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_address() {
        for deny in ["127.0.0.2", "::ffff:127.0.0.2", "::ffff:127.0.0.2/128"] {
            let rules = rules(&[], &[deny]);
            for (address, expected) in [
                ("127.0.0.2", false),
                ("::ffff:127.0.0.2", false),
                ("127.0.0.3", true),
                ("::ffff:127.0.0.3", true),
            ] {
                assert_eq!(
                    rules.let_in(address.parse().unwrap()),
                    expected,
                    "{deny} {address}"
                );
            }
        }
        // A block of IPv6 addresses has no IPv4 addresses.
        assert!(rules(&[], &["::/0"]).let_in("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_allow_list_without_a_block_is_refused() {
        let empty = BlockSource::File("/dev/null".into());
        // No regular file, so this is refused already.
        assert!(matches!(
            Rules::load(&[empty], &[]),
            Err(RulesError::File(_))
        ));
        let path = std::env::temp_dir().join(format!("no-blocks-{}", std::process::id()));
        std::fs::write(&path, "# nobody\n").unwrap();
        let none = [BlockSource::File(path.clone())];
        assert!(matches!(
            Rules::load(&none, &[]),
            Err(RulesError::NobodyAllowed)
        ));
        assert!(Rules::load(&[], &none).unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }

    proptest! {
        /// The tables say what a search through all blocks says.
        #[test]
        fn a_look_up_is_a_search(
            blocks in prop::collection::vec((0..8u32, 26..=32u8, any::<bool>()), 0..12),
            address in 0..8u32,
        ) {
            let block = |(bits, length, _): &(u32, u8, bool)| {
                Block(IpNet::new(IpAddr::V4((bits << 3).into()), *length).unwrap().trunc())
            };
            let pick = |allowed: bool| -> Vec<Block> {
                blocks.iter().filter(|it| it.2 == allowed).map(block).collect()
            };
            let (allow, deny) = (pick(true), pick(false));
            let address = IpAddr::V4((address << 3).into());
            let longest = |blocks: &[Block]| {
                let naming = blocks.iter().filter(|block| block.0.contains(&address));
                naming.map(|block| block.0.prefix_len()).max()
            };
            let expected = match (longest(&allow), longest(&deny)) {
                (None, None) => allow.is_empty(),
                (allowed, denied) => allowed > denied,
            };
            prop_assert_eq!(Rules::new(&allow, &deny).let_in(address), expected);
        }
    }
}
