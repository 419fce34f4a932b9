#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Linux guests verify with fio what they wrote through one queue and through four,
# give room back by discarding, and find their disk again after each of ten reboots;
# and the built-in guest writes to a device whose queues are polled.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

# Each try starts from a disk as the host made it.
before_try() {
	rm -f "$work/disk"
	mkfs.ext4 -q "$work/disk" 64M >/dev/null
}

# verified QUEUES
verified() {
	local name="fio verifies through $1 queue(s)" queues
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" -c 4 -m 384M \
		-d "$work/disk,queues=$1" -d /dev/vdb,readonly \
		-a "$cmdline guest.test=fio guest.kib=24576 guest.jobs=$1"
	queues=$(tr -d '\r' <"$work/console" | sed -n 's/^GUEST-QUEUES //p')
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ "$queues" != "$1" ]; then
		not_ok "$name" "the guest's disk has ${queues:-no} queues"
	elif ! e2fsck -fn "$work/disk" >"$work/fsck" 2>&1; then
		not_ok "$name" "e2fsck is not content"
		show "$work/fsck"
	else
		ok "$name"
		grep -aE 'read:|write:' "$work/console" | quote
	fi
}

allocated() {
	echo $(($(stat -c '%b * %B' "$work/disk") / 1024))
}

discarded() {
	local name="a discard frees blocks of a sparse file" before after
	before=$(allocated)
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" -c 1 -m 256M \
		-d "$work/disk" -d /dev/vdb,readonly \
		-a "$cmdline guest.test=discard guest.from=8192 guest.kib=32768"
	after=$(allocated)
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ $((before - after)) -lt 32768 ]; then
		not_ok "$name" "$before KiB before, $after KiB after"
	elif ! cmp -n $((32768 * 1024)) -i $((8192 * 1024)):0 "$work/disk" /dev/zero ||
		! cmp -n $((8192 * 1024)) "$work/disk" "$work/full" ||
		! cmp -i $((40960 * 1024)) "$work/disk" "$work/full"; then
		not_ok "$name" "not what was discarded, and that alone, reads as zero"
	else
		ok "$name"
	fi
}

rebooted() {
	local name="ten runs of a guest in one process, by ACPI's reset" runs
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" -c 2 -m 256M -d "$work/disk" \
		--reboot -a "$cmdline reboot=acpi guest.test=reboot guest.runs=10"
	runs=$(tr -d '\r' <"$work/console" | grep -c '^GUEST-RUN ')
	if ! ended_well || [ "$runs" -ne 10 ]; then
		not_ok "$name" "$(why), $runs runs"
		show_guest
	else
		ok "$name"
	fi
}

# polled SEED OPTIONS: the built-in guest's journal on a device whose queues can be polled; each with
# a seed of its own, which leaves nothing of the one before.
polled() {
	local name="a device that is polled, $2"
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "only Veneer has the option"
		return
	fi
	run_guest -m 128M -d "/dev/nullb0,$2" -a "blk-journal=$1,20"
	if [ "$status" -ne 0 ] || ! has 'flushed 320'; then
		not_ok "$name" "exit status $status"
		show "$work/console"
	elif ! /host/build/tests/guest/journal /dev/nullb0 "$1" 320 >"$work/journal" 2>&1; then
		not_ok "$name" "the device does not hold what the guest wrote"
		show "$work/journal"
	else
		ok "$name"
	fi
}

# unload MODULE: once the kernel has taken the last io_uring apart that uses it, within about a minute. What
# keeps it is in $work/rmmod.
unload() {
	local tries=300
	until rmmod "$1" 2>"$work/rmmod"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.2
	done
}

# polled_parts NAME: the same with parts of the device's blocks. It then holds what a file does with which the
# guest did the same.
polled_parts() {
	local name=$1 device=/dev/nullb0,cache=none,iopoll=on,block-size=512 disk
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "only Veneer has the option"
		return
	fi
	head -c 1M /dev/urandom >"$work/disk"
	dd if="$work/disk" of=/dev/nullb0 bs=1M conv=fsync 2>/dev/null
	for disk in "$device" "$work/disk"; do
		run_guest -m 128M -d "$disk" -a 'blk-write=7,11 blk-write=33,1 blk-read=5,20'
		if [ "$status" -ne 0 ]; then
			not_ok "$name" "exit status $status"
			show "$work/console"
			return
		fi
	done
	if cmp -n 1048576 "$work/disk" /dev/nullb0 >"$work/cmp" 2>&1; then
		ok "$name"
	else
		not_ok "$name" "the device does not hold what the guest wrote"
		show "$work/cmp"
	fi
}

plan 8
guest_limit=120
verified 1
verified 4
head -c 64M /dev/urandom >"$work/full"
cp "$work/full" "$work/disk"
before_try() {
	cp "$work/full" "$work/disk"
}
discarded
before_try() {
	rm -f "$work/disk"
	truncate -s 1M "$work/disk"
}
guest_limit=150
rebooted
modprobe null_blk gb=1 memory_backed=1 bs=512 poll_queues=1 queue_mode=2 nr_devices=1
before_try() {
	:
}
polled 1 cache=none,iopoll=on,queues=2
polled 2 cache=directsync,iopoll=on
polled 3 cache=none,iopoll=on,sqpoll=on
name="a device that is polled, parts of its blocks"
if unload null_blk; then
	modprobe null_blk gb=1 memory_backed=1 bs=4096 poll_queues=1 queue_mode=2 nr_devices=1
	polled_parts "$name"
else
	not_ok "$name" "$(cat "$work/rmmod")"
fi
finish
