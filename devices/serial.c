// SPDX-License-Identifier: Apache-2.0
//
// The 16550A's registers on one side, two file descriptors on the other, and between them a receive
// FIFO of 16 bytes and an output buffer. Registers are used by vCPU threads, descriptors by the
// loop's thread; all state is under one lock, and the eventfd `work` wakes the loop when a vCPU
// left it something to do, never while it is busy with that anyway.
//
// Output that its descriptor refuses (a full disk, a pipe without a reader) is dropped and counted:
// one warning when that begins, and one with the count when output succeeds again or the port is
// destroyed.
//
// Time does not exist here: a byte written to the transmitter is sent as soon as the buffer takes
// it, and the receiver's time-out interrupt does not wait for four characters' time. Software that
// copes with a fast line copes with this.
//
// The interrupt line is an edge for the interrupt controller: raised when the first enabled cause
// becomes pending, low again when the last is gone. Linux's driver serves causes until IIR shows
// none, so each later cause finds the line low and makes an edge of its own.
#include "devices/serial.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"

#define FIFO_SIZE 16

// A power of two, so that indices wrap by masking.
#define OUT_SIZE 8192u

// Registers' reserved bits, which read as zero.
#define IER_MASK 0x0f
#define MCR_MASK 0x1f

#define IIR_FIFO_ENABLED 0xc0

// A cable with a device at its other end that is always ready.
#define MSR_CONNECTED (UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD)

#define DRAIN_PATIENCE_NS NS_PER_S

// One direction's use of its descriptor. An operation is a transfer or, after EAGAIN, a poll for
// the descriptor's readiness; one is in flight at most.
struct channel {
	struct vn_ioloop_op op;
	int fd; // the caller's, or -1
	bool busy; // an operation is in flight
	bool polling; // and it is a poll
	bool ended; // no descriptor, or nothing more to read from it: never used again
};

// Output that the descriptor refused, or did not take before the guest sent more than there was
// room for.
struct loss {
	uint64_t bytes;
	int error; // negative errno; 0: it was not taken in time
};

struct vn_serial {
	struct vn_ioloop *loop;
	const struct vn_irq *irq;
	const struct vn_log *log;
	struct vn_ioloop_event work;
	struct vn_ioloop_op cancel_op;
	unsigned cancels; // in flight; loop's thread only

	pthread_mutex_t lock; // everything below
	pthread_cond_t progress; // output left the buffer, or never will
	bool woken; // `work` is signalled and the loop has not looked yet
	bool stopping;

	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	uint8_t msr; // lines in the high half, changes since the last read in the low half
	bool overrun; // LSR bit 1
	bool thr_empty; // LSR bits 5 and 6
	bool thr_interrupt; // THRE interrupt pending, if enabled
	bool line; // some enabled cause is pending

	uint8_t fifo[FIFO_SIZE];
	unsigned fifo_start, fifo_count;
	struct channel in;
	// Where the read in flight puts its bytes, and those that wait for room in the FIFO: the
	// guest may have closed the line since, or been reset.
	uint8_t arriving[FIFO_SIZE];
	unsigned arrived_start, arrived_count;

	uint8_t out_buffer[OUT_SIZE];
	unsigned out_start, out_count;
	uint64_t sent; // by the guest, since the start
	struct channel out;
	bool out_is_file; // whose writes end, however busy the disk is
	// What vn_serial_drain() has seen, over all its calls: so much is left, since then (0:
	// none).
	unsigned drain_left;
	uint64_t drain_ns;
	struct loss loss; // since all output was last taken
};

