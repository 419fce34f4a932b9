// SPDX-License-Identifier: Apache-2.0
//
// Two guests in one process, of which the first reads its disk without end and then loses its
// memory: its memfd is cut off. With a handler of SIGBUS that asks veneer_handle_sigbus(), it ends
// alone and says why, and the other goes on. `lost_memory DISK HUGEPAGE-BYTES`; exit status 0 when
// all is well.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "veneer.h"

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

static struct veneer *start(const char *cmdline, const char *disk, uint64_t hugepage_size)
{
	const struct veneer_disk disks[] = {{.path = disk, .readonly = true}};
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_error error;
	struct veneer *vm;
	config.cmdline = cmdline;
	config.memory.size = 64 << 20;
	config.memory.hugepage_size = hugepage_size;
	config.disks = disk ? disks : NULL;
	config.disk_count = disk ? 1 : 0;
	if (veneer_create(&vm, &config, &error) < 0)
		fail("create", error.message);
	return vm;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		fail(argv[0], "DISK HUGEPAGE-BYTES");
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	struct veneer_error error;
	struct veneer_result result;
	sigaction(SIGBUS, &action, NULL);
	guests[0] =
		start("blk-load=read4k,32,poll,1000000000", argv[1], strtoull(argv[2], NULL, 0));
	int memfd = find_memfd();
	guests[1] = start("spin", NULL, 0);
	for (unsigned i = 0; i < 2; i++)
		if (veneer_start(guests[i], &error) < 0)
			fail("start", error.message);
	usleep(300000); // it reads
	if (memfd < 0 || ftruncate(memfd, 2 << 20) < 0)
		fail("ftruncate", strerror(errno));
	veneer_wait(guests[0], &result);
	printf("end %d, handled %u: %s\n", (int)result.end, handled, result.message);
	if (result.end != VENEER_END_FAILED || !strstr(result.message, "guest's memory"))
		fail("the guest without memory", "ended otherwise");
	struct pollfd wait = {.fd = veneer_fd(guests[1]), .events = POLLIN};
	if (poll(&wait, 1, 200) != 0)
		fail("the other guest", "ended too");
	veneer_destroy(guests[0]);
	guests[0] = NULL;
	veneer_stop(guests[1]);
	veneer_wait(guests[1], &result);
	if (result.end != VENEER_END_STOPPED)
		fail("the other guest", result.message);
	veneer_destroy(guests[1]);
	return 0;
}
