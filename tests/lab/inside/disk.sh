#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A Linux guest mounts an ext4 disk, reads what the host wrote and writes a file.
# The host then finds a clean file system and that file.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

mkdir "$work/tree"
head -c 3000000 /dev/urandom >"$work/tree/from-host"
sum=$(sha256sum "$work/tree/from-host" | cut -d ' ' -f 1)

# Each try starts from a disk as the host made it.
before_try() {
	rm -f "$work/disk"
	mkfs.ext4 -q -d "$work/tree" "$work/disk" 64M >/dev/null
}

# judge CPUS KIB KERNEL TRANSPORT
judge() {
	local name="$1 vCPU, $2 KiB written, $3 on $4" transport=(--transport "$4") read_back written
	local ignored=$known fault
	[ "$4" = pci ] || ignored=$known_mmio
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		transport=()
		if [ "$4" = mmio ]; then
			skip "$name" "only Veneer has the option"
			return
		fi
	fi
	run_guest -k "$guest/$3" -i "$guest/initrd" -c "$1" -m 256M -d "$work/disk" "${transport[@]}" \
		-a "$cmdline guest.test=disk,dmesg guest.sum=$sum guest.kib=$2 guest.level=4"
	written=$(tr -d '\r' <"$work/console" | sed -n 's/^GUEST-DISK-OK //p')
	if ! ended_well || [ -z "$written" ]; then
		not_ok "$name" "$(why)"
		show_guest
		return
	fi
	fault=$(machine_fault "$1" 256 "$ignored")
	if [ -n "$fault" ]; then
		not_ok "$name" "$fault"
		return
	fi
	if ! e2fsck -fn "$work/disk" >"$work/fsck" 2>&1; then
		not_ok "$name" "e2fsck is not content"
		show "$work/fsck"
		return
	fi
	rm -f "$work/from-guest"
	debugfs -R "dump /from-guest $work/from-guest" "$work/disk" 2>/dev/null
	read_back=$(sha256sum "$work/from-guest" | cut -d ' ' -f 1)
	if [ "$(stat -c %s "$work/from-guest")" -ne $(($2 * 1024)) ] || [ "$read_back" != "$written" ]; then
		not_ok "$name" "from-guest on the disk is not what the guest wrote"
	else
		ok "$name"
	fi
}

plan 8
judge 1 1 vmlinuz pci
judge 2 8192 vmlinuz pci
for kernel in vmlinuz vmlinux; do
	for cpus in 1 2 4; do
		judge "$cpus" 1024 "$kernel" mmio
	done
done
finish
