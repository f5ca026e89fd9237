//! Media types (MIME types): declared by the origin, and sniffed from the first bytes.

/// The number of leading bytes that are sniffed. It covers the magic of tar at byte 257.
pub(crate) const SNIFF: usize = 4096;

/// Returns the media type that the first bytes indicate, or `None` if they match no known signature.
pub(crate) fn sniff(bytes: &[u8]) -> Option<&'static str> {
    infer::get(bytes).map(|kind| kind.mime_type())
}

/// Whether the content starts like markup: with a tag, a comment or a declaration. Browsers also render pages whose
/// start [`sniff`] does not recognize.
pub(crate) fn is_markup(bytes: &[u8]) -> bool {
    let utf16 = matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(if utf16 { &bytes[2..] } else { bytes });
    // UTF-16: removing the zero bytes leaves the ASCII characters, and only those matter here.
    let text: Vec<u8> = text.iter().copied().filter(|byte| !utf16 || *byte != 0).collect();
    let begin = text.trim_ascii_start();
    matches!(begin, [b'<', next, ..] if next.is_ascii_alphabetic() || b"!?/".contains(next))
}

/// Whether active content (markup, scripts, executables) is declared as a passive type. A client that trusts the
/// declaration would open content that it otherwise blocks. Other mismatches are allowed, because servers often
/// declare a wrong type.
pub(crate) fn contradicts(declared: &str, shown: Option<&str>, markup: bool) -> bool {
    let passive = ["image/", "audio/", "video/", "font/"].iter().any(|kind| declared.starts_with(kind))
        && !declared.ends_with("+xml")
        || matches!(declared, "application/pdf" | "application/zip" | "application/gzip" | "application/x-gzip");
    let active = |shown: &str| {
        shown.starts_with("text/")
            || matches!(
                shown,
                "application/x-executable"
                    | "application/vnd.microsoft.portable-executable"
                    | "application/x-mach-binary"
                    | "application/java"
                    | "application/wasm"
                    | "application/llvm"
            )
    };
    passive && (markup || shown.is_some_and(active))
}

/// Whether the whitelist contains this media type. `*` at the end of an entry is a wildcard.
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
    fn active_content_contradicts_a_passive_type() {
        let html = sniff(b"  <!DOCTYPE html><html>").unwrap();
        for declared in ["image/png", "video/mp4", "application/pdf", "application/zip"] {
            assert!(contradicts(declared, Some(html), false), "{declared}");
        }
        let elf = sniff(b"\x7fELF\x02\x01\x01\0........................................................").unwrap();
        assert!(contradicts("image/png", Some(elf), false));
        for (declared, shown) in [
            ("text/plain", html),
            ("application/octet-stream", elf),
            ("image/svg+xml", "text/xml"),
            ("image/jpeg", "image/png"),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/zip"),
        ] {
            assert!(!contradicts(declared, Some(shown), false), "{declared}: {shown}");
        }
        assert!(contradicts("image/png", None, true) && !contradicts("image/svg+xml", None, true));
    }

    #[test]
    fn markup_is_recognized_by_its_first_characters() {
        let utf16: Vec<u8> = "\u{feff}<html>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for markup in [
            b"<svg onload=x>".as_slice(),
            b"\xef\xbb\xbf\r\n <html>",
            b"<!--",
            b"<?xml?>",
            b"</p>",
            b"\n\t<x-y>",
            &utf16,
        ] {
            assert!(is_markup(markup), "{markup:?}");
        }
        for other in [b"".as_slice(), b"<", b"<3", b"a<b>", b"\x89PNG\r\n<html>", b"< html>"] {
            assert!(!is_markup(other), "{other:?}");
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
    fn the_media_type_is_sniffed_from_the_bytes() {
        assert_eq!(
            sniff(b"\x7fELF\x02\x01\x01\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            Some("application/x-executable")
        );
        assert_eq!(sniff(b"%PDF-1.7"), Some("application/pdf"));
        assert_eq!(sniff(b"plain words"), None);
    }
}
