#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `ninja install` puts down serves a program that knows nothing of this tree: pkg-config finds
# the library, shared and static, and the README's example, built with it, runs guests.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"

root=$work/root
DESTDIR=$root meson install -C "$build" --no-rebuild >"$work/out" 2>"$work/err"
status=$?
expect "install" 0
packages=$(find "$root" -type d -name pkgconfig)
export PKG_CONFIG_PATH=$packages PKG_CONFIG_SYSROOT_DIR=$root

# The README's example, as printed.
sed -n '/^## In your program$/,/^## /p' "$(dirname "$0")/../../README.md" | sed -n 's/^    //p; /^$/p' |
	sed -n '/^#include/,/^}$/p' >"$work/program.c"

program() {
	status=0
	"$work/program" "$@" >"$work/out" 2>"$work/err" || status=$?
}

# try NAME FLAG...: compile with the flags and what pkg-config says, and run.
try() {
	local name=$1
	shift
	cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$work/program.c" -o "$work/program" \
		"$@" >"$work/out" 2>"$work/err"
	status=$?
	expect "a program of its own compiles: $name" 0
	if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
		skip "and runs guests: $name" "no usable /dev/kvm"
		return
	fi
	export LD_LIBRARY_PATH=${packages%/pkgconfig}
	program
	expect "and runs a guest: $name" 0 'smp: 1 of 1 CPUs up'
	program exit=33
	expect "and hands its value back: $name" 33
	program triple
	expect "and says how one ended: $name" 120 'triple fault'
	program exit=0 "$work/missing"
	expect "and why one did not start: $name" 125 "$work/missing"
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
