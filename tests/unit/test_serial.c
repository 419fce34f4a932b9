// SPDX-License-Identifier: Apache-2.0
//
// The serial port as a driver sees it: registers, FIFO, interrupts and their edges; and as the host
// sees it: pipes that fill up, close, block, and what happens to bytes then.
#include <errno.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macros.h"
#include "devices/serial.h"

#define LIMIT_MS 60000 // for things that must happen; generous, since they end a wait early

struct fixture {
	struct vn_log log;
	char said[4][128]; // warnings, in order
	atomic_uint said_count;
	struct vn_ioloop *loop;
	struct vn_irq irq;
	struct vn_serial *serial;
	int in[2]; // we write to [1]
	int out[2]; // we read from [0]
};

static void on_message(void *opaque, enum veneer_severity severity, const char *text)
{
	struct fixture *f = opaque;
	unsigned count = atomic_load(&f->said_count);

	assert_int_equal(severity, VENEER_SEVERITY_WARNING);
	assert_true(count < ARRAY_SIZE(f->said));
	snprintf(f->said[count], sizeof(f->said[count]), "%s", text);
	atomic_store(&f->said_count, count + 1);
}

static struct fixture *start(int in, int out)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->log = (struct vn_log){on_message, f};
	f->in[0] = f->in[1] = f->out[0] = f->out[1] = -1;
	assert_int_equal(vn_ioloop_create(&f->loop, "test", 16, NULL, NULL), 0);
	assert_int_equal(vn_irq_open(&f->irq, NULL, 4, NULL), 0);
	assert_int_equal(vn_serial_create(&f->serial, f->loop, &f->irq, in, out, &f->log, NULL), 0);
	return f;
}

static struct fixture *start_pipes(int flags)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC | flags), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC | flags), 0);
	struct fixture *f = start(in[0], out[1]);
	memcpy(f->in, in, sizeof(in));
	memcpy(f->out, out, sizeof(out));
	return f;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void destroy(struct fixture *f)
{
	vn_serial_destroy(f->serial);
	vn_irq_close(&f->irq);
	vn_ioloop_destroy(f->loop);
}

static void finish(struct fixture *f)
{
	destroy(f);
	for (int i = 0; i < 2; i++) {
		close_if_open(f->in[i]);
		close_if_open(f->out[i]);
	}
	free(f);
}

static uint8_t rd(struct fixture *f, unsigned reg)
{
	uint8_t value = 0xff;

	vn_serial_ops.read(f->serial, reg, &value, 1);
	return value;
}

static void wr(struct fixture *f, unsigned reg, unsigned value)
{
	uint8_t byte = (uint8_t)value;

	vn_serial_ops.write(f->serial, reg, &byte, 1);
}

