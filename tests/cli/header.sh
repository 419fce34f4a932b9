#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# veneer.h in the languages of its users: a program that begins with VENEER_CONFIG_INIT compiles without
# a warning, links with the library, and runs.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"

top=$(cd "$(dirname "$0")/../.." && pwd)
cat >"$work/program.c" <<'END'
#include <veneer.h>

static const struct veneer_config fixed = VENEER_CONFIG_INIT;

static void on_message(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	(void)severity;
	(void)text;
}

int main(void)
{
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_error error;
	struct veneer_cpuset set;
	struct veneer *vm;

	config.kernel = "/nonexistent";
	config.message = on_message;
	config.transport = VENEER_TRANSPORT_PCI;
	config.idle = VENEER_IDLE_HALT;
	if (config.struct_size != fixed.struct_size || config.memory.node != -1)
		return 1;
	if (veneer_cpuset_parse(&set, "0-3,8", &error) < 0 || set.bits[0] != 0x10f)
		return 2;
	config.cpus = VENEER_CPUS_MAX + 1;
	return veneer_create(&vm, &config, &error) < 0 ? 0 : 3;
}
END
cp "$work/program.c" "$work/program.cc"

# try COMPILER SOURCE STANDARD...
try() {
	local compiler=$1 source=$2 standard
	shift 2
	for standard in "$@"; do
		if ! command -v "$compiler" >/dev/null; then
			skip "$compiler -std=$standard" "no $compiler here"
			continue
		fi
		"$compiler" "-std=$standard" -Wall -Wextra -Wpedantic -Werror -I"$top/include" \
			"$work/$source" -o "$work/program" -L"$build" -lveneer >"$work/out" 2>"$work/err" &&
			LD_LIBRARY_PATH=$build "$work/program" >>"$work/out" 2>>"$work/err"
		status=$?
		expect "$compiler -std=$standard" 0
	done
}
try gcc program.c c99 c11 c17
try clang program.c c99 c11 c17
try g++ program.cc c++11 c++17 c++20
try clang++ program.cc c++11 c++17 c++20

finish
