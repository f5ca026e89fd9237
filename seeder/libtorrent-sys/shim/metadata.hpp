// BEP 9 for our private torrents: libtorrent's own ut_metadata never serves them.
#pragma once

#include <memory>

#include <libtorrent/extensions.hpp>
#include <libtorrent/torrent_info.hpp>

namespace proxytorrent {

// Serves the info dictionary of `torrent` to peers that ask for it. Not to be
// attached beside libtorrent's own ut_metadata plugin.
std::shared_ptr<libtorrent::torrent_plugin> metadata_plugin(std::shared_ptr<libtorrent::torrent_info const> torrent);

} // namespace proxytorrent
