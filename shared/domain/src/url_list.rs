//! Lists of URLs as text.

/// Returns the URLs of a list, one on each line. Lines that are empty or begin with `#` are skipped.
pub fn url_lines(text: &str) -> impl Iterator<Item = &str> {
    // Editors of Windows begin files with a byte order mark.
    let lines = text.trim_start_matches('\u{feff}').lines();
    lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the URL of an internet shortcut (a `.url` file): the value of `URL` in the section `[InternetShortcut]`.
pub fn shortcut_url(text: &str) -> Option<&str> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.find(|line| line.eq_ignore_ascii_case("[InternetShortcut]"))?;
    let entries = lines.take_while(|line| !line.starts_with('['));
    let (_, url) =
        entries.filter_map(|line| line.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("URL"))?;
    Some(url.trim()).filter(|url| !url.is_empty())
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

    #[test]
    fn the_url_of_a_shortcut_is_that_of_its_section() {
        let text = "[{000214A0-0000-0000-C000-000000000046}]\r\nURL=no\r\n[InternetShortcut]\r\nIconIndex=0\r\n\
                    url = https://example.org/?a=b\r\n";
        assert_eq!(shortcut_url(text), Some("https://example.org/?a=b"));
        for none in ["", "URL=https://example.org/", "[InternetShortcut]\nURL=\n", "[InternetShortcut]\n[Other]\nURL=x"]
        {
            assert_eq!(shortcut_url(none), None, "{none}");
        }
    }
}
