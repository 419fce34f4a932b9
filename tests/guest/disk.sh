#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Disks, with the built-in guest on /dev/kvm: what it writes is what the file holds, errors of the
# host reach it as I/O errors, and rings full of garbage stop the device and nothing else.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
pattern=$build/tests/guest/pattern
mounted='' device=''

cleanup() {
	[ -z "$mounted" ] || umount -l "$mounted" # a guest may still be there
	[ -z "$device" ] || losetup -d "$device"
	rm -rf "$work"
}

# unmount: what is in $mounted, once the kernel has taken the last guest's io_uring apart.
unmount() {
	eventually umount -q "$mounted" && mounted=
}

# The scratch directory must be on a file system with O_DIRECT for cache=none and directsync.
disk=$work/disk
for cache in writeback none writethrough directsync unsafe; do
	truncate -s 32M "$disk"
	run -d "$disk,cache=$cache" -a blk-fill=7
	if [ "$status" -eq 125 ] && grep -q 'cache=writeback' "$work/err"; then
		skip "cache=$cache" "the file system of $work has no O_DIRECT"
		continue
	fi
	expect "cache=$cache: the guest fills the disk" 0
	"$pattern" check "$disk" 7 >"$work/out" 2>&1
	status=$?
	expect "cache=$cache: the file holds what the guest wrote" 0
	"$pattern" fill "$disk" 9 >"$work/out" 2>&1
	run -d "$disk,cache=$cache" -a blk-check=9
	expect "cache=$cache: the guest reads what the host wrote" 0
	run -d "$disk,cache=$cache" -a blk-check=10
	expect "cache=$cache: the comparison can fail" 1
	rm "$disk"
done

truncate -s 8M "$disk"
"$pattern" fill "$disk" 3
run -d "$disk,serial=veneer-disk-0001" -a blk-id
expect "the guest reads the serial number" 0 'veneer-disk-0001'
run -d "$disk,serial=123456789012345678901" -a blk-id
expect "a serial number of 21 bytes is refused" 125 'serial'
run -d "$disk" -a blk-flush
expect "flush" 0
run -d "$disk" -a blk-read=0,8
expect "read" 0
run -d "$disk" -a blk-read=16383,1
expect "the last sector can be read" 0
run -d "$disk" -a blk-read=16384,1
expect "the one after it cannot" 11
run -d "$disk" -a blk-write=16380,8
expect "a write across the end is an I/O error" 11
run -m 64M -d "$disk"
expect "the report writes, verifies" 0 "blk.verify +ok"
expect "its loads have names in words" 0 "^CPU: a loop" "^Memory: bandwidth .* 16384 KiB in" \
	"^Disk: random 4 KiB reads, 1 in flight, guest polling" "^Disk: random .*, 32 in flight, by interrupt"
expect "it ends with what its figures say" 0 "^Near native: the CPU loop has [0-9.]+ of" \
	"^An interrupt costs" "^Read on: .*docs/datapath.md"
if ! grep -q "wake-up add" "$work/out"; then
	skip "and with why an interrupt costs that" "it cost nothing"
elif grep -qE '^flags.*\b(vmx|svm)\b' /proc/cpuinfo; then
	expect "and with why an interrupt costs that" 0 "it again by hardware virtualization"
else
	expect "and with why an interrupt costs that" 0 "^ring 0, where interrupts arrive"
fi
"$pattern" check "$disk" 3 >"$work/out" 2>&1
status=$?
expect "and restores: the disk is as it was" 0

# Errors of the host.
run -d "$disk,readonly" -a blk-write=0,8
expect "a write to a read-only disk is an I/O error" 11
run -d "$disk,readonly" -a blk-read=0,8
expect "which can be read" 0
chmod 400 "$disk"
# Root may read and write any file, unless it has given that up.
unprivileged() {
	local command=()
	[ "$(id -u)" -ne 0 ] || command=(setpriv --bounding-set "-dac_override,-dac_read_search")
	status=0
	"${command[@]}" "$veneer" run "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
}
unprivileged -d "$disk" -a exit=0
expect "a file without write permission is refused with the remedy" 125 'readonly'
chmod 0 "$disk"
unprivileged -d "$disk" -a exit=0
expect "and one that may not be read either, without" 125 'Permission denied$'
chmod 600 "$disk"

# A file that shrinks under the guest: `echo` waits while it is cut.
mkfifo "$work/in"
: >"$work/out" >"$work/err"
timeout --signal=KILL 120 "$veneer" run -d "$disk" -a "echo blk-read=8192,8" <"$work/in" \
	>"$work/out" 2>"$work/err" &
