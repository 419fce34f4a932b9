#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots Debian's kernels to user space and to power-off, by each way into the
# kernel, with 1 to 8 vCPUs and by both transports, and looks at the machine that
# they see and at what they complain about.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

# Complaints that say nothing about the monitor:
#  - the lab's emulated SVM does not stop at the guest's XSETBV, so that KVM does
#    not follow it in CPUID leaf 0xD and the guest's kernel doubts the sizes
#    there. Under QEMU it is the same.
#  - kernel 6.12 looks for performance states (_CPC) on every AMD CPU; a virtual
#    one has none.
known='fpu__init_system_xstate|amd_pstate: the _CPC object is not present'

# Without PCI there is none to configure.
known_mmio="$known|PCI: Fatal: No config space access function found|PCI: System does not support PCI"

# complaints: the lines of the guest's kernel log that are errors, or warnings
# about the machine.
complaints() {
	tr -d '\r' <"$work/console" | sed -n '/^GUEST-LOG-BEGIN/,/^GUEST-LOG-END/p' |
		grep -E '^<[0-3]>|^<4>.*(ACPI|PCI|pci|virtio|clocksource|WARNING:|Firmware Bug|Firmware Warn)'
}

# judge NAME CPUS MEMORY_MIB ARGUMENT...
judge() {
	local name=$1 cpus=$2 mib=$3 kb bad
	shift 3
	run_guest -c "$cpus" -m "${mib}M" -a "$cmdline guest.test=dmesg guest.level=4" "$@"
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show "$work/console"
		return
	fi
	kb=$(field mem_kb)
	bad=$(complaints | grep -Ev "$known")
	# What the kernel keeps for itself is below 32 MiB and an eighth.
	if [ "$(field cpus)" != "$cpus" ]; then
		not_ok "$name" "the guest has $(field cpus) CPUs"
	elif [ "$kb" -gt $((mib * 1024)) ] || [ "$kb" -lt $(((mib - mib / 8 - 32) * 1024)) ]; then
		not_ok "$name" "the guest has $kb KiB"
	elif [ "$(field clocksource)" != kvm-clock ] && [ "$(field clocksource)" != tsc ]; then
		not_ok "$name" "the guest's clock source is $(field clocksource)"
	elif [ "${MONITOR##*/}" != monitor-qemu ] && [ "$(field rng)" != virtio_rng.0 ]; then
		not_ok "$name" "the guest's source of randomness is '$(field rng)'"
	elif [ -n "$bad" ]; then
		not_ok "$name" "the guest's kernel complains"
		quote <<<"$bad"
	else
		ok "$name"
		complaints | quote
	fi
}

cloud=(-i "$guest/initrd")
plan 12
for cpus in 1 2 4 8; do
	judge "cloud kernel, bzImage, $cpus vCPU" "$cpus" 256 "${cloud[@]}" -k "$guest/vmlinuz"
done
judge "cloud kernel, PVH, 2 vCPU" 2 256 "${cloud[@]}" -k "$guest/vmlinux"
name="cloud kernel, 64-bit protocol, 2 vCPU"
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	skip "$name" "QEMU does not boot an ELF kernel without a PVH note"
else
	judge "$name" 2 256 "${cloud[@]}" -k "$guest/vmlinux-nopvh"
fi
name="cloud kernel, virtio-mmio, 2 vCPU"
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	skip "$name" "only Veneer has the option"
else
	known=$known_mmio judge "$name" 2 256 "${cloud[@]}" -k "$guest/vmlinuz" --transport mmio
fi
for kind in generic backports; do
	for cpus in 1 4; do
		[ "$kind$cpus" != backports1 ] || cpus=2
		judge "$kind kernel, $cpus vCPU" "$cpus" 384 -k "$guest/vmlinuz-$kind" -i "$guest/initrd-$kind"
	done
done
# Memory on both sides of the hole below 4 GiB, far more than the lab has: the
# guest touches little of it.
judge "cloud kernel, 5 GiB" 1 5120 "${cloud[@]}" -k "$guest/vmlinuz"
finish
