//! What a file holds, by the ending of its name.

/// For all other endings, and none.
const UNKNOWN: &str = "application/octet-stream";

/// The endings that the web has most. The types are those of CPython's `mimetypes`.
#[rustfmt::skip]
const TYPES: [(&str, &str); 31] = [
    ("avif", "image/avif"),
    ("bz2", "application/x-bzip2"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("txt", "text/plain"),
    ("wasm", "application/wasm"),
    ("wav", "audio/x-wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "text/xml"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
];

/// The type of the file at a path.
pub(crate) fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = match name.rsplit_once('.') {
        // The name of a hidden file is no ending.
        Some((before, ending)) if !before.is_empty() => ending,
        _ => return UNKNOWN,
    };
    TYPES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(ending))
        .map_or(UNKNOWN, |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        #[track_caller]
        fn check(path: &str, expected: &str) {
            assert_eq!(content_type(path), expected, "{path}");
        }
        check("index.html", "text/html");
        check("a.b/c.JPG", "image/jpeg");
        check("a.tar.gz", "application/gzip");
        check("a.txt/b", UNKNOWN);
        check(".html", UNKNOWN);
        check("a.", UNKNOWN);
        check("", UNKNOWN);
        assert!(TYPES.is_sorted());
    }
}
