#include "peers.hpp"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <utility>

#include <libtorrent/address.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/operations.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <libtorrent/peer_info.hpp>
#include <libtorrent/peer_request.hpp>
#include <libtorrent/time.hpp>

#include "libtorrent-sys/src/bridge.rs.h"

namespace lt = libtorrent;

namespace proxytorrent {

namespace {

// The maximum send buffer of a peer in bytes. A peer that reads has little queued besides the blocks that libtorrent
// paces. The limit bounds the memory for a peer that does not read.
constexpr int max_send_buffer = send_buffer_watermark + 32 * 1024;

// The most pieces that are announced to the disk before they are sent. It bounds what a peer that only requests can make
// the disk read.
constexpr std::int64_t max_pieces_ahead = 8;

// The number of messages between two checks of the send buffer. A check costs more than a message.
constexpr int check_interval = 64;

// A peer without requests for this time may be replaced by a new one.
constexpr auto idle_time = std::chrono::seconds(10);

// A peer to which nothing could be sent for this time may be replaced, even if it sends requests.
constexpr auto stalled_time = std::chrono::seconds(30);

// A peer that has never sent a request may be replaced sooner.
constexpr auto first_request_time = std::chrono::seconds(3);

// Whether a peer was disconnected because of its send buffer since the last release_memory().
std::atomic<bool> memory_was_queued{false};

// Returns the network of one customer: an IPv4 address, or the /64 of an IPv6 address.
lt::address network_of(lt::address const& address)
{
	if (address.is_v4()) return address;
	auto bytes = address.to_v6().to_bytes();
	if (address.to_v6().is_v4_mapped())
		return lt::make_address_v4(boost::asio::ip::v4_mapped, address.to_v6());
	std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t(0));
	return lt::address_v6(bytes);
}

class GuardedPeer;

} // namespace

class Peers {
public:
	Peers(int limit, std::shared_ptr<rust::Box<Callbacks>> callbacks)
		// Lower than libtorrent's limit, because libtorrent refuses connections without regard to idle peers.
		: m_limit(std::max(1, limit * 3 / 4))
		, m_limit_per_network(std::max({1, limit / 8, std::min(16, limit / 4)}))
		, m_callbacks(std::move(callbacks))
	{}

	void add(GuardedPeer* peer, lt::address const& network);
	void remove(GuardedPeer* peer, lt::address const& network);
	// Disconnects the peer with the longest idle time if the network or the session exceeds its limit. Returns whether
	// the newcomer may stay.
	bool make_room(GuardedPeer* newcomer, lt::address const& network);
	// Announces to the disk that a peer has requested blocks of the piece.
	void announce(Source const& source, lt::piece_index_t piece) const;

private:
	int m_limit;
	int m_limit_per_network;
	std::shared_ptr<rust::Box<Callbacks>> m_callbacks;
	std::set<GuardedPeer*> m_peers;
	std::map<lt::address, std::set<GuardedPeer*>> m_networks;
};

namespace {

// All callbacks run on the network thread: they need no lock and must not block.
class GuardedPeer final : public lt::peer_plugin {
public:
	GuardedPeer(lt::peer_connection_handle const& peer, std::shared_ptr<Peers> peers, std::shared_ptr<Source const> source)
		: m_peer(peer)
		, m_peers(std::move(peers))
		, m_source(std::move(source))
		, m_network(network_of(peer.remote().address()))
		, m_last_request(lt::clock_type::now() - (idle_time - first_request_time))
		, m_last_payload(lt::clock_type::now())
	{
		m_peers->add(this, m_network);
	}

	~GuardedPeer() override { m_peers->remove(this, m_network); }

	lt::string_view type() const override { return "peer_guard"; }

	void on_disconnect(lt::error_code const&) override { m_peers->remove(this, m_network); }

	bool on_handshake(lt::span<char const>) override
	{
		if (!m_peers->make_room(this, m_network)) disconnect();
		return true;
	}

	// libtorrent has not checked the request yet. It reads a block only when the send buffer of the peer has room for it,
	// and peers request many blocks in advance.
	bool on_request(lt::peer_request const& request) override
	{
		auto const now = lt::clock_type::now();
		// After a pause nothing could be sent because nothing was requested.
		if (now - m_last_request >= stalled_time) m_last_payload = now;
		m_last_request = now;
		count_message();
		auto const& info = m_source->info;
		auto const exists = request.piece >= lt::piece_index_t(0) && request.piece < info->end_piece();
		if (exists && request.piece != m_announced && m_ahead < max_pieces_ahead * info->piece_length()) {
			m_announced = request.piece;
			m_ahead += info->piece_length();
			m_peers->announce(*m_source, request.piece);
		}
		return false;
	}