// Edges since the last call.
static uint64_t edges(struct fixture *f)
{
	uint64_t count = 0;

	if (read(f->irq.fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

static void wait_edge(struct fixture *f)
{
	struct pollfd pfd = {.fd = f->irq.fd, .events = POLLIN};

	assert_int_equal(poll(&pfd, 1, LIMIT_MS), 1);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
}

// Wait until the line status has all of `bits`.
static void wait_lsr(struct fixture *f, unsigned bits)
{
	for (int i = 0; i < LIMIT_MS; i++) {
		if ((rd(f, UART_LSR) & bits) == bits)
			return;
		nap();
	}
	fail_msg("line status never had %#x", bits);
}

// Read exactly `size` bytes of what the port wrote.
static void expect_output(struct fixture *f, const void *expected, size_t size)
{
	char *got = malloc(size + 1);
	size_t have = 0;

	while (have < size) {
		struct pollfd pfd = {.fd = f->out[0], .events = POLLIN};
		assert_int_equal(poll(&pfd, 1, LIMIT_MS), 1);
		ssize_t n = read(f->out[0], got + have, size - have);
		assert_true(n > 0);
		have += (size_t)n;
	}
	assert_memory_equal(got, expected, size);
	free(got);
}

static void send_in(struct fixture *f, const char *text)
{
	assert_int_equal(write(f->in[1], text, strlen(text)), strlen(text));
}

// What a driver does before it uses the port.
static void open_port(struct fixture *f, unsigned fcr, unsigned ier)
{
	wr(f, UART_FCR, fcr);
	wr(f, UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	wr(f, UART_IER, ier);
}

static void expect_reset_values(struct fixture *f)
{
	assert_int_equal(rd(f, UART_IER), 0);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(rd(f, UART_LCR), 0);
	assert_int_equal(rd(f, UART_MCR), 0);
	assert_int_equal(rd(f, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(rd(f, UART_MSR), UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
	assert_int_equal(rd(f, UART_SCR), 0);
	assert_int_equal(rd(f, UART_RX), 0);
	assert_int_equal(edges(f), 0);
}

static void test_reset_values(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	expect_reset_values(f);
	finish(f);
}

static void test_reset(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	for (unsigned lcr = 0; lcr < 2; lcr++) {
		open_port(f, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_14, 0x0f);
		wr(f, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
		for (unsigned i = 0; i < 20; i++) // four more than the FIFO takes
			wr(f, UART_TX, 'l');
		wr(f, UART_SCR, 0x5a);
		wr(f, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
		wr(f, UART_DLL, 0x34);
		wr(f, UART_DLM, 0x12);
		wr(f, UART_LCR, lcr ? UART_LCR_DLAB : 0);
		assert_true(edges(f) > 0);
		vn_serial_reset(f->serial);
		expect_reset_values(f);
		wr(f, UART_LCR, UART_LCR_DLAB);
		assert_int_equal(rd(f, UART_DLL), 1);
		assert_int_equal(rd(f, UART_DLM), 0);
		wr(f, UART_LCR, 0);
		// The line was left low: the first cause makes an edge.
		wr(f, UART_IER, UART_IER_THRI);
		assert_int_equal(edges(f), 1);
		vn_serial_reset(f->serial);
	}
	finish(f);
}

// What the guest sent before is the host's; what nobody takes still fills the buffer.
static void test_reset_keeps_output(void **state)
{
	struct fixture *f = start_pipes(O_NONBLOCK);
	char *sent = malloc(MIB);
	size_t count = 0;

	(void)state;
	assert_non_null(sent);
	while (rd(f, UART_LSR) & UART_LSR_THRE) { // until the pipe and the buffer are full
		for (unsigned i = 0; i < 16 && count < MIB; i++) {
			sent[count] = (char)('a' + count % 26);
			wr(f, UART_TX, (unsigned)sent[count++]);
		}
		assert_true(count < MIB);
		// The loop may be about to hand more over.
		if (!(rd(f, UART_LSR) & UART_LSR_THRE))
			vn_serial_drain(f->serial, 0);
	}
	vn_serial_reset(f->serial);
	assert_int_equal(rd(f, UART_LSR), 0);
	expect_output(f, sent, count);
	wait_lsr(f, UART_LSR_THRE);
	wr(f, UART_TX, '!');
	expect_output(f, "!", 1);
	free(sent);
	finish(f);
}

// What is typed while the guest is reset waits until it asks for data again.
static void test_reset_waits_for_the_driver(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	open_port(f, UART_FCR_ENABLE_FIFO, UART_IER_RDI);
	send_in(f, "a");
	wait_edge(f);
	vn_serial_reset(f->serial);
	assert_int_equal(rd(f, UART_LSR) & UART_LSR_DR, 0); // that byte went with it
	edges(f);
	send_in(f, "bcdefghij"); // for which a read was in flight
	nap();
	assert_int_equal(rd(f, UART_LSR) & (UART_LSR_DR | UART_LSR_OE), 0);
	open_port(f, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR, UART_IER_RDI);
	send_in(f, "k");
	for (char c = 'b'; c <= 'k'; c++) {
		wait_lsr(f, UART_LSR_DR);
		assert_int_equal(rd(f, UART_RX), c);
	}
	assert_int_equal(rd(f, UART_LSR) & UART_LSR_OE, 0);
	finish(f);
}

static void test_plain_registers(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	wr(f, UART_SCR, 0xa5);
	assert_int_equal(rd(f, UART_SCR), 0xa5);
	wr(f, UART_IER, 0xff);
	assert_int_equal(rd(f, UART_IER), 0x0f);
	wr(f, UART_MCR, 0xff);
	assert_int_equal(rd(f, UART_MCR), 0x1f);
	wr(f, UART_LCR, 0x7f);
	assert_int_equal(rd(f, UART_LCR), 0x7f);
	// The divisor hides behind the first two registers, which keep their values.
	wr(f, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	wr(f, UART_DLL, 0x34);
	wr(f, UART_DLM, 0x12);
	assert_int_equal(rd(f, UART_DLL), 0x34);
	assert_int_equal(rd(f, UART_DLM), 0x12);
	wr(f, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(rd(f, UART_IER), 0x0f);
	// Status registers are not for writing.
	wr(f, UART_LSR, 0xff);
	assert_int_equal(rd(f, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	// A wide access is one to each register in turn.
	uint16_t wide = 0x0f00;
	vn_serial_ops.write(f->serial, UART_MSR, &wide, 2);
	assert_int_equal(rd(f, UART_SCR), 0x0f);
	vn_serial_ops.read(f->serial, UART_MSR, &wide, 2);
	assert_int_equal(wide >> 8, 0x0f);
	finish(f);
}

// What Linux's autoconfig looks at to tell a 16550A from its ancestors and successors.
static void test_autoconfig(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	wr(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(rd(f, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	wr(f, UART_MCR, 0);
	wr(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(rd(f, UART_IIR) >> 6, 3);
	wr(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(rd(f, UART_IIR) >> 5, 6); // no 64-byte FIFO
	wr(f, UART_FCR, 0);
	assert_int_equal(rd(f, UART_IIR) >> 6, 0);
	finish(f);
}

// What a driver's test loops back is not sent; all else is, also where nobody takes it.
static void test_counts_what_is_sent(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	assert_int_equal(vn_serial_sent(f->serial), 0);
	wr(f, UART_MCR, UART_MCR_LOOP);
	wr(f, UART_TX, 'l');
	assert_int_equal(vn_serial_sent(f->serial), 0);
	wr(f, UART_MCR, 0);
	for (unsigned i = 0; i < 10000; i++)
		wr(f, UART_TX, 'x');
	assert_int_equal(vn_serial_sent(f->serial), 10000);
	finish(f);
}

static void test_modem_lines(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	wr(f, UART_IER, UART_IER_MSI);
	wr(f, UART_MCR, UART_MCR_LOOP); // the cable's CTS, DSR and DCD go
	assert_int_equal(edges(f), 1);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_MSI);
	assert_int_equal(rd(f, UART_MSR), UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_NO_INT);
	// Ring counts when it ends.
	wr(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1);
	assert_int_equal(rd(f, UART_MSR), UART_MSR_RI);
	assert_int_equal(edges(f), 0);
	wr(f, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR);
	assert_int_equal(rd(f, UART_MSR), UART_MSR_DSR | UART_MSR_DDSR | UART_MSR_TERI);
	assert_int_equal(edges(f), 1);
	finish(f);
}

static void test_loopback(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	wr(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	wr(f, UART_IER, UART_IER_RDI | UART_IER_RLSI);
	wr(f, UART_MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < 16; i++)
		wr(f, UART_TX, 'a' + i);
	assert_int_equal(rd(f, UART_LSR), UART_LSR_DR | UART_LSR_THRE | UART_LSR_TEMT);
	wr(f, UART_TX, 'z'); // one too many is lost, and said
	assert_int_equal(rd(f, UART_IIR) & 0x0f, UART_IIR_RLSI);
	assert_true(rd(f, UART_LSR) & UART_LSR_OE);
	assert_false(rd(f, UART_LSR) & UART_LSR_OE);
	assert_int_equal(rd(f, UART_IIR) & 0x0f, UART_IIR_RDI);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(rd(f, UART_RX), 'a' + i);
	assert_false(rd(f, UART_LSR) & UART_LSR_DR);
	// Nothing of it reached the host.
	vn_serial_drain(f->serial, 0);
	struct pollfd pfd = {.fd = f->out[0], .events = POLLIN};
	assert_int_equal(poll(&pfd, 1, 0), 0);
	finish(f);
}

static void test_trigger_levels(void **state)
{
	static const struct {
		unsigned fcr, level;
	} cases[] = {{UART_FCR_R_TRIG_00, 1}, {UART_FCR_R_TRIG_01, 4}, {UART_FCR_R_TRIG_10, 8},
		{UART_FCR_R_TRIG_11, 14}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f = start(-1, -1);
		wr(f, UART_FCR, UART_FCR_ENABLE_FIFO | cases[i].fcr);
		wr(f, UART_IER, UART_IER_RDI);
		wr(f, UART_MCR, UART_MCR_LOOP);
		for (unsigned n = 1; n <= 16; n++) {
			wr(f, UART_TX, n);
			assert_int_equal(rd(f, UART_IIR) & 0x0f,
				n >= cases[i].level ? UART_IIR_RDI : UART_IIR_RX_TIMEOUT);
		}
		assert_int_equal(edges(f), 1);
		wr(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
		assert_int_equal(rd(f, UART_IIR) & 0x0f, UART_IIR_NO_INT);
		assert_false(rd(f, UART_LSR) & UART_LSR_DR);
		finish(f);
	}
}

// Without its FIFO it is a 16450, with room for one byte; switching it empties it.
static void test_fifo_off(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	wr(f, UART_IER, UART_IER_RDI);
	wr(f, UART_MCR, UART_MCR_LOOP);
	wr(f, UART_TX, 'a');
	assert_int_equal(rd(f, UART_IIR), UART_IIR_RDI);
	wr(f, UART_TX, 'b');
	assert_true(rd(f, UART_LSR) & UART_LSR_OE);
	assert_int_equal(rd(f, UART_RX), 'a');
	assert_false(rd(f, UART_LSR) & UART_LSR_DR);
	wr(f, UART_TX, 'c');
	wr(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_false(rd(f, UART_LSR) & UART_LSR_DR);
	wr(f, UART_TX, 'd');
	wr(f, UART_FCR, UART_FCR_CLEAR_RCVR | UART_FCR_TRIGGER_MASK); // not enabled: all off
	assert_false(rd(f, UART_LSR) & UART_LSR_DR);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_NO_INT);
	finish(f);
}

static void test_priorities(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	wr(f, UART_MCR, UART_MCR_LOOP); // modem lines changed
	wr(f, UART_TX, 'a'); // data
	wr(f, UART_TX, 'b'); // overrun
	wr(f, UART_IER, 0x0f); // and the transmitter is empty
	assert_int_equal(edges(f), 1);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_RLSI);
	rd(f, UART_LSR);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_RDI);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_RDI); // reading acknowledges THRE alone
	rd(f, UART_RX);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_THRI);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_MSI);
	rd(f, UART_MSR);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(edges(f), 0); // the line was up all the time
	finish(f);
}

// Linux's tests when it opens the port: the transmitter's interrupt comes, and comes again, each
// time that it is enabled.
static void test_transmitter_interrupt(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	for (int i = 0; i < 3; i++) {
		wr(f, UART_IER, UART_IER_THRI);
		assert_int_equal(edges(f), 1);
		assert_int_equal(rd(f, UART_IIR), UART_IIR_THRI);
		wr(f, UART_IER, 0);
		assert_int_equal(rd(f, UART_IIR), UART_IIR_NO_INT);
	}
	// Not acknowledged, switched off and on: pending, with an edge.
	wr(f, UART_IER, UART_IER_THRI);
	wr(f, UART_IER, 0);
	wr(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 2);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_THRI);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_NO_INT);
	// Enabled already: nothing new.
	wr(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 0);
	// A burst makes one edge, and one more after the next acknowledgement.
	for (int burst = 0; burst < 3; burst++) {
		for (int i = 0; i < 16; i++)
			wr(f, UART_TX, 'x');
		assert_int_equal(edges(f), 1);
		assert_int_equal(rd(f, UART_IIR), UART_IIR_THRI);
	}
	finish(f);
}

static void test_output(void **state)
{
	struct fixture *f = start_pipes(0);
	char text[100000];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 7 + i / 251);
	// Written as a polling console does, while the reader lags behind.
	size_t sent = 0, received = 0;
	while (received < sizeof(text)) {
		while (sent < sizeof(text) && (rd(f, UART_LSR) & UART_LSR_THRE)) {
			for (int i = 0; i < 16 && sent < sizeof(text); i++)
				wr(f, UART_TX, (uint8_t)text[sent++]);
		}
		size_t part = sent - received < 1000 ? sent - received : 1000;
		expect_output(f, text + received, part);
		received += part;
	}
	finish(f);
}

// A reader that does not read: the transmitter stays full, the vCPU goes on, nothing is lost.
static void back_pressure(int flags)
{
	struct fixture *f = start_pipes(flags);
	size_t sent = 0;

	assert_true(fcntl(f->out[1], F_SETPIPE_SZ, 4096) >= 4096);
	wr(f, UART_IER, UART_IER_THRI);
	for (int idle = 0; idle < 20;) {
		if (rd(f, UART_LSR) & UART_LSR_THRE) {
			for (int i = 0; i < 16; i++)
				wr(f, UART_TX, (uint8_t) "0123456789abcdef"[sent++ % 16]);
			idle = 0;
		} else {
			idle++;
			nap();
		}
	}
	assert_true(sent > 8192);
	assert_false(rd(f, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT));
	assert_int_equal(rd(f, UART_IIR), UART_IIR_NO_INT);
	edges(f);
	for (size_t i = 0; i < sent; i += 16)
		expect_output(f, "0123456789abcdef", 16);
	// Room again: said by an edge.
	wait_edge(f);
	assert_int_equal(rd(f, UART_IIR), UART_IIR_THRI);
	assert_true(rd(f, UART_LSR) & UART_LSR_THRE);
	finish(f);
}

static void test_back_pressure(void **state)
{
	(void)state;
	back_pressure(0);
}

static void test_back_pressure_nonblocking(void **state)
{
	(void)state;
	back_pressure(O_NONBLOCK);
}

static void fill(struct fixture *f)
{
	assert_true(fcntl(f->out[1], F_SETPIPE_SZ, 4096) >= 4096);
	for (int i = 0; i < 20000; i++)
		wr(f, UART_TX, 'x');
}

static double seconds(void)
{
	return (double)vn_clock_ns() / NS_PER_S;
}

static void test_drain_gives_up(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	fill(f);
	double before = seconds();
	vn_serial_drain(f->serial, 0);
	assert_true(seconds() - before >= 0.9);
	destroy(f); // with the write still in flight
	assert_int_equal(atomic_load(&f->said_count), 1);
	assert_non_null(strstr(f->said[0], "bytes of output were lost: nobody takes them"));
	for (int i = 0; i < 2; i++) {
		close(f->in[i]);
		close(f->out[i]);
	}
	free(f);
}

// Nor does output that nobody takes last for ever when each call has a limit below a second.
static void test_drain_gives_up_in_turns(void **state)
{
	struct fixture *f = start_pipes(0);
	unsigned turns = 1;

	(void)state;
	fill(f);
	double before = seconds();
	while (turns < 100 && vn_serial_drain(f->serial, vn_clock_ns() + 50 * NS_PER_MS) < 0)
		turns++;
	assert_true(seconds() - before >= 0.9);
	assert_in_range(turns, 2, 40);
	destroy(f);
	for (int i = 0; i < 2; i++) {
		close(f->in[i]);
		close(f->out[i]);
	}
	free(f);
}

static void do_nothing(void *arg)
{
	(void)arg;
}

// A file may take its time, but not without a loop that writes to it.
static void test_drain_without_loop(void **state)
{
	FILE *file = tmpfile();
	struct fixture *f = start(-1, fileno(file));

	(void)state;
	vn_ioloop_abandon(f->loop);
	vn_ioloop_call(f->loop, do_nothing, NULL);
	for (int i = 0; i < 3; i++)
		wr(f, UART_TX, 'x');
	double before = seconds();
	assert_int_equal(vn_serial_drain(f->serial, 0), 0);
	assert_true(seconds() - before < 0.9);
	destroy(f);
	assert_int_equal(atomic_load(&f->said_count), 1);
	assert_non_null(strstr(f->said[0], "3 bytes of output were lost: nobody takes them"));
	assert_int_equal(lseek(fileno(file), 0, SEEK_END), 0);
	fclose(file);
	free(f);
}

static void test_drain_writes_all(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	for (int i = 0; i < 5000; i++)
		wr(f, UART_TX, 'x');
	vn_serial_drain(f->serial, 0);
	char got[5001];
	assert_int_equal(read(f->out[0], got, sizeof(got)), 5000);
	finish(f);
}

static void await_said(struct fixture *f, unsigned count)
{
	for (int i = 0; i < LIMIT_MS && atomic_load(&f->said_count) < count; i++)
		nap();
	assert_int_equal(atomic_load(&f->said_count), count);
}

// Polling, as a kernel's console does; fails when the guest is held up.
static void print(struct fixture *f, const char *text)
{
	for (; *text; text++) {
		wait_lsr(f, UART_LSR_THRE);
		wr(f, UART_TX, (uint8_t)*text);
	}
}

// A guest that does not wait for the transmitter: what there is no room for is counted, and told
// once the listener has taken the rest.
static void test_overflow(void **state)
{
	struct fixture *f = start_pipes(0);
	char got[20000];
	size_t have = 0;
	unsigned long long lost;

	(void)state;
	fill(f);
	while (atomic_load(&f->said_count) == 0 && have < sizeof(got)) {
		struct pollfd readable = {.fd = f->out[0], .events = POLLIN};
		if (poll(&readable, 1, 10) == 1)
			have += (size_t)read(f->out[0], got, sizeof(got) - have);
	}
	assert_int_equal(
		sscanf(f->said[0], "serial port: %llu bytes of output were lost: nobody takes them",
			&lost),
		1);
	assert_true(lost > 0);
	while (have + lost < sizeof(got))
		have += (size_t)read(f->out[0], got, sizeof(got) - have);
	assert_int_equal(have + lost, sizeof(got));
	destroy(f);
	assert_int_equal(atomic_load(&f->said_count), 1);
	for (int i = 0; i < 2; i++) {
		close(f->in[i]);
		close(f->out[i]);
	}
	free(f);
}

// The listener goes away: output is lost, the guest never waits for it, and two warnings say it.
static void test_broken_output(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	fill(f);
	close(f->out[0]);
	f->out[0] = -1;
	wait_lsr(f, UART_LSR_THRE | UART_LSR_TEMT);
	for (int i = 0; i < 2000; i++)
		print(f, "yyyyyyyyyy");
	double before = seconds();
	vn_serial_drain(f->serial, 0);
	assert_true(seconds() - before < 0.9);
	await_said(f, 1);
	assert_string_equal(f->said[0], "serial port: output is lost from now on: Broken pipe");
	destroy(f);
	unsigned long long lost;
	assert_int_equal(atomic_load(&f->said_count), 2);
	assert_int_equal(sscanf(f->said[1],
				 "serial port: %llu bytes of output were lost: Broken pipe", &lost),
		1);
	assert_true(lost >= 40000 - 4096 && lost <= 40000); // but for what the pipe took
	close(f->in[0]);
	close(f->in[1]);
	close(f->out[1]);
	free(f);
}

// Another reader comes to the FIFO: it gets what is printed from then on.
static void test_fifo_reader_returns(void **state)
{
	char path[] = "/tmp/veneer-serial-XXXXXX";

	(void)state;
	close(mkstemp(path));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int writer = open(path, O_WRONLY | O_CLOEXEC);
	struct fixture *f = start(-1, writer);
	for (int i = 0; i < 3; i++) {
		f->out[0] = reader;
		print(f, "heard");
		vn_serial_drain(f->serial, 0);
		expect_output(f, "heard", 5);
		if (i == 2)
			break;
		close(reader);
		print(f, "unheard");
		vn_serial_drain(f->serial, 0);
		reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	await_said(f, 4);
	for (int i = 0; i < 4; i += 2) {
		assert_string_equal(
			f->said[i], "serial port: output is lost from now on: Broken pipe");
		assert_string_equal(
			f->said[i + 1], "serial port: 7 bytes of output were lost: Broken pipe");
	}
	f->out[1] = writer;
	finish(f);
	unlink(path);
}

// A file system of 64 KiB that becomes full, and has room again; and a guest that prints all the
// time.
static void test_full_disk(void **state)
{
	char directory[] = "/tmp/veneer-serial-XXXXXX";
	char path[64];
	static char page[4097];
	struct stat status;

	(void)state;
	assert_non_null(mkdtemp(directory));
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", directory, "tmpfs", 0, "size=64k") < 0) {
		print_message("# no tmpfs can be mounted: %s\n", strerror(errno));
		rmdir(directory);
		skip();
	}
	snprintf(path, sizeof(path), "%s/log", directory);
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	struct fixture *f = start(-1, fd);
	memset(page, 'x', sizeof(page) - 1);
	for (int i = 0; i < 20; i++)
		print(f, page);
	vn_serial_drain(f->serial, 0);
	await_said(f, 1);
	assert_string_equal(
		f->said[0], "serial port: output is lost from now on: No space left on device");
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, 64 * KIB);
	assert_int_equal(ftruncate(fd, 0), 0);
	print(f, "again");
	vn_serial_drain(f->serial, 0);
	await_said(f, 2);
	assert_string_equal(f->said[1],
		"serial port: 16384 bytes of output were lost: No space left on device");
	char text[6] = "";
	assert_int_equal(pread(fd, text, 6, 0), 5); // at the file's new end, which is its beginning
	assert_string_equal(text, "again");
	finish(f);
	close(fd);
	umount(directory);
	rmdir(directory);
}

// A limit of the file's size: no signal, and output goes on above a new limit.
static void test_file_size_limit(void **state)
{
	FILE *file = tmpfile();
	struct rlimit before, limit;

	(void)state;
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 4;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	struct fixture *f = start(-1, fileno(file));
	print(f, "12345");
	vn_serial_drain(f->serial, 0);
	setrlimit(RLIMIT_FSIZE, &before);
	await_said(f, 1);
	print(f, "678");
	vn_serial_drain(f->serial, 0);
	await_said(f, 2);
	assert_string_equal(f->said[1], "serial port: 1 bytes of output were lost: File too large");
	char text[8] = "";
	assert_int_equal(pread(fileno(file), text, sizeof(text), 0), 7);
	assert_memory_equal(text, "1234678", 7);
	finish(f);
	fclose(file);
}

static void test_no_output(void **state)
{
	struct fixture *f = start(-1, -1);

	(void)state;
	for (int i = 0; i < 20000; i++)
		wr(f, UART_TX, 'y');
	assert_int_equal(rd(f, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	vn_serial_drain(f->serial, 0);
	finish(f);
}

static void receive(struct fixture *f, const char *text)
{
	for (; *text; text++) {
		wait_lsr(f, UART_LSR_DR);
		assert_int_equal(rd(f, UART_RX), *text);
	}
}

static void input(int flags)
{
	struct fixture *f = start_pipes(flags);

	open_port(f, UART_FCR_ENABLE_FIFO, UART_IER_RDI);
	send_in(f, "a");
	wait_edge(f);
	assert_int_equal(edges(f), 1);
	assert_int_equal(rd(f, UART_IIR), 0xc0 | UART_IIR_RDI);
	receive(f, "a");
	assert_int_equal(rd(f, UART_IIR), 0xc0 | UART_IIR_NO_INT);
	send_in(f, "more than the FIFO takes at once, by a good deal");
	wait_edge(f);
	receive(f, "more than the FIFO takes at once, by a good deal");
	finish(f);
}

static void test_input(void **state)
{
	(void)state;
	input(0);
}

static void test_input_nonblocking(void **state)
{
	(void)state;
	input(O_NONBLOCK);
}

// What is piped in before the driver is ready reaches it whole, though it clears the receiver.
static void test_input_waits(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	send_in(f, "first words");
	for (int i = 0; i < 20; i++) {
		wr(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
		wr(f, UART_FCR, 0);
		rd(f, UART_RX);
		assert_false(rd(f, UART_LSR) & UART_LSR_DR);
		nap();
	}
	open_port(f, UART_FCR_ENABLE_FIFO, 0);
	receive(f, "first words");
	finish(f);
}

// No more is taken from the pipe than the receiver holds.
static void test_input_bounded(void **state)
{
	struct fixture *f = start_pipes(O_NONBLOCK);
	char rest[64];

	(void)state;
	open_port(f, UART_FCR_ENABLE_FIFO, 0);
	wait_lsr(f, UART_LSR_THRE);
	send_in(f, "0123456789abcdefREST");
	wait_lsr(f, UART_LSR_DR);
	for (int i = 0; i < 20; i++)
		nap();
	assert_int_equal(read(f->in[0], rest, sizeof(rest)), 4);
	assert_memory_equal(rest, "REST", 4);
	receive(f, "0123456789abcdef");
	finish(f);
}

static void test_input_end(void **state)
{
	struct fixture *f = start_pipes(0);

	(void)state;
	send_in(f, "last");
	close(f->in[1]);
	f->in[1] = -1;
	open_port(f, UART_FCR_ENABLE_FIFO, UART_IER_RDI);
	receive(f, "last");
	for (int i = 0; i < 20; i++) {
		assert_false(rd(f, UART_LSR) & UART_LSR_DR);
		nap();
	}
	finish(f);
}

// A terminal whose read is in flight, and one that is stopped with a write in flight.
static void test_destroy_with_terminal(void **state)
{
	int master, slave;

	(void)state;
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(tcflow(slave, TCOOFF), 0);
	struct fixture *f = start(slave, slave);
	open_port(f, UART_FCR_ENABLE_FIFO, UART_IER_RDI);
	for (int i = 0; i < 20000; i++)
		wr(f, UART_TX, 'x');
	for (int i = 0; i < 50; i++)
		nap();
	finish(f);
	close(slave);
	close(master);
}

// A driver of the interrupt kind on one thread, the host's end on another: every byte goes out,
// each time on the strength of an edge.
struct echo {
	struct fixture *f;
	size_t total;
};

static void *feed(void *arg)
{
	struct echo *echo = arg;

	for (size_t i = 0; i < echo->total; i++) {
		char byte = (char)('a' + i % 26);
		assert_int_equal(write(echo->f->in[1], &byte, 1), 1);
	}
	return NULL;
}

// Serve causes as Linux's serial8250_interrupt() does: until none is left.
static size_t serve(struct fixture *f, char *got, size_t have)
{
	while (!(rd(f, UART_IIR) & UART_IIR_NO_INT)) {
		while (rd(f, UART_LSR) & UART_LSR_DR)
			got[have++] = (char)rd(f, UART_RX);
	}
	return have;
}

static void test_no_edge_lost(void **state)
{
	struct fixture *f = start_pipes(0);
	struct echo echo = {f, 20000};
	char *got = malloc(echo.total);
	pthread_t thread;
	size_t have = 0;

	(void)state;
	open_port(f, UART_FCR_ENABLE_FIFO | UART_FCR_R_TRIG_10, UART_IER_RDI | UART_IER_THRI);
	assert_int_equal(pthread_create(&thread, NULL, feed, &echo), 0);
	while (have < echo.total) {
		wait_edge(f);
		edges(f);
		size_t before = have;
		have = serve(f, got, have);
		for (size_t i = before; i < have; i++)
			wr(f, UART_TX, (uint8_t)got[i]);
	}
	pthread_join(thread, NULL);
	for (size_t i = 0; i < have; i++)
		assert_int_equal(got[i], 'a' + (int)(i % 26));
	expect_output(f, got, have);
	free(got);
	finish(f);
}

// Several vCPUs at once: no byte is lost or doubled.
static void *hammer(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < 2000; i++) {
		wr(f, UART_SCR, (unsigned)i);
		wr(f, UART_TX, 'x');
		rd(f, UART_IIR);
		wr(f, UART_IER, (unsigned)i);
	}
	return NULL;
}

static void test_several_vcpus(void **state)
{
	struct fixture *f = start_pipes(0);
	pthread_t threads[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, f), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	vn_serial_drain(f->serial, 0);
	char got[8000];
	assert_int_equal(read(f->out[0], got, sizeof(got)), 6000);
	finish(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_values), cmocka_unit_test(test_plain_registers),
		cmocka_unit_test(test_reset), cmocka_unit_test(test_reset_keeps_output),
		cmocka_unit_test(test_reset_waits_for_the_driver),
		cmocka_unit_test(test_autoconfig), cmocka_unit_test(test_counts_what_is_sent),
		cmocka_unit_test(test_modem_lines), cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_trigger_levels), cmocka_unit_test(test_fifo_off),
		cmocka_unit_test(test_priorities), cmocka_unit_test(test_transmitter_interrupt),
		cmocka_unit_test(test_output), cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_back_pressure_nonblocking),
		cmocka_unit_test(test_drain_gives_up),
		cmocka_unit_test(test_drain_gives_up_in_turns),
		cmocka_unit_test(test_drain_without_loop), cmocka_unit_test(test_drain_writes_all),
		cmocka_unit_test(test_overflow), cmocka_unit_test(test_broken_output),
		cmocka_unit_test(test_fifo_reader_returns), cmocka_unit_test(test_file_size_limit),
		cmocka_unit_test(test_no_output), cmocka_unit_test(test_input),
		cmocka_unit_test(test_input_nonblocking), cmocka_unit_test(test_input_waits),
		cmocka_unit_test(test_input_bounded), cmocka_unit_test(test_input_end),
		cmocka_unit_test(test_destroy_with_terminal), cmocka_unit_test(test_no_edge_lost),
		cmocka_unit_test(test_several_vcpus),
		cmocka_unit_test(test_full_disk), // the last: it leaves for another namespace
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
