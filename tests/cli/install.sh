#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `ninja install` puts down serves programs that know nothing of this tree: pkg-config finds
# the library, shared and static, and the README's program and those of examples/, built with it,
# run guests.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"

top=$(cd "$(dirname "$0")/../.." && pwd)
root=$work/root
DESTDIR=$root meson install -C "$build" --no-rebuild >"$work/out" 2>"$work/err"
status=$?
expect "install" 0
packages=$(find "$root" -type d -name pkgconfig)
export PKG_CONFIG_PATH=$packages PKG_CONFIG_SYSROOT_DIR=$root
export LD_LIBRARY_PATH=${packages%/pkgconfig}

# The README's example, as printed.
sed -n '/^## In your program$/,/^## /p' "$top/README.md" | sed -n 's/^    //p; /^$/p' |
	sed -n '/^#include/,$p' >"$work/readme.c"

# program NAME ARGUMENT...
program() {
	local name=$1
	shift
	status=0
	timeout --signal=KILL 120 "$work/$name" "$@" >"$work/out" 2>"$work/err" || status=$?
}

# compile LIBRARY SOURCE COMPILER STANDARD FLAG...: without a warning.
compile() {
	local library=$1 source=$2 compiler=$3 standard=$4 name
	shift 4
	name=${source##*/} name=${name%.*}
	rm -f "$work/$name"
	"$compiler" "-std=$standard" -Wall -Wextra -Wpedantic -Werror "$source" -o "$work/$name" \
		"$@" >"$work/out" 2>"$work/err"
	status=$?
	expect "$name compiles as $standard: $library" 0
}

readme_runs() {
	program readme
	expect "the README's program runs a guest: $1" 0 'smp: 1 of 1 CPUs up'
	program readme exit=33
	expect "and hands its value back: $1" 33
	program readme triple
	expect "and says how one ended: $1" 120 'triple fault'
	program readme exit=0 "$work/missing"
	expect "and why one did not start: $1" 125 "$work/missing"
}

# says_of NUMBER EVENT...: the program `events` said just this of that guest, in this order.
says_of() {
	local number=$1
	shift
	diff <(printf "guest $number %s\n" "$@") <(grep "^guest $number " "$work/out") >>"$work/err" ||
		status=1
}

examples_run() {
	program hello
	expect "hello: the guest's status: $1" 42
	program hello smp
	expect "hello: what the guest prints: $1" 0 'smp: 1 of 1 CPUs up'
	program hello exit=0 "$work/missing"
	expect "hello: a kernel that is missing: $1" 125 "$work/missing"
	# The C library is to keep no stacks, and one heap, so that what guests leave behind is not hidden there.
	GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1 program many
	expect "many: $1" 0 '^100 guests ran, and left nothing behind$'
	program events 3
	says_of 0 "has started" "ended with status 1"
	says_of 1 "has started" "ended with status 2"
	says_of 2 "has started" "was paused" "goes on" "was stopped"
	expect "events: $1" 0 '^time is up$'
	program embed
	expect "embed: the guest's status: $1" 0 '^the guest.s status is 5$'
	program embed memory=lots
	expect "embed: a wrong value is an exception: $1" 1 '^memory: .*lots'
}

# try LIBRARY FLAG...: compile all with the flags, which pkg-config says, and run them.
try() {
	local library=$1 name
	shift
	compile "$library" "$work/readme.c" cc c11 "$@"
	for name in hello many events; do
		compile "$library" "$top/examples/$name.c" cc c99 "$@"
	done
	compile "$library" "$top/examples/embed.cc" c++ c++17 "$@"
	if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
		skip "they run guests: $library" "no usable /dev/kvm"
		return
	fi
	readme_runs "$library"
	examples_run "$library"
}
# shellcheck disable=SC2046 # words
try shared $(pkg-config --cflags --libs veneer)
rm -f "${packages%/pkgconfig}"/libveneer.so*
# shellcheck disable=SC2046 # words
try static $(pkg-config --static --cflags --libs veneer)

installed=$(find "$root" -name veneer -type f -path '*/bin/*')
"$installed" --version >"$work/out" 2>"$work/err"
status=$?
expect "the program runs where it was installed" 0 '^veneer [0-9]'
if ldd "$installed" | grep -q 'lib[at]san'; then
	skip "it has at most 1 MiB" "a sanitizer's build is larger"
else
	strip -o "$work/stripped" "$installed"
	stat -c %s "$work/stripped" >"$work/out"
	[ "$(cat "$work/out")" -le 1048576 ]
	status=$?
	expect "it has at most 1 MiB" 0
fi

finish
