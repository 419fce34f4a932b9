#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the program does with the built-in guest on /dev/kvm: exit statuses, time limits, resets,
# CPUs, memory, the device tree.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

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
run -a reset --reboot --timeout 2
expect "with --reboot a reset starts the guest again" 124
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
run --cpu Haswel
expect "a model that is not known is named, with the close one" 125 "'Haswel'.*Haswell"
run --cpu host,+avx512er,+xop
expect "features that the host lacks are named" 125 "lacks .*xop.*avx512er" "-NAME"
run --cpu baseline,-hypervisor,+invtsc -a exit=3
expect "a guest runs on a baseline processor" 3
run --cpu host,tsc-khz=1
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
	"$veneer" run -c "1,pit=$1" -a spin </dev/null >"$work/out" 2>"$work/err" &
	local pid=$! tries=0
	while ! grep -q spin "$work/out" && [ "$tries" -lt 100 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
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

# Memory.
# Bytes of usable memory in the guest's map, as `dump` prints it.
usable() {
	local first last total=0
	while IFS=- read -r first last; do
		total=$((total + 0x$last - 0x$first + 1))
	done < <(sed -nE 's/^memory ([0-9a-f]+-[0-9a-f]+) type 1.*/\1/p' "$work/out")
	echo "$total"
}
for size in 64M 1G 3G 3073M 5G; do
	mib=${size%[MG]}
	[ "$size" = "${size%G}" ] || mib=$((mib * 1024))
	run -m "$size" -a dump
	# The legacy area below 1 MiB, from the EBDA on, is no RAM.
	[ "$(usable)" -eq $((mib * 1048576 - 0x100000 + 0x9fc00)) ] || status="$(usable) bytes"
	expect "$size of memory is in the map" 0
done
run -m 64M,prealloc -a exit=3
expect "preallocated memory" 3
run -m 64M,lock -a exit=3
limit=$(ulimit -l)
if [ "$(id -u)" -eq 0 ] || [ "$limit" = unlimited ] || [ "$limit" -ge 65536 ]; then
	expect "locked memory" 3
else
	expect "locked memory beyond the limit is refused with the remedy" 125 "$limit KiB; raise it"
fi
run -m 64M,node=0 -a exit=3
expect "memory bound to node 0" 3
run -m 64M,node=77 -a exit=3
expect "a node that is not there is refused" 125 "node=77"

# Huge pages: reserved here when nobody has, and given back.
hugepages() {
	local size=$1 kib=$2 mib=$3 file free before count
	file=/sys/kernel/mm/hugepages/hugepages-${kib}kB
	if [ ! -d "$file" ]; then
		skip "$size pages" "this kernel has none"
		return
	fi
	free=$(cat "$file/free_hugepages")
	count=$((mib * 1024 / kib))
	run -m "$((mib * (free + 1)))M,hugepages=$size" -a exit=3
	if [ "$count" -eq 1 ]; then
		expect "$size pages: one too many is refused with the remedy" 125 \
			"1 missing" "echo [0-9]+ > $file/nr_hugepages"
	else
		run -m "$((free * kib / 1024 + mib))M,hugepages=$size" -a exit=3
		expect "$size pages: too many are refused with the remedy" 125 \
			"$count missing" "echo [0-9]+ > $file/nr_hugepages"
	fi
	if [ "$(id -u)" -ne 0 ]; then
		skip "$size pages back the guest" "only root can reserve pages"
		return
	fi
	before=$(cat "$file/nr_hugepages")
	echo $((before + count)) >"$file/nr_hugepages"
	if [ "$(cat "$file/free_hugepages")" -lt "$count" ]; then
		skip "$size pages back the guest" "this host could not free $mib MiB in one piece"
	else
		"$veneer" run -m "${mib}M,hugepages=$size,prealloc" -a spin --serial none \
			>"$work/out" 2>"$work/err" </dev/null &
		local pid=$! tries=0 backed=
		while [ -z "$backed" ] && [ "$tries" -lt 100 ] && kill -0 "$pid" 2>/dev/null; do
			sleep 0.1
			tries=$((tries + 1))
			backed=$(grep -E "veneer-ram.*kernelpagesize_kB=$kib" "/proc/$pid/numa_maps")
		done
		kill "$pid" 2>/dev/null
		wait "$pid"
		if [ -n "$backed" ]; then
			pass "$size pages back the guest"
		else
			fail "$size pages back the guest"
		fi
	fi
	echo "$before" >"$file/nr_hugepages"
}
hugepages 2M 2048 64
hugepages 1G 1048576 1024

# Of two cells one has huge pages.
file=/sys/kernel/mm/hugepages/hugepages-2048kB
if [ "$(id -u)" -ne 0 ] || [ ! -d "$file" ]; then
	skip "a cell has huge pages of its own" "this needs root, and pages of 2 MiB"
else
	before=$(cat "$file/nr_hugepages")
	echo $((before + 16)) >"$file/nr_hugepages"
	run -c 2 --numa cell=0,cpus=0,memory=64M --numa cell=1,cpus=1,memory=32M,hugepages=2M,node=0 \
		-a exit=3
	expect "a cell has huge pages of its own" 3
	run -c 2 --numa cell=0,cpus=0,memory=1G,hugepages=2M --numa cell=1,cpus=1,memory=64M,hugepages=2M \
		-a exit=3
	expect "what two cells take from one reserve is counted together" 125 "544 pages needed"
	echo "$before" >"$file/nr_hugepages"
fi

# NUMA cells. This host may have one node only, so both are on node 0.
run -c 3 --numa cell=0,cpus=0,2,memory=64M,node=0 --numa cell=1,cpus=1,memory=3G -a "smp dump"
[ "$(usable)" -eq $((64 * 1048576 + 3 * 1073741824 - 0x100000 + 0x9fc00)) ] || status="$(usable) bytes"
expect "two cells have memory around the hole and CPUs that start" 0 "smp: 3 of 3 CPUs up"
run -c 2 -m 65M,prealloc,lock,merge=on --numa cell=0,cpus=0,memory=33M --numa cell=1,cpus=1,memory=32M \
	-a dump
if [ ! -e /sys/kernel/mm/ksm/run ]; then
	expect "merge=on is refused without KSM" 125 "no KSM"
elif [ "$status" -eq 125 ] && grep -q "ulimit -l" "$work/err"; then
	skip "two cells with a gap between them, locked and merged" "$(cat "$work/err")"
else
	expect "two cells with a gap between them, locked and merged" 0 "type 1 RAM" \
		"0000000002200000-00000000041fffff type 1"
fi
run -m 64M,hugepages=2M,merge=on
expect "huge pages are not merged" 125 "hugepages="
run -c 3 --numa cell=0,cpus=0-1,memory=64M
expect "a CPU in no cell is named" 125 "CPU 2 is in none of the 1 cells"
run -c 2 --numa cell=0,cpus=0-1,memory=64M --numa cell=1,cpus=1,memory=64M
expect "a CPU in two cells is named" 125 "CPU 1 is in cell 1"
run -c 2 --numa cell=0,cpus=0-1,memory=64M,node=77
expect "a cell on a node that is not there is refused" 125 "node=77"
run -c 2 -m 128M --numa cell=0,cpus=0-1,memory=64M
expect "cells that are not all memory are refused" 125 "131072K.* 65536K"

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
one_line() {
	if [ "$(wc -l <"$work/err")" -eq 1 ]; then
		expect "$@"
	else
		fail "$1: not one line"
	fi
}
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
expect "the guest's own file boots as a kernel" 9
run -m 64M -i "$work/missing"
one_line "a missing initrd is named" 125 "$work/missing"
truncate -s 100M "$work/big"
run -m 64M -i "$work/big"
one_line "an initrd larger than memory is refused" 125 "$work/big"
run -a "$(head -c 3000 /dev/zero | tr '\0' x)"
one_line "a command line that is too long is refused" 125 "command line"

truncate -s 1M "$work/disk"
run -d "$work/disk" -a "dump a=1 -- b=2"
words=$(sed -n 's/^word \([^.]*\).*/\1/p' "$work/out" | tr '\n' ' ')
[ "$words" = "dump a=1 virtio_mmio -- b=2 " ] || status="words: $words"
expect "words that list devices come before those for init" 0

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
"$veneer" run -a flood=64 2>"$work/err" | cksum >"$work/sum1"
"$veneer" run -a flood=64 2>"$work/err" | cksum >"$work/sum2"
cmp "$work/sum1" "$work/sum2" >"$work/out" || status=1
expect "a flood of output arrives whole, twice the same" 0
status=0
"$veneer" run -a flood=64 2>"$work/err" | head -c 100 >/dev/null
expect "a reader that goes away does not stop the guest" 0

finish
