#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `ninja install` puts down serves a program that knows nothing of this tree: pkg-config finds
# the library, shared and static, and the guest runs.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"

root=$work/root
DESTDIR=$root meson install -C "$build" --no-rebuild >"$work/out" 2>"$work/err"
status=$?
expect "install" 0
packages=$(find "$root" -type d -name pkgconfig)
export PKG_CONFIG_PATH=$packages PKG_CONFIG_SYSROOT_DIR=$root

cat >"$work/program.c" <<'END'
#include <stdio.h>
#include <veneer.h>

int main(void)
{
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_error error;
	struct veneer_result result = {.end = VENEER_END_FAILED};
	struct veneer *vm;

	config.cmdline = "exit=33";
	if (veneer_create(&vm, &config, &error) < 0) {
		fprintf(stderr, "%s\n", error.message);
		return 1;
	}
	if (veneer_start(vm, &error) == 0)
		veneer_wait(vm, &result);
	veneer_destroy(vm);
	return result.end == VENEER_END_EXIT ? (int)result.value : 2;
}
END

# try NAME FLAG...: compile with the flags and what pkg-config says, and run.
try() {
	local name=$1
	shift
	cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$work/program.c" -o "$work/program" \
		"$@" >"$work/out" 2>"$work/err"
	status=$?
	expect "a program of its own compiles: $name" 0
	if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
		skip "and runs a guest: $name" "no usable /dev/kvm"
		return
	fi
	LD_LIBRARY_PATH=${packages%/pkgconfig} "$work/program" >"$work/out" 2>"$work/err"
	status=$?
	expect "and runs a guest: $name" 33
}
# shellcheck disable=SC2046 # words
try shared $(pkg-config --cflags --libs veneer)
rm -f "${packages%/pkgconfig}"/libveneer.so*
# shellcheck disable=SC2046 # words
try static $(pkg-config --static --cflags --libs veneer)

"$(find "$root" -name veneer -type f -path '*/bin/*')" --version >"$work/out" 2>"$work/err"
status=$?
expect "the program runs where it was installed" 0 '^veneer [0-9]'

finish
