// SPDX-License-Identifier: Apache-2.0
/*
 * Serial output and text. Every port access may be a trip to the VMM and back, so text goes out in
 * lines, and the transmitter is asked whether it is ready once for each 16 bytes, which is what
 * its FIFO holds.
 */
#include "print.h"

#include <stdarg.h>

#include "ring0.h"

#define LSR_TRANSMITTER_EMPTY 0x20
#define FIFO_BYTES            16

static char line[1024];
static size_t line_bytes;
static bool serial_ready;

/* Where formatted text goes: a buffer, or, with none, the line on its way to the serial port. */
struct sink {
	char *buffer;
	size_t bytes, used;
};

static void serial_init(void)
{
	out8(PORT_SERIAL + 1, 0); /* IER: no interrupts */
	out8(PORT_SERIAL + 3, 0x03); /* LCR: 8 bits, no parity */
	out8(PORT_SERIAL + 2, 0x07); /* FCR: FIFOs on and empty */
	out8(PORT_SERIAL + 4, 0x0b); /* MCR: DTR, RTS, OUT2 (which passes interrupts on) */
	serial_ready = true;
}

void print_flush(void)
{
	if (!serial_ready)
		serial_init();
	for (size_t i = 0; i < line_bytes; i++) {
		if (i % FIFO_BYTES == 0) {
			while (!(in8(PORT_SERIAL + 5) & LSR_TRANSMITTER_EMPTY))
				cpu_relax();
		}
		out8(PORT_SERIAL, (uint8_t)line[i]);
	}
	line_bytes = 0;
}

static void put(struct sink *sink, char c)
{
	if (sink->buffer) {
		if (sink->used + 1 < sink->bytes)
			sink->buffer[sink->used++] = c;
		return;
	}
	line[line_bytes++] = c;
	if (c == '\n' || line_bytes == sizeof(line))
		print_flush();
}

/* `digits` holds the text backwards. */
static void put_padded(
	struct sink *sink, const char *text, size_t bytes, unsigned width, bool left, char pad)
{
	for (size_t i = bytes; !left && i < width; i++)
		put(sink, pad);
	for (size_t i = 0; i < bytes; i++)
		put(sink, text[i]);
	for (size_t i = bytes; left && i < width; i++)
		put(sink, ' ');
}

static size_t number_text(char text[24], uint64_t value, unsigned base)
{
	char reversed[24];
	size_t n = 0;

	do {
		reversed[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (size_t i = 0; i < n; i++)
		text[i] = reversed[n - 1 - i];
	return n;
}

/* One conversion, from behind its `%`; returns behind its last character. */
static const char *put_conversion(struct sink *sink, const char *f, va_list *args)
{
	bool left = *f == '-', is_long;
	char pad = ' ', text[24];
	unsigned width = 0;
	const char *s;
	uint64_t value;

	if (left)
		f++;
	if (*f == '0')
		pad = '0';
	while (*f >= '0' && *f <= '9')
		width = width * 10 + (unsigned)(*f++ - '0');
	is_long = *f == 'l';
	if (is_long)
		f++;
	switch (*f) {
	case 's':
		s = va_arg(*args, const char *);
		put_padded(sink, s, text_length(s), width, left, ' ');
		break;
	case 'c':
		text[0] = (char)va_arg(*args, int);
		put_padded(sink, text, 1, width, left, ' ');
		break;
	case 'u':
	case 'x':
		value = is_long ? va_arg(*args, unsigned long) : va_arg(*args, unsigned);
		put_padded(sink, text, number_text(text, value, *f == 'u' ? 10 : 16), width, left,
			pad);
		break;
	default:
		put(sink, *f);
		break;
	}
	return f + 1;
}

static void put_format(struct sink *sink, const char *format, va_list *args)
{
	while (*format) {
		if (*format != '%')
			put(sink, *format++);
		else
			format = put_conversion(sink, format + 1, args);
	}
}

void print(const char *format, ...)
{
	struct sink sink = {0};
	va_list args;

	va_start(args, format);
	put_format(&sink, format, &args);
	va_end(args);
}

void format_text(char *buffer, size_t bytes, const char *format, ...)
{
	struct sink sink = {.buffer = buffer, .bytes = bytes};
	va_list args;

	va_start(args, format);
	put_format(&sink, format, &args);
	va_end(args);
	buffer[sink.used] = '\0';
}

const char *format_decimal(char buffer[DECIMAL_BYTES], uint64_t thousandths, unsigned digits)
{
	uint64_t unit = digits == 3 ? 1 : digits == 2 ? 10 : digits == 1 ? 100 : 1000;
	uint64_t scaled = (thousandths + unit / 2) / unit;
	uint64_t one = 1000 / unit;

	if (digits)
		format_text(buffer, DECIMAL_BYTES,
			digits == 3   ? "%lu.%03lu"
			: digits == 2 ? "%lu.%02lu"
				      : "%lu.%lu",
			scaled / one, scaled % one);
	else
		format_text(buffer, DECIMAL_BYTES, "%lu", scaled);
	return buffer;
}

int fail(const char *what, const char *expected, const char *got)
{
	print("FAIL: %s, expected %s, got %s\n", what, expected, got);
	return 1;
}

int fail_number(const char *what, uint64_t expected, uint64_t got)
{
	print("FAIL: %s, expected %lu, got %lu\n", what, expected, got);
	return 1;
}

size_t text_length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

bool text_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	return 16;
}

bool parse_number(const char **s, uint64_t *value)
{
	unsigned base = 10;
	const char *p = *s;
	bool any = false;

	*value = 0;
	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		base = 16;
		p += 2;
	}
	for (; digit_value(*p) < base; p++) {
		*value = *value * base + digit_value(*p);
		any = true;
	}
	if (any)
		*s = p;
	return any;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
	void *result = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
	return result;
}

void *memmove(void *to, const void *from, size_t bytes)
{
	unsigned char *t = to;
	const unsigned char *f = from;

	if (t <= f || t >= f + bytes)
		return memcpy(to, from, bytes);
	while (bytes--)
		*(volatile unsigned char *)(t + bytes) = f[bytes];
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	void *result = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(byte) : "memory");
	return result;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < bytes; i++) {
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	}
	return 0;
}
