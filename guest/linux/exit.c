// SPDX-License-Identifier: Apache-2.0
//
// Run by root in a Linux guest, this ends it with the exit status that is its argument, at once and
// without a shutdown: a write to Veneer's debug-exit port. Build it with `cc -static`.
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <unistd.h>

#define PORT_DEBUG_EXIT 0xf4

int main(int argc, char *argv[])
{
	char *end;
	unsigned long value = argc == 2 ? strtoul(argv[1], &end, 10) : 0;

	if (argc != 2 || !*argv[1] || *end || value > 119) {
		fprintf(stderr, "usage: exit STATUS, from 0 to 119\n");
		return 2;
	}
	sync();
	if (ioperm(PORT_DEBUG_EXIT, 4, 1) < 0) {
		perror("ioperm");
		return 1;
	}
	outl((unsigned)value, PORT_DEBUG_EXIT);
	fprintf(stderr, "no debug-exit port here\n");
	return 1;
}
