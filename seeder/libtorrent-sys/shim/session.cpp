#include "session.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/address.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/extensions/ut_metadata.hpp>
#include <libtorrent/extensions/ut_pex.hpp>
#include <libtorrent/hex.hpp>
#include <libtorrent/ip_filter.hpp>
#include <libtorrent/load_torrent.hpp>
#include <libtorrent/peer_class.hpp>
#include <libtorrent/peer_class_type_filter.hpp>
#include <libtorrent/peer_info.hpp>
#include <libtorrent/pex_flags.hpp>
#include <libtorrent/session_stats.hpp>
#include <libtorrent/settings_pack.hpp>
#include <libtorrent/torrent_flags.hpp>
#include <libtorrent/torrent_handle.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/torrent_status.hpp>

#include "libtorrent-sys/src/bridge.rs.h"
#include "metadata.hpp"

namespace lt = libtorrent;

namespace proxytorrent {

namespace {

// Default download limit in bytes per second. A seed receives little more than requests, 17 bytes per block of 16 KiB,
// so this allows an upload of about 1.9 GB/s. The limit bounds the work that all peers together can cause.
constexpr int max_received_per_second = 2 * 1024 * 1024;

lt::settings_pack pack(SessionSettings const& s)
{
	lt::settings_pack p;
	p.set_str(lt::settings_pack::listen_interfaces, std::string(s.listen_interfaces));
	// Torrents and magnet links contain the configured port, so a fallback to another port would be useless.
	p.set_int(lt::settings_pack::max_retry_port_bind, 0);
	p.set_bool(lt::settings_pack::listen_system_port_fallback, false);
	p.set_int(lt::settings_pack::listen_queue_size, 1024);
	p.set_bool(lt::settings_pack::enable_incoming_utp, s.utp);
	// libtorrent would try µTP first and lose three seconds with each peer that does not support it.
	p.set_bool(lt::settings_pack::enable_outgoing_utp, false);

	// Private torrents (BEP 27): peers come only from our tracker.
	p.set_bool(lt::settings_pack::enable_dht, false);
	p.set_bool(lt::settings_pack::enable_lsd, false);
	p.set_bool(lt::settings_pack::enable_upnp, false);
	p.set_bool(lt::settings_pack::enable_natpmp, false);
	p.set_bool(lt::settings_pack::anonymous_mode, true);

	auto const policy = s.encryption == Encryption::Forced ? lt::settings_pack::pe_forced
		: s.encryption == Encryption::Preferred ? lt::settings_pack::pe_enabled
		: lt::settings_pack::pe_disabled;
	p.set_int(lt::settings_pack::in_enc_policy, policy);
	p.set_int(lt::settings_pack::out_enc_policy, policy);
	// Header-only obfuscation would leave the payload unencrypted.
	p.set_int(lt::settings_pack::allowed_enc_level,
		s.encryption == Encryption::Forced ? lt::settings_pack::pe_rc4 : lt::settings_pack::pe_both);
	p.set_bool(lt::settings_pack::prefer_rc4, s.encryption == Encryption::Preferred);

	if (!s.proxy_hostname.empty()) {
		// libtorrent then connects to peers through the proxy only, and opens no TCP listen socket.
		p.set_int(lt::settings_pack::proxy_type,
			s.proxy_username.empty() ? lt::settings_pack::socks5 : lt::settings_pack::socks5_pw);
		p.set_str(lt::settings_pack::proxy_hostname, std::string(s.proxy_hostname));
		p.set_int(lt::settings_pack::proxy_port, s.proxy_port);
		p.set_str(lt::settings_pack::proxy_username, std::string(s.proxy_username));
		p.set_str(lt::settings_pack::proxy_password, std::string(s.proxy_password));
		p.set_bool(lt::settings_pack::proxy_peer_connections, true);
		p.set_bool(lt::settings_pack::proxy_tracker_connections, true);
		p.set_bool(lt::settings_pack::proxy_hostnames, true);
	}

	p.set_int(lt::settings_pack::upload_rate_limit, s.upload_rate_limit);
	p.set_int(lt::settings_pack::download_rate_limit,
		s.download_rate_limit > 0 ? s.download_rate_limit : max_received_per_second);
	// The limits apply to bytes of the BitTorrent protocol, without libtorrent's estimate of TCP/IP overhead.
	p.set_bool(lt::settings_pack::rate_limit_ip_overhead, false);
	p.set_int(lt::settings_pack::connections_limit, s.connections_limit);

	// A silent connection must not occupy a connection slot for long.
	p.set_int(lt::settings_pack::handshake_timeout, 5);
	p.set_int(lt::settings_pack::inactivity_timeout, 120);
	// The session connects only to peers from connect_peer(), because it has no DHT, LSD, PEX or tracker.
	p.set_bool(lt::settings_pack::seeding_outgoing_connections, s.connect_to_peers);
	p.set_int(lt::settings_pack::connection_speed, 200);
	// Some clients close the first connection: qBittorrent adds the torrent of a magnet link again after it has the
	// metadata, and Transmission refuses a connection from an address that it is connecting to.
	p.set_int(lt::settings_pack::min_reconnect_time, 1);
	p.set_int(lt::settings_pack::max_failcount, 5);
	p.set_str(lt::settings_pack::outgoing_interfaces, std::string(s.outgoing_interfaces));
	// Many users may share one address behind NAT.
	p.set_bool(lt::settings_pack::allow_multiple_connections_per_ip, true);

	// Every torrent is always seeded, to every peer.
	p.set_int(lt::settings_pack::unchoke_slots_limit, -1);
	p.set_int(lt::settings_pack::active_seeds, -1);
	p.set_int(lt::settings_pack::active_limit, -1);

	// With 4 MiB, the rate of µTP peers was a tenth. With the default of 500 KiB, 200 peers that do not read hold
	// 100 MB.
	p.set_int(lt::settings_pack::send_buffer_watermark, send_buffer_watermark);
	// Unless a rate limit applies, libtorrent's receive buffer of a peer grows to the size of the kernel's, up to 6 MiB.
	p.set_int(lt::settings_pack::recv_socket_buffer_size, 64 * 1024);
	p.set_int(lt::settings_pack::max_peer_recv_buffer_size, 64 * 1024);

	p.set_int(lt::settings_pack::alert_mask, lt::alert_category::error | lt::alert_category::status | lt::alert_category::storage);
	// Every torrent raises an alert at start and at shutdown, and none may be dropped.
	p.set_int(lt::settings_pack::alert_queue_size, 1'000'000);
	return p;
}

lt::sha1_hash parse_infohash(rust::Str infohash)
{
	lt::sha1_hash hash;
	if (infohash.size() != 40 || !lt::aux::from_hex({infohash.data(), 40}, hash.data()))
		throw std::invalid_argument("an infohash is 40 hexadecimal digits");
	return hash;
}

std::string hex(lt::info_hash_t const& hashes)
{
	return lt::aux::to_hex(hashes.has_v1() ? hashes.v1 : hashes.get_best());
}

Statistics counted(lt::span<std::int64_t const> counters)
{
	static int const uploaded = lt::find_metric_idx("net.sent_payload_bytes");
	static int const peers = lt::find_metric_idx("peer.num_peers_connected");
	auto const at = [&](int index) { return static_cast<std::uint64_t>(counters[index]); };
	return {at(uploaded), at(peers)};
}

Statistics counted(lt::torrent_status const& status)
{
	return {static_cast<std::uint64_t>(status.total_payload_upload), static_cast<std::uint64_t>(status.num_peers)};
}

lt::span<char const> chars(rust::Slice<std::uint8_t const> s)
{
	return {reinterpret_cast<char const*>(s.data()), static_cast<std::ptrdiff_t>(s.size())};
}

} // namespace

Session::Session(SessionSettings const& settings, rust::Box<Callbacks> callbacks)
	: m_callbacks(std::make_shared<rust::Box<Callbacks>>(std::move(callbacks)))
	, m_added(std::make_shared<AddedTorrents>())
	, m_session([&] {
		// No default extensions: add_torrent() adds the extensions that a torrent may have.
		lt::session_params params(pack(settings), {});
		params.disk_io_constructor = rust_disk_io(m_callbacks, m_added);
		lt::session session(std::move(params));
		session.set_alert_notify([callbacks = m_callbacks] { (*callbacks)->notify(); });
		return session;
	}())
	, m_peers(make_peers(settings.connections_limit, m_callbacks))
	, m_connect_to_peers(settings.connect_to_peers)
{
	// libtorrent exempts local networks from rate limits by default. The operator's limits must apply to all peers.
	lt::ip_filter everyone;
	everyone.add_rule(lt::make_address("0.0.0.0"), lt::make_address("255.255.255.255"), 1);
	everyone.add_rule(lt::make_address("::"), lt::make_address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 1);
	m_session.set_peer_class_filter(everyone);

	// A µTP SYN can be spoofed and occupies a connection slot until the handshake timeout. µTP connections count twice,
	// so that half of the slots remain for TCP.
	auto const utp = m_session.create_peer_class("utp");
	auto info = m_session.get_peer_class(utp);
	info.connection_limit_factor = 200;
	m_session.set_peer_class(utp, info);
	lt::peer_class_type_filter types;
	types.add(lt::peer_class_type_filter::utp_socket, utp);
	m_session.set_peer_class_type_filter(types);
}

void Session::add_torrent(rust::Slice<std::uint8_t const> torrent, rust::Str key) const
{
	auto const info = parse_torrent(torrent);
	// The tracker adds this seeder to every swarm itself. Announcing thousands of torrents would delay shutdown.
	info->clear_trackers();
	info->set_web_seeds({});
	auto const source = std::make_shared<Source const>(Source{std::string(key), info});
	lt::add_torrent_params params;
	params.ti = info;
	// The disk knows the content by its source.
	params.save_path = "/";
	// The content is already verified by its hash, so every piece is marked as present without a check. seed_mode is not
	// used, because it would verify each piece at its first request.
	params.have_pieces.resize(info->num_pieces(), true);
	params.flags = lt::torrent_flags::no_verify_files | lt::torrent_flags::duplicate_is_error
		| lt::torrent_flags::update_subscribe;

	if (info->priv()) {
		params.extensions.emplace_back(
			[info](lt::torrent_handle const&, lt::client_data_t) { return metadata_plugin(info); });
	} else {
		params.extensions.emplace_back(&lt::create_ut_metadata_plugin);
		// With PEX, a session that opens connections would connect to any address that a peer sends.
		if (!m_connect_to_peers) params.extensions.emplace_back(&lt::create_ut_pex_plugin);
	}
	params.extensions.emplace_back(
		[peers = m_peers, source](lt::torrent_handle const&, lt::client_data_t) { return peer_guard_plugin(peers, source); });
	m_added->put(source);
	m_session.async_add_torrent(std::move(params));
}

bool Session::connect_peer(rust::Str infohash, rust::Str address, std::uint16_t port) const
{
	auto const handle = m_session.find_torrent(parse_infohash(infohash));
	if (!handle.is_valid()) return false;
	lt::error_code ec;
	auto const ip = lt::make_address(std::string(address), ec);
	if (ec) throw std::invalid_argument("not an IP address");
	handle.connect_peer({ip, port}, lt::peer_info::tracker, lt::pex_encryption);
	return true;
}

bool Session::is_used(rust::Str infohash) const
{
	auto const handle = m_session.find_torrent(parse_infohash(infohash));
	return handle.is_valid() && handle.status({}).num_peers > 0;
}

bool Session::remove_torrent(rust::Str infohash) const
{
	auto const handle = m_session.find_torrent(parse_infohash(infohash));
	if (!handle.is_valid()) return false;
	m_session.remove_torrent(handle);
	return true;
}

void Session::set_listen_interfaces(rust::Str interfaces) const
{
	lt::settings_pack p;
	p.set_str(lt::settings_pack::listen_interfaces, std::string(interfaces));
	m_session.apply_settings(std::move(p));
}

void Session::set_upload_rate_limit(std::int32_t limit) const
{
	lt::settings_pack p;
	p.set_int(lt::settings_pack::upload_rate_limit, limit);
	m_session.apply_settings(std::move(p));
}

void Session::request_statistics() const
{
	// Only torrents that have changed since the last call are reported. The order of the calls is that of the alerts.
	m_session.post_torrent_updates({});
	m_session.post_session_stats();
}

rust::Vec<Event> Session::take_events() const
{
	std::vector<lt::alert*> alerts;
	m_session.pop_alerts(&alerts);
	rust::Vec<Event> events;
	auto const push = [&](EventKind kind, std::string infohash, std::string const& message) -> Event& {
		events.push_back(Event{kind, rust::String::lossy(infohash), rust::String::lossy(message), 0, {}});
		return events[events.size() - 1];
	};
	for (auto const* alert : alerts) {
		if (auto const* added = lt::alert_cast<lt::add_torrent_alert>(alert)) {
			auto const hash = hex(added->params.info_hashes);
			if (!added->error)
				push(EventKind::Added, hash, {});
			else if (added->error == lt::error_code(lt::errors::duplicate_torrent))
				push(EventKind::AddedAlready, hash, {});
			else
				push(EventKind::AddFailed, hash, added->error.message());
		} else if (auto const* removed = lt::alert_cast<lt::torrent_removed_alert>(alert)) {
			push(EventKind::Removed, hex(removed->info_hashes), {});
		} else if (auto const* updates = lt::alert_cast<lt::state_update_alert>(alert)) {
			for (auto const& status : updates->status)
				push(EventKind::TorrentStatistics, hex(status.info_hashes), {}).statistics = counted(status);
		} else if (auto const* listening = lt::alert_cast<lt::listen_succeeded_alert>(alert)) {
			push(EventKind::Listening, {}, listening->message()).port = static_cast<std::uint16_t>(listening->port);
		} else if (auto const* deaf = lt::alert_cast<lt::listen_failed_alert>(alert)) {
			push(EventKind::ListenFailed, {}, deaf->message()).port = static_cast<std::uint16_t>(deaf->port);
		} else if (auto const* error = lt::alert_cast<lt::torrent_error_alert>(alert)) {
			push(EventKind::TorrentError, hex(error->handle.info_hashes()), error->message());
		} else if (auto const* file = lt::alert_cast<lt::file_error_alert>(alert)) {
			push(EventKind::TorrentError, hex(file->handle.info_hashes()), file->message());
		} else if (auto const* statistics = lt::alert_cast<lt::session_stats_alert>(alert)) {
			push(EventKind::Statistics, {}, {}).statistics = counted(statistics->counters());
		}
	}
	return events;
}

rust::Vec<Event> Session::uploads() const
{
	auto const uploaded = [](lt::torrent_status const& status) { return status.total_payload_upload > 0; };
	rust::Vec<Event> events;
	for (auto const& status : m_session.get_torrent_status(uploaded))
		events.push_back(Event{EventKind::TorrentStatistics, hex(status.info_hashes), {}, 0, counted(status)});
	return events;
}

std::uint16_t Session::listen_port() const { return m_session.listen_port(); }

std::shared_ptr<lt::torrent_info> parse_torrent(rust::Slice<std::uint8_t const> torrent)
{
	auto info = std::make_shared<lt::torrent_info>(chars(torrent), lt::from_span);
	if (!info->info_hashes().has_v1()) throw std::invalid_argument("the torrent has no v1 piece hashes");
	return info;
}

void exit_immediately(std::int32_t code) { std::_Exit(code); }

std::unique_ptr<Session> new_session(SessionSettings const& settings, rust::Box<Callbacks> callbacks)
{
	return std::make_unique<Session>(settings, std::move(callbacks));
}

} // namespace proxytorrent
