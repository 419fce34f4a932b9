#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Guest memory in huge pages on one of two NUMA nodes, seen from outside while
# the guest runs, and refused where the node has too few of them; and what
# `veneer doctor` says of the nodes and of the CPUs set aside.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

# pages NODE KIB: how many huge pages of that size are free on the node.
pages() {
	cat "/sys/devices/system/node/node$1/hugepages/hugepages-$2kB/free_hugepages"
}

# A monitor that a try before this one left cut off may still be giving back its pages.
free=$(pages 1 1048576)
before_try() {
	local _
	: >"$work/maps"
	for _ in {1..50}; do
		[ "$(pages 1 1048576)" -lt "$free" ] || return 0
		sleep 0.2
	done
	echo "lab: a page of 1 GiB is still in use on node 1" >&2
}

# Once the guest is in user space, where it waits for a line: what numa_maps says of its monitor.
attend() {
	local pid
	until_console GUEST-UP
	for pid in $(pgrep -f "^[^ ]*(${MONITOR##*/}|veneer|qemu-system-x86_64) .*guest.test=linger"); do
		grep -E 'huge|bind' "/proc/$pid/numa_maps"
	done >"$work/maps"
	echo
}

# judge MEMORY PAGE_KIB
judge() {
	local name="-m $1" bound
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" -c 2 -m "$1" -a "$cmdline guest.test=linger"
	bound=$(grep "kernelpagesize_kB=$2\$" "$work/maps" | grep 'bind:1 ' | grep ' N1=' | grep -v ' N0=')
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ -z "$bound" ]; then
		not_ok "$name" "no pages of $2 KiB bound to node 1; numa_maps says:"
		show "$work/maps"
		show_guest
	else
		ok "$name"
		quote <<<"$bound"
	fi
}

# refused MEMORY PAGE_KIB PAGES: there are fewer than PAGES on node 1.
refused() {
	local name="-m $1 is refused" missing
	missing=$(($3 - $(pages 1 "$2")))
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" -c 1 -m "$1" -a "$cmdline"
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "QEMU has words of its own for it (exit status $status)"
	elif [ "$status" -ne 125 ]; then
		not_ok "$name" "exit status $status"
		show_guest
	elif ! grep -qw "$missing" "$work/console"; then
		not_ok "$name" "the message does not say that $missing pages are missing"
		show_guest
	elif ! grep -q "node1/hugepages/hugepages-$2kB/nr_hugepages" "$work/console"; then
		not_ok "$name" "the message has no command that reserves them"
		show_guest
	else
		ok "$name"
		quote <"$work/console"
	fi
}

# consult CHECK FOUND: what `veneer doctor` says of this host begins so, and is well.
consult() {
	grep -qE "^ok +$1 +$2" "$work/doctor" || echo "no line 'ok $1 $2'"
}

# doctor: it finds the lab as tests/lab/run made it, and this is a virtual machine,
# which is always something wrong.
doctor() {
	local name='veneer doctor' complaints
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "QEMU has none"
		return
	fi
	status=0
	"$MONITOR" doctor >"$work/doctor" 2>&1 || status=$?
	complaints=$(
		[ "$status" -eq 1 ] || echo "exit status $status"
		consult virtualization 'AMD-V \(svm\)'
		consult paging 'NPT \(npt=[Y1]\)'
		consult cpus 'online 0-3, allowed here 0-3'
		consult isolcpus '2-3$'
		consult nohz_full '2-3$'
		consult rcu_nocbs '2-3$'
		consult huge-pages 'node 0: 64/64 2M, 1/1 1G; node 1: 160/160 2M, 1/1 1G'
		consult io_uring 'a ring'
		grep -qE '^warn +bare-metal ' "$work/doctor" || echo "the lab is called bare metal"
	)
	if [ -n "$complaints" ]; then
		not_ok "$name" "$(tr '\n' ';' <<<"$complaints")"
		quote <"$work/doctor"
	else
		ok "$name"
	fi
}

plan 5
doctor
judge 1G,hugepages=1G,node=1 1048576
judge 256M,hugepages=2M,node=1 2048
refused 3G,hugepages=1G,node=1 1048576 3
refused 1G,hugepages=2M,node=1 2048 512
finish
