#include "metadata.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <libtorrent/bdecode.hpp>
#include <libtorrent/bencode.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <libtorrent/peer_info.hpp>

namespace lt = libtorrent;

namespace proxytorrent {

namespace {

// Our message id of ut_metadata in the extension handshake (BEP 10). libtorrent's own plugins use 1, 3, 4, 7 and 8.
constexpr int own_message_id = 2;
constexpr char extended_message = 20;
constexpr int block = 16 * 1024;

// A request is about 25 bytes.
constexpr int max_message = 1024;
constexpr int max_send_buffer = 160 * 1024;
constexpr std::size_t max_queue = 64;
constexpr int max_rejects = 64;

enum : int { request = 0, data = 1, reject = 2 };

// All callbacks run on the network thread: they need no lock and must not block.
class MetadataPeer final : public lt::peer_plugin {
public:
	MetadataPeer(lt::peer_connection_handle const& peer, std::shared_ptr<lt::torrent_info const> torrent)
		: m_peer(peer)
		, m_torrent(std::move(torrent))
		, m_requests_left(4 * pieces() + 16)
	{}

	lt::string_view type() const override { return "ut_metadata"; }

	void add_handshake(lt::entry& handshake) override
	{
		handshake["m"]["ut_metadata"] = own_message_id;
		handshake["metadata_size"] = size();
	}

	bool on_extension_handshake(lt::bdecode_node const& handshake) override
	{
		m_peer_message_id = 0;
		if (handshake.type() == lt::bdecode_node::dict_t) {
			auto const messages = handshake.dict_find_dict("m");
			auto const id = messages ? messages.dict_find_int_value("ut_metadata", 0) : 0;
			if (id >= 1 && id <= 255) m_peer_message_id = static_cast<int>(id);
		}
		// Returning false would remove the plugin, but a second handshake may still send the id.
		return true;
	}

	bool on_extended(int length, int message, lt::span<char const> body) override
	{
		if (message != own_message_id) return false;
		if (length > max_message) {
			disconnect();
			return true;
		}
		// Incomplete message: this callback runs again when more of it arrives.
		if (body.size() < length) return true;

		lt::error_code ec;
		auto const dict = lt::bdecode(body, ec, nullptr, 4, 32);
		if (ec || dict.type() != lt::bdecode_node::dict_t) {
			disconnect();
			return true;
		}
		if (dict.dict_find_int_value("msg_type", -1) != request || m_peer_message_id == 0) return true;
		if (--m_requests_left < 0 || m_queue.size() >= max_queue) {
			send_reject(dict.dict_find_int_value("piece", 0));
			return true;
		}
		m_queue.push_back(dict.dict_find_int_value("piece", -1));
		drain();
		return true;
	}

	void tick() override { drain(); }

private:
	int size() const { return static_cast<int>(m_torrent->info_section().size()); }
	int pieces() const { return (size() + block - 1) / block; }

	void drain()
	{
		while (!m_queue.empty() && !send_buffer_full()) {
			auto const piece = m_queue.front();
			m_queue.pop_front();
			if (piece < 0 || piece >= pieces())
				send_reject(piece);
			else
				send_piece(static_cast<int>(piece));
		}
	}

	bool send_buffer_full() const
	{
		lt::peer_info info;
		m_peer.get_peer_info(info);
		return info.send_buffer_size >= max_send_buffer;
	}

	void send_piece(int piece)
	{
		auto const offset = piece * block;
		auto const length = std::min(block, size() - offset);
		lt::entry header;
		header["msg_type"] = data;
		header["piece"] = piece;
		header["total_size"] = size();
		send(header, m_torrent->info_section().subspan(offset, length));
	}

	void send_reject(std::int64_t piece)
	{
		if (++m_rejects > max_rejects) {
			disconnect();
			return;
		}
		lt::entry header;
		header["msg_type"] = reject;
		header["piece"] = piece;
		send(header, {});
	}

	void send(lt::entry const& header, lt::span<char const> payload)
	{
		std::vector<char> message(6);
		lt::bencode(std::back_inserter(message), header);
		message.insert(message.end(), payload.begin(), payload.end());
		auto const length = static_cast<std::uint32_t>(message.size() - 4);
		for (int i = 0; i < 4; ++i) message[static_cast<std::size_t>(i)] = static_cast<char>(length >> (24 - 8 * i));
		message[4] = extended_message;
		message[5] = static_cast<char>(m_peer_message_id);
		m_peer.send_buffer(message.data(), static_cast<int>(message.size()));
	}

	void disconnect()
	{
		m_queue.clear();
		m_peer.disconnect(lt::errors::invalid_metadata_message, lt::operation_t::bittorrent);
	}

	lt::peer_connection_handle m_peer;
	std::shared_ptr<lt::torrent_info const> m_torrent;
	std::deque<std::int64_t> m_queue;
	int m_requests_left;
	int m_rejects = 0;
	int m_peer_message_id = 0;
};

class MetadataTorrent final : public lt::torrent_plugin {
public:
	explicit MetadataTorrent(std::shared_ptr<lt::torrent_info const> torrent)
		: m_torrent(std::move(torrent))
	{}

	std::shared_ptr<lt::peer_plugin> new_connection(lt::peer_connection_handle const& peer) override
	{
		if (peer.type() != lt::connection_type::bittorrent) return {};
		return std::make_shared<MetadataPeer>(peer, m_torrent);
	}

private:
	std::shared_ptr<lt::torrent_info const> m_torrent;
};

} // namespace

std::shared_ptr<lt::torrent_plugin> metadata_plugin(std::shared_ptr<lt::torrent_info const> torrent)
{
	return std::make_shared<MetadataTorrent>(std::move(torrent));
}

} // namespace proxytorrent
