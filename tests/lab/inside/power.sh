#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The end of a whole Debian, with 4 vCPUs and by the power button, be it pressed before anything in the
# guest listens.

set -u
# shellcheck source-path=SCRIPTDIR source=debian.sh
. /host/lab/inside/debian.sh

# judge_early WAY TEXT WORDS: the button is pressed when the console shows TEXT, which the kernel prints with WORDS
# and, of the rest, as little as can be: each character is an exit, and each exit a chance to lose memory.
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

plan 3
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	judge cloud 4 poweroff
else
	judge cloud 4 button
fi
judge_early 'before the kernel has its driver' 'Linux version' 'earlyprintk=ttyS0 loglevel=6'
judge_early 'before user space listens' 'Loading, please wait' loglevel=4
finish
