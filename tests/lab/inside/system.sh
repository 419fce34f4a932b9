#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A whole Debian, as guest/linux/mkimage makes it: to multi-user.target with all
# services up, a login on the serial port, its disk and clock, and a clean end by
# `poweroff` and by the power button.

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

# type_in: what a person types at the serial port; $end is the last of it.
# shellcheck disable=SC2016 # for the shell in the guest
type_in() {
	until grep -aq 'login:' "$work/console"; do sleep 1; done
	echo root
	until grep -aq '~#' "$work/console"; do sleep 1; done
	echo 'echo "STATE $(systemctl is-system-running --wait) $(systemctl get-default)"'
	echo 'echo "CLOCK $(cat /sys/devices/system/clocksource/*/current_clocksource)"'
	echo 'echo "ROOT $(findmnt -n -o SOURCE,FSTYPE /) CPUS $(nproc)"'
	# Apart, so that the echo of what was typed does not look like its result.
	echo 'echo "READY"" NOW"'
	until grep -aq 'READY NOW' "$work/console"; do sleep 1; done
	if [ "$1" = poweroff ]; then
		echo poweroff
	else
		kill -TERM "$(pgrep -f "^$MONITOR run")"
	fi
	sleep "$guest_limit"
}

# said TEXT: whether the guest's console has it as a line of its own.
said() {
	tr -d '\r' <"$work/console" | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' | grep -aqx "$1"
}

# run_system WAY ARGUMENT...: as run_guest, with someone at the serial port.
run_system() {
	local way=$1 try typist
	shift
	for ((try = 1; try <= tries; try++)); do
		: >"$work/console"
		rm -f "$work/keys"
		mkfifo "$work/keys"
		type_in "$way" >"$work/keys" &
		typist=$!
		status=0
		timeout -k 5 "$guest_limit" "$MONITOR" run "$@" --serial stdio \
			<"$work/keys" >"$work/console" 2>&1 || status=$?
		kill "$typist" 2>/dev/null
		wait "$typist" 2>/dev/null
		case $status in
		124 | 137) echo "lab: guest stalled, try $try of $tries: $*" >&2 ;;
		*) return 0 ;;
		esac
		show "$work/console" >&2
	done
}

# judge KIND CPUS WAY: WAY is poweroff or button.
judge() {
	local name="Debian with its $1 kernel, $2 vCPU, ended by $3" kernel pattern='*[0-9]-amd64'
	[ "$1" != cloud ] || pattern='*-cloud-amd64'
	# shellcheck disable=SC2086
	kernel=$(basename "$work"/boot/vmlinuz-$pattern)
	run_system "$3" -k "$work/boot/$kernel" -i "$work/boot/initrd.img-${kernel#vmlinuz-}" \
		-d "$image" -c "$2" -m 512M -a 'console=ttyS0 root=/dev/vda rw quiet'
	if [ "$status" -ne 0 ]; then
		not_ok "$name" "exit status $status"
		show "$work/console"
	elif ! said 'STATE running multi-user.target' || ! said "ROOT /dev/vda *ext4 CPUS $2" ||
		! said 'CLOCK \(kvm-clock\|tsc\)'; then
		not_ok "$name" "the guest is not as it should be"
		show "$work/console"
	elif ! grep -aq 'reboot: Power down' "$work/console"; then
		not_ok "$name" "the guest did not power off by itself"
		show "$work/console"
	else
		ok "$name"
	fi
}

plan 2
judge cloud 2 poweroff
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	skip "the power button" "QEMU has another way to press it"
else
	judge generic 4 button
fi
finish
