#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# veneer.h in the languages of its users: a program compiles without a warning, links with the
# library, and runs; and the library has the header's version and exports its names, each in that
# version, and no others.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"

top=$(cd "$(dirname "$0")/../.." && pwd)
cat >"$work/program.c" <<'END'
#include <veneer.h>

static void on_message(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	(void)severity;
	(void)text;
}

int main(void)
{
	struct veneer_config *config;
	struct veneer_hooks hooks = {sizeof(hooks), NULL, on_message, NULL};
	struct veneer_error error;
	struct veneer_option option;
	struct veneer *vm;
	int code;

	if (!veneer_get_option(0, &option, sizeof(option)) || veneer_config_new(&config, &error) < 0)
		return 1;
	if (veneer_config_set(config, "memory.size", "1", &error) != -22 ||
		error.kind != VENEER_ERROR_CONFIG)
		return 2;
	if (veneer_config_set(config, "kernel", "/nonexistent", &error) < 0)
		return 3;
	code = veneer_create(&vm, config, &hooks, &error);
	veneer_config_free(config);
	return code < 0 ? 0 : 4;
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

# The interface's version is that of the library's name and of each symbol; a later minor version
# has symbols of its own.
header=$top/include/veneer.h library=$build/libveneer.so
major=$(sed -n 's/^#define VENEER_INTERFACE_MAJOR //p' "$header")
minor=$(sed -n 's/^#define VENEER_INTERFACE_MINOR //p' "$header")

# same NAME WANTED: what is in the file is in $work/out.
same() {
	diff "$2" "$work/out" >"$work/err"
	status=$?
	expect "$1" 0
}

sed -n '/^VENEER_API/,/;/p' "$header" | grep -o '\bveneer_[a-z0-9_]*(' | tr -d '(' |
	sort -u >"$work/declared"
nm -D --defined-only --with-symbol-versions "$library" |
	awk '$2 != "A" { print $3 }' | sort -u >"$work/exported"

sed 's/@.*//' "$work/exported" >"$work/out"
same "the library exports what the header declares, and nothing else" "$work/declared"

# VENEER_1, VENEER_1.1, ...
versions="VENEER_$major"
for ((i = 1; i <= minor; i++)); do
	versions+="|VENEER_$major\\.$i"
done
grep -vE "^veneer_[a-z0-9_]+@@($versions)\$" "$work/exported" >"$work/out"
same "each in a version of the interface" /dev/null

readelf -dW "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]$/\1/p' >"$work/out"
echo "libveneer.so.$major" >"$work/soname"
same "the library's name has the major version" "$work/soname"

readelf -VW "$library" | sed -n '/gnu.version_d/,/^$/s/.*Name: \(VENEER_.*\)/\1/p' |
	sort >"$work/out"
tr '|' '\n' <<<"${versions//\\/}" | sort >"$work/versions"
same "there is a version of symbols for each of the interface" "$work/versions"

finish
