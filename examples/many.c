// SPDX-License-Identifier: Apache-2.0
//
// A hundred guests in one process, all at once, and what they leave behind when they have ended: no
// descriptor, no thread, no mapping, no memory. Fails when they do.
//
//     cc many.c -o many $(pkg-config --cflags --libs veneer)
//     ./many [COUNT]
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <veneer.h>

static int fail(const struct veneer_error *error)
{
	fprintf(stderr, "%s\n", error->message);
	return -1;
}

// What a process has.
struct traces {
	unsigned descriptors, threads;
	unsigned mappings; // of files, of KVM, of io_uring
	unsigned long kib; // of all others: guest memory, threads' stacks, malloc
};

// The C library keeps stacks of threads that have ended, and what malloc() was given, for later
// use, and not in each round as much. What is lost is lost in each round.
#define ROUNDS 5

static unsigned count_entries(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	unsigned count = 0;

	while (directory && (entry = readdir(directory)))
		count += entry->d_name[0] != '.';
	if (directory)
		closedir(directory);
	return count;
}

static void count_mappings(struct traces *traces)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long begin, end;
	char line[512], access;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %c", &begin, &end, &access) < 3)
			continue;
		if (strpbrk(line, "/[") && !strstr(line, "[heap]"))
			traces->mappings++; // it has a name
		else if (access == 'r')
			traces->kib += (end - begin) / 1024;
	}
	if (maps)
		fclose(maps);
}

static struct traces look(void)
{
	struct traces traces = {
		.descriptors = count_entries("/proc/self/fd") - 1, // not the directory's own
		.threads = count_entries("/proc/self/task"),
	};

	count_mappings(&traces);
	return traces;
}

static bool is_back(const struct traces *before, const struct traces *now)
{
	return now->descriptors <= before->descriptors && now->threads <= before->threads &&
	       now->mappings <= before->mappings && now->kib <= before->kib;
}

static void print(const struct traces *traces)
{
	printf("after a round: %u descriptors, %u threads, %u mappings and %lu KiB\n",
		traces->descriptors, traces->threads, traces->mappings, traces->kib);
}

// A thread that has ended, also one of the kernel's, may be listed for a moment longer: looks until
// it sees the same twice.
static struct traces settle(void)
{
	struct traces before, now = look();

	for (int i = 0; i < 100; i++) {
		before = now;
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
		now = look();
		if (is_back(&before, &now) && is_back(&now, &before))
			break;
	}
	return now;
}

static int wait_for(struct veneer *vm)
{
	struct veneer_error error;
	struct veneer_event end;

	if (veneer_wait(vm, 60000, &end, sizeof(end), &error) < 0)
		return fail(&error);
	if (end.end == VENEER_END_EXIT && end.value == 7)
		return 0;
	fprintf(stderr, "a guest ended otherwise: %s\n", end.message);
	return -1;
}

// All exist before the first starts. vms: room for as many, NULL each, and so again afterwards.
static int run(struct veneer **vms, unsigned count, const struct veneer_config *config)
{
	struct veneer_error error;
	int code = 0;

	for (unsigned i = 0; code == 0 && i < count; i++)
		if (veneer_create(&vms[i], config, NULL, &error) < 0)
			code = fail(&error);
	for (unsigned i = 0; code == 0 && i < count; i++)
		if (veneer_start(vms[i], &error) < 0)
			code = fail(&error);
	for (unsigned i = 0; code == 0 && i < count; i++)
		code = wait_for(vms[i]);
	for (unsigned i = 0; i < count; i++) {
		veneer_destroy(vms[i]);
		vms[i] = NULL;
	}
	return code;
}

// Until a round adds nothing to what the one before it had left.
static int run_rounds(struct veneer **vms, unsigned count, const struct veneer_config *config)
{
	struct traces before, now = {0};

	for (int round = 0; round <= ROUNDS; round++) {
		before = now;
		if (run(vms, count, config) < 0)
			return -1;
		now = settle();
		print(&now);
		if (round > 0 && is_back(&before, &now))
			return 0;
	}
	fprintf(stderr, "each round left something behind\n");
	return -1;
}

// A guest takes more than ten descriptors, and many a session begins with a limit of 1024.
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char *argv[])
{
	unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100;
	struct veneer_config *config;
	struct veneer_error error;

	if (count == 0) {
		fprintf(stderr, "usage: many [COUNT]\n");
		return 2;
	}
	raise_limit();
	if (veneer_config_new(&config, &error) < 0)
		return 1;
	int code = veneer_config_set(config, "cmdline", "exit=7", &error);
	if (code == 0)
		code = veneer_config_set(config, "memory", "64M", &error);
	struct veneer **vms = calloc(count, sizeof(struct veneer *));
	if (code < 0)
		code = fail(&error);
	else
		code = vms ? run_rounds(vms, count, config) : -1;
	free(vms);
	veneer_config_free(config);
	if (code == 0)
		printf("%u guests ran, and left nothing behind\n", count);
	return code < 0 ? 1 : 0;
}
