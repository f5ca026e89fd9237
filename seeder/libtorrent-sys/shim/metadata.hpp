// Metadata exchange (BEP 9) for private torrents. libtorrent's own ut_metadata plugin never serves them.
#pragma once

#include <memory>

#include <libtorrent/extensions.hpp>
#include <libtorrent/torrent_info.hpp>

namespace proxytorrent {

// Returns a plugin that serves the info dictionary of `torrent` to peers. Must not be combined with libtorrent's own
// ut_metadata plugin.
std::shared_ptr<libtorrent::torrent_plugin> metadata_plugin(std::shared_ptr<libtorrent::torrent_info const> torrent);

} // namespace proxytorrent
