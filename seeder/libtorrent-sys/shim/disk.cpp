#include "disk.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <new>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <libtorrent/disk_buffer_holder.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/file_storage.hpp>
#include <libtorrent/operations.hpp>
#include <libtorrent/peer_request.hpp>
#include <libtorrent/performance_counters.hpp>
#include <libtorrent/storage_defs.hpp>

#include "libtorrent-sys/src/bridge.rs.h"

namespace lt = libtorrent;

namespace proxytorrent {

namespace {

// Static: buffer holders are in the send queues of peers and may outlive the disk object.
struct MallocBuffers final : lt::buffer_allocator_interface {
	void free_disk_buffer(char* b) override { std::free(b); }
} malloc_buffers;

lt::storage_error read_error(int error_number)
{
	lt::storage_error error;
	error.ec = lt::error_code(error_number, lt::system_category());
	error.operation = lt::operation_t::file_read;
	return error;
}

lt::storage_error refused(lt::operation_t operation)
{
	lt::storage_error error;
	error.ec = lt::error_code(EROFS, lt::system_category());
	error.operation = operation;
	return error;
}

class RustDiskIo final : public lt::disk_interface {
public:
	RustDiskIo(lt::io_context& io, std::shared_ptr<rust::Box<Callbacks>> callbacks, std::shared_ptr<AddedTorrents> added)
		: m_io(io)
		, m_callbacks(std::move(callbacks))
		, m_added(std::move(added))
	{}

	lt::storage_holder new_torrent(lt::storage_params const& p, std::shared_ptr<void> const&) override
	{
		auto source = m_added->take(p.info_hash);
		if (!m_free.empty()) {
			auto const index = m_free.back();
			m_free.pop_back();
			m_sources[static_cast<std::uint32_t>(index)] = std::move(source);
			return {index, *this};
		}
		m_sources.push_back(std::move(source));
		return {lt::storage_index_t(static_cast<std::uint32_t>(m_sources.size() - 1)), *this};
	}

	void remove_torrent(lt::storage_index_t index) override
	{
		m_sources[static_cast<std::uint32_t>(index)] = {};
		m_free.push_back(index);
	}

	void async_read(lt::storage_index_t index, lt::peer_request const& r, ReadJob::Handler handler,
		lt::disk_job_flags_t) override
	{
		auto const& source = m_sources[static_cast<std::uint32_t>(index)];
		auto job = std::make_unique<ReadJob>(m_io, r.length, std::move(handler));
		// Without piece hashes nothing can be verified. The destructor of the job fails the read.
		if (!source) return;
		auto const offset = std::int64_t(static_cast<int>(r.piece)) * source->info->piece_length() + r.start;
		(*m_callbacks)->read(rust::Str(source->key), static_cast<std::uint64_t>(offset), source->info, std::move(job));
	}

	bool async_write(lt::storage_index_t, lt::peer_request const&, char const*,
		std::shared_ptr<lt::disk_observer>, std::function<void(lt::storage_error const&)> handler,
		lt::disk_job_flags_t) override
	{
		post([handler = std::move(handler)] { handler(refused(lt::operation_t::file_write)); });
		return false;
	}

	// Every piece is marked as present and verification is off, so libtorrent never hashes. If it did, it must get an
	// error and not an invalid hash.
	void async_hash(lt::storage_index_t, lt::piece_index_t piece, lt::span<lt::sha256_hash>,
		lt::disk_job_flags_t,
		std::function<void(lt::piece_index_t, lt::sha1_hash const&, lt::storage_error const&)> handler) override
	{
		post([piece, handler = std::move(handler)] { handler(piece, lt::sha1_hash{}, read_error(ENOTSUP)); });
	}

	void async_hash2(lt::storage_index_t, lt::piece_index_t piece, int, lt::disk_job_flags_t,
		std::function<void(lt::piece_index_t, lt::sha256_hash const&, lt::storage_error const&)> handler) override
	{
		post([piece, handler = std::move(handler)] { handler(piece, lt::sha256_hash{}, read_error(ENOTSUP)); });
	}

	void async_move_storage(lt::storage_index_t, std::string path, lt::move_flags_t,
		std::function<void(lt::status_t, std::string const&, lt::storage_error const&)> handler) override
	{
		post([path = std::move(path), handler = std::move(handler)] {
			handler(lt::status_t::fatal_disk_error, path, refused(lt::operation_t::file_rename));
		});
	}

	void async_release_files(lt::storage_index_t, std::function<void()> handler) override
	{
		if (handler) post(std::move(handler));
	}

	void async_check_files(lt::storage_index_t, lt::add_torrent_params const*,
		lt::aux::vector<std::string, lt::file_index_t>,
		std::function<void(lt::status_t, lt::storage_error const&)> handler) override
	{
		post([handler = std::move(handler)] { handler(lt::status_t::no_error, lt::storage_error{}); });
	}

	void async_stop_torrent(lt::storage_index_t, std::function<void()> handler) override
	{
		if (handler) post(std::move(handler));
	}

