//! The settings of the folder of URLs.

use std::path::PathBuf;

use crate::source::Source;

section! {
    /// A folder that is watched for URLs to fetch.
    UrlFolder "URL_FOLDER__" {
        /// The folder that is watched for URLs: `.txt` files with a URL on each line, and `.url` files, the internet
        /// shortcuts of Windows and of browsers. A processed file is renamed. Empty: none.
        path: Option<PathBuf> = "";
        /// The user who owns the requests for these URLs. Needed unless authentication is off.
        owner: Option<String> = "";
    }
}
