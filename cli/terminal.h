// SPDX-License-Identifier: Apache-2.0
//
// The terminal on standard input, if it is one. There is one for the process, since signal handlers
// must find it. It is in raw mode while the guest has it, and is given back as it was however this
// process ends, save by SIGKILL.
#ifndef VN_TERMINAL_H
#define VN_TERMINAL_H

#include <stdbool.h>

// Prepare to use it, and to restore it when any signal or exit(3) ends this process. Signals that
// are ignored stay so; none stays blocked. Once, before there are other threads.
void terminal_init(void);

// Raw mode, if there is a terminal and this process is in its foreground; true when it is raw
// now. Output keeps its processing, so that a plain newline begins a line.
bool terminal_enter(void);

// Give it back as terminal_enter() found it. Async-signal-safe.
void terminal_leave(void);

// The terminal may have been changed by others while this process was stopped.
void terminal_forget(void);

#endif
