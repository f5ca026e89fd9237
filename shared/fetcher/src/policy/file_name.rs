//! File names of fetched contents: chosen from the response, sanitized for every file system.

use percent_encoding::percent_decode_str;
use url::Url;

/// The maximum length of a file name in bytes. It leaves room for a suffix such as `.part` or a number, which clients
/// add, below the 255 bytes that file systems allow.
const MAX: usize = 200;

/// Returns the file name: from `Content-Disposition` (RFC 6266), else the last path segment of the URL, else `index`
/// with the extension of the media type. The name is [safe](safe_file_name).
pub(crate) fn file_name(disposition: Option<&str>, url: &Url, media_type: &str) -> String {
    let from_url = || {
        let segment = url.path_segments()?.next_back().filter(|segment| !segment.is_empty())?;
        Some(percent_decode_str(segment).decode_utf8_lossy().into_owned())
    };
    let from_type = || {
        let extension = match media_type {
            "text/html" => "html",
            "text/plain" => "txt",
            other => mime_guess::get_mime_extensions_str(other).and_then(|list| list.first()).copied().unwrap_or("bin"),
        };
        format!("index.{extension}")
    };
    let named = disposition.and_then(from_disposition).map(|name| safe_file_name(&name));
    named.flatten().or_else(|| safe_file_name(&from_url()?)).unwrap_or_else(from_type)
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

/// Returns the file name with unsafe characters replaced or removed, or `None` if nothing is left. The result has no
/// path separators, no control or bidirectional characters, no leading dots and no trailing dots or spaces. It is not
/// a name that Windows reserves. It has at most 200 bytes; the extension is kept.
pub fn safe_file_name(name: &str) -> Option<String> {
    let is_invisible = |c: char| {
        c.is_control()
            || matches!(
                c,
                '\u{61c}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
                    | '\u{e0000}'..='\u{e007f}'
            )
    };
    let name: String = name
        .chars()
        .filter(|c| !is_invisible(*c))
        .map(|c| if matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') { '_' } else { c })
        .collect();
    let name = name.trim_matches(|c: char| c == '.' || c.is_whitespace());
    if name.is_empty() {
        return None;
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |prefix| {
        let digits = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³"];
        stem.strip_prefix(prefix).is_some_and(|number| digits.contains(&number))
    };
    let reserved = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT");
    let name = if reserved { format!("_{name}") } else { name.to_owned() };
    Some(shortened(&name))
}

fn shortened(name: &str) -> String {
    if name.len() <= MAX {
        return name.to_owned();
    }
    let extension =
        name.rfind('.').map(|dot| &name[dot..]).filter(|extension| extension.len() <= 20).unwrap_or_default();
    let mut end = MAX - extension.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", name[..end].trim_end_matches(['.', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(disposition: Option<&str>, url: &str, media_type: &str) -> String {
        file_name(disposition, &Url::parse(url).unwrap(), media_type)
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

    #[test]
    fn names_are_safe_for_every_file_system() {
        for (raw, safe) in [
            ("a/b\\c:d*e?f\"g<h>i|j", "a_b_c_d_e_f_g_h_i_j"),
            ("...hidden", "hidden"),
            ("trailing. . ", "trailing"),
            ("con", "_con"),
            ("NUL.txt", "_NUL.txt"),
            ("com1.tar.gz", "_com1.tar.gz"),
            ("com10", "com10"),
            ("a\u{202e}txt.exe\r\n\0", "atxt.exe"),
            ("日本語.txt", "日本語.txt"),
            (". .bashrc", "bashrc"),
            (" . .. x\u{a0}.", "x"),
            ("COM¹.txt", "_COM¹.txt"),
            ("a\u{61c}\u{2028}\u{e0041}b", "ab"),
        ] {
            assert_eq!(safe_file_name(raw).as_deref(), Some(safe), "{raw}");
        }
        for nothing in ["", ".", "..", " ", "\u{200b}", ". ."] {
            assert_eq!(safe_file_name(nothing), None, "{nothing:?}");
        }
        let long = safe_file_name(&format!("{}.tar.gz", "ü".repeat(300))).unwrap();
        assert!(long.len() <= MAX && long.ends_with("ü.gz"), "{long}");
    }
}
