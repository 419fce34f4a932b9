// SPDX-License-Identifier: Apache-2.0
//
// The run-time directory. It is looked at before it is trusted: owned by this user, and nobody
// else's to enter.
#include "cli/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"

#define SUFFIX         ".sock"
#define BACKLOG        128 // clients that come during a long pause, each `veneer list` among them
#define PATIENCE_S     5
#define CANDIDATES_MAX 2

// The directories that guests of this user may be in, the first being where new ones go: a guest
// may have been started from a session and be asked about from elsewhere, or the other way round.
static size_t candidates(char paths[CANDIDATES_MAX][PATH_MAX])
{
	const char *session = getenv("XDG_RUNTIME_DIR");
	size_t count = 0;

	if (session && session[0] == '/')
		snprintf(paths[count++], PATH_MAX, "%s/veneer", session);
	if (geteuid() == 0)
		snprintf(paths[count++], PATH_MAX, "/run/veneer");
	else
		snprintf(paths[count++], PATH_MAX, "/tmp/veneer-%u", (unsigned)geteuid());
	return count;
}

// Its descriptor.
static int open_directory(const char *path, struct veneer_error *error)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0) {
		int code = -errno;
		if (fd >= 0)
			close(fd);
		return vn_fail(error, code, "%s: %s", path, strerror(-code));
	}
	if (status.st_uid == geteuid() && (status.st_mode & 077) == 0)
		return fd;
	close(fd);
	return vn_fail(error, -EPERM,
		"%s must belong to user %u and be closed to all others (mode 0700)", path,
		(unsigned)geteuid());
}

static int fill_address(struct sockaddr_un *address, const char *path, struct veneer_error *error)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address->sun_path))
		return vn_fail(error, -ENAMETOOLONG,
			"%s is longer than the %zu bytes that a socket's path may have", path,
			sizeof(address->sun_path) - 1);
	strcpy(address->sun_path, path);
	return 0;
}

// Whether somebody listens: 0, -EAGAIN when that one is too busy now, or another negative errno.
static int try_connect(int fd, const struct sockaddr_un *address)
{
	int ret;

	do { // -EINTR: this process was stopped and went on
		ret = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno
											  : 0;
	} while (ret == -EINTR);
	return ret;
}

static bool is_abandoned(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool abandoned = fd >= 0 && try_connect(fd, address) == -ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return abandoned;
}

// Under the directory's lock, so that of two that find one abandoned only one takes its place.
static int bind_and_listen(
	int fd, const struct sockaddr_un *address, const char *name, struct veneer_error *error)
{
	const struct sockaddr *generic = (const struct sockaddr *)address;
	int ret = bind(fd, generic, sizeof(*address));

	if (ret < 0 && errno == EADDRINUSE && is_abandoned(address)) {
		unlink(address->sun_path);
		ret = bind(fd, generic, sizeof(*address));
	}
	if (ret < 0 && errno == EADDRINUSE)
		return vn_fail(error, -EADDRINUSE, "a guest called '%s' is running already", name);
	if (ret < 0 || listen(fd, BACKLOG) < 0)
		return vn_fail(error, -errno, "%s: %s", address->sun_path, strerror(errno));
	return 0;
}