	void sent_payload(int bytes) override
	{
		m_ahead = std::max(std::int64_t(0), m_ahead - bytes);
		m_last_payload = lt::clock_type::now();
	}

	// Messages that make libtorrent queue a response: a reject for each request beyond its limits (BEP 6), and a choke
	// or unchoke for each change of interest.
	void sent_reject_request(lt::peer_request const&) override { count_message(); }
	bool on_interested() override { return count_message(); }
	bool on_not_interested() override { return count_message(); }
	bool on_extended(int, int, lt::span<char const>) override { return count_message(); }
	bool on_unknown_message(int, int, lt::span<char const>) override { return count_message(); }

	void tick() override { check_send_buffer(); }

	// A peer whose time is idle_time ago may be replaced.
	lt::clock_type::time_point last_active() const
	{
		return std::min(m_last_request, m_last_payload + (stalled_time - idle_time));
	}

	void disconnect()
	{
		if (!m_peer.is_disconnecting())
			m_peer.disconnect(lt::errors::too_many_connections, lt::operation_t::bittorrent);
	}

private:
	bool count_message()
	{
		if (++m_messages % check_interval == 0) check_send_buffer();
		return false;
	}

	void check_send_buffer()
	{
		lt::peer_info info;
		m_peer.get_peer_info(info);
		if (info.send_buffer_size <= max_send_buffer) return;
		m_peer.disconnect(lt::errors::too_many_requests_when_choked, lt::operation_t::bittorrent);
		memory_was_queued = true;
	}

	lt::peer_connection_handle m_peer;
	std::shared_ptr<Peers> m_peers;
	std::shared_ptr<Source const> m_source;
	// The last piece that was announced to the disk.
	lt::piece_index_t m_announced{-1};
	// The bytes of the announced pieces that were not sent yet.
	std::int64_t m_ahead = 0;
	lt::address m_network;
	lt::clock_type::time_point m_last_request;
	lt::clock_type::time_point m_last_payload;
	unsigned m_messages = 0;
};

class GuardedTorrent final : public lt::torrent_plugin {
public:
	GuardedTorrent(std::shared_ptr<Peers> peers, std::shared_ptr<Source const> source)
		: m_peers(std::move(peers))
		, m_source(std::move(source))
	{}

	std::shared_ptr<lt::peer_plugin> new_connection(lt::peer_connection_handle const& peer) override
	{
		if (peer.type() != lt::connection_type::bittorrent) return {};
		return std::make_shared<GuardedPeer>(peer, m_peers, m_source);
	}

private:
	std::shared_ptr<Peers> m_peers;
	std::shared_ptr<Source const> m_source;
};

} // namespace

void Peers::add(GuardedPeer* peer, lt::address const& network)
{
	m_peers.insert(peer);
	m_networks[network].insert(peer);
}

void Peers::remove(GuardedPeer* peer, lt::address const& network)
{
	m_peers.erase(peer);
	auto const found = m_networks.find(network);
	if (found == m_networks.end()) return;
	found->second.erase(peer);
	if (found->second.empty()) m_networks.erase(found);
}

bool Peers::make_room(GuardedPeer* newcomer, lt::address const& network)
{
	auto const& neighbours = m_networks[network];
	auto const network_full = int(neighbours.size()) > m_limit_per_network;
	if (!network_full && int(m_peers.size()) <= m_limit) return true;

	auto const& candidates = network_full ? neighbours : m_peers;
	GuardedPeer* idlest = nullptr;
	for (auto* peer : candidates)
		if (peer != newcomer && (!idlest || peer->last_active() < idlest->last_active())) idlest = peer;
	if (idlest && lt::clock_type::now() - idlest->last_active() >= idle_time) {
		idlest->disconnect();
		return true;
	}
	// No peer is idle. If the network is full, the newcomer is refused; else libtorrent's connection limit decides.
	return !network_full;
}

void Peers::announce(Source const& source, lt::piece_index_t piece) const
{
	auto const offset = std::uint64_t(static_cast<int>(piece)) * piece_length(*source.info);
	(*m_callbacks)->announce(rust::Str(source.key), offset, source.info);
}

void release_memory()
{
	// glibc keeps freed memory for later allocations, which may never happen.
	if (memory_was_queued.exchange(false)) malloc_trim(0);
}

std::shared_ptr<Peers> make_peers(int limit, std::shared_ptr<rust::Box<Callbacks>> callbacks)
{
	return std::make_shared<Peers>(limit, std::move(callbacks));
}

std::shared_ptr<lt::torrent_plugin> peer_guard_plugin(
	std::shared_ptr<Peers> peers, std::shared_ptr<Source const> source)
{
	return std::make_shared<GuardedTorrent>(std::move(peers), std::move(source));
}

} // namespace proxytorrent
