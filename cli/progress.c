// SPDX-License-Identifier: Apache-2.0
//
// One line that is written over itself.
#include "cli/progress.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/macros.h"

#define AFTER_NS (500 * NS_PER_MS) // nobody wonders before

const char *progress_clear(struct progress *progress)
{
	bool shown = progress->shown;

	progress->shown = false;
	return shown ? "\r\033[K" : "";
}

void progress_line(struct progress *progress, char line[static 128], uint64_t now_ns, uint64_t done,
	uint64_t total)
{
	line[0] = '\0';
	if (done >= total) {
		snprintf(line, 128, "%s", progress_clear(progress));
	} else if (now_ns - progress->begun_ns >= AFTER_NS) {
		progress->shown = true;
		snprintf(line, 128, "\rveneer: preallocating memory: %.1f of %.1f GiB\033[K",
			(double)done / (double)GIB, (double)total / (double)GIB);
	}
}
