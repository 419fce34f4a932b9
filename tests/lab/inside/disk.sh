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

# le NUMBER BYTES: in little-endian order.
le() {
	local i
	for ((i = 0; i < $2; i++)); do
		printf %b "\\x$(printf %02x $(($1 >> (8 * i) & 255)))"
	done
}

crc32() {
	gzip -1 | tail -c 8 | head -c 4
}

# gpt_header SECTORS CRC: the first 92 bytes, with the CRC of themselves from a file.
gpt_header() {
	printf 'EFI PART\0\0\1\0\x5c\0\0\0'
	cat "$2"
	le 0 4
	le 1 8
	le $(($1 - 1)) 8
	le 34 8
	le $(($1 - 34)) 8
	printf 0123456789abcdef
	le 2 8
	le 128 4
	le 128 4
	crc32 <"$work/entries"
}

# make_gpt FILE SECTORS: sectors of 512 bytes, and a partition of 4096 of them from number 2048 on.
make_gpt() {
	{
		printf '\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4'
		printf 0123456789abcdef
		le 2048 8
		le 6143 8
		head -c $((128 * 128 - 48)) /dev/zero
	} >"$work/entries"
	le 0 4 >"$work/crc"
	gpt_header "$2" "$work/crc" | crc32 >"$work/crc-header"
	{
		head -c 446 /dev/zero
		printf '\0\0\2\0\xee\xff\xff\xff'
		le 1 4
		le $(($2 - 1)) 4
		head -c 48 /dev/zero
		printf '\x55\xaa'
		gpt_header "$2" "$work/crc-header"
		head -c 420 /dev/zero
		cat "$work/entries"
	} >"$1"
	truncate -s $(($2 * 512)) "$1"
}

# A disk of 512-byte sectors in a file on a device of 4096-byte ones: the same without the page cache.
sectors() {
	local name="a GPT on 4096-byte sectors, cache=$1" wanted='GUEST-SECTORS 512 4096 4096 2048 4096'
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "it is about Veneer's O_DIRECT"
		return
	fi
	run_guest -k "$guest/vmlinuz" -i "$work/initrd" -c 2 -m 256M -d "$work/blocks/disk,cache=$1" \
		-a "$cmdline guest.test=script"
	if ! ended_well || ! has "$wanted"; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ "$(dd if="$work/blocks/disk" bs=512 skip=2051 count=1 2>/dev/null | tr -d '\0')" != "$1" ]; then
		not_ok "$name" "what the guest wrote is not on the disk"
	else
		ok "$name"
	fi
}

on_large_sectors() {
	local device
	modprobe loop
	truncate -s 64M "$work/image"
	device=$(losetup -b 4096 --show -f "$work/image")
	mkdir "$work/blocks"
	mkfs.ext4 -q "$device" && mount "$device" "$work/blocks"
	before_try() {
		make_gpt "$work/blocks/disk" 16384
	}
	for cache in writeback none; do
		cat >"$work/script" <<-END
			cd /sys/block/vda
			echo GUEST-SECTORS \$(cat queue/logical_block_size queue/physical_block_size \
				queue/minimum_io_size vda1/start vda1/size)
			echo $cache | dd of=/dev/vda1 bs=512 seek=3 conv=sync,fsync 2>/dev/null || fail "cannot write"
			cd /
		END
		initrd_with "$work/script" ''
		sectors $cache
	done
	umount -l "$work/blocks"
	losetup -d "$device"
}

plan 10
judge 1 1 vmlinuz pci
judge 2 8192 vmlinuz pci
for kernel in vmlinuz vmlinux; do
	for cpus in 1 2 4; do
		judge "$cpus" 1024 "$kernel" mmio
	done
done
on_large_sectors
finish
