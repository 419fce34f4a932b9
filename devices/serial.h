// SPDX-License-Identifier: Apache-2.0
//
// A 16550A UART at COM1, interrupt driven. Output goes through a buffer to the loop, which writes
// it to a file descriptor: a terminal that blocks stops neither vCPUs nor other devices, it only
// leaves the transmitter full. What the descriptor refuses is lost, with a warning. Input is read
// by the loop as the receive FIFO has room, and only while the guest shows that it wants input, by
// RTS (a sender with hardware flow control waits for it too) or by its receive interrupt: what is
// piped in waits until a driver has set itself up.
#ifndef VN_SERIAL_H
#define VN_SERIAL_H

#include "core/bus.h"
#include "core/ioloop.h"
#include "core/irq.h"

struct vn_serial;

extern const struct vn_bus_ops vn_serial_ops; // 8 byte-wide registers; opaque: the serial

// `irq` is opened by the caller and closed after vn_serial_destroy(); `in` and `out` are the
// caller's descriptors, or -1; either may be non-blocking. The loop must outlive the serial, as
// must `log`, which may be NULL.
int vn_serial_create(struct vn_serial **serial, struct vn_ioloop *loop, const struct vn_irq *irq,
	int in, int out, const struct vn_log *log, struct veneer_error *error);

// How many bytes the guest has sent so far. From any thread.
uint64_t vn_serial_sent(struct vn_serial *serial);

// Wait until all output is written or, unless it goes to a file, makes no progress for a second, in
// one call or over several. -ETIMEDOUT: there still is some at `deadline_ns` (CLOCK_MONOTONIC; 0:
// none). After the vCPUs have stopped; from any thread but the loop's.
int vn_serial_drain(struct vn_serial *serial, uint64_t deadline_ns);

// Registers as before the guest ran, and nothing received. What is to be written still is.
void vn_serial_reset(struct vn_serial *serial);

// Stop reading and writing, whatever is in flight, and free. NULL is allowed.
void vn_serial_destroy(struct vn_serial *serial);

#endif
