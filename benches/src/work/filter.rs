//! Filters by name: `ping-pong` is all that begins with it, `ping-pong/64` one of them.

/// Whether one of the filters is the name, or its beginning up to a `/`. Without filters
/// every name is meant.
pub(crate) fn is_meant(name: &str, filters: &[String]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| matches(name, filter))
}

fn matches(name: &str, filter: &str) -> bool {
    let rest = name.strip_prefix(filter.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The filters that mean none of the names.
pub(crate) fn unknown<'a>(names: &[String], filters: &'a [String]) -> Vec<&'a str> {
    let unknown = filters
        .iter()
        .filter(|filter| !names.iter().any(|name| matches(name, filter)));
    unknown.map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::{is_meant, unknown};

    #[test]
    fn a_filter_is_a_name_or_its_first_part() {
        let check = |name: &str, filters: &[&str], expected| {
            let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
            assert_eq!(is_meant(name, &filters), expected, "{name} {filters:?}");
        };
        check("ping-pong/64", &[], true);
        check("ping-pong/64", &["ping-pong"], true);
        check("ping-pong/64", &["ping-pong/"], true);
        check("ping-pong/64", &["ping-pong/64"], true);
        check("ping-pong/64", &["ping-pong/6"], false);
        check("ping-pong/64", &["connect", "ping-pong"], true);
        check("ping-pong/64", &["ping"], false);
        check("datagram-concurrent/poll", &["datagram"], false);
    }

    #[test]
    fn what_means_nothing_is_told() {
        let names = ["a/1".to_owned(), "b".to_owned()];
        let filters = ["a", "b/1", "c"].map(str::to_owned);
        assert_eq!(unknown(&names, &filters), ["b/1", "c"]);
    }
}
