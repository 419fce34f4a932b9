// SPDX-License-Identifier: Apache-2.0
//
// Lines for people, and texts that they asked for.
#include "cli/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void complain(const char *format, ...)
{
	char line[4096] = "veneer: ";
	size_t prefix = strlen(line);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line + prefix, sizeof(line) - prefix - 1, format, arguments);
	va_end(arguments);
	strcat(line, "\n");
	ssize_t written = write(STDERR_FILENO, line, strlen(line));
	(void)written;
}

void complain_of(const struct veneer_error *error)
{
	size_t length = strcspn(error->key, ".0123456789");
	const char *message = error->message;

	if (length == 0 || strncmp(message, "--", 2) == 0)
		complain("%s", message);
	else if (strncmp(message, error->key, length) != 0)
		complain("--%.*s: %s", (int)length, error->key, message);
	else
		complain("%s%s", strchr(": ", message[length]) ? "--" : "", message);
}

int print(const char *text)
{
	if (fputs(text, stdout) >= 0 && fflush(stdout) == 0)
		return STATUS_OK;
	complain("cannot write to standard output: %s", strerror(errno));
	return STATUS_FAILED;
}