pid=$!
exec 9>"$work/in"
awaited says ready
truncate -s 1M "$disk"
echo quit >&9
exec 9>&-
wait "$pid"
status=$?
expect "a file cut short under the guest is an I/O error, said with device and offset" 11 \
	'blk0.*(4194304|0x400000)'

# resized NEW-SIZE WORD: the guest does WORD on an 8M disk that became NEW-SIZE, of which Veneer was
# told while the guest waited.
resized() {
	truncate -s 8M "$disk"
	: >"$work/out" >"$work/err"
	"$veneer" run --timeout 60 -d "$disk" -a "echo $2" <"$work/in" >"$work/out" 2>"$work/err" &
	pid=$!
	exec 9>"$work/in"
	awaited says ready
	truncate -s "$1" "$disk"
	kill -USR1 "$pid"
	awaited test -s "$work/err" # it has said what it found
	echo quit >&9
	exec 9>&-
	wait "$pid"
	status=$?
}
resized 16M blk-read=16384,8
expect "a disk that became larger can be read up to its new end" 0 'note: blk0.*16777216 bytes'
resized 16M blk-read=32768,1
expect "and not beyond it" 11
resized 1M blk-write=8192,8
expect "a disk that became smaller ends where it ends" 11
[ "$(stat -c %s "$disk")" -eq 1048576 ]
status=$?
expect "and a write behind that does not make it longer" 0
resized 1000 blk-read=0,1
expect "a size that no disk has is said, and changes nothing" 0 'disk.*1000 bytes'

# A device with more queues than the guest uses.
truncate -s 8M "$disk"
"$pattern" fill "$disk" 5
run -d "$disk,queues=16" -a blk-check=5
expect "sixteen queues, of which one is used" 0

if [ "$(id -u)" -eq 0 ] && mkdir "$work/full" && mount -t tmpfs -o size=1M none "$work/full"; then
	mounted=$work/full
	truncate -s 8M "$work/full/disk"
	run -d "$work/full/disk" -a blk-write=0,8
	expect "a file system with room takes a write" 0
	run -d "$work/full/disk" -a blk-fill=7
	expect "a full one is an I/O error, said with the reason" 1 'blk0.*No space left'
	run -d "$work/full/disk" -a blk-read=0,8
	expect "and what was there can still be read" 0
	run -d "$work/full/disk,cache=none" -a exit=0
	if [ "$status" -eq 125 ]; then
		expect "no O_DIRECT: refused with the remedy" 125 'cache=writeback'
	else
		expect "O_DIRECT on tmpfs (Linux 6.6 and later)" 0
	fi
	unmount
else
	skip "a full file system is an I/O error" "only root can mount one"
fi

# in_parts NAME DISK: on a disk where O_DIRECT takes more than a sector at once, sectors are as everywhere.
in_parts() {
	local cache
	for cache in none directsync; do
		"$pattern" fill "$2" 3
		run -d "$2,cache=$cache" -a 'blk-read=1,1'
		expect "$1, cache=$cache: a sector is read" 0
		run -d "$2,cache=$cache" -a 'blk-write=7,11'
		expect "$1, cache=$cache: parts of blocks are written" 0
		"$pattern" fill "$work/same" 3
		run -d "$work/same" -a 'blk-write=7,11'
		cmp "$2" "$work/same" >"$work/out" 2>&1
		status=$?
		expect "$1, cache=$cache: and nothing else is" 0
		run -d "$2,cache=$cache,queues=4" -a blk
		expect "$1, cache=$cache: the report writes, verifies" 0
	done
}

# A last block that is not whole, which must not make the file longer.
with_a_tail() {
	truncate -s 8389120 "$2"
	"$pattern" fill "$2" 3
	run -d "$2,cache=none" -a 'blk-read=16384,1'
	expect "$1: a last block in part is read" 0
	run -d "$2,cache=none" -a 'blk-write=16376,9'
	expect "$1: and written" 0
	run -d "$2,cache=none" -a 'blk-fill=4'
	"$pattern" check "$2" 4 >"$work/out" 2>&1
	status=$?
	expect "$1: and holds what the guest wrote" 0
	[ "$(stat -c %s "$2")" -eq 8389120 ]
	status=$?
	expect "$1: and the file is as long as before" 0
	run -d "$2,block-size=4096" -a exit=0
	expect "$1: with larger blocks it is refused" 125 'not a multiple of its block size, 4096'
}

