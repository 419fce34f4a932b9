// SPDX-License-Identifier: Apache-2.0
//
// `veneer pause`, `resume`, `reset`, `stop` and `wait`: ask a running guest to do something.
#ifndef VN_CONTROL_CLIENT_H
#define VN_CONTROL_CLIENT_H

#include <stdbool.h>

#include "veneer.h"

// POST this target, such as "/pause" or "/stop?time=10", to the guest with this name or process ID,
// and return when the guest answers; `patient`: wait without limit, else a minute. 0 or a negative
// errno; if the guest refuses, the error has its line.
int control_client_do(const char *who, const char *what, bool patient, struct veneer_error *error);

// Wait for the end of the guest's run. The run's exit status, or a negative errno.
int control_client_wait(const char *who, struct veneer_error *error);

#endif
