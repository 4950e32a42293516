//! The page that lists a directory, as CPython's `http.server` writes it.

use crate::Listing;
use std::fmt::Write as _;

/// How many entries a page has at most. The page is in memory as a whole.
pub(crate) const LIMIT: usize = 10_000;

/// The page of a directory. `shown` is its path in the request.
pub(crate) fn page(shown: &str, mut entries: Vec<Listing>) -> String {
    let is_cut = entries.len() > LIMIT;
    entries.truncate(LIMIT);
    entries.sort_by_cached_key(|entry| (entry.name.to_lowercase(), entry.name.clone()));
    let title = format!("Directory listing for {}", escape(shown));
    let mut page = format!(
        "<!DOCTYPE HTML>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n<hr>\n<ul>\n"
    );
    for entry in &entries {
        let slash = if entry.is_directory { "/" } else { "" };
        // A link to a directory is shown with `@`, and leads to a directory.
        let mark = if entry.is_link { "@" } else { slash };
        let (link, name) = (quote(&entry.name), escape(&entry.name));
        let _ = writeln!(page, "<li><a href=\"{link}{slash}\">{name}{mark}</a></li>");
    }
    if is_cut {
        let _ = writeln!(page, "<li>There are more than {LIMIT} entries.</li>");
    }
    page.push_str("</ul>\n<hr>\n</body>\n</html>\n");
    page
}

/// Text inside of an element.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A name as a part of a URL.
fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            let _ = write!(quoted, "%{byte:02X}");
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, is_directory: bool, is_link: bool) -> Listing {
        Listing {
            name: name.to_owned(),
            is_directory,
            is_link,
        }
    }

    #[test]
    fn entries_are_sorted_and_escaped() {
        let page = page(
            "/<b>&/",
            vec![
                entry("link", true, true),
                entry("B", false, false),
                entry("<script>\"&'", false, false),
                entry("a ü", true, false),
                entry("gone", false, true),
            ],
        );
        let lines: Vec<&str> = page.lines().filter(|line| line.contains("<li>")).collect();
        assert_eq!(
            lines,
            [
                r#"<li><a href="%3Cscript%3E%22%26%27">&lt;script&gt;"&amp;'</a></li>"#,
                r#"<li><a href="a%20%C3%BC/">a ü/</a></li>"#,
                r#"<li><a href="B">B</a></li>"#,
                r#"<li><a href="gone">gone@</a></li>"#,
                r#"<li><a href="link/">link@</a></li>"#,
            ]
        );
        assert!(page.contains("<h1>Directory listing for /&lt;b&gt;&amp;/</h1>"));
    }

    #[test]
    fn a_page_has_an_end() {
        let many = |count: usize| {
            let entries = (0..count).map(|n| entry(&n.to_string(), false, false));
            let page = page("/", entries.collect());
            (
                page.matches("<li>").count(),
                page.contains("There are more than 10000"),
            )
        };
        assert_eq!(many(LIMIT), (10_000, false));
        assert_eq!(many(LIMIT + 1), (10_001, true));
    }
}
