// SPDX-License-Identifier: Apache-2.0
//
// How the kernel's pty behaves, which all of this follows from. While nobody has the other side
// (the slave) open, poll(2) of the master says POLLHUP at once, and a read gives what was written
// before, then EIO. That somebody opens the slave wakes no poll of the master, so inotify watches
// the slave's path: nothing here wakes up in vain. Holding the slave open ourselves would hide who
// comes and goes.
//
// What is written to the master goes into the kernel's buffers, some 18 KiB, and stays there when
// the slave is closed: the next one reads it first. It is older than all of the backlog, so where
// the backlog overflows it is discarded too, and what the next one reads is without a gap.
#include "cli/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

// How often to look whether somebody came, where inotify has no instance left for us
// (fs.inotify.max_user_instances).
#define LOOK_MS 200

// Terminal programs discard, as they open a line and set its modes, what has arrived by then.
#define SETTLE_MS 100

#define DRAIN_PATIENCE_MS 1000
#define DRAIN_LOOK_MS     10

// 0: output may pass.
static int unsettled_ms(const struct pty *pty)
{
	uint64_t now = vn_clock_ns();

	return now >= pty->settled_ns ? 0
				      : (int)((pty->settled_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void make_raw(int slave)
{
	struct termios modes;

	if (tcgetattr(slave, &modes) == 0) {
		cfmakeraw(&modes);
		tcsetattr(slave, TCSANOW, &modes);
	}
}

// The slave is opened and closed once: only from then on does the master say whether anyone uses
// it.
static int open_master(struct pty *pty)
{
	int slave;

	if (openpty(&pty->master, &slave, pty->name, NULL, NULL) < 0) {
		pty->master = -1;
		return -errno;
	}
	make_raw(slave);
	close(slave);
	return fcntl(pty->master, F_SETFL, O_NONBLOCK) < 0 ||
			       fcntl(pty->master, F_SETFD, FD_CLOEXEC) < 0
		       ? -errno
		       : 0;
}

static int watch_slave(const char *name)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (fd >= 0 && inotify_add_watch(fd, name, IN_OPEN) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int pty_open(struct pty *pty, struct veneer_error *error)
{
	*pty = (struct pty){.watch = -1};
	int ret = open_master(pty);
	if (ret == 0) {
		pty->backlog = malloc(PTY_BACKLOG);
		ret = pty->backlog ? 0 : -ENOMEM;
	}
	if (ret < 0) {
		pty_close(pty);
		return vn_fail(error, ret, "--serial: no pty: %s", strerror(-ret));
	}
	pty->watch = watch_slave(pty->name);
	return 0;
}

void pty_close(struct pty *pty)
{
	if (pty->watch >= 0)
		close(pty->watch);
	if (pty->master >= 0)
		close(pty->master);
	free(pty->backlog);
	*pty = (struct pty){.master = -1, .watch = -1};
}

// Events first: whoever opens it after that makes another.
void pty_look(struct pty *pty)
{
	struct pollfd pfd = {.fd = pty->master};
	char events[4096];

	while (pty->watch >= 0 && read(pty->watch, events, sizeof(events)) > 0)
		;
	bool used = poll(&pfd, 1, 0) == 0;
	if (used && !pty->used)
		pty->settled_ns = vn_clock_ns() + SETTLE_MS * NS_PER_MS;
	pty->used = used;
}

static int open_slave(const struct pty *pty)
{
	return open(pty->name, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

// What the kernel holds of the output: partly as the master's, partly as the slave's.
static void discard_unread(struct pty *pty)
{
	int slave = open_slave(pty);

	tcflush(pty->master, TCOFLUSH);
	if (slave >= 0) {
		tcflush(slave, TCIFLUSH);
		close(slave);
	}
	pty->unread = false;
}

static void push(struct pty *pty, const uint8_t *bytes, size_t count)
{
	if (count > PTY_BACKLOG - pty->count) {
		size_t dropped = count - (PTY_BACKLOG - pty->count);
		pty->start = (pty->start + dropped) % PTY_BACKLOG;
		pty->count -= dropped;
		if (pty->unread)
			discard_unread(pty);
	}
	size_t end = (pty->start + pty->count) % PTY_BACKLOG;
	size_t first = count < PTY_BACKLOG - end ? count : PTY_BACKLOG - end;
	memcpy(pty->backlog + end, bytes, first);
	memcpy(pty->backlog, bytes + first, count - first);
	pty->count += count;
}

// Whoever is there and does not read holds the guest's output up; who is not there does not.
static bool wants_output(const struct pty *pty)
{
	return !pty->used || pty->count < PTY_BACKLOG;
}

static void take(struct pty *pty, int from)
{
	uint8_t bytes[4096];
	size_t room = pty->used ? PTY_BACKLOG - pty->count : sizeof(bytes);
	ssize_t got = read(from, bytes, room < sizeof(bytes) ? room : sizeof(bytes));

	if (got > 0)
		push(pty, bytes, (size_t)got);
}

static void give(struct pty *pty)
{
	while (pty->count) {
		size_t contiguous = PTY_BACKLOG - pty->start;
		ssize_t written = write(pty->master, pty->backlog + pty->start,
			pty->count < contiguous ? pty->count : contiguous);
		if (written <= 0)
			return;
		pty->start = (pty->start + (size_t)written) % PTY_BACKLOG;
		pty->count -= (size_t)written;
		pty->unread = true;
	}
}

void pty_relay_output(struct pty *pty, int from)
{
	if (wants_output(pty))
		take(pty, from);
	if (pty->used && unsettled_ms(pty) == 0)
		give(pty);
}

int pty_poll(const struct pty *pty, struct pollfd fds[3], bool input, int from)
{
	bool waits = pty->used && pty->count;
	int unsettled = waits ? unsettled_ms(pty) : 0;
	short events = (short)((input ? POLLIN : 0) | (waits && !unsettled ? POLLOUT : 0));

	fds[0] = (struct pollfd){.fd = pty->used ? pty->master : -1, .events = events};
	fds[1] = (struct pollfd){.fd = pty->watch, .events = POLLIN};
	fds[2] = (struct pollfd){.fd = wants_output(pty) ? from : -1, .events = POLLIN};
	if (unsettled)
		return unsettled;
	return pty->used || pty->watch >= 0 ? -1 : LOOK_MS;
}

static bool readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

// Until whoever is there takes more, or leaves. False: neither, for too long.
static bool await_room(const struct pty *pty)
{
	int unsettled = unsettled_ms(pty);
	struct pollfd room = {.fd = pty->master, .events = unsettled ? 0 : POLLOUT};

	return poll(&room, 1, unsettled ? unsettled : DRAIN_PATIENCE_MS) > 0 || unsettled;
}

// Nothing tells the master of this.
static void await_reader(const struct pty *pty)
{
	int slave = open_slave(pty);
	struct pollfd left = {.fd = slave, .events = POLLIN};

	for (int ms = 0; slave >= 0 && ms < DRAIN_PATIENCE_MS; ms += DRAIN_LOOK_MS) {
		if (poll(&left, 1, 0) <= 0 || !(left.revents & POLLIN))
			break;
		poll(NULL, 0, DRAIN_LOOK_MS);
	}
	if (slave >= 0)
		close(slave);
}

void pty_empty_pipe(struct pty *pty, int from)
{
	while (readable(from)) {
		pty_look(pty);
		pty_relay_output(pty, from);
		if (!wants_output(pty) && !await_room(pty))
			return;
	}
}

void pty_drain(struct pty *pty, int from)
{
	for (;;) {
		pty_look(pty);
		pty_relay_output(pty, from);
		if (!pty->used || (!pty->count && !readable(from)))
			break;
		if (!await_room(pty))
			return;
	}
	if (pty->used)
		await_reader(pty);
}