static int listen_in(int directory, const char *path, const char *name, struct veneer_error *error)
{
	struct sockaddr_un address;
	int ret = fill_address(&address, path, error);

	if (ret < 0)
		return ret;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vn_fail(error, -errno, "no socket: %s", strerror(errno));
	flock(directory, LOCK_EX);
	ret = bind_and_listen(fd, &address, name, error);
	flock(directory, LOCK_UN);
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

int runtime_listen(const char *name, char **path, struct veneer_error *error)
{
	char directories[CANDIDATES_MAX][PATH_MAX];

	candidates(directories);
	const char *directory = directories[0];
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return vn_fail(error, -errno, "%s: %s", directory, strerror(errno));
	int fd = open_directory(directory, error);
	if (fd < 0)
		return fd;
	int ret = asprintf(path, "%s/%s" SUFFIX, directory, name) < 0
			  ? vn_fail(error, -ENOMEM, "out of memory")
			  : listen_in(fd, *path, name, error);
	close(fd);
	return ret;
}

int runtime_connect(const struct runtime_guest *guest, struct veneer_error *error)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un address;
	int ret = fill_address(&address, guest->path, error);

	if (ret < 0)
		return ret;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return vn_fail(error, -errno, "no socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	ret = try_connect(fd, &address);
	if (ret == 0)
		return fd;
	close(fd);
	return vn_fail(error, ret, "guest '%s' %s%s", guest->name,
		ret == -EAGAIN ? "does not answer" : "ended or gave no answer: ",
		ret == -EAGAIN ? "" : strerror(-ret));
}

int runtime_peer(int fd)
{
	struct ucred peer = {.pid = 0};
	socklen_t size = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	return peer.pid;
}

// The process behind a socket, 0 where it does not answer, or -1 where there is none. Under the
// directory's lock: a socket that is bound and does not listen yet is none of the dead.
static int pid_behind(const char *path)
{
	struct sockaddr_un address;
	struct veneer_error unused;
	int pid = 0;

	if (fill_address(&address, path, &unused) < 0)
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	int ret = try_connect(fd, &address);
	if (ret == 0)
		pid = runtime_peer(fd);
	close(fd);
	return ret == 0 || ret == -EAGAIN ? pid : -1;
}

// A list that grows.
struct list {
	struct runtime_guest *guests;
	size_t count;
};

static int add_guest(
	struct list *list, const char *directory, const char *file, struct veneer_error *error)
{
	size_t length = strlen(file), suffix = strlen(SUFFIX);

	if (length <= suffix || length - suffix > RUNTIME_NAME_MAX ||
		strcmp(file + length - suffix, SUFFIX) != 0)
		return 0;
	struct runtime_guest *guests = reallocarray(list->guests, list->count + 1, sizeof(*guests));
	if (!guests)
		return vn_fail(error, -ENOMEM, "out of memory");
	list->guests = guests;
	struct runtime_guest *guest = &guests[list->count];
	*guest = (struct runtime_guest){.pid = 0};
	memcpy(guest->name, file, length - suffix);
	if (asprintf(&guest->path, "%s/%s", directory, file) < 0)
		return vn_fail(error, -ENOMEM, "out of memory");
	guest->pid = pid_behind(guest->path);
	if (guest->pid >= 0) {
		list->count++;
	} else {
		unlink(guest->path);
		free(guest->path);
	}
	return 0;
}

static int add_directory(struct list *list, const char *path, struct veneer_error *error)
{
	int fd = open_directory(path, error), ret = 0;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	DIR *directory = fdopendir(fd);
	if (!directory) {
		close(fd);
		return vn_fail(error, -ENOMEM, "out of memory");
	}
	const struct dirent *entry;
	flock(fd, LOCK_EX);
	while (ret == 0 && (entry = readdir(directory)))
		ret = add_guest(list, path, entry->d_name, error);
	closedir(directory); // and the lock with it
	return ret;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(
		((const struct runtime_guest *)a)->name, ((const struct runtime_guest *)b)->name);
}

int runtime_list(struct runtime_guest **guests, size_t *count, struct veneer_error *error)
{
	char directories[CANDIDATES_MAX][PATH_MAX];
	size_t directory_count = candidates(directories);
	struct list list = {.count = 0};
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < directory_count; i++)
		ret = add_directory(&list, directories[i], error);
	if (ret < 0) {
		runtime_free(list.guests, list.count);
		return ret;
	}
	if (list.count > 0)
		qsort(list.guests, list.count, sizeof(*list.guests), by_name);
	*guests = list.guests;
	*count = list.count;
	return 0;
}

void runtime_free(struct runtime_guest *guests, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(guests[i].path);
	free(guests);
}
