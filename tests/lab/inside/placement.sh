#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What runs where on a machine of two NUMA nodes, of whose four CPUs 2 and 3, all of node 1, are
# isolated: what Veneer chooses and says, and what the kernel says of a Linux guest's threads and
# memory while it runs, and what an idle guest there leaves to the host. A guest is looked at once, and
# everything judged by what was seen then.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

if [ "${MONITOR##*/}" = monitor-qemu ]; then
	echo "1..0 # SKIP only Veneer has these options"
	exit 0
fi

looking=
before_try() {
	rm -rf "$work/seen"
	mkdir "$work/seen"
}

# Each try is looked at anew; then the guest, which waits for a line, goes on.
attend() {
	[ -n "$looking" ] || return 0
	look 2>/dev/null
	echo
}

# look: once the guest is in user space, keep in $work/seen what the kernel says of its monitor:
# numa_maps, and in `threads` for each: name, CPUs it may run on, CPU it ran on last. By the shell alone:
# a program for each would take long on a bad day.
look() {
	local pid task name word cpus rest stat
	until has GUEST-UP; do
		sleep 0.2
	done
	pid=$(pgrep -f "^${MONITOR} .*guest.test=linger")
	for task in "/proc/$pid/task"/*; do
		read -r name <"$task/comm"
		while read -r word rest; do
			[ "$word" != Cpus_allowed_list: ] || cpus=$rest
		done <"$task/status"
		read -r rest <"$task/stat"
		read -ra stat <<<"${rest##*) }"
		echo "$name $cpus ${stat[36]}"
	done >"$work/seen/threads"
	cp "/proc/$pid/numa_maps" "$work/seen"
}

# run_and_look NAME ARGUMENT...: a guest with these arguments, seen; false, with NAME failed, when it
# did not end well.
run_and_look() {
	local name=$1 looking=yes
	shift
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" "$@" -a "$cmdline guest.test=linger"
	if ended_well; then
		ok "$name"
		return
	fi
	not_ok "$name" "$(why)"
	show "$work/console"
	return 1
}

# seen NAME FILE PATTERN...: each pattern is a line of what was seen.
seen() {
	local name=$1 file=$work/seen/$2 pattern
	shift 2
	for pattern in "$@"; do
		if ! grep -qxE -- "$pattern" "$file" 2>/dev/null; then
			not_ok "$name" "no line '$pattern'"
			quote <"$file"
			return
		fi
	done
	ok "$name"
}

# not_seen NAME FILE PATTERN: no line of it has the pattern.
not_seen() {
	if [ ! -s "$work/seen/$2" ] || grep -qE -- "$3" "$work/seen/$2"; then
		not_ok "$1" "'$3' is in, or there is nothing of,"
		quote <"$work/seen/$2"
	else
		ok "$1"
	fi
}

# plans NAME STATUS "COMMAND..." PATTERN...: what `veneer run --dry-run` says, run by COMMAND.
plans() {
	local name=$1 wanted=$2 pattern status=0
	# shellcheck disable=SC2086 # words
	$3 >"$work/plan" 2>&1 || status=$?
	shift 3
	if [ "$status" -ne "$wanted" ]; then
		not_ok "$name" "exit status $status"
		quote <"$work/plan"
		return
	fi
	for pattern in "$@"; do
		if ! grep -qE -- "$pattern" "$work/plan"; then
			not_ok "$name" "no line '$pattern'"
			quote <"$work/plan"
			return
		fi
	done
	ok "$name"
}

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

# judge_idle MODE 0|1: whether there are to be any.
judge_idle() {
	local name="idle=$1" wanted=$2
	idle "$1"
	if [ "$status" -eq 125 ] && grep -q "idle=$1: .* cannot leave" "$work/console"; then
		skip "$name" "$(cat "$work/console")"
	elif [ -z "$halts" ]; then
		not_ok "$name" "$(why)"
		show_guest
	elif [ $((halts > 0)) -eq "$wanted" ]; then
		ok "$name: $halts exits for HLT"
	else
		not_ok "$name" "$halts exits for HLT"
	fi
}

truncate -s 1M "$work/disk"
dry="$MONITOR run --dry-run -k $guest/vmlinuz -d $work/disk"

plan 16
plans "auto takes the isolated CPUs of memory's node" 0 "$dry -m 256M,node=1 -c 2,pin=auto" \
	"^vcpu0 +2 +2 +[0-9]+ +1 +yes$" "^vcpu1 +3 +3 +[0-9]+ +1 +yes$" \
	"^blk0 +1 .* 0 +no$" "^others +0 .* 0 +no$" "^isolated CPUs first: every vCPU" \
	"^memory's node: .* node 1," "^compromise: I/O threads are on another node"
plans "auto refuses more than memory's node has" 125 "$dry -m 256M,node=1 -c 3,pin=auto" \
	"3 vCPUs need 3 cores on memory's node 1 to themselves, and 2 are free"
plans "auto on the node without isolated CPUs" 0 "$dry -m 256M,node=0 -c 1,pin=auto" \
	"^vcpu0 +1 .* 0 +no$" "^compromise: no CPU that can be had is isolated"
plans "auto leaves alone what is given" 0 "$dry -c 1,pin=auto,iothreads=3,vmm=1" \
	"^vcpu0 +2 .*yes$" "^blk0 +3 .*yes$" "^others +1 .*no$"
plans "auto stays where taskset put it" 0 "taskset -c 1,3 $dry -c 1,pin=auto" \
	"^vcpu0 +3 " "^blk0 +1 " "^others +1 "

# A cgroup without CPU 3.
cgroup=$work/cgroup
mkdir "$cgroup"
mount -t cgroup2 cgroup2 "$cgroup"
echo +cpuset >"$cgroup/cgroup.subtree_control"
mkdir "$cgroup/some"
echo 0-2 >"$cgroup/some/cpuset.cpus"
cat >"$work/in-cgroup" <<END
#!/bin/bash
echo \$\$ >$cgroup/some/cgroup.procs
exec "\$@"
END
chmod +x "$work/in-cgroup"
plans "auto takes nothing that the cgroup forbids" 0 \
	"$work/in-cgroup $dry -c 2,pin=auto" "^vcpu0 +2 " "^vcpu1 +1 " "^others +0 "
plans "what the cgroup forbids is refused by name" 125 "$work/in-cgroup $dry -c 2,pin=2-3" \
	"vCPU 1: the host's CPU 3 is not for this process: its cgroup allows 0-2"
rmdir "$cgroup/some"
umount "$cgroup"
rmdir "$cgroup"

run_and_look "a guest placed by auto" -m 256M,hugepages=2M,node=1 -c 2,pin=auto \
	-d "$work/disk"
seen "its vCPUs run on 2 and 3" threads "vcpu0 2 2" "vcpu1 3 3"
seen "its I/O threads run on 1" threads "blk0-0 1 1" "blk0-1 1 1"
seen "its other threads run on 0" threads "devices 0 0" "veneer 0 0"
not_seen "nothing but vCPUs may run on 2 and 3" threads \
	"^([^v]|v[^c])[^ ]* [^ ]*[23-]"
seen "its memory is on node 1" numa_maps ".* bind:1 .*huge.* N1=[0-9]+ kernelpagesize_kB=2048"

judge_idle halt 1
judge_idle poll 0
judge_idle mwait 0
finish
