// Library for LD_PRELOAD that injects I/O errors: writes to files whose path contains FAIL_PATTERN fail with EIO
// while the file FAIL_SWITCH exists.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd)
{
	char const* pattern = getenv("FAIL_PATTERN");
	char const* name = getenv("FAIL_SWITCH");
	if (!pattern || !name || access(name, F_OK) != 0) return 0;
	char link[64], path[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof path - 1);
	if (length < 0) return 0;
	path[length] = 0;
	return strstr(path, pattern) != NULL;
}

#define INTERPOSE(name, parameters, arguments) \
	ssize_t name parameters \
	{ \
		static ssize_t (*real) parameters; \
		if (!real) real = (ssize_t (*) parameters)dlsym(RTLD_NEXT, #name); \
		if (fails(fd)) { errno = EIO; return -1; } \
		return real arguments; \
	}

INTERPOSE(write, (int fd, void const* data, size_t size), (fd, data, size))
INTERPOSE(pwrite, (int fd, void const* data, size_t size, off_t offset), (fd, data, size, offset))
INTERPOSE(pwrite64, (int fd, void const* data, size_t size, off64_t offset), (fd, data, size, offset))
