// SPDX-License-Identifier: Apache-2.0
//
// `power_loss DIRECTORY`: the file system of this directory ends as if the machine's power were
// lost: what it has not written to its device by now it never will, not even its own journal's last
// part.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

// Of ext4 and XFS; no header of the library's has it.
#define SHUTDOWN      _IOR('X', 125, uint32_t)
#define WITHOUT_FLUSH 2

int main(int argc, char **argv)
{
	uint32_t how = WITHOUT_FLUSH;
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
	if (fd < 0 || ioctl(fd, SHUTDOWN, &how) < 0) {
		perror("power_loss DIRECTORY");
		return 1;
	}
	close(fd);
	return 0;
}
