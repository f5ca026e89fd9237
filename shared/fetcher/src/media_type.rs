//! MIME types: what the origin declares, and what the bytes show.

/// How many bytes from the beginning are looked at; enough for tar's mark at byte 257.
pub(crate) const SNIFF: usize = 4096;

/// What stands for "anything".
pub(crate) const UNKNOWN: &str = "application/octet-stream";

/// The type in a `Content-Type` header, in lower case and without parameters; `None` if it is none.
pub(crate) fn essence(header: &str) -> Option<String> {
    let essence = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/')?;
    let is_token = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    (is_token(kind) && is_token(subtype)).then_some(essence)
}

/// The type that the first bytes show, if they show one.
pub(crate) fn sniff(bytes: &[u8]) -> Option<&'static str> {
    infer::get(bytes).map(|kind| kind.mime_type())
}

/// Whether a whitelist has this type; `*` at an entry's end stands for anything.
pub(crate) fn is_allowed(whitelist: &[String], essence: &str) -> bool {
    whitelist.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => essence.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
        None => entry.eq_ignore_ascii_case(essence),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_read_without_its_parameters() {
        assert_eq!(essence("Text/HTML; charset=utf-8").as_deref(), Some("text/html"));
        for bad in ["", "text", "text/", "/html", "te xt/html", "a/b/c"] {
            assert_eq!(essence(bad), None, "{bad}");
        }
    }

    #[test]
    fn whitelists_take_wildcards_at_the_end() {
        let whitelist = ["text/*".to_owned(), "application/PDF".to_owned(), "application/vnd.*".to_owned()];
        for allowed in ["text/html", "application/pdf", "application/vnd.oasis.opendocument.text"] {
            assert!(is_allowed(&whitelist, allowed), "{allowed}");
        }
        for refused in ["application/x-executable", "application/pdfx", "image/png", "tex"] {
            assert!(!is_allowed(&whitelist, refused), "{refused}");
        }
    }

    #[test]
    fn bytes_show_what_they_are() {
        assert_eq!(
            sniff(b"\x7fELF\x02\x01\x01\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            Some("application/x-executable")
        );
        assert_eq!(sniff(b"%PDF-1.7"), Some("application/pdf"));
        assert_eq!(sniff(b"plain words"), None);
    }
}
