// The session that the cxx bridge exposes to Rust. src/lib.rs documents each call.
#pragma once

#include <cstdint>
#include <memory>

#include <libtorrent/session.hpp>

#include "disk.hpp"
#include "peers.hpp"
#include "rust/cxx.h"

namespace proxytorrent {

struct Event;
struct SessionSettings;

class Session {
public:
	Session(SessionSettings const& settings, rust::Box<Callbacks> callbacks);

	void add_torrent(rust::Slice<std::uint8_t const> torrent, rust::Str key) const;
	bool is_used(rust::Str infohash) const;
	bool remove_torrent(rust::Str infohash) const;
	bool connect_peer(rust::Str infohash, rust::Str address, std::uint16_t port) const;
	void set_upload_rate_limit(std::int32_t limit) const;
	void request_statistics() const;
	void set_listen_interfaces(rust::Str interfaces) const;
	rust::Vec<Event> take_events() const;
	rust::Vec<Event> uploads() const;
	std::uint16_t listen_port() const;

private:
	std::shared_ptr<rust::Box<Callbacks>> m_callbacks;
	std::shared_ptr<AddedTorrents> m_added;
	// libtorrent's session handle is thread-safe but not const.
	mutable libtorrent::session m_session;
	std::shared_ptr<Peers> m_peers;
	bool m_connect_to_peers;
};

// Parses a metainfo file. Throws if it is invalid or has no v1 piece hashes.
std::shared_ptr<libtorrent::torrent_info> parse_torrent(rust::Slice<std::uint8_t const> torrent);

// Ends the process without waiting for threads or running destructors.
void exit_immediately(std::int32_t code);

std::unique_ptr<Session> new_session(SessionSettings const& settings, rust::Box<Callbacks> callbacks);

} // namespace proxytorrent
