// Limits on the resources of peers: memory per peer, connections per network, replacement of idle peers by new ones.
// Announces to the disk what peers request.
#pragma once

#include <memory>

#include <libtorrent/extensions.hpp>

#include "disk.hpp"
#include "rust/cxx.h"

namespace proxytorrent {

// libtorrent's send_buffer_watermark: the maximum payload in bytes that it queues for one peer.
constexpr int send_buffer_watermark = 192 * 1024;

// The connected peers of a session. Used only on the network thread.
class Peers;

// Creates the set of peers. `limit` is the maximum number of connections of the session (libtorrent's
// connections_limit).
std::shared_ptr<Peers> make_peers(int limit, std::shared_ptr<rust::Box<Callbacks>> callbacks);

// Returns freed memory to the system, if a peer was disconnected because of its send buffer. Called from any thread.
void release_memory();

// Returns the plugin that applies the limits to the peers of one torrent.
std::shared_ptr<libtorrent::torrent_plugin> peer_guard_plugin(
	std::shared_ptr<Peers> peers, std::shared_ptr<Source const> source);

} // namespace proxytorrent