mkdir "$work/blocks"
truncate -s 64M "$work/image"
truncate -s 8M "$work/same"
if [ "$(id -u)" -eq 0 ] && device=$(losetup -b 4096 --show -f "$work/image" 2>"$work/err"); then
	run -d "$device" -a 'blk-read=1,1'
	expect "a device with blocks of 4096 bytes, by the page cache" 0
	run -d "$device,cache=none" -a 'blk-read=1,1'
	expect "and by O_DIRECT" 0
	run -d "$device,cache=none,block-size=512" -a 'blk-fill=6'
	expect "blocks of 512 bytes on it are filled" 0
	run -d "$device,block-size=512" -a 'blk-check=6'
	expect "and are what they were" 0
	if mkfs.ext4 -q -F "$device" >"$work/err" 2>&1 && mount "$device" "$work/blocks"; then
		mounted=$work/blocks
		truncate -s 8M "$mounted/disk"
		in_parts "ext4 on 4096-byte sectors" "$mounted/disk"
		with_a_tail "ext4 on 4096-byte sectors" "$mounted/disk"
		unmount
	else
		skip "ext4 on 4096-byte sectors" "it cannot be mounted: $(head -n 1 "$work/err")"
	fi
	losetup -d "$device"
else
	skip "a device with blocks of 4096 bytes" "only root can make a loop device"
fi
device=

rm -f "$work/image"
truncate -s 320M "$work/image"
if [ "$(id -u)" -ne 0 ] || ! command -v mkfs.xfs >/dev/null; then
	skip "a reflinked file on XFS" "only root can mount, and mkfs.xfs is needed"
elif mkfs.xfs -q -f -m reflink=1 "$work/image" >"$work/err" 2>&1 &&
	mount -o loop "$work/image" "$work/blocks" 2>>"$work/err"; then
	mounted=$work/blocks
	truncate -s 8M "$mounted/base"
	cp --reflink=always "$mounted/base" "$mounted/disk"
	in_parts "a reflinked file on XFS" "$mounted/disk"
	with_a_tail "a reflinked file on XFS" "$mounted/disk"
	cmp "$mounted/base" <(head -c 8M /dev/zero) >"$work/out" 2>&1
	status=$?
	expect "a reflinked file on XFS: what it was made of is as it was" 0
	unmount
else
	skip "a reflinked file on XFS" "it cannot be mounted: $(head -n 1 "$work/err")"
fi
rm -f "$work/image" "$work/same"

# Disks that cannot be.
run -d "$work/missing" -a exit=0
expect "a missing disk is named" 125 "$work/missing"
run -d "$work" -a exit=0
expect "a directory is no disk" 125 "$work"
printf x >"$work/odd"
run -d "$work/odd" -a exit=0
expect "a file of one byte is no disk" 125 "$work/odd"
for format in qcow qcow2 qed vmdk vdi vhdx vpc parallels; do
	if ! command -v qemu-img >/dev/null; then
		skip "a $format image" "there is no qemu-img"
	elif ! qemu-img create -q -f "$format" "$work/image" 8M 2>"$work/err"; then
		skip "a $format image" "qemu-img cannot make one: $(head -n 1 "$work/err")"
	else
		run -d "$work/image" -a exit=0
		expect "a $format image is no disk" 125 "image: is a .*qemu-img convert -f $format -O raw "
	fi
	rm -f "$work/image"
done
truncate -s 8M "$work/image"
printf 'QFI\373' >"$work/start"
dd if="$work/start" of="$work/image" conv=notrunc status=none # as a guest could
run -d "$work/image" -a "blk-read=0,1"
expect "a disk on which a guest wrote what images begin with is refused" 125 'is a qcow2 image'
run -d "$work/image,format=raw" -a "blk-read=0,1"
expect "unless it is said to be raw" 0
truncate -s 8M "$disk"
: >"$work/out"
"$veneer" run -d "$disk" -a spin </dev/null >"$work/out" 2>&1 &
pid=$!
awaited says spin
run -d "$disk" -a exit=0
expect "a disk in use by another guest is refused" 125 "$disk"
kill "$pid"
wait "$pid"
disks=()
for i in 0 1 2 3 4 5 6 7; do
	truncate -s 1M "$work/disk$i"
	disks+=(-d "$work/disk$i,serial=number-$i")
done
run "${disks[@]}" -a "disk=7 blk-id"
expect "eight disks" 0 'number-7'
run "${disks[@]}" -d "$disk" -a exit=0
expect "nine are refused" 125 '9 disks'

# A hostile guest.
truncate -s 8M "$disk"
run -d "$disk" -a hostile=all
expect "a hostile guest breaks its own device only, which is named" 0 'hostile .*: ok' 'warning: blk0'

finish
