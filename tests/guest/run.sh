#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the program does with the built-in guest on /dev/kvm: exit statuses, time limits, resets,
# CPUs, memory, the device tree.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

# expect, and there is one message.
one_line() {
	if [ "$(wc -l <"$work/err")" -eq 1 ]; then
		expect "$@"
	else
		fail "$1: not one line"
	fi
}

# Exit statuses.
for value in 0 1 42 119; do
	run -a "exit=$value"
	expect "exit=$value is the exit status" "$value"
done
for value in 120 125 300 4294967295; do
	run -a "exit=$value"
	expect "exit=$value is out of range and named" 119 "$value"
done
run -a poweroff
expect "power off ends with 0" 0
run -a reset
expect "a reset ends with 0" 0
run -a reset=cf9
expect "a reset by the chipset's register ends with 0" 0
run --transport pci -a reset=cf9
expect "the same beside PCI's CONFIG_ADDRESS" 0
for limit in 0.0{1..9} 0.1{0..9}; do
	run -a reset --reboot --timeout "$limit"
	[ "$status" -eq 124 ] || break
done
expect "the time limit counts wherever between two starts it comes" 124
run -a spin --timeout 0.5
expect "the time limit ends a spinning guest" 124 "time limit|0\.5"
run -a hlt --timeout 0.5 -c 2
expect "the time limit ends a sleeping guest" 124
run -a spin -c 4 --timeout 0.5
expect "the time limit ends four CPUs" 124

# Crashes.
run -a triple
expect "a triple fault is a crash with registers" 120 "triple fault at 0x" "rip [0-9a-f]{16}" "cr3"
run -a ill0
if grep -qE '^flags.*\b(vmx|svm)\b' /proc/cpuinfo; then
	expect "KVM with hardware support executes popcnt" 0
else
	expect "an instruction that KVM's emulator lacks is explained" 120 "suberror 1" \
		"instruction bytes:( [0-9a-f]{2})+" "emulates kernel code in software" "at 0x[0-9a-f]+"
fi

# Panics, which pvpanic tells from resets.
panicked="^veneer: the guest's kernel panicked; its console says why$"
for words in 'panic reset' 'panic=3 panic=1 poweroff' panic 'panic triple'; do
	run -a "$words"
	expect "a panic ends the run with 120, whatever comes then: $words" 120 "$panicked"
done
one_line "and says so in one line" 120 "$panicked"
run -a 'panic reset' --reboot
one_line "a panic is not started again" 120 "$panicked"
run -a 'panic spin' -c 2
expect "a guest that hangs after its panic ends by its silence" 120 "$panicked"
run -a 'panic spin' --timeout 0.5
expect "a panic counts before the time limit" 120 "$panicked"
run -a 'panic flood=64 reset'
expect "what is printed after the panic is not lost" 120 'flood 0*1023 of 0*1024:' "$panicked"
run -a 'panic=2 panic=2 poweroff'
one_line "a crash kernel that takes over is noted, and the guest runs on" 0 'note: .*crash kernel'
run -a 'panic=0 panic=0xfc poweroff'
if [ -s "$work/err" ]; then fail "other events mean nothing"; else expect "other events mean nothing" 0; fi

# CPUs.
for cpus in 1 2 4 16 64; do
	run -c "$cpus" -a smp
	expect "$cpus CPUs come up" 0 "smp: $cpus of $cpus CPUs up"
done

# Ids that are not the CPUs' numbers: the guest compares its device tree, APICs and CPUID.
for topology in 6,topology=2x1x3x1 18,topology=1x3x3x2; do
	run -c "$topology" -a smp
	expect "CPUs come up with --cpus $topology" 0 "smp: ${topology%,*} of ${topology%,*} CPUs up"
done

