// SPDX-License-Identifier: Apache-2.0
/*
 * The rows of the report, and the native figures to set beside them.
 */
#ifndef GUEST_REPORT_H
#define GUEST_REPORT_H

#include <stdbool.h>
#include <stdint.h>

enum report_better { LOWER_IS_BETTER, HIGHER_IS_BETTER };

/*
 * Prints `key value unit`, and, if `native=` on the command line holds the key, the native value
 * and the ratio guest performance / native performance: 1.00 is equal, less is a slower guest.
 */
void report_row(const char *key, uint64_t thousandths, unsigned digits, const char *unit,
	enum report_better better);

/*
 * After the rows of a whole report, what they say: how near to native the guest is, what an
 * interrupt costs here and why (`kvm=` on the command line: VT-x, AMD-V or software), and where to
 * read on.
 */
void report_close(void);

/* The parts; each prints its rows and returns its number of failures. */
int report_cpu(void);
int report_memory(void);

#endif
