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

# show FILE: the end of what a program printed, for a failed test.
show() {
	tail -n 30 "$1" | quote
}

# show_guest: what is known of a guest that did not do as it should: the end of its
# console, without the kernel's log, whose complaints a test names itself, and the shutdowns
# that KVM saw, with what came before.
show_guest() {
	grep -av '^<[0-7]>' "$work/console" | tail -n 30 | quote
	grep -B 4 'reason shutdown' "$trace" | sed 's/^/KVM: /' | quote
}

# has LINE: whether the guest's console shows a line that begins with LINE.
has() {
	tr -d '\r' <"$work/console" | grep -q "^$1"
}

# field NAME: the value of NAME=VALUE in the line GUEST-UP.
field() {
	tr -d '\r' <"$work/console" | sed -n "s/^GUEST-UP.* $1=\([^ ]*\).*/\1/p"
}

# On CPU 0 the lab's processor may enter a guest and find none of its memory (README.md): the next
# instruction's fetch is a page fault, or the interrupt that KVM injects cannot be delivered, and
# so on to a shutdown. KVM's trace tells this from a guest that crashed: the exit is on CPU 0, and
# where the entry was, and what was being delivered is a page fault (vector 14, 0x0e)
# on a fetch (error 0x10, and 0x14 in user space) from a page that is not there, or that interrupt (type 0).
trace=/sys/kernel/tracing/trace
echo 64 >/sys/kernel/tracing/buffer_size_kb
echo 'exit_reason == 0x7f' >/sys/kernel/tracing/events/kvm/kvm_exit/filter
echo 1 >/sys/kernel/tracing/events/kvm/kvm_exit/enable
echo 1 >/sys/kernel/tracing/events/kvm/kvm_entry/enable

lost_memory() {
	awk '/kvm_entry: vcpu/ {
			sub(/.*kvm_entry: vcpu /, "")
			sub(/, rip/, "")
			entered[$1] = $2
		}
		/ \[000\] .*kvm_exit: vcpu .* reason shutdown/ {
			sub(/.*kvm_exit: vcpu /, "")
			if ($5 "" == entered[$1] "" &&
				/intr_info 0x(80000b0e error_code 0x0*1[04]$|800000)/)
				lost = 1
		}
		END { exit !lost }' "$trace"
}

# run_guest ARGUMENT...: runs the monitor to its end, its output in
# $work/console and its exit status in $status. Two faults of the lab repeat a
# run: a wake-up that got lost and leaves a guest, or its monitor, waiting for
# ever, so that the limit here cuts it off; and memory that got lost, above. A run
# that ended by itself in any other way stands as it is.
run_guest() {
	local try attendant
	for ((try = 1; try <= tries; try++)); do
		status=0
		before_try
		echo >"$trace"
		: >"$work/console"
		rm -f "$work/keys"
		mkfifo "$work/keys"
		attend >"$work/keys" &
		attendant=$!
		timeout -k 5 "$guest_limit" "${as_user[@]}" "$MONITOR" run "$@" --serial stdio \
			<"$work/keys" >"$work/console" 2>&1 || status=$?
		kill "$attendant" 2>/dev/null
		wait "$attendant" 2>/dev/null
		case $status in
		124 | 137) echo "lab: guest stalled, try $try of $tries: $*" >&2 ;;
		*)
			lost_memory || return 0
			echo "lab: guest lost its memory, try $try of $tries: $*" >&2
			;;
		esac
		show_guest >&2
	done
}

# The user that runs the monitor, as a command to put before it; root when empty.
as_user=()

# A group in which someone attends to the running guest redefines this: what it
# prints is typed at the serial port. It is ended with the guest.
attend() {
	:
}

# until_console TEXT: waits for the guest's console to show that.
until_console() {
	until grep -aq -- "$1" "$work/console"; do sleep 0.2; done
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

# initrd_with FILE KERNEL [PROGRAM...]: the initrd of the kernel with this ending of its name ('',
# -generic, -backports), to which FILE is added as /script, and each program by its own name.
initrd_with() {
	local kernel=$2
	mkdir -p "$work/added"
	cp "$1" "$work/added/script"
	shift 2
	[ $# -eq 0 ] || cp "$@" "$work/added"
	{
		cat "$guest/initrd$kernel"
		(cd "$work/added" && find . -type f | busybox cpio -o -H newc 2>/dev/null | gzip -1)
	} >"$work/initrd"
}

# Complaints that say nothing about the monitor:
#  - the lab's emulated SVM does not stop at the guest's XSETBV, so that KVM does
#    not follow it in CPUID leaf 0xD and the guest's kernel doubts the sizes
#    there. Under QEMU it is the same.
#  - kernel 6.12 looks for performance states (_CPC) on every AMD CPU; a virtual
#    one has none.
known='fpu__init_system_xstate|amd_pstate: the _CPC object is not present'

# Without PCI there is none to configure.
known_mmio="$known|PCI: Fatal: No config space access function found|PCI: System does not support PCI"

# complaints: the lines of the guest's kernel log (guest.test=dmesg) that are errors, or warnings
# about the machine.
complaints() {
	tr -d '\r' <"$work/console" | sed -n '/^GUEST-LOG-BEGIN/,/^GUEST-LOG-END/p' |
		grep -E '^<[0-3]>|^<4>.*(ACPI|PCI|pci|virtio|clocksource|WARNING:|Firmware Bug|Firmware Warn)'
}

# machine_fault CPUS MEMORY_MIB [KNOWN]: what is wrong with the machine that the guest sees, and what
# its kernel complains about but for KNOWN, if it was asked for its log.
machine_fault() {
	local kb bad
	kb=$(field mem_kb)
	bad=$(complaints | grep -Ev "${3-$known}")
	# What the kernel keeps for itself is below 32 MiB and an eighth.
	if [ "$(field cpus)" != "$1" ]; then
		echo "the guest has $(field cpus) CPUs"
	elif [ "$kb" -gt $(($2 * 1024)) ] || [ "$kb" -lt $((($2 - $2 / 8 - 32) * 1024)) ]; then
		echo "the guest has $kb KiB"
	elif [ "$(field clocksource)" != kvm-clock ] && [ "$(field clocksource)" != tsc ]; then
		echo "the guest's clock source is $(field clocksource)"
	elif [ "${MONITOR##*/}" != monitor-qemu ] && [ "$(field rng)" != virtio_rng.0 ]; then
		echo "the guest's source of randomness is '$(field rng)'"
	elif [ -n "$bad" ]; then
		echo "the guest's kernel complains"
		quote <<<"$bad"
	fi
}

# ended_well: the guest said that it did all, powered off, and the monitor
# called that a success.
ended_well() {
	[ "$status" -eq 0 ] && has GUEST-DONE
}