# What an idle CPU does. KVM says what it can leave to a guest; a guest on an emulating KVM starts with
# any of it. The lab shows which exits are gone.
for idle in halt poll mwait; do
	run -c "2,idle=$idle" -a smp
	if [ "$status" -eq 125 ]; then
		expect "idle=$idle: what this KVM cannot do is refused" 125 \
			"idle=$idle: .* cannot leave (HLT|PAUSE|MWAIT) to the guest"
	else
		expect "idle=$idle" 0 'smp: 2 of 2 CPUs up'
	fi
done
run -c 1,halt-poll-ns=0 -a exit=7
expect "a limit to KVM's polling" 7

# Models.
run --cpu '?'
expect "--cpu ? lists models and features" 0 "^[+] host" "^[+-] EPYC-Milan" "^Features" " [+]fpu "
run --cpu Haswel -a exit=0
expect "a model that is not known is named, with the close one" 125 "'Haswel'.*Haswell"
run --cpu host,+avx512er,+xop -a exit=0
expect "features that the host lacks are named" 125 "lacks .*xop.*avx512er" "-NAME"
run --cpu baseline,-hypervisor,+invtsc -a exit=3
expect "a guest runs on a baseline processor" 3
run --cpu host,tsc-khz=1 -a exit=0
expect "a TSC's frequency that cannot be had is refused" 125 "counter of 1 kHz"
khz=$(sed -nE "s/.*host's ([0-9]+) kHz.*/\1/p" "$work/err")
if [ -n "$khz" ]; then
	run --cpu "host,tsc-khz=$khz" -a exit=3
	expect "the host's own can be asked for" 3
else
	skip "the host's own can be asked for" "this KVM scales it, and does not say it"
fi

# KVM runs an i8254 in a kernel thread that is named after the process.
timers() {
	: >"$work/out"
	"$veneer" run -c "1,pit=$1" -a spin </dev/null >"$work/out" 2>"$work/err" &
	local pid=$!
	awaited says spin
	cat /proc/[0-9]*/comm 2>/dev/null | grep -cx "kvm-pit/$pid"
	kill "$pid"
	wait "$pid"
}
if ! grep -qs kthreadd /proc/2/comm; then
	skip "pit=on adds a timer, pit=off none" "no kernel threads are seen from here"
elif [ "$(timers on) $(timers off)" = "1 0" ]; then
	pass "pit=on adds a timer, pit=off none"
else
	fail "pit=on adds a timer, pit=off none"
fi

# The device tree.
truncate -s 1M "$work/disk"
run -c 3 -m 5G -d "$work/disk" --dump-dtb "$work/tree.dtb"
expect "--dump-dtb writes a file" 0
if command -v dtc >/dev/null; then
	dtc -q -I dtb -O dts "$work/tree.dtb" >"$work/out" 2>"$work/err"
	status=$?
	expect "the device tree has what the machine has" 0 'cpu@2' 'virtio_mmio@d0000000' \
		'ns16550a' 'memory@100000000'
else
	skip "the device tree has what the machine has" "no dtc"
fi

# Transports, and what comes by itself: no device for the built-in guest, a source of randomness for
# a named kernel.
run --transport pci -a exit=4
expect "the built-in guest on PCI" 4
run --transport mmio -k "$build/guest/veneer-guest.elf" -a exit=4
expect "a named kernel on virtio-mmio" 4
# devices NAME WANTED ARGUMENT...: the device tree lists WANTED virtio-mmio devices.
devices() {
	local name=$1 wanted=$2 count
	shift 2
	rm -f "$work/tree.dtb"
	run "$@" --dump-dtb "$work/tree.dtb"
	count=$(grep -ao 'virtio,mmio' "$work/tree.dtb" | wc -l)
	[ "$count" -eq "$wanted" ] || status="$count devices"
	expect "$name" 0
}
kernel=$build/guest/veneer-guest.elf
devices "no device for the built-in guest" 0
devices "one with --rng on" 1 --rng on
devices "one for a named kernel" 1 --transport mmio -k "$kernel"
devices "none with --rng off" 0 --transport mmio -k "$kernel" --rng off
devices "none on PCI" 0 -k "$kernel"

