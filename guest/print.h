// SPDX-License-Identifier: Apache-2.0
/*
 * Text to the serial port, collected to whole lines, and the few string functions that a program
 * without a libc needs.
 */
#ifndef GUEST_PRINT_H
#define GUEST_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A printf of %s %c %u %x %d, with `l` for 64 bits, a minimum width, `-` and `0`. Text leaves with
 * the newline that ends it, or at print_flush().
 */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_flush(void);

/* The same into `buffer`, always ended by a NUL; what does not fit is cut off. */
void format_text(char *buffer, size_t bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* `thousandths` / 1000 with `digits` (0 to 3) decimals, rounded, into `buffer`. */
#define DECIMAL_BYTES 32
const char *format_decimal(char buffer[DECIMAL_BYTES], uint64_t thousandths, unsigned digits);

/* Prints `FAIL: what, expected ..., got ...` and returns 1, the count of failures it stands for. */
int fail(const char *what, const char *expected, const char *got);
int fail_number(const char *what, uint64_t expected, uint64_t got);

size_t text_length(const char *s);
bool text_equal(const char *a, const char *b);

/* A decimal or 0x number at *s, which moves behind it; false if there is none. */
bool parse_number(const char **s, uint64_t *value);

/* What compilers call of their own accord. */
void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#endif
