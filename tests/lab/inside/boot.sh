#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots Debian's kernels to user space and to power-off, and looks at the machine
# that they see and at what they complain about. The groups disk and system do so
# too, by the other ways into the kernel, by virtio-mmio, and with 1 and 8 vCPUs.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

# judge NAME CPUS MEMORY_MIB ARGUMENT...
judge() {
	local name=$1 cpus=$2 mib=$3 fault
	shift 3
	run_guest -c "$cpus" -m "${mib}M" -a "$cmdline guest.test=dmesg guest.level=4" "$@"
	fault=$(machine_fault "$cpus" "$mib")
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ -n "$fault" ]; then
		not_ok "$name" "$fault"
	else
		ok "$name"
		complaints | quote
	fi
}

# Memory on both sides of the hole below 4 GiB. What lies above is the kernel's zone Normal, of which
# it takes pages first: all of that, and some from below, is written and read back. Each 4 KiB hold
# their own number, so that no two may be the same memory.
judge_5g() {
	local name="5 GiB: what is above 4 GiB, and some below, written and read back"
	local kib=0 before=0 after=0
	cat >"$work/fill" <<'END'
mount -t tmpfs -o size=100%,huge=always none /mnt
free_above() {
	awk '/zone/ { here = /Normal/ } here && $1 == "pages" { print $3 }' /proc/zoneinfo
}
before=$(free_above)
kib=$((before * 4 + (256 << 10)))
tools fio --name=fill --directory=/mnt --size=${kib}k --rw=write --bs=1m --fallocate=none \
	--verify=pattern --verify_pattern=%o --verify_interval=4k --verify_fatal=1 >/tmp/fio 2>&1 || {
	cat /tmp/fio
	fail "fio found an error"
}
grep -E '^ *(read|write):|err=' /tmp/fio
echo "GUEST-FILLED $kib $before $(free_above)"
END
	initrd_with "$work/fill" ''
	local guest_limit=120
	run_guest -c 2 -m 5G -k "$guest/vmlinuz" -i "$work/initrd" -d /dev/vdb,readonly \
		-a "$cmdline guest.test=script"
	read -r kib before after <<<"$(tr -d '\r' <"$work/console" | sed -n 's/^GUEST-FILLED //p')"
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ "$(field mem_kb)" -lt $((4900 << 10)) ] || [ "$before" -lt $((7 << 16)) ]; then
		not_ok "$name" "the guest has $(field mem_kb) KiB, and above 4 GiB $before pages"
	elif [ "$((kib >> 2))" -lt "$before" ] || [ "$after" -gt $((before / 10)) ]; then
		not_ok "$name" "free above 4 GiB: $before pages, then $after"
	else
		ok "$name"
		quote <<<"$kib KiB; free above 4 GiB: $before pages, then $after"
	fi
}

# A kernel whose header names no payload, so that it decompresses itself.
# Its own decompressor reads neither payload_offset (0x248) nor payload_length.
self_decompressing() {
	cp "$guest/vmlinuz" "$work/vmlinuz-self"
	dd if=/dev/zero of="$work/vmlinuz-self" bs=1 seek=$((0x248)) count=8 conv=notrunc status=none
}

# judge_words NAME WORDS ARGUMENT...: a kernel without its IOAPIC or local APICs has no interrupt for the
# serial port on a machine with hardware-reduced ACPI, and so its user space prints nothing.
judge_words() {
	local name=$1 words=$2
	shift 2
	run_guest -m 384M -a "$cmdline $words" "$@"
	if [ "$status" -eq 0 ] && grep -aq 'reboot: Power down' "$work/console"; then
		ok "$name"
	else
		not_ok "$name" "exit status $status"
		show_guest
	fi
}