# Bad kernels: one line, status 125.
echo "not a kernel" >"$work/bad"
run -k "$work/bad"
one_line "a text file is no kernel" 125 "$work/bad"
: >"$work/bad"
run -k "$work/bad"
one_line "an empty file is no kernel" 125 "$work/bad"
run -k "$work"
one_line "a directory is no kernel" 125 "$work"
run -k "$work/missing"
one_line "a missing kernel is named" 125 "$work/missing"
head -c 3000 "$build/guest/veneer-guest.elf" >"$work/bad"
run -k "$work/bad"
one_line "a truncated ELF is refused" 125 "$work/bad"
run -k "$build/guest/veneer-guest.elf" -a exit=9
if grep -qE '^flags.*\b(vmx|svm)\b' /proc/cpuinfo; then
	expect "the guest's own file boots as a kernel" 9
else
	one_line "the guest's own file boots as a kernel, with a warning that kernel code is emulated" 9 \
		"warning: no VT-x or AMD-V here: guest kernels are emulated by software"
fi
cp "$build/guest/veneer-guest.elf" "$work/kernel"
mkfifo "$work/lines"
: >"$work/out"
"$veneer" run -k "$work/kernel" -a 'echo reset' --reboot --timeout 100 <"$work/lines" >"$work/out" \
	2>"$work/err" &
pid=$!
exec 5>"$work/lines"
awaited says ready
rm "$work/kernel"
echo quit >&5
wait "$pid"
status=$?
exec 5>&-
pid=
expect "a kernel that is gone at a reboot is named" 125 "^veneer: --kernel: $work/kernel: No such file"
run -a exit=9
if grep -q . "$work/err"; then
	fail "nothing is said of the built-in guest"
else
	expect "nothing is said of the built-in guest" 9
fi
run -m 64M -i "$work/missing" -a exit=0
one_line "a missing initrd is named" 125 "$work/missing"
truncate -s 100M "$work/big"
run -m 64M -i "$work/big" -a exit=0
one_line "an initrd larger than memory is refused" 125 "$work/big"
run -a "$(head -c 3000 /dev/zero | tr '\0' x)"
one_line "a command line that is too long is refused" 125 "command line"

truncate -s 1M "$work/disk"
for line in 'dump run="tar -- x" a=1 -- b=2' 'dump run="tar -- x" a=1 --' 'dump run="tar -- x" a="1'; do
	run -d "$work/disk" -a "$line"
	words=$(sed -n 's/^word \(virtio_mmio\)*\(.*\)/\1\2/p' "$work/out" | tr -d '\r' | tr '\n' ,)
	[[ $words =~ ^virtio_mmio.device=4K@0x[0-9a-f]+:[0-9]+,dump,run=tar\ --\ x,a=1,$ ]] ||
		status="words: $words"
	expect "the guest's words as Linux has them: $line" 0
done

# The serial port.
run --serial "file:$work/log" -a dump
[ -s "$work/log" ] && [ ! -s "$work/out" ]
status=$?
expect "--serial file: takes the output" 0
status=0
printf 'hello\nquit\n' | timeout --signal=KILL 120 "$veneer" run -a echo >"$work/out" 2>"$work/err" ||
	status=$?
expect "what is typed reaches the guest" 0 HELLO
status=0
"$veneer" run -a flood=64 2>"$work/err" | cat >"$work/flood" || status=$?
seq -f "flood %010.0f of 0000001024: abcdefghijklmnopqrstuvwxyz 0123" 0 1023 |
	cmp - "$work/flood" >"$work/out" 2>&1 || status="$status, and: $(cat "$work/out")"
expect "a flood of output arrives whole" 0
status=0
"$veneer" run -a flood=64 2>"$work/err" | head -c 100 >/dev/null || status=$?
expect "a reader that goes away does not stop the guest" 0

finish
