//! File names of fetched contents: chosen from the response, sanitized for every file system.

use domain::{FileName, MediaType};
use percent_encoding::percent_decode_str;
use url::Url;

/// Returns the file name: from `Content-Disposition` (RFC 6266), else the last path segment of the URL, else `index`
/// with the extension of the media type.
pub(crate) fn file_name(disposition: Option<&str>, url: &Url, media_type: &MediaType) -> FileName {
    let from_url = || {
        let segment = url.path_segments()?.next_back().filter(|segment| !segment.is_empty())?;
        Some(percent_decode_str(segment).decode_utf8_lossy().into_owned())
    };
    let from_type = || {
        let extension = match media_type.as_str() {
            "text/html" => "html",
            "text/plain" => "txt",
            other => mime_guess::get_mime_extensions_str(other).and_then(|list| list.first()).copied().unwrap_or("bin"),
        };
        FileName::sanitize(&format!("index.{extension}"))
    };
    let named = disposition.and_then(from_disposition).and_then(|name| FileName::sanitize(&name));
    named.or_else(|| FileName::sanitize(&from_url()?)).or_else(from_type).unwrap_or_default()
}

/// Returns the `filename*` parameter (RFC 8187), else the `filename` parameter, without leading folders.
fn from_disposition(header: &str) -> Option<String> {
    let mut plain = None;
    for (name, value) in parameters(header) {
        if name.eq_ignore_ascii_case("filename*") {
            let mut parts = value.splitn(3, '\'');
            let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
            if charset.eq_ignore_ascii_case("utf-8") {
                return Some(last_segment(&percent_decode_str(encoded).decode_utf8_lossy()));
            }
        } else if name.eq_ignore_ascii_case("filename") {
            plain.get_or_insert(last_segment(&value));
        }
    }
    plain
}

fn last_segment(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
}

/// Returns the parameters of a header of the form `type; name=token; name="quoted \" string"`.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = vec![];
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']).to_owned();
        let after = after.trim_start();
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            rest = "";
            while let Some((i, c)) = chars.next() {
                match c {
                    // In practice only `"` and `\` are escaped. Every other backslash is a path separator.
                    '\\' if quoted[i + 1..].starts_with(['"', '\\']) => value.extend(chars.next().map(|(_, c)| c)),
                    '"' => {
                        rest = &quoted[i + 1..];
                        break;
                    }
                    c => value.push(c),
                }
            }
            rest = rest.split_once(';').map_or("", |(_, rest)| rest);
        } else {
            let (token, next) = after.split_once(';').unwrap_or((after, ""));
            token.trim().clone_into(&mut value);
            rest = next;
        }
        found.push((name, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(disposition: Option<&str>, url: &str, media_type: &str) -> String {
        file_name(disposition, &Url::parse(url).unwrap(), &media_type.parse().unwrap()).to_string()
    }

    #[test]
    fn the_name_comes_from_the_disposition_then_the_url_then_the_type() {
        let url = "http://h/dir/a%20b.txt?x=/y.bin";
        for (disposition, expected) in [
            (Some("attachment; filename=report.pdf"), "report.pdf"),
            (Some(r#"attachment; filename="a \"b\";c.pdf"; x=1"#), "a _b_;c.pdf"),
            (Some("attachment; filename=x.txt; filename*=UTF-8''%e2%82%ac.txt"), "€.txt"),
            (Some("attachment; FileName*=utf-8'en'n%C3%A4.txt"), "nä.txt"),
            (Some(r#"attachment; filename="../../etc/passwd""#), "passwd"),
            (Some(r#"attachment; filename="C:\dir\x.doc""#), "x.doc"),
            (Some(r#"attachment; filename="..""#), "a b.txt"),
            (Some("attachment"), "a b.txt"),
            (Some("inline; filename="), "a b.txt"),
            (None, "a b.txt"),
        ] {
            assert_eq!(name(disposition, url, "text/plain"), expected, "{disposition:?}");
        }
        assert_eq!(name(None, "http://h/", "text/html"), "index.html");
        assert_eq!(name(None, "http://h", "application/pdf"), "index.pdf");
        assert_eq!(name(None, "http://h/dir/", "what/ever"), "index.bin");
        assert_eq!(name(None, "http://h/%2e%2e%2f%2e%2e", "text/plain"), "_");
    }
}
