//! Build script: compiles the C++ shim against the system's libtorrent-rasterbar.

fn main() {
    // The shim is written for 2.0. Version 2.1 changes the disk interface (buffer holders, status flags).
    let library = pkg_config::Config::new()
        .range_version("2.0.5".."2.1")
        .probe("libtorrent-rasterbar")
        .expect("libtorrent-rasterbar 2.0 is required: apt-get install libtorrent-rasterbar-dev");

    let mut build = cxx_build::bridge("src/bridge.rs");
    for (name, value) in &library.defines {
        build.define(name, value.as_deref());
    }
    build
        .files(["shim/session.cpp", "shim/disk.cpp", "shim/metadata.cpp", "shim/peers.cpp"])
        .include("shim")
        .std("c++17")
        // These warnings come from the headers of Boost and libtorrent.
        .flag_if_supported("-Wno-deprecated-declarations")
        .flag_if_supported("-Wno-unused-parameter")
        .opt_level(2)
        .compile("proxytorrent-shim");

    for file in
        ["session.cpp", "session.hpp", "disk.cpp", "disk.hpp", "metadata.cpp", "metadata.hpp", "peers.cpp", "peers.hpp"]
    {
        println!("cargo:rerun-if-changed=shim/{file}");
    }
}
