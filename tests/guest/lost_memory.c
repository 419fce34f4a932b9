// SPDX-License-Identifier: Apache-2.0
//
// Two guests in one process, of which the first reads its disk without end and then loses its
// memory: its memfd is cut off. With a handler of SIGBUS that asks veneer_handle_sigbus(), it ends
// alone and says why, and the other goes on. `lost_memory DISK 2M|1G|none`, of huge pages; exit
// status 0 when all is well.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "veneer.h"

#include "base/macros.h"

static struct veneer *guests[2];
static atomic_uint handled;

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	(void)context;
	for (unsigned i = 0; i < 2; i++)
		if (guests[i] && veneer_handle_sigbus(guests[i], info->si_code, info->si_addr)) {
			handled++;
			return;
		}
	struct sigaction none = {.sa_handler = SIG_DFL};
	sigaction(signal, &none, NULL);
}

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

// The guests' memfds, in the order in which they were made.
static int find_memfd(void)
{
	char path[64], target[64];
	DIR *directory = opendir("/proc/self/fd");
	int found = -1;
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		snprintf(path, sizeof(path), "/proc/self/fd/%.16s", entry->d_name);
		ssize_t length = readlink(path, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		if (strstr(target, "memfd:veneer-ram") && found < 0)
			found = atoi(entry->d_name);
	}
	closedir(directory);
	return found;
}

static void set(struct veneer_config *config, const char *name, const char *value)
{
	struct veneer_error error;
	if (veneer_config_set(config, name, value, &error) < 0)
		fail(name, error.message);
}

static struct veneer *start(const char *cmdline, const char *disk, const char *hugepage_size)
{
	struct veneer_config *config;
	struct veneer_error error;
	struct veneer *vm;
	if (veneer_config_new(&config, &error) < 0)
		fail("configuration", error.message);
	set(config, "cmdline", cmdline);
	set(config, "memory", "64M");
	if (hugepage_size)
		set(config, "memory.hugepages", hugepage_size);
	if (disk) {
		set(config, "disk0.path", disk);
		set(config, "disk0.readonly", NULL);
	}
	if (veneer_create(&vm, config, NULL, &error) < 0)
		fail("create", error.message);
	veneer_config_free(config);
	return vm;
}

// Until the guest has ended, as its descriptor tells.
static void poll_events(struct veneer *vm)
{
	struct pollfd readable = {.fd = veneer_event_fd(vm), .events = POLLIN};
	struct veneer_event event = {.end = 0};
	while (event.kind != VENEER_EVENT_ENDED)
		if (!veneer_next_event(vm, &event, sizeof(event)) && poll(&readable, 1, -1) < 0)
			fail("poll", strerror(errno));
}

static struct veneer_event wait_for(struct veneer *vm)
{
	struct veneer_event end;
	struct veneer_error error;
	if (veneer_wait(vm, -1, &end, sizeof(end), &error) < 0)
		fail("wait", error.message);
	return end;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		fail(argv[0], "DISK 2M|1G|none");
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	struct veneer_error error;
	sigaction(SIGBUS, &action, NULL);
	bool huge = strcmp(argv[2], "none") != 0;
	guests[0] = start("blk-load=read4k,32,poll,1000000000", argv[1], huge ? argv[2] : NULL);
	int memfd = find_memfd();
	guests[1] = start("spin", NULL, NULL);
	for (unsigned i = 0; i < 2; i++)
		if (veneer_start(guests[i], &error) < 0)
			fail("start", error.message);
	usleep(300000); // it reads
	if (memfd < 0 || ftruncate(memfd, 2 * MIB) < 0)
		fail("ftruncate", strerror(errno));
	poll_events(guests[0]);
	struct veneer_event end = wait_for(guests[0]);
	printf("end %d, handled %u: %s\n", (int)end.end, handled, end.message);
	if (end.end != VENEER_END_FAILED || !strstr(end.message, "guest's memory"))
		fail("the guest without memory", "ended otherwise");
	struct veneer_event other;
	if (veneer_wait(guests[1], 200, &other, sizeof(other), NULL) != -ETIMEDOUT)
		fail("the other guest", "ended too");
	veneer_destroy(guests[0]);
	guests[0] = NULL;
	veneer_stop(guests[1]);
	other = wait_for(guests[1]);
	if (other.end != VENEER_END_STOPPED)
		fail("the other guest", other.message);
	veneer_destroy(guests[1]);
	return 0;
}
