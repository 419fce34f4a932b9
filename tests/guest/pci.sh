#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# virtio-pci with the built-in guest on /dev/kvm: the disk behind it, messages masked under load,
# resets with requests in flight, and registers that are read and written in every way.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
pattern=$build/tests/guest/pattern
disk=$work/disk
truncate -s 32M "$disk"

# on_pci WORDS [ARGUMENT]...: a disk on PCI.
on_pci() {
	local words=$1
	shift
	run --transport pci -d "$disk" "$@" -a "$words"
}

on_pci dump
expect "the host bridge and the disk are found" 0 'slot 0: ' '1af4:1042, [2-9][0-9]* MSI-X'
on_pci "pci=ports dump"
expect "and through the ports as well" 0 'slot 0: ' '1af4:1042, [2-9][0-9]* MSI-X'
on_pci blk-fill=7
expect "the guest fills the disk" 0
"$pattern" check "$disk" 7 >"$work/out" 2>&1
status=$?
expect "the file holds what the guest wrote" 0
on_pci blk-check=7 -m 5G -c 4
expect "BARs above 5 GiB of memory, four CPUs" 0 'blk-check: .*ok'
on_pci blk
expect "reads by interrupt and by polling" 0 'irq\.interrupted' 'blk.verify +ok'
on_pci "wait=spin blk"
expect "the same, spinning" 0 'blk.verify +ok'
run --transport mmio -d "$disk" -a "blk msix-mask"
expect "no messages on virtio-mmio" 1 'PCI with two MSI-X vectors, got another'

disks=()
for i in 0 1 2 3 4 5 6 7; do
	truncate -s 1M "$work/disk$i"
	disks+=(-d "$work/disk$i,serial=number-$i")
done
run --transport pci "${disks[@]}" -a "disk=7 blk-id msix-mask=20"
expect "eight disks" 0 'number-7' 'msix-mask: 20 rounds.*: ok'

for cpus in 1 2; do
	on_pci msix-mask=300 -c "$cpus"
	expect "messages masked and unmasked under load, $cpus CPUs" 0 \
		'msix-mask: 300 rounds, [1-9][0-9]* interrupts, 75 sent elsewhere: ok'
done
on_pci "wait=spin msix-mask=300"
expect "the same, spinning" 0 'msix-mask: 300 rounds.*: ok'
on_pci driver-reset=200
expect "200 resets with requests in flight" 0 'driver-reset: 200 resets.*: ok'
on_pci queue-reset=200
expect "200 resets of a queue with requests in flight" 0 'queue-reset: 200 resets.*: ok'
run --transport mmio -d "$disk" -a "driver-reset=200 features-wrong"
expect "resets and wrong features on virtio-mmio" 0 'driver-reset: 200 resets.*: ok' \
	'features-wrong: 1 devices: ok'
on_pci features-wrong
expect "features that are not offered are refused" 0 'features-wrong: 1 devices: ok'
for seed in 1 2 3; do
	on_pci config-scan=$seed
	expect "registers read, written and moved in every way, seed $seed" 0 \
		'config-scan: 3 functions, memory and ports, .* moves: ok'
done
run --transport pci "${disks[@]}" -a "config-scan blk-id"
expect "the same with eight disks" 0 'config-scan: 10 functions.*: ok' 'number-0'
on_pci "pci=ports config-scan"
expect "the same through the ports alone" 0 'config-scan: 3 functions.*: ok'
truncate -s 8M "$disk"
on_pci hostile=all
expect "a hostile guest breaks its own device only, which is named" 0 \
	'hostile: [0-9]+ attacks, 0 failures' 'warning: blk0'

finish