// Interrupt causes in the order of their priority, as IIR names them.
static uint8_t interrupt_cause(const struct vn_serial *serial)
{
	static const uint8_t trigger[] = {1, 4, 8, 14};

	if ((serial->ier & UART_IER_RLSI) && serial->overrun)
		return UART_IIR_RLSI;
	if ((serial->ier & UART_IER_RDI) && serial->fifo_count) {
		bool fifo = serial->fcr & UART_FCR_ENABLE_FIFO;
		bool full = serial->fifo_count >= trigger[serial->fcr >> 6];
		return !fifo || full ? UART_IIR_RDI : UART_IIR_RX_TIMEOUT;
	}
	if ((serial->ier & UART_IER_THRI) && serial->thr_interrupt)
		return UART_IIR_THRI;
	if ((serial->ier & UART_IER_MSI) && (serial->msr & UART_MSR_ANY_DELTA))
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

// After every change of registers, FIFO or buffer.
static void update_line(struct vn_serial *serial)
{
	bool line = interrupt_cause(serial) != UART_IIR_NO_INT;

	if (line && !serial->line)
		vn_irq_raise(serial->irq);
	serial->line = line;
}

static unsigned fifo_room(const struct vn_serial *serial)
{
	unsigned size = serial->fcr & UART_FCR_ENABLE_FIFO ? FIFO_SIZE : 1;

	return size > serial->fifo_count ? size - serial->fifo_count : 0;
}

static void fifo_push(struct vn_serial *serial, uint8_t byte)
{
	if (!fifo_room(serial)) {
		serial->overrun = true;
		return;
	}
	serial->fifo[(serial->fifo_start + serial->fifo_count++) % FIFO_SIZE] = byte;
}

static uint8_t fifo_pop(struct vn_serial *serial)
{
	if (!serial->fifo_count)
		return 0;
	uint8_t byte = serial->fifo[serial->fifo_start];
	serial->fifo_start = (serial->fifo_start + 1) % FIFO_SIZE;
	serial->fifo_count--;
	return byte;
}

// Space appeared in the output buffer. The transmitter says that it is empty again only when half
// of the buffer is free, so that a slow terminal costs few interrupts.
static void out_drained(struct vn_serial *serial)
{
	if (!serial->thr_empty && serial->out_count <= OUT_SIZE / 2) {
		serial->thr_empty = true;
		serial->thr_interrupt = true;
	}
	pthread_cond_broadcast(&serial->progress);
}

static void out_push(struct vn_serial *serial, uint8_t byte)
{
	serial->sent++;
	if (serial->out.ended)
		return;
	if (serial->out_count == OUT_SIZE) {
		serial->loss.bytes++; // sent although the transmitter was not empty
		return;
	}
	serial->out_buffer[(serial->out_start + serial->out_count++) % OUT_SIZE] = byte;
	// Software may write 16 bytes each time it finds the transmitter empty.
	if (OUT_SIZE - serial->out_count < FIFO_SIZE)
		serial->thr_empty = false;
}

static void transmit(struct vn_serial *serial, uint8_t byte)
{
	if (serial->mcr & UART_MCR_LOOP)
		fifo_push(serial, byte);
	else
		out_push(serial, byte);
	// What was just taken has left the transmitter at once, unless the buffer is full.
	serial->thr_interrupt = serial->thr_empty;
}

static void write_fcr(struct vn_serial *serial, uint8_t value)
{
	// Other bits count only together with the enable bit.
	if (!(value & UART_FCR_ENABLE_FIFO))
		value = 0;
	if (((value ^ serial->fcr) & UART_FCR_ENABLE_FIFO) || (value & UART_FCR_CLEAR_RCVR))
		serial->fifo_count = 0;
	// Clearing the transmitter drops nothing: its bytes have left. The clear bits clear
	// themselves.
	serial->fcr = value & (UART_FCR_ENABLE_FIFO | UART_FCR_DMA_SELECT | UART_FCR_TRIGGER_MASK);
}

static void write_ier(struct vn_serial *serial, uint8_t value)
{
	// Enabling the transmitter's interrupt while it is empty makes it pending: this is how
	// Linux starts sending, and what it tests for when it opens the port.
	if ((value & ~serial->ier & UART_IER_THRI) && serial->thr_empty)
		serial->thr_interrupt = true;
	serial->ier = value & IER_MASK;
}

// In loopback the modem's lines are connected to the UART's own outputs.
static void write_mcr(struct vn_serial *serial, uint8_t value)
{
	uint8_t before = serial->msr & 0xf0;
	uint8_t lines = MSR_CONNECTED;

	serial->mcr = value & MCR_MASK;
	if (value & UART_MCR_LOOP) {
		lines = (value & UART_MCR_RTS ? UART_MSR_CTS : 0) |
			(value & UART_MCR_DTR ? UART_MSR_DSR : 0) |
			(value & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
			(value & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
	}
	uint8_t changed = before ^ lines;
	// The ring indicator counts when it goes off; the others in both directions.
	uint8_t deltas =
		(uint8_t)((changed & MSR_CONNECTED) | (changed & before & UART_MSR_RI)) >> 4;
	serial->msr = (uint8_t)(lines | (serial->msr & UART_MSR_ANY_DELTA) | deltas);
}

static void write_register(struct vn_serial *serial, unsigned reg, uint8_t value)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (divisor)
			serial->dll = value;
		else
			transmit(serial, value);
		break;
	case UART_IER:
		if (divisor)
			serial->dlm = value;
		else
			write_ier(serial, value);
		break;
	case UART_FCR:
		write_fcr(serial, value);
		break;
	case UART_LCR:
		serial->lcr = value;
		break;
	case UART_MCR:
		write_mcr(serial, value);
		break;
	case UART_SCR:
		serial->scr = value;
		break;
	default: // LSR and MSR are for reading
		break;
	}
}

static uint8_t read_iir(struct vn_serial *serial)
{
	uint8_t cause = interrupt_cause(serial);

	// Reading it acknowledges the transmitter's interrupt, if that is the one it names.
	if (cause == UART_IIR_THRI)
		serial->thr_interrupt = false;
	return cause | (serial->fcr & UART_FCR_ENABLE_FIFO ? IIR_FIFO_ENABLED : 0);
}

static uint8_t read_lsr(struct vn_serial *serial)
{
	uint8_t lsr = (serial->fifo_count ? UART_LSR_DR : 0) | (serial->overrun ? UART_LSR_OE : 0) |
		      (serial->thr_empty ? UART_LSR_THRE | UART_LSR_TEMT : 0);

	serial->overrun = false;
	return lsr;
}

static uint8_t read_msr(struct vn_serial *serial)
{
	uint8_t msr = serial->msr;

	serial->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
	return msr;
}

static uint8_t read_register(struct vn_serial *serial, unsigned reg)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return divisor ? serial->dll : fifo_pop(serial);
	case UART_IER:
		return divisor ? serial->dlm : serial->ier;
	case UART_IIR:
		return read_iir(serial);
	case UART_LCR:
		return serial->lcr;
	case UART_MCR:
		return serial->mcr;
	case UART_LSR:
		return read_lsr(serial);
	case UART_MSR:
		return read_msr(serial);
	default:
		return serial->scr;
	}
}

