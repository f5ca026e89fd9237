// A libtorrent disk backend that reads through Rust and refuses every write.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/executor_work_guard.hpp>
#include <libtorrent/disk_interface.hpp>
#include <libtorrent/io_context.hpp>
#include <libtorrent/session_params.hpp>

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

libtorrent::disk_io_constructor_type rust_disk_io(std::shared_ptr<rust::Box<Callbacks>> callbacks);

} // namespace proxytorrent
