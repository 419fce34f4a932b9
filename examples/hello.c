// SPDX-License-Identifier: Apache-2.0
//
// One guest: started, waited for, and its exit status handed on.
//
//     cc hello.c -o hello $(pkg-config --cflags --libs veneer)
//     ./hello                     the guest that is built in
//     ./hello WORDS               the same, with another kernel command line
//     ./hello WORDS KERNEL        a kernel of your own
#include <stdio.h>
#include <veneer.h>

static int fail(const struct veneer_error *error)
{
	fprintf(stderr, "%s\n", error->message);
	return 125;
}

// Options and their values are those of the command line: `veneer help run`.
static int configure(
	struct veneer_config *config, int argc, char *argv[], struct veneer_error *error)
{
	int code = veneer_config_set(config, "cmdline", argc > 1 ? argv[1] : "exit=42", error);
	if (code == 0 && argc > 2)
		code = veneer_config_set(config, "kernel", argv[2], error);
	if (code == 0) // what the guest prints goes to standard output
		code = veneer_config_set_fd(config, "serial.out", 1, error);
	return code;
}

static int run(const struct veneer_config *config)
{
	struct veneer_error error;
	struct veneer_event end;
	struct veneer *vm;

	if (veneer_create(&vm, config, NULL, &error) < 0)
		return fail(&error);
	int code = veneer_start(vm, &error);
	if (code == 0)
		code = veneer_wait(vm, -1, &end, sizeof(end), &error);
	veneer_destroy(vm);
	if (code < 0)
		return fail(&error);

	switch (end.end) {
	case VENEER_END_POWEROFF:
	case VENEER_END_RESET:
		return 0;
	case VENEER_END_EXIT: // the guest's own status
		return (int)(end.value & 0xff);
	default: // a crash, a panic or a failure, which the message explains
		fprintf(stderr, "%s\n", end.message);
		return 120;
	}
}

int main(int argc, char *argv[])
{
	struct veneer_error error;
	struct veneer_config *config;

	if (veneer_config_new(&config, &error) < 0)
		return fail(&error);
	int status = configure(config, argc, argv, &error) < 0 ? fail(&error) : run(config);
	veneer_config_free(config);
	return status;
}
