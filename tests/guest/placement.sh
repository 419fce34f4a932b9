#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Threads of a running guest, by name: on which host CPUs they may run and how they are scheduled, as
# the kernel says; what --dry-run prints; and what cannot be had.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

# Two CPUs that may be used here.
mapfile -t cpus < <(
	sed -nE 's/^Cpus_allowed_list:\s*//p' /proc/self/status | tr , '\n' |
		while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done | head -n 2
)
if [ "${#cpus[@]}" -lt 2 ]; then
	echo "1..0 # SKIP one CPU is all there is"
	exit 0
fi
a=${cpus[0]} b=${cpus[1]}
both=$a-$b
[ "$((a + 1))" -eq "$b" ] || both=$a,$b
truncate -s 1M "$work/disk"

# named COUNT: so many vCPUs, the disk's two loops and the small devices' have taken their names, each
# when it first runs.
named() {
	[ "$(cat "/proc/$pid/task"/*/comm | grep -cE '^(vcpu|blk|devices)')" -eq $(($1 + 3)) ]
}

# list: the threads of $pid.
list() {
	local task
	for task in "/proc/$pid/task"/*; do
		echo "$(cat "$task/comm")" \
			"$(sed -nE 's/^Cpus_allowed_list:\s*//p' "$task/status")" \
			"$(sed 's/.*) //' "$task/stat" | cut -d' ' -f39,38 | sed -E 's/(.*) (.*)/\2 \1/')"
	done >"$work/threads"
}

# threads -c COUNT,... [ARGUMENT]...: a guest that spins, and a line for each of its threads in $work/threads: name,
# CPUs, policy (0: ordinary, 1: SCHED_FIFO) and real-time priority.
threads() {
	: >"$work/out"
	"$veneer" run -a spin -d "$work/disk,queues=2" "$@" </dev/null >"$work/out" 2>"$work/err" &
	local pid=$!
	awaited says spin
	awaited named "${2%%,*}"
	list
	kill "$pid"
	wait "$pid"
	status=0
}

# placed NAME LINE...: each line is among the threads.
placed() {
	local name=$1 line
	shift
	for line in "$@"; do
		if ! grep -qxE "$line" "$work/threads"; then
			cat "$work/threads" >>"$work/out"
			fail "$name: no '$line'"
			return
		fi
	done
	pass "$name"
}

# others_placed NAME: all threads but vCPUs and the disk's are on CPU $a. Workers of rings go with their
# loops, and a sanitizer has a thread of the program's name.
others_placed() {
	if grep -vE '^(vcpu|blk|iou-|veneer )' "$work/threads" | grep -vqE "^[^ ]+ $a 0 0$"; then
		cat "$work/threads" >>"$work/out"
		fail "$1"
	else
		pass "$1"
	fi
}

threads -c "2,pin=$b,$a,iothreads=$a,$b,vmm=$a"
placed "each thread is where it was placed" "vcpu0 $b 0 0" "vcpu1 $a 0 0" "blk0-0 $a 0 0" \
	"blk0-1 $b 0 0" "devices $a 0 0" "veneer $a 0 0"
others_placed "all others are where vmm= says, KVM's own among them"
expect "a vCPU's CPU that others share is named" 0 \
	"CPUs? $both: a vCPU and an I/O thread take turns" \
	"CPU $a: a vCPU and the monitor's other threads take turns"

# A vCPU that has no pin is not confined to the others' CPUs.
own=$(sed -nE 's/^Cpus_allowed_list:\s*//p' /proc/self/status)
threads -c "2,vmm=$a"
placed "vCPUs without a pin have all CPUs beside vmm=" "vcpu0 $own 0 0" "vcpu1 $own 0 0" \
	"blk0-0 $own 0 0" "devices $a 0 0" "veneer $a 0 0"
others_placed "all others are where vmm= says, also without pins"

# The same after a reset: the guest, told to quit, is started again and waits.
lives() {
	[ "$(grep -cx 'ready.*' "$work/out")" -eq "$1" ]
}
mkfifo "$work/keys"
: >"$work/out"
"$veneer" run -a 'echo reset' --reboot -d "$work/disk,queues=2" -c "2,vmm=$a" <>"$work/keys" \
	>"$work/out" 2>"$work/err" &
