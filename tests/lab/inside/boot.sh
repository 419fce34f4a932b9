#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots Debian's cloud kernel to user space and to power-off, by each way into
# the kernel and with 1, 2 and 4 vCPUs, and looks at the machine it sees and at
# what its kernel complains about.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

# Complaints that say nothing about the monitor:
#  - a machine without PCI has no PCI to configure;
#  - the lab's emulated SVM does not stop at the guest's XSETBV, so that KVM does
#    not follow it in CPUID leaf 0xD and the guest's kernel doubts the sizes
#    there. Under QEMU it is the same.
known='PCI: Fatal: No config space access function found|fpu__init_system_xstate'

# complaints: the lines of the guest's kernel log that are errors, or warnings
# about the machine.
complaints() {
	tr -d '\r' <"$work/console" | sed -n '/^GUEST-LOG-BEGIN/,/^GUEST-LOG-END/p' |
		grep -E '^<[0-3]>|^<4>.*(ACPI.*(Error|Warning)|WARNING:|Firmware Bug|Firmware Warn)'
}

# judge NAME KERNEL CPUS MEMORY_MIB
judge() {
	local name=$1 kernel=$2 cpus=$3 mib=$4 kb bad
	run_guest -k "$guest/$kernel" -i "$guest/initrd" -c "$cpus" -m "${mib}M" \
		-a "$cmdline guest.test=dmesg guest.level=4"
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
	elif [ "$(field clocksource)" != kvm-clock ]; then
		not_ok "$name" "the guest's clock source is $(field clocksource)"
	elif [ -n "$bad" ]; then
		not_ok "$name" "the guest's kernel complains"
		quote <<<"$bad"
	else
		ok "$name"
		complaints | quote
	fi
}

plan 10
for kernel in vmlinuz vmlinux vmlinux-nopvh; do
	for cpus in 1 2 4; do
		name="$kernel, $cpus vCPU"
		if [ "$kernel" = vmlinux-nopvh ] && [ "${MONITOR##*/}" = monitor-qemu ]; then
			skip "$name" "QEMU does not boot an ELF kernel without a PVH note"
		else
			judge "$name" "$kernel" "$cpus" 256
		fi
	done
done
# Memory on both sides of the hole below 4 GiB, far more than the lab has: the
# guest touches little of it.
judge "vmlinuz, 5 GiB" vmlinuz 1 5120
finish