static bool want_write(const struct vn_serial *serial)
{
	return serial->out_count && !serial->out.busy && !serial->out.ended && !serial->stopping;
}

// The line is open while the guest asks for data, and cut in loopback.
static bool has_room(const struct vn_serial *serial)
{
	bool asked = (serial->mcr & UART_MCR_RTS) || (serial->ier & UART_IER_RDI);

	return asked && !(serial->mcr & UART_MCR_LOOP) && fifo_room(serial);
}

static void take_arrived(struct vn_serial *serial)
{
	while (serial->arrived_count > 0 && has_room(serial)) {
		fifo_push(serial, serial->arriving[serial->arrived_start++]);
		serial->arrived_count--;
	}
}

static bool want_read(const struct vn_serial *serial)
{
	return has_room(serial) && serial->arrived_count == 0 && !serial->in.busy &&
	       !serial->in.ended && !serial->stopping;
}

// At the end of each register access.
static void accessed(struct vn_serial *serial)
{
	take_arrived(serial);
	update_line(serial);
	if (serial->woken || !(want_write(serial) || want_read(serial)))
		return;
	serial->woken = true;
	uint64_t one = 1;
	ssize_t written = write(serial->work.fd, &one, sizeof(one));
	(void)written; // the counter, which the loop resets, cannot be full
}

