// SPDX-License-Identifier: Apache-2.0
/*
 * Further CPUs.
 */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

/*
 * Starts all CPUs, checks what each is told about itself, runs the CPU loop on all of them at once,
 * and prints a row for each. Returns the number of failures.
 */
int report_smp(void);

#endif