	void async_rename_file(lt::storage_index_t, lt::file_index_t file, std::string name,
		std::function<void(std::string const&, lt::file_index_t, lt::storage_error const&)> handler) override
	{
		post([file, name = std::move(name), handler = std::move(handler)] {
			handler(name, file, refused(lt::operation_t::file_rename));
		});
	}

	void async_delete_files(lt::storage_index_t, lt::remove_flags_t,
		std::function<void(lt::storage_error const&)> handler) override
	{
		post([handler = std::move(handler)] { handler(refused(lt::operation_t::file_remove)); });
	}

	void async_set_file_priority(lt::storage_index_t, lt::aux::vector<lt::download_priority_t, lt::file_index_t> priorities,
		std::function<void(lt::storage_error const&, lt::aux::vector<lt::download_priority_t, lt::file_index_t>)> handler) override
	{
		post([priorities = std::move(priorities), handler = std::move(handler)]() mutable {
			handler(lt::storage_error{}, std::move(priorities));
		});
	}

	void async_clear_piece(lt::storage_index_t, lt::piece_index_t piece,
		std::function<void(lt::piece_index_t)> handler) override
	{
		post([piece, handler = std::move(handler)] { handler(piece); });
	}

	void update_stats_counters(lt::counters&) const override {}
	std::vector<lt::open_file_state> get_status(lt::storage_index_t) const override { return {}; }
	void abort(bool) override {}
	void submit_jobs() override {}
	void settings_updated() override {}

private:
	template <typename F>
	void post(F&& f) { boost::asio::post(m_io, std::forward<F>(f)); }

	lt::io_context& m_io;
	std::shared_ptr<rust::Box<Callbacks>> m_callbacks;
	std::shared_ptr<AddedTorrents> m_added;
	// Used only on the network thread.
	std::vector<std::shared_ptr<Source const>> m_sources;
	std::vector<lt::storage_index_t> m_free;
};

} // namespace

ReadJob::ReadJob(lt::io_context& io, int length, Handler handler)
	: m_io(io)
	, m_work(boost::asio::make_work_guard(io))
	, m_buffer(static_cast<char*>(std::malloc(static_cast<std::size_t>(length))))
	, m_length(length)
	, m_handler(std::move(handler))
{
	if (!m_buffer) throw std::bad_alloc();
}

ReadJob::~ReadJob() { finish(ECANCELED); }

rust::Slice<std::uint8_t> ReadJob::buffer()
{
	return {reinterpret_cast<std::uint8_t*>(m_buffer.get()), static_cast<std::size_t>(m_length)};
}

void ReadJob::finish(int error_number)
{
	if (!m_handler) return;
	// The handler owns the connection of the peer, so it must run and be destroyed on the network thread.
	boost::asio::post(m_io,
		[error_number, length = m_length, buffer = std::move(m_buffer),
			handler = std::exchange(m_handler, nullptr)]() mutable {
			if (error_number == 0)
				handler(lt::disk_buffer_holder(malloc_buffers, buffer.release(), length), lt::storage_error{});
			else
				handler(lt::disk_buffer_holder{}, read_error(error_number));
		});
	m_work.reset();
}

void complete_read(std::unique_ptr<ReadJob> job) { job->finish(0); }
void fail_read(std::unique_ptr<ReadJob> job, std::int32_t error_number) { job->finish(error_number); }

void AddedTorrents::put(std::shared_ptr<Source const> const& source)
{
	std::lock_guard<std::mutex> lock(m_mutex);
	if (m_torrents.size() > 1000)
		for (auto i = m_torrents.begin(); i != m_torrents.end();)
			i = i->second.expired() ? m_torrents.erase(i) : std::next(i);
	m_torrents[source->info->info_hashes().get_best()] = source;
}

std::shared_ptr<Source const> AddedTorrents::take(lt::sha1_hash const& hash)
{
	std::lock_guard<std::mutex> lock(m_mutex);
	auto const found = m_torrents.find(hash);
	if (found == m_torrents.end()) return {};
	auto source = found->second.lock();
	m_torrents.erase(found);
	return source;
}

std::array<std::uint8_t, 20> piece_hash(lt::torrent_info const& info, std::uint32_t piece)
{
	auto const hash = info.hash_for_piece(lt::piece_index_t(static_cast<int>(piece)));
	std::array<std::uint8_t, 20> bytes;
	std::copy(hash.begin(), hash.end(), bytes.begin());
	return bytes;
}

std::uint32_t piece_length(lt::torrent_info const& info) { return static_cast<std::uint32_t>(info.piece_length()); }
std::uint64_t content_size(lt::torrent_info const& info) { return static_cast<std::uint64_t>(info.total_size()); }

lt::disk_io_constructor_type rust_disk_io(
	std::shared_ptr<rust::Box<Callbacks>> callbacks, std::shared_ptr<AddedTorrents> added)
{
	return [callbacks = std::move(callbacks), added = std::move(added)](
			lt::io_context& io, lt::settings_interface const&, lt::counters&) {
		return std::unique_ptr<lt::disk_interface>(new RustDiskIo(io, callbacks, added));
	};
}

} // namespace proxytorrent
