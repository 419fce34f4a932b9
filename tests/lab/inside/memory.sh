#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Guest memory in huge pages on one of two NUMA nodes, and in cells on both, seen from
# outside and inside while the guest runs, and refused where a node has too few pages or where a
# cgroup or a memory policy allows too few; and what `veneer doctor` says of the nodes and of the CPUs set
# aside.

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
	for pid in $(pgrep -f "^[^ ]*(${MONITOR##*/}|veneer|qemu-system-x86_64) .*guest.test=[a-z,]*linger"); do
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

# node N CPUS DISTANCES MIN_KB MAX_KB: whether the guest sees such a NUMA node.
node() {
	local kb
	kb=$(tr -d '\r' <"$work/console" | sed -n "s/^GUEST-NODE $1 cpus=$2 distance=$3 mem_kb=//p")
	[ -n "$kb" ] && [ "$kb" -ge "$4" ] && [ "$kb" -le "$5" ]
}

# Two cells on the two nodes; the second is a page of 1 GiB. What the guest's kernel complains about
# would be tables or a topology that contradict each other; that devices are in no cell is so.
cells() {
	local name='two cells, on node 0 and, in a page of 1G, on node 1' fault
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "monitor-qemu has no cells"
		return
	fi
	cat >"$work/cells-script" <<'END'
for node in /sys/devices/system/node/node*; do
	echo "GUEST-NODE ${node##*/node} cpus=$(cat "$node/cpulist")" \
		"distance=$(tr ' ' , <"$node/distance")" \
		"mem_kb=$(sed -n 's/.*MemTotal: *\([0-9]*\) kB/\1/p' "$node/meminfo")"
done
END
	initrd_with "$work/cells-script" ''
	run_guest -k "$guest/vmlinuz" -i "$work/initrd" -c 4 -m 1280M,prealloc \
		--numa cell=0,cpus=0-1,memory=256M,node=0 \
		--numa cell=1,cpus=2-3,memory=1G,node=1,hugepages=1G \
		-a "$cmdline guest.test=script,dmesg,linger guest.level=4"
	fault=$(machine_fault 4 1280 "$known|pci_bus 0000:00: Unknown NUMA node")
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ -n "$fault" ]; then
		not_ok "$name" "$fault"
		show_guest
	elif ! node 0 0-1 10,21 200000 262144 || ! node 1 2-3 21,10 983040 1048576; then
		not_ok "$name" "the guest sees other nodes"
		show_guest
	elif ! grep 'bind:0 ' "$work/maps" | grep ' N0=65536 ' | grep -vq ' N1=' ||
		! grep 'bind:1 ' "$work/maps" | grep ' N1=1 ' | grep -q 'kernelpagesize_kB=1048576$'; then
		not_ok "$name" "the pages are elsewhere; numa_maps says:"
		show "$work/maps"
	else
		ok "$name"
		grep GUEST-NODE "$work/console" | quote
		quote <"$work/maps"
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

# refused_for NAME PATTERN ARGUMENT...: the built-in guest does not start, and the one line that says why
# matches, and advises nothing absurd.
refused_for() {
	local name=$1 pattern=$2
	shift 2
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "QEMU has words of its own for it"
		return
	fi
	run_guest "$@" -a exit=3
	if [ "$status" -ne 125 ]; then
		not_ok "$name" "exit status $status"
		show_guest
	elif ! grep -qE -- "$pattern" "$work/console" || grep -qE -- ' -[0-9]' "$work/console"; then
		not_ok "$name" "the message is no match for '$pattern', or has a negative number"
		show_guest
	else
		ok "$name"
		quote <"$work/console"
	fi
}

