# shellcheck shell=bash disable=SC2034 # used by the groups
# SPDX-License-Identifier: Apache-2.0
#
# What the groups of tests in the lab share: results in TAP, and guests that are
# started, watched and, where the lab lost one of their wake-ups, tried again.
# $MONITOR is the monitor under test, called with Veneer's command line.

guest=/host/guest
work=$(mktemp -d /var/tmp/veneer.XXXXXX)
cmdline='console=ttyS0 quiet panic=-1'
tries=3
guest_limit=60
count=0
failed=0

plan() {
	echo "1..$1"
}

ok() {
	count=$((count + 1))
	echo "ok $count - $1"
}

not_ok() {
	count=$((count + 1))
	failed=$((failed + 1))
	echo "not ok $count - $1"
	echo "#   $2"
}

skip() {
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

# finish: the group's exit status, as the last command of a group.
finish() {
	rm -rf "$work"
	[ "$failed" -eq 0 ]
}

# quote: lines that go with the result above them.
quote() {
	tr -d '\r' | sed 's/^/#   | /'
}

# show FILE: the end of what a monitor printed, for a failed test.
show() {
	tail -n 20 "$1" | quote
}

# has LINE: whether the guest's console shows a line that begins with LINE.
has() {
	tr -d '\r' <"$work/console" | grep -q "^$1"
}

# field NAME: the value of NAME=VALUE in the line GUEST-UP.
field() {
	tr -d '\r' <"$work/console" | sed -n "s/^GUEST-UP.* $1=\([^ ]*\).*/\1/p"
}

# Once in a million entries or so, the lab's processor enters a guest that KVM
# has run a moment before and finds none of its memory: the next instruction's
# fetch is a page fault, so is its handler's, and KVM reports a shutdown. KVM's
# trace tells this from a guest that crashed: the exit right at the entry, and
# what was being delivered, page fault (vector 14, 0x0e) on a fetch (error 0x10)
# from a page that is not there.
shutdowns=/sys/kernel/tracing/events/kvm/kvm_exit
trace=/sys/kernel/tracing/trace
echo 'exit_reason == 0x7f' >"$shutdowns/filter"
echo 1 >"$shutdowns/enable"

lost_memory() {
	grep -q 'reason shutdown .*intr_info 0x80000b0e error_code 0x0*10$' "$trace"
}

# run_guest ARGUMENT...: runs the monitor to its end, its output in
# $work/console and its exit status in $status. Two faults of the lab repeat a
# run: a wake-up that got lost and leaves a guest, or its monitor, waiting for
# ever, so that the limit here cuts it off; and memory that got lost, above. A run
# that ended by itself in any other way stands as it is.
run_guest() {
	local try
	for ((try = 1; try <= tries; try++)); do
		status=0
		before_try
		echo >"$trace"
		timeout -k 5 "$guest_limit" "$MONITOR" run "$@" --serial stdio \
			</dev/null >"$work/console" 2>&1 || status=$?
		case $status in
		124 | 137) echo "lab: guest stalled, try $try of $tries: $*" >&2 ;;
		*)
			lost_memory || return 0
			echo "lab: guest lost its memory, try $try of $tries: $*" >&2
			;;
		esac
		show "$work/console" >&2
	done
}

# A group that gives its guests a disk redefines this to make it anew.
before_try() {
	:
}

# why: what a run that did not end well has to say about it.
why() {
	local line
	line=$(tr -d '\r' <"$work/console" | sed -n 's/^GUEST-FAIL /the guest: /p')
	echo "exit status $status${line:+, $line}"
}

# ended_well: the guest said that it did all, powered off, and the monitor
# called that a success.
ended_well() {
	[ "$status" -eq 0 ] && has GUEST-DONE
}
