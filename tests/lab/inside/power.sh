#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The power button of a whole Debian: pressed once it is up, with 8 vCPUs, and pressed before anything in the
# guest listens to it. And kernels with 4 vCPUs, which come up more surely in a lab with one CPU, as this group
# has (tests/lab/README.md).

set -u
# shellcheck source-path=SCRIPTDIR source=debian.sh
. /host/lab/inside/debian.sh

guest_limit=400 # 8 vCPUs share the lab's one CPU

# judge_early WAY TEXT WORDS: the button is pressed when the console shows TEXT. With WORDS on its command line the
# kernel prints TEXT and little else: each character is an exit, and the emulator may lose the guest's memory at any
# exit (tests/lab/README.md).
judge_early() {
	local name="Debian, its button pressed $1" way=$1 moment=$2 kernel initrd version
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "QEMU has another way to press it"
		return
	fi
	files_of cloud
	run_guest -k "$kernel" -i "$initrd" -d "$image" -m 512M \
		-a "console=ttyS0 $3 root=/dev/vda rw"
	if [ "$status" -eq 0 ] && grep -aq 'reboot: Power down' "$work/console"; then
		ok "$name"
	else
		not_ok "$name" "exit status $status"
		show_guest
	fi
}

plan 5
judge_machine "cloud kernel, 4 vCPU" 4 256 -k "$guest/vmlinuz" -i "$guest/initrd"
judge_machine "backports kernel, 4 vCPU" 4 384 -k "$guest/vmlinuz-backports" -i "$guest/initrd-backports"
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	judge cloud 8 poweroff
else
	judge cloud 8 button
fi
judge_early 'before the kernel has its driver' 'Linux version' 'earlyprintk=ttyS0 loglevel=6'
judge_early 'before user space listens' 'Loading, please wait' loglevel=4
finish
