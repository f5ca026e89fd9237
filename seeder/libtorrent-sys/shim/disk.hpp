// A libtorrent disk backend that reads through Rust and refuses every write.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include <boost/asio/executor_work_guard.hpp>
#include <libtorrent/disk_interface.hpp>
#include <libtorrent/io_context.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/sha1_hash.hpp>
#include <libtorrent/torrent_info.hpp>

#include "rust/cxx.h"

namespace proxytorrent {

struct Callbacks;

// One block read for a peer. The owner, on any thread, fills the buffer and then completes or fails the job. The
// destructor fails a job that is neither completed nor failed.
class ReadJob {
public:
	using Handler = std::function<void(libtorrent::disk_buffer_holder, libtorrent::storage_error const&)>;

	ReadJob(libtorrent::io_context& io, int length, Handler handler);
	ReadJob(ReadJob const&) = delete;
	ReadJob& operator=(ReadJob const&) = delete;
	~ReadJob();

	rust::Slice<std::uint8_t> buffer();
	void finish(int error_number);

private:
	struct Free {
		void operator()(char* p) const { std::free(p); }
	};

	libtorrent::io_context& m_io;
	// Keeps the network thread alive until the result is posted.
	boost::asio::executor_work_guard<libtorrent::io_context::executor_type> m_work;
	std::unique_ptr<char, Free> m_buffer;
	int m_length;
	Handler m_handler;
};

void complete_read(std::unique_ptr<ReadJob> job);
void fail_read(std::unique_ptr<ReadJob> job, std::int32_t error_number);

// What Rust needs to read the content of a torrent and to verify it.
struct Source {
	std::string key;
	std::shared_ptr<libtorrent::torrent_info> info;
};

// The torrents that are being added. libtorrent gives its disk only the files of a torrent, without the piece hashes.
class AddedTorrents {
public:
	void put(std::shared_ptr<Source const> const& source);
	// Returns the torrent with this hash and forgets it. Null if it is unknown.
	std::shared_ptr<Source const> take(libtorrent::sha1_hash const& hash);

private:
	std::mutex m_mutex;
	// Weak: a torrent that libtorrent refuses is never taken.
	std::unordered_map<libtorrent::sha1_hash, std::weak_ptr<Source const>> m_torrents;
};

std::array<std::uint8_t, 20> piece_hash(libtorrent::torrent_info const& info, std::uint32_t piece);
std::uint32_t piece_length(libtorrent::torrent_info const& info);
std::uint64_t content_size(libtorrent::torrent_info const& info);

libtorrent::disk_io_constructor_type rust_disk_io(
	std::shared_ptr<rust::Box<Callbacks>> callbacks, std::shared_ptr<AddedTorrents> added);

} // namespace proxytorrent
