//! Lists of URLs as text.

/// Returns the URLs of a list, one on each line. Lines that are empty or begin with `#` are skipped.
pub fn url_lines(text: &str) -> impl Iterator<Item = &str> {
    // Editors of Windows begin files with a byte order mark.
    let lines = text.trim_start_matches('\u{feff}').lines();
    lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_skipped() {
        let text = "\u{feff}https://a.example/\r\n\n # a comment\n\t http://b.example/x#y  \n";
        assert_eq!(url_lines(text).collect::<Vec<_>>(), ["https://a.example/", "http://b.example/x#y"]);
        assert_eq!(url_lines("").count(), 0);
    }
}
