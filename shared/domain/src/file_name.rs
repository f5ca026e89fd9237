//! File names that are safe for every file system.

/// The maximum length of a file name in bytes. It leaves room for a suffix such as `.part` or a number, which clients
/// add, below the 255 bytes that file systems allow.
const MAX: usize = 200;

/// A file name without path separators, control or bidirectional characters, leading dots, and trailing dots or spaces.
/// It is not a name that Windows reserves, and has at most 200 bytes. The default is `download`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// Returns the name with unsafe characters replaced or removed, or `None` if nothing is left. A long name is
    /// shortened; its extension is kept.
    pub fn sanitize(name: &str) -> Option<Self> {
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
        Some(Self(shortened(&name)))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for FileName {
    fn default() -> Self {
        Self("download".into())
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
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
            assert_eq!(FileName::sanitize(raw).as_ref().map(FileName::as_str), Some(safe), "{raw}");
        }
        for nothing in ["", ".", "..", " ", "\u{200b}", ". ."] {
            assert_eq!(FileName::sanitize(nothing), None, "{nothing:?}");
        }
        let long = FileName::sanitize(&format!("{}.tar.gz", "ü".repeat(300))).unwrap();
        let long = long.as_str();
        assert!(long.len() <= MAX && long.ends_with("ü.gz"), "{long}");
    }

    #[test]
    fn a_safe_name_is_not_changed() {
        for name in ["_con", "a b.txt", "日本語.txt", &format!("{}.gz", "ü".repeat(98))] {
            assert_eq!(FileName::sanitize(name).unwrap().as_str(), name);
        }
    }
}
