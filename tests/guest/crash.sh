#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a disk holds after a crash, with the guest's `blk-journal` on /dev/kvm:
#
#   killed       Veneer is killed by SIGKILL at a random moment. The host's page cache survives that,
#                so this shows that nothing is told to the guest before it was done, and nothing done
#                out of order.
#   power lost   the file system under the disk goes away at a random moment (EXT4_IOC_SHUTDOWN, on a
#                loop device), and with it all that was not yet on that device: so this shows that
#                flushes, and writes that need none, get it there. cache=unsafe must lose something,
#                or the test shows nothing. Only root can do that.
#
# How often each is done, over all cache modes, is the second argument: 16 if it is not said. The
# journal's seed, from which all else follows but the moment, is printed for what fails.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
rounds=${2-16}
journal=$build/tests/guest/journal
power=$build/tests/guest/power_loss
mounted=$work/mounted

cleanup() {
	! mountpoint -q "$work/mounted" || umount -l "$work/mounted" # a guest may still be there
	rm -rf "$work"
}

# start DISK SEED: the journal, in the background, and up to 100 ms after its first flush, or in every
# fourth round after its start.
start() {
	: >"$work/out"
	"$veneer" run --timeout 60 --memory 64M -d "$1" -a "blk-journal=$2" </dev/null \
		>"$work/out" 2>"$work/err" &
	pid=$!
	[ $(($2 % 4)) -eq 0 ] || awaited says flushed
	sleep "0.$(printf %03d $((RANDOM % 100)))"
}

# The last number that was flushed, of a whole line.
flushed() {
	grep -a '^flushed [0-9]*'$'\r''\?$' "$work/out" | tail -n 1 | tr -dc 0-9
}

# judge FILE SEED: what is left of the journal; adds to `batches`.
judge() {
	local last
	last=$(flushed)
	batches=$((batches + ${last:-0} / 16))
	"$journal" "$1" "$2" "${last:-0}" >"$work/verdict"
}

# expect_kept NAME: the last loop went through, and did more than nothing.
expect_kept() {
	if [ -n "$wrong" ]; then
		cp "$work/verdict" "$work/err"
		fail "$1: seed $wrong"
	elif [ "$batches" -eq 0 ]; then
		fail "$1: no guest ever flushed"
	else
		pass "$1, $batches batches flushed"
	fi
}

for cache in writeback none writethrough directsync; do
	batches=0 wrong=
	for ((round = 1; round <= (rounds + 3) / 4 && ${#wrong} == 0; round++)); do
		rm -f "$work/disk"
		truncate -s 8M "$work/disk"
		start "$work/disk,cache=$cache" "$round"
		kill -KILL "$pid"
		wait "$pid" 2>/dev/null
		judge "$work/disk" "$round" || wrong=$round
	done
	expect_kept "cache=$cache, killed $((round - 1)) times"
done

is_detached() {
	[ -z "$(losetup -j "$work/image")" ]
}

# The kernel takes a killed process's io_uring apart in its own time, and with it its hold on the disk; and
# the file system that was shut down lives, and would be mounted again, as long as its loop device.
unmount() {
	eventually umount -q "$mounted" 2>/dev/null && eventually is_detached
}

# lose_power CACHE SEED: what is left of the journal once the file system is mounted again.
lose_power() {
	local status
	rm -f "$work/image"
	truncate -s 32M "$work/image" && mkfs.ext4 -q -F "$work/image" || return 2
	mount -o loop "$work/image" "$mounted" || return 2
	truncate -s 8M "$mounted/disk" && sync -f "$mounted"
	start "$mounted/disk,cache=$1" "$2"
	kill -STOP "$pid"
	cp "$work/out" "$work/before"
	"$power" "$mounted"
	status=$?
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null
	mv "$work/before" "$work/out" # what was said before the power was lost
	unmount || return 2
	[ "$status" -eq 0 ] && mount -o loop "$work/image" "$mounted" || return 2
	judge "$mounted/disk" "$2"
	status=$?
	unmount || return 2
	return $status
}

mkdir "$mounted"
if [ "$(id -u)" -ne 0 ] || ! command -v mkfs.ext4 >/dev/null; then
	skip "power lost" "only root can mount, and mkfs.ext4 is needed"
	finish
	exit
fi
for cache in writeback none writethrough directsync; do
	batches=0 wrong=
	for ((round = 1; round <= (rounds + 3) / 4 && ${#wrong} == 0; round++)); do
		lose_power "$cache" "$round" || wrong=$round
	done
	expect_kept "cache=$cache, power lost $((round - 1)) times"
done
# The guest goes on, on a file system that is gone: the host's errors reach it, and are named. A file system
# whose journal has failed before the guest's next request answers that it is read-only.
rm -f "$work/image"
if truncate -s 32M "$work/image" && mkfs.ext4 -q -F "$work/image" &&
	mount -o loop "$work/image" "$mounted" && truncate -s 8M "$mounted/disk"; then
	start "$mounted/disk" 1
	"$power" "$mounted"
	status=0
	wait "$pid" || status=$?
	expect "a device that fails is an I/O error, said with device, offset and reason" 1 \
		'FAIL: status of a (write|flush), expected 0, got 1' \
		'warning: blk0: (write|flush) at byte [0-9]* failed: (Input/output error|Read-only file system)'
	unmount
else
	fail "a device that fails: no file system for it"
fi
lost=0
for ((round = 1; round <= 20 && lost == 0; round++)); do
	lose_power unsafe "$round"
	[ $? -ne 1 ] || lost=1
done
status=$lost
expect "cache=unsafe loses what was flushed: the test can fail" 1
finish
