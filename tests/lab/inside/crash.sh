#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A Linux guest writes the journal of tests/lab/journal_writer.c and says on its console how far that is
# flushed, until the monitor is killed by SIGKILL at a random moment: within a second of the first flush,
# or in every fifth round of the beginning. What was said must then be on the disk:
#
#   device   the disk itself holds the journal
#   files    it is an ext4 with a file for each block, of which the lab's kernel first replays the journal;
#            e2fsck must then find nothing to mend
#
# How many are killed, over both and all cache modes, is the argument: 8 if it is not said.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

rounds=$(((${1:-8} + 7) / 8)) # of each kind of disk with each cache mode
judge=/host/build/tests/guest/journal
files=64
seed=0

if [ ! -x "$judge" ]; then
	echo "1..0 # SKIP the journal's writer and judge are in the build tree (--build)"
	exit 0
fi

cat >"$work/script" <<'END'
target=/dev/vda
if [ -n "$(word files)" ]; then
	target=/mnt
	mount -t ext4 /dev/vda /mnt || fail "cannot mount /dev/vda"
fi
echo GUEST-BEGINS
# shellcheck disable=SC2046 # no word where there are no files
/journal_writer "$target" "$(word seed)" $(word files) || fail "the journal cannot be written"
END
initrd_with "$work/script" '' /host/build/tests/lab/journal_writer

modprobe loop
mkdir "$work/mounted" "$work/tree"
for ((i = 0; i < files; i++)); do
	head -c 4096 /dev/zero >"$work/tree/$(printf %04d $i)"
done
mkfs.ext4 -q -d "$work/tree" "$work/ext4" 16M >/dev/null

before_try() {
	rm -f "$work/disk"
	case $kind in
	device) truncate -s 4M "$work/disk" ;;
	files) cp --sparse=always "$work/ext4" "$work/disk" ;;
	esac
}

# until_guest LINE: whether the guest gets so far, before its monitor ends and within its limit.
until_guest() {
	local limit=$((SECONDS + guest_limit))
	until has "$1"; do
		kill -0 "$monitor" 2>/dev/null && [ "$SECONDS" -lt "$limit" ] || return 1
		sleep 0.05
	done
}

# A killed monitor's last requests end, and its lock on the disk with them, in the kernel's own time.
until_unlocked() {
	local inode tries=200
	inode=$(stat -c %i "$work/disk")
	while grep -q ":$inode " /proc/locks; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.05
	done
}

# kill_monitor CACHE QUEUES LINE: up to a second after the guest's line. Fails with `reason`; the lab's
# own faults repeat it, as those of run_guest do.
kill_monitor() {
	local try options=()
	[ "$kind" = device ] || options=("guest.files=$files")
	for ((try = 1; try <= tries; try++)); do
		before_try
		echo >"$trace"
		: >"$work/console"
		"$MONITOR" run -k "$guest/vmlinuz" -i "$work/initrd" -c "$2" -m 128M \
			-d "$work/disk,cache=$1,queues=$2" --serial stdio \
			-a "$cmdline guest.test=script guest.seed=$seed ${options[*]}" \
			</dev/null >"$work/console" 2>&1 &
		monitor=$!
		reason=
		if until_guest "$3"; then
			sleep "0.$(printf %03d $((RANDOM % 1000)))"
		else
			reason='it stalled'
		fi
		kill -KILL "$monitor" 2>/dev/null
		status=0
		wait "$monitor" 2>/dev/null || status=$?
		if [ "$status" -eq 137 ]; then
			if [ -z "$reason" ]; then
				reason='its disk stays locked'
				until_unlocked
				return
			fi
			echo "lab: guest stalled, try $try of $tries: $kind, cache=$1" >&2
		elif lost_memory; then
			reason='its memory was lost'
			echo "lab: guest lost its memory, try $try of $tries: $kind, cache=$1" >&2
		else
			reason="it ended by itself: $(why)"
			return 1
		fi
		show_guest >&2
	done
	return 1
}

# left: makes what the disk holds the journal's device, $work/left; fails with `reason`.
left() {
	if [ "$kind" = device ]; then
		ln -f "$work/disk" "$work/left"
		return
	fi
	reason='its file system cannot be mounted'
	mount -o loop "$work/disk" "$work/mounted" 2>"$work/verdict" || return 1
	rm -f "$work/left"
	cat "$work"/mounted/[0-9][0-9][0-9][0-9] >"$work/left"
	umount "$work/mounted"
	reason='e2fsck is not content'
	e2fsck -fn "$work/disk" >"$work/verdict" 2>&1
}

# survives CACHE QUEUES: one round; adds to `flushed`.
survives() {
	local line=flushed said
	seed=$((seed + 1))
	[ $((seed % 5)) -ne 0 ] || line=GUEST-BEGINS
	: >"$work/verdict"
	kill_monitor "$1" "$2" "$line" || return 1
	said=$(sed -n 's/^flushed \([0-9]*\)\r$/\1/p' "$work/console" | tail -n 1)
	flushed=$((flushed + ${said:-0} / 16))
	left || return 1
	reason="flushed ${said:-nothing}"
	"$judge" "$work/left" "$seed" "${said:-0}" >"$work/verdict" 2>&1
}

# kept CACHE: every round of this kind of disk.
kept() {
	local round before=$flushed
	for ((round = 1; round <= rounds; round++)); do
		queues=$((3 - queues))
		if ! survives "$1" "$queues"; then
			not_ok "$kind, cache=$1: what was flushed is kept" \
				"seed $seed, $queues queue(s): $reason"
			show "$work/verdict"
			show_guest
			return
		fi
	done
	ok "$kind, cache=$1, killed $rounds time(s): what was flushed is kept, $((flushed - before)) batches"
}

# could_fail: the journals of this kind of disk were more than nothing, and the last would not have been called
# whole had it lacked a number, as it lacks the one after its newest.
could_fail() {
	local name="$kind: $flushed batches in all; one more would be missed" newest
	newest=$(sed -n 's/.*newest //p' "$work/verdict")
	if [ "$flushed" -eq 0 ]; then
		not_ok "$name" "no guest ever flushed"
	elif "$judge" "$work/left" "$seed" $((newest + 1)) >"$work/verdict" 2>&1 ||
		! grep -q "number $((newest + 1)) is lost" "$work/verdict"; then
		not_ok "$name" "number $((newest + 1)) was not missed"
		show "$work/verdict"
	else
		ok "$name"
	fi
}

plan 10
queues=1
for kind in device files; do
	flushed=0
	for cache in writeback none writethrough directsync; do
		kept "$cache"
	done
	could_fail
	queues=$((3 - queues)) # each mode has had its turns with one and with two
done
finish