// An access wider than a register is one to each register in turn, as on the ISA bus.
static void serial_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct vn_serial *serial = opaque;
	uint8_t *bytes = data;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++)
		bytes[i] = read_register(serial, (unsigned)offset + i);
	accessed(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void serial_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	struct vn_serial *serial = opaque;
	const uint8_t *bytes = data;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++)
		write_register(serial, (unsigned)offset + i, bytes[i]);
	accessed(serial);
	pthread_mutex_unlock(&serial->lock);
}

const struct vn_bus_ops vn_serial_ops = {serial_read, serial_write};

// The loop's half. `-1` as the offset: the descriptor's own position. Output goes to a file's end:
// where that was truncated it goes on at the new one; and the kernel does not advance the position
// when a part is written before an error.
static void start_transfers(struct vn_serial *serial)
{
	if (want_write(serial)) {
		unsigned contiguous = OUT_SIZE - serial->out_start;
		unsigned count = serial->out_count < contiguous ? serial->out_count : contiguous;

		struct io_uring_sqe *sqe = vn_ioloop_sqe(serial->loop, &serial->out.op);
		serial->out.busy = true;
		io_uring_prep_write(sqe, serial->out.fd, serial->out_buffer + serial->out_start,
			count, (uint64_t)-1);
		sqe->rw_flags = RWF_APPEND;
	}
	if (want_read(serial)) {
		serial->in.busy = true;
		io_uring_prep_read(vn_ioloop_sqe(serial->loop, &serial->in.op), serial->in.fd,
			serial->arriving, fifo_room(serial), (uint64_t)-1);
	}
}

static void work_fire(struct vn_ioloop_event *event)
{
	struct vn_serial *serial = container_of(event, struct vn_serial, work);

	pthread_mutex_lock(&serial->lock);
	serial->woken = false;
	start_transfers(serial);
	pthread_mutex_unlock(&serial->lock);
}

// The part of a completion that both directions share: how many bytes it transferred. 0: none yet;
// after EAGAIN from a non-blocking descriptor, waits for it with a poll; EINTR tries again. A
// negative errno: none, and -ENODATA at the end of a file.
static int transferred(struct vn_serial *serial, struct channel *channel, int result, short events)
{
	bool polled = channel->polling;

	channel->busy = false;
	channel->polling = false;
	if (serial->stopping)
		return result > 0 && !polled ? result : 0;
	if ((polled && result >= 0) || result == -EINTR)
		return 0;
	if (result == -EAGAIN) {
		channel->busy = true;
		channel->polling = true;
		io_uring_prep_poll_add(
			vn_ioloop_sqe(serial->loop, &channel->op), channel->fd, (unsigned)events);
		return 0;
	}
	return result ? result : -ENODATA;
}

static void say_loss(const struct vn_serial *serial, const struct loss *loss)
{
	if (loss->bytes)
		vn_warn(serial->log, "serial port: %" PRIu64 " bytes of output were lost: %s",
			loss->bytes, loss->error ? strerror(-loss->error) : "nobody takes them");
}

