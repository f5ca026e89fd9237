// Limits on what peers may cost: memory per peer, connections per network, and idle peers that give way to new ones.
#pragma once

#include <memory>

#include <libtorrent/extensions.hpp>

namespace proxytorrent {

// libtorrent's send_buffer_watermark, in bytes: the most payload that it queues for one peer.
constexpr int send_buffer_watermark = 192 * 1024;

// All peers of a session that have finished the BitTorrent handshake. Used on the network thread alone.
class Peers;

// `limit` is the most connections of the session (libtorrent's connections_limit).
std::shared_ptr<Peers> make_peers(int limit);

// Returns memory to the system after a peer was disconnected for what it made us queue. Called from any thread.
void release_memory();

// Guards the peers of one torrent.
std::shared_ptr<libtorrent::torrent_plugin> peer_guard_plugin(std::shared_ptr<Peers> peers);

} // namespace proxytorrent