pid=$!
awaited lives 1
echo quit 1<>"$work/keys"
awaited lives 2
awaited named 2
list
kill "$pid"
wait "$pid"
status=0
placed "after a reset as well" "vcpu0 $own 0 0" "vcpu1 $own 0 0" "blk0-0 $own 0 0" "blk0-1 $own 0 0" \
	"devices $a 0 0" "veneer $a 0 0"

threads -c "3,pin=0:$both,2:$b"
placed "pairs, and a vCPU without one" "vcpu0 $both 0 0" "vcpu1 [0-9,-]+ 0 0" "vcpu2 $b 0 0"
expect "a CPU that two vCPUs share is named" 0 "CPU $b: more than one vCPU there"

# Priorities: of vCPUs only.
if [ "$(id -u)" -eq 0 ]; then
	threads -c "2,pin=$a,$b,sched=fifo:7"
	placed "vCPUs have the priority" "vcpu0 $a 1 7" "vcpu1 $b 1 7"
	if [ "$(grep -c ' 1 7$' "$work/threads")" -eq 2 ]; then
		pass "nothing else has it"
	else
		cat "$work/threads" >>"$work/out"
		fail "nothing else has it"
	fi
	status=0
	prlimit --rtprio=0:0 setpriv --bounding-set=-sys_nice "$veneer" run -a exit=0 \
		-c 1,sched=fifo:7 >"$work/out" 2>"$work/err" </dev/null || status=$?
	expect "a priority above the limit is refused with the remedy" 125 \
		"priority 7: the limit is 0; .*LimitRTPRIO=.*CAP_SYS_NICE"
else
	skip "vCPUs have the priority" "only root surely may"
	skip "nothing else has it" "only root surely may"
	skip "a priority above the limit is refused with the remedy" "only root can lower it"
fi

# What is not there.
run -c 1,pin=1023 -a exit=0
expect "a CPU that is not online is refused" 125 "vCPU 0: the host's CPU 1023 is not online: [0-9]"
run -c 1,iothreads=1022-1023 -a exit=0
expect "for I/O threads too" 125 "I/O threads: the host's CPU 1022 is not online"
run -c 1,vmm=0-1023 -a exit=0
expect "also when only some are missing" 125 "other threads: the host's CPU [0-9]+ is not online"
run -c 64,pin=auto -a exit=0
if [ "$(nproc --all)" -gt 64 ]; then
	skip "more vCPUs than cores are refused" "this host has many"
else
	expect "more vCPUs than cores are refused" 125 "64 vCPUs need 64 cores to themselves"
fi

# Plans.
run --dry-run -c "2,pin=$a,$b,vmm=$a,sched=fifo:5" -d "$work/disk,queues=1"
expect "--dry-run shows what is given" 0 "^thread +CPUs +core +L3 +node +isolated$" \
	"^vcpu0 +$a " "^vcpu1 +$b " "^blk0 +any$" "^others +$a " "SCHED_FIFO with priority 5" \
	"^warning: CPU $a: a vCPU and the monitor's other threads"
run --dry-run -c 1,pin=1023
expect "and what is wrong with it" 125 "CPU 1023 is not online"
run --dry-run -a exit=7
expect "--dry-run does not run the guest" 0 "^vcpu0 +any$"
run --dry-run -c 1,pin=auto
if [ "$status" -eq 125 ] && grep -q "leave no core" "$work/err"; then
	skip "pin=auto chooses" "one core is all there is"
	skip "and the guest's threads are there" "one core is all there is"
else
	expect "pin=auto chooses" 0 "^vcpu0 +[0-9]+ " "^others +[0-9]" "has a core to itself"
	cpu=$(sed -nE 's/^vcpu0 +([0-9]+) .*/\1/p' "$work/out")
	threads -c 1,pin=auto
	placed "and the guest's threads are there" "vcpu0 $cpu 0 0"
	if grep -v '^vcpu' "$work/threads" | grep -qE "^[^ ]+ $cpu "; then
		fail "none but the vCPU is on its CPU"
	else
		expect "none but the vCPU is on its CPU" 0 "note: host CPUs: $cpu for vCPUs, "
	fi
fi

finish
