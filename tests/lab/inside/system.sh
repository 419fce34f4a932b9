#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A whole Debian, as guest/linux/mkimage makes it: to multi-user.target with all
# services up, a login on the serial port, its disk and clock, and a clean end by
# `poweroff` and by the power button, be it pressed before anything in the guest listens.
# Once as README.md has a newcomer start it.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

guest_limit=150
image=/dev/vdc

# What was written to the image is dropped with the lab; a guest that was cut off
# leaves a journal, which the next one replays.
mkdir "$work/root" "$work/boot"
mount -t ext4 -o ro,noload "$image" "$work/root"
cp "$work"/root/boot/{vmlinuz,initrd.img}-* "$work/boot"
umount "$work/root"

press() {
	kill -TERM "$(pgrep -f "^$MONITOR run")"
}

# What a person types at the serial port, until the guest ends.
# shellcheck disable=SC2016 # for the shell in the guest
attend() {
	case $way in
	'before '*)
		until_console "$moment"
		press
		sleep "$guest_limit"
		;;
	esac
	until_console 'login:'
	echo root
	until_console '~#'
	echo 'echo "STATE $(systemctl is-system-running --wait) $(systemctl get-default)"'
	echo 'echo "CLOCK $(cat /sys/devices/system/clocksource/*/current_clocksource)"'
	echo 'echo "ROOT $(findmnt -n -o SOURCE,FSTYPE /) CPUS $(nproc) KERNEL $(uname -r)"'
	echo 'until ip -4 -o address show scope global | grep -q inet; do sleep 1; done'
	echo 'echo "ADDRESS $(ip -4 -o address show scope global | tr -s " " | cut -d " " -f 4)"'
	echo 'echo GUEST-LOG-BEGIN; dmesg -r | grep "^<[0-4]>"; echo GUEST-LOG-END'
	# Apart, so that the echo of what was typed does not look like its result.
	echo 'echo "READY"" NOW"'
	until_console 'READY NOW'
	if [ "$way" = poweroff ]; then
		echo poweroff
	else
		press
	fi
	sleep "$guest_limit"
}

# said TEXT: whether the guest's console has it as a line of its own.
said() {
	tr -d '\r' <"$work/console" | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' | grep -aqx "$1"
}

# files_of KIND: sets kernel and initrd, and version to what the kernel calls itself.
files_of() {
	version='6\.12\..*-cloud-amd64'
	case $1 in
	backports)
		# The image has no such kernel: the lab's initrd goes on as the image's init.
		kernel=$guest/vmlinuz-backports initrd=$guest/initrd-backports
		;;
	*)
		local pattern='*[0-9]-amd64'
		[ "$1" != cloud ] || pattern='*-cloud-amd64'
		# shellcheck disable=SC2086
		kernel=$(ls "$work"/boot/vmlinuz-$pattern)
		version=${kernel##*/vmlinuz-}
		initrd=$work/boot/initrd.img-$version
		;;
	esac
}

# expect_system NAME CPUS VERSION: the guest that ran was a whole Debian, with so many CPUs and this kernel,
# and ended well.
expect_system() {
	local name=$1 cpus=$2 version=$3
	if [ "$status" -ne 0 ]; then
		not_ok "$name" "exit status $status"
		show_guest
	elif ! said 'STATE running multi-user.target' ||
		! said "ROOT /dev/vda *ext4 CPUS $cpus KERNEL $version" ||
		! said 'CLOCK \(kvm-clock\|tsc\)' || ! said 'ADDRESS 10\.0\.2\.15/24'; then
		not_ok "$name" "the guest is not as it should be"
		show_guest
	elif ! said GUEST-LOG-END || complaints | grep -Evq "$known"; then
		not_ok "$name" "the guest's kernel complains"
		complaints | grep -Ev "$known" | quote
	elif ! grep -aq 'reboot: Power down' "$work/console"; then
		not_ok "$name" "the guest did not power off by itself"
		show_guest
	else
		ok "$name"
	fi
}

# judge KIND CPUS WAY: WAY is poweroff or button.
judge() {
	local name="Debian with its $1 kernel, $2 vCPU, ended by $3" way=$3 network=(--net user)
	local kernel initrd version
	files_of "$1"
	[ "${MONITOR##*/}" != monitor-qemu ] || network=()
	run_guest -k "$kernel" -i "$initrd" -d "$image" "${network[@]}" -c "$2" -m 512M \
		-a 'console=ttyS0 root=/dev/vda rw quiet guest.test=system'
	expect_system "$name" "$2" "$version"
}

# judge_readme: the command that README.md has a newcomer type in the lab, where the image is in the
# current folder.
judge_readme() {
	local name="Debian, by the command in README.md" way=poweroff arguments
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "the command is Veneer's"
		return
	fi
	eval "arguments=($(cat arguments))"
	run_guest "${arguments[@]}"
	expect_system "$name" 2 '6\.1\..*-cloud-amd64'
}

# judge_early WAY TEXT WORDS: the button is pressed when the console shows TEXT, which the kernel prints with WORDS
# on its command line, and little else: each character is an exit, which takes time.
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

plan 7
judge cloud 1 poweroff
judge backports 2 poweroff
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	skip "the power button" "QEMU has another way to press it"
else
	judge generic 2 button
fi
judge cloud 8 poweroff
judge_early 'before the kernel has its driver' 'Linux version' 'earlyprintk=ttyS0 loglevel=6'
judge_early 'before user space listens' 'Loading, please wait' loglevel=4
judge_readme
finish