# judge_panic NAME KERNEL WORDS DRIVER ARGUMENT...: a guest with this kernel and these words on its command
# line panics, without the driver named (or none).
judge_panic() {
	local name=$1 kernel=$2 words=$3 without=$4 lines
	shift 4
	[ "${MONITOR##*/}" != monitor-qemu ] || {
		skip "$name" "QEMU's microvm gets no pvpanic here"
		return
	}
	printf '%s\n' "${without:+rmmod $without}" 'echo c >/proc/sysrq-trigger' 'sleep 1000' >"$work/panic"
	initrd_with "$work/panic" "$kernel"
	run_guest -c 2 -m 384M -k "$guest/vmlinuz$kernel" -i "$work/initrd" \
		-a "console=ttyS0 quiet guest.test=script $words" "$@"
	lines=$(grep -acx "veneer: the guest's kernel panicked; its console says why" "$work/console")
	if [ "$status" -ne 120 ] || [ "$lines" -ne 1 ]; then
		not_ok "$name" "exit status $status, and $lines lines that name the panic"
		show_guest
	# What Linux prints before its drivers are told of a panic, and after.
	elif ! grep -aq 'Kernel panic - not syncing: sysrq triggered crash' "$work/console" ||
		! grep -aq 'Kernel Offset: ' "$work/console"; then
		not_ok "$name" "not all of its last words are there"
		show_guest
	else
		ok "$name"
	fi
}

# judge_reset NAME WORD: a guest reboots by this way of Linux's.
judge_reset() {
	echo 'reboot -f; exit' >"$work/reset"
	initrd_with "$work/reset" ''
	run_guest -c 2 -k "$guest/vmlinuz" -i "$work/initrd" \
		-a "$cmdline guest.test=script reboot=$2"
	if [ "$status" -ne 0 ]; then
		not_ok "$1" "$(why)"
		show_guest
	else
		ok "$1"
	fi
}

# judge_value NAME KERNEL STATUS COMMAND: what README.md says of a Linux guest's exit status.
judge_value() {
	local name=$1 kernel=$2 wanted=$3
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "QEMU has no such port here"
		return
	fi
	echo "$4" >"$work/value"
	initrd_with "$work/value" "$kernel" /host/build/tests/lab/exit_value
	run_guest -m 384M -k "$guest/vmlinuz$kernel" -i "$work/initrd" -a "$cmdline guest.test=script"
	if [ "$status" -eq "$wanted" ]; then
		ok "$name"
	else
		not_ok "$name" "$(why)"
		show_guest
	fi
}

cloud=(-i "$guest/initrd")
plan 15
for cpus in 2 4; do
	judge "cloud kernel, bzImage, $cpus vCPU" "$cpus" 256 "${cloud[@]}" -k "$guest/vmlinuz"
done
name="cloud kernel, 64-bit protocol, 2 vCPU"
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	skip "$name" "QEMU does not boot an ELF kernel without a PVH note"
else
	judge "$name" 2 256 "${cloud[@]}" -k "$guest/vmlinux-nopvh"
fi
self_decompressing
judge "cloud kernel, its own decompressor, 2 vCPU" 2 256 "${cloud[@]}" -k "$work/vmlinuz-self"
judge "generic kernel, 1 vCPU" 1 384 -k "$guest/vmlinuz-generic" -i "$guest/initrd-generic"
judge "backports kernel, 4 vCPU" 4 384 -k "$guest/vmlinuz-backports" -i "$guest/initrd-backports"
judge_words "cloud kernel, noapic, 2 vCPU" noapic "${cloud[@]}" -k "$guest/vmlinuz" -c 2
name="generic kernel, nosmp, 2 vCPU and an i8254"
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	skip "$name" "QEMU has no such option"
else
	judge_words "$name" nosmp -k "$guest/vmlinuz-generic" -i "$guest/initrd-generic" -c 2,pit=on
fi
judge_5g
judge_panic "cloud kernel: a panic that would reset, with --reboot" '' panic=-1 '' --reboot
judge_panic "cloud kernel: a panic that would hang, by pvpanic-pci" '' panic=0 pvpanic_mmio
judge_panic "backports kernel: a panic that would hang, by pvpanic-mmio" -backports panic=0 pvpanic_pci
judge_reset "cloud kernel: a reset by port 0xcf9" p
# shellcheck disable=SC2016 # for printf in the guest
judge_value "an exit status through /dev/port, generic kernel" -generic 7 \
	'printf "\7" | dd of=/dev/port bs=1 seek=244 conv=notrunc'
judge_value "an exit status by a program, cloud kernel" '' 42 '/exit_value 42'
finish