# runs NAME PATTERN ARGUMENT...: it does start, and the message matches, or there is none.
runs() {
	local name=$1 pattern=$2
	shift 2
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "monitor-qemu has no built-in guest"
		return
	fi
	run_guest "$@" -a exit=3
	if [ "$status" -ne 3 ]; then
		not_ok "$name" "exit status $status"
		show_guest
	elif [ -n "$pattern" ] && ! grep -qE -- "$pattern" "$work/console" ||
		{ [ -z "$pattern" ] && grep -q '^veneer:' "$work/console"; }; then
		not_ok "$name" "its messages are others"
		show_guest
	else
		ok "$name"
		grep '^veneer:' "$work/console" | quote
	fi
}

# A cgroup for the monitor, in one that is above it.
above=/sys/fs/cgroup/vm
group=$above/guest
in_group=(bash -c "echo 0 >$group/cgroup.procs; exec \"\$@\"" -)
make_groups() {
	echo "+hugetlb +memory +cpuset" >/sys/fs/cgroup/cgroup.subtree_control
	mkdir "$above"
	echo "+hugetlb +memory +cpuset" >"$above/cgroup.subtree_control"
	mkdir "$group"
}

limits() {
	local words
	make_groups
	as_user=("${in_group[@]}")
	echo 16M >"$group/hugetlb.2MB.max"
	for words in '' ,prealloc ,node=1; do
		refused_for "a hugetlb limit is named: hugepages=2M$words" \
			"32 pages needed, .* leaves 8, 24 missing; raise it: echo 67108864 > $group/hugetlb.2MB.max" \
			-m "64M,hugepages=2M$words"
	done
	echo 32M >"$above/hugetlb.2MB.max"
	echo 64M >"$group/hugetlb.2MB.max"
	refused_for "the limit of a cgroup above is named" "16 missing; .* > $above/hugetlb.2MB.max" \
		-m 64M,hugepages=2M
	echo 64M >"$above/hugetlb.2MB.max"
	runs "a guest that just fits under its limits" '' -m 64M,hugepages=2M
	echo max >"$above/hugetlb.2MB.max"
	echo max >"$group/hugetlb.2MB.max"
	echo 32M >"$group/hugetlb.2MB.rsvd.max"
	refused_for "a limit of reservations is named" "echo 67108864 > $group/hugetlb.2MB.rsvd.max" \
		-m 64M,hugepages=2M,node=0
	echo max >"$group/hugetlb.2MB.rsvd.max"

	echo 0 >"$group/cpuset.mems"
	refused_for "a cpuset's nodes are named" \
		"128 pages needed, $group/cpuset.mems allows node 0, where 64 are free, 64 missing; .* echo 128 > .*/node0/" \
		-m 256M,hugepages=2M
	refused_for "a cpuset's nodes are named where node= is another" \
		"node=1: $group/cpuset.mems allows node 0 only" -m 64M,hugepages=2M,node=1
	echo >"$group/cpuset.mems"

	echo 100M >"$group/memory.max"
	refused_for "a memory limit is named: prealloc" "128 MiB of guest memory needed, .* > $group/memory.max" \
		-m 128M,prealloc
	refused_for "a memory limit is named: lock" "128 MiB of guest memory needed, .* > $group/memory.max" \
		-m 128M,lock
	runs "a guest that is larger than its memory limit" \
		"warning: the guest's memory of 128 MiB .* > $group/memory.max" -m 128M
	echo max >"$group/memory.max"

	as_user=(numactl --membind=0)
	refused_for "the memory policy is named" \
		"128 pages needed, the memory policy \(numactl --membind\) allows node 0, where 64 are free, 64 missing; .* echo 128 > .*/node0/" \
		-m 256M,hugepages=2M
	runs "a guest on the node that the memory policy allows" '' -m 64M,hugepages=2M
	runs "node= is stronger than the memory policy" '' -m 256M,hugepages=2M,node=1
	as_user=()
	echo 8 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages
	runs "pages that the kernel adds to its reserve are counted" '' -m 464M,hugepages=2M
	echo 0 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages
}

plan 20
doctor
cells
judge 256M,hugepages=2M,node=1 2048
refused 3G,hugepages=1G,node=1 1048576 3
refused 1G,hugepages=2M,node=1 2048 512
limits
finish
