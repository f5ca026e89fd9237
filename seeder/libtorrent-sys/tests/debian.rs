//! Notes when Debian's package has another version than the one that the shim is written for.

use std::process::Command;

/// libtorrent 2.1 has another disk interface and a faster RC4: the shim must be ported, and the send buffers, the rates and
/// the number of sessions must be measured again.
#[test]
fn the_package_of_debian_is_version_2_0() {
    let output =
        Command::new("apt-cache").args(["policy", "libtorrent-rasterbar-dev"]).output().expect("apt-cache runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    let candidate = printed.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    let candidate = candidate.expect("the package exists");
    assert!(candidate.starts_with("2.0."), "Debian has libtorrent {candidate}: port the shim and measure again");
}
