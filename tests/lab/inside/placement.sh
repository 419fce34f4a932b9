#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Guests on the lab's isolated CPUs, 2 and 3 of node 1: what of an idle guest is
# left to the host.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

# kvm_count NAME: KVM's statistic of that name, over all vCPUs, as the monitor
# printed it when the guest had ended; nothing where it did not.
kvm_count() {
	tr -d '\r' <"$work/console" | grep '^{"guest"' | grep -o "\"$1\":[0-9]*" |
		awk -F : '{ sum += $2 } END { if (NR) print sum }'
}

# idle MODE: two vCPUs that do nothing for two seconds, on a CPU each. $halts
# gets how often one halted by an exit, or nothing when the guest did not end well.
idle() {
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" -m 256M --stats=json \
		-c "2,idle=$1,pin=2-3,vmm=0,iothreads=1" \
		-a "$cmdline guest.test=linger guest.seconds=2"
	halts=
	! ended_well || halts=$(kvm_count halt_exits)
}

judge_idle() {
	local name="idle=$1" wanted=$2
	idle "$1"
	if [ "$status" -eq 125 ] && grep -q "idle=$1: .* cannot leave" "$work/console"; then
		skip "$name" "$(cat "$work/console")"
	elif [ -z "$halts" ]; then
		not_ok "$name" "$(why)"
		show "$work/console"
	elif [ "$halts" "$wanted" 0 ]; then
		ok "$name: $halts exits for HLT"
	else
		not_ok "$name" "$halts exits for HLT"
	fi
}

plan 3
if [ "${MONITOR##*/}" = monitor-qemu ]; then
	for mode in halt poll mwait; do
		skip "idle=$mode" "only Veneer has the option"
	done
else
	judge_idle halt -gt
	judge_idle poll -eq
	judge_idle mwait -eq
fi
finish