// A full disk may have room again, and a FIFO another reader: what waits is lost, so that the guest
// is not held up, and what it sends next is tried again.
static void out_complete(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	struct vn_serial *serial = container_of(op, struct vn_serial, out.op);
	struct loss ended = {0};

	(void)flags;
	pthread_mutex_lock(&serial->lock);
	result = transferred(serial, &serial->out, result, POLLOUT);
	bool begins = result < 0 && !serial->loss.error;
	if (result > 0) {
		serial->out_start = (serial->out_start + (unsigned)result) % OUT_SIZE;
		serial->out_count -= (unsigned)result;
	} else if (result < 0) {
		serial->loss.bytes += serial->out_count;
		serial->loss.error = result;
		serial->out_count = 0;
	}
	if (result > 0 && serial->out_count == 0) {
		ended = serial->loss;
		serial->loss = (struct loss){0};
	}
	out_drained(serial);
	update_line(serial);
	start_transfers(serial);
	pthread_mutex_unlock(&serial->lock);
	// The embedder may take its time; the vCPUs do not wait for that.
	if (begins)
		vn_warn(serial->log, "serial port: output is lost from now on: %s",
			strerror(-result));
	say_loss(serial, &ended);
}

static void in_complete(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	struct vn_serial *serial = container_of(op, struct vn_serial, in.op);

	(void)flags;
	pthread_mutex_lock(&serial->lock);
	result = transferred(serial, &serial->in, result, POLLIN);
	serial->in.ended = result < 0;
	if (result > 0) {
		serial->arrived_start = 0;
		serial->arrived_count = (unsigned)result;
		take_arrived(serial);
	}
	update_line(serial);
	start_transfers(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void watch(void *arg)
{
	struct vn_serial *serial = arg;

	vn_ioloop_watch(serial->loop, &serial->work);
}

static int init_lock(struct vn_serial *serial)
{
	pthread_condattr_t attributes;

	// vn_serial_drain() measures its patience by the monotonic clock.
	int ret = pthread_condattr_init(&attributes);
	if (ret)
		return -ret;
	ret = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	if (!ret)
		ret = pthread_cond_init(&serial->progress, &attributes);
	pthread_condattr_destroy(&attributes);
	if (ret)
		return -ret;
	ret = pthread_mutex_init(&serial->lock, NULL);
	if (ret)
		pthread_cond_destroy(&serial->progress);
	return -ret;
}

// All but `thr_empty`, which says whether the output buffer has room, and outlasts a reset.
static void reset_registers(struct vn_serial *serial)
{
	serial->ier = serial->fcr = serial->lcr = serial->mcr = serial->scr = serial->dlm = 0;
	serial->dll = 1; // 115200 baud
	serial->msr = MSR_CONNECTED;
	serial->overrun = serial->thr_interrupt = serial->line = false;
	serial->fifo_start = serial->fifo_count = 0;
}

void vn_serial_reset(struct vn_serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	reset_registers(serial);
	serial->drain_ns = 0; // a later drain has its patience anew
	pthread_mutex_unlock(&serial->lock);
}

int vn_serial_create(struct vn_serial **result, struct vn_ioloop *loop, const struct vn_irq *irq,
	int in, int out, const struct vn_log *log, struct veneer_error *error)
{
	struct vn_serial *serial = calloc(1, sizeof(*serial));
	struct stat status;

	if (!serial)
		return vn_fail(error, -ENOMEM, "serial port: out of memory");
	serial->loop = loop;
	serial->irq = irq;
	serial->log = log;
	serial->in = (struct channel){.op = {in_complete}, .fd = in, .ended = in < 0};
	serial->out = (struct channel){.op = {out_complete}, .fd = out, .ended = out < 0};
	serial->out_is_file = fstat(out, &status) == 0 && S_ISREG(status.st_mode);
	serial->work = (struct vn_ioloop_event){.fire = work_fire};
	serial->thr_empty = true;
	reset_registers(serial);
	int ret = init_lock(serial);
	if (ret < 0) {
		free(serial);
		return vn_fail(error, ret, "serial port: no lock: %s", strerror(-ret));
	}
	serial->work.fd = eventfd(0, EFD_CLOEXEC);
	if (serial->work.fd < 0) {
		ret = vn_fail(error, -errno, "serial port: no eventfd: %s", strerror(errno));
		pthread_mutex_destroy(&serial->lock);
		pthread_cond_destroy(&serial->progress);
		free(serial);
		return ret;
	}
	vn_ioloop_call(loop, watch, serial);
	*result = serial;
	return 0;
}

uint64_t vn_serial_sent(struct vn_serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	uint64_t sent = serial->sent;
	pthread_mutex_unlock(&serial->lock);
	return sent;
}

// When output that makes no progress any more is given up. Callers with short limits, one after
// the other, come to it too.
static uint64_t give_up_ns(struct vn_serial *serial)
{
	if (vn_ioloop_has_failed(serial->loop))
		return 0;
	if (serial->drain_ns == 0 || serial->drain_left != serial->out_count) {
		serial->drain_left = serial->out_count;
		serial->drain_ns = vn_clock_ns();
	}
	return serial->out_is_file ? UINT64_MAX : serial->drain_ns + DRAIN_PATIENCE_NS;
}

// For progress, until `until_ns`, but for a second at most: a loop that fails does not signal it.
static void await_progress(struct vn_serial *serial, uint64_t until_ns)
{
	uint64_t next_look_ns = vn_clock_ns() + DRAIN_PATIENCE_NS;
	const struct timespec until =
		vn_clock_timespec(until_ns < next_look_ns ? until_ns : next_look_ns);
	(void)pthread_cond_timedwait(&serial->progress, &serial->lock, &until);
}

int vn_serial_drain(struct vn_serial *serial, uint64_t deadline_ns)
{
	uint64_t deadline = deadline_ns ? deadline_ns : UINT64_MAX, give_up = UINT64_MAX;
	bool late = false;

	pthread_mutex_lock(&serial->lock);
	while (serial->out_count > 0 && !late) {
		give_up = give_up_ns(serial);
		uint64_t until_ns = deadline < give_up ? deadline : give_up;
		late = vn_clock_ns() >= until_ns;
		if (!late)
			await_progress(serial, until_ns);
	}
	bool left = serial->out_count > 0;
	if (!left)
		serial->drain_ns = 0;
	pthread_mutex_unlock(&serial->lock);
	return left && deadline < give_up ? -ETIMEDOUT : 0;
}

static void cancelled(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	struct vn_serial *serial = container_of(op, struct vn_serial, cancel_op);

	(void)result; // found or too late: the operation itself completes either way
	(void)flags;
	serial->cancels--;
}

// A read of a terminal, or a write to a stopped one, ends only when it is told to.
static void cancel(struct vn_serial *serial, struct channel *channel)
{
	if (!channel->busy)
		return;
	serial->cancels++;
	io_uring_prep_cancel(vn_ioloop_sqe(serial->loop, &serial->cancel_op), &channel->op, 0);
}

static bool idle(void *arg)
{
	const struct vn_serial *serial = arg;

	return !serial->in.busy && !serial->out.busy && !serial->cancels;
}

// On the loop's thread, which alone changes `busy`.
static void stop(void *arg)
{
	struct vn_serial *serial = arg;

	pthread_mutex_lock(&serial->lock);
	serial->stopping = true;
	pthread_mutex_unlock(&serial->lock);
	vn_ioloop_unwatch(&serial->work);
	serial->cancel_op.complete = cancelled;
	cancel(serial, &serial->in);
	cancel(serial, &serial->out);
	vn_ioloop_run_until(serial->loop, idle, serial);
	serial->loss.bytes += serial->out_count; // which vn_serial_drain() gave up
	say_loss(serial, &serial->loss);
}

void vn_serial_destroy(struct vn_serial *serial)
{
	if (!serial)
		return;
	vn_ioloop_call(serial->loop, stop, serial);
	close(serial->work.fd);
	pthread_mutex_destroy(&serial->lock);
	pthread_cond_destroy(&serial->progress);
	free(serial);
}
