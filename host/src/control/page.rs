//! The page at `/` of the observer: one file, which loads nothing from elsewhere.
//!
//! It asks for `/v1/status` each second and shows that. The browser is told which style and
//! which script are ours, by their hashes, and that nothing else may be used: text of guests
//! and users in the status cannot become code, even if the script were wrong.

use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// The page.
pub(super) const PAGE: &str = include_str!("page.html");

/// The Content-Security-Policy of the page.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = hash_of("style");
    let script = hash_of("script");
    format!(
        "default-src 'none'; connect-src 'self'; style-src '{style}'; script-src '{script}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The hash of what the page has between the tags of this name, as a policy writes it.
fn hash_of(tag: &str) -> String {
    let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
    let after = PAGE.split_once(&begin).map_or("", |(_, after)| after);
    let text = after.split_once(&end).map_or("", |(text, _)| text);
    format!("sha256-{}", base64(&Sha256::digest(text)))
}

/// Bytes in Base64 (RFC 4648), padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = ALPHABET.get((bits >> (18 - 6 * place) & 63) as usize);
            let digit = digit.filter(|_| place <= chunk.len());
            text.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), expected);
        }
    }

    #[test]
    fn the_page_has_one_style_and_one_script_and_loads_nothing() {
        let empty = format!("sha256-{}", base64(&Sha256::digest("")));
        for tag in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert!(!POLICY.contains(&empty), "{tag}");
        }
        // What would make markup of text, and what a policy of hashes does not let through.
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            " style=",
            " src=",
            "eval(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        // The name of SVG's namespace is no address that anything is loaded from.
        let elsewhere = PAGE.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("://"), "an address");
    }
}
