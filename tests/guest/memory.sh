#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The guest's memory, with the built-in guest on /dev/kvm: its map, where its pages are, huge pages that are
# reserved here and given back, and NUMA cells.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

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

# Huge pages: reserved here beside those that there are, and given back, also by a test that is ended. Pages
# beyond the reserve (surplus) go by themselves, once their guest has ended.
before=
# reserve COUNT: false where so many are not free then.
reserve() {
	local all
	all=$(cat "$file/nr_hugepages")
	before=$((all - $(cat "$file/surplus_hugepages")))
	echo $((all + $1)) 2>/dev/null >"$file/nr_hugepages"
	[ "$(cat "$file/free_hugepages")" -ge "$1" ]
}
give_back() {
	[ -z "$before" ] || echo "$before" 2>/dev/null >"$file/nr_hugepages"
	before=
}
cleanup() {
	give_back
	rm -rf "$work"
}
hugepages() {
	local size=$1 kib=$2 mib=$3 free count
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
	if ! reserve "$count"; then
		skip "$size pages back the guest" "this host could not free $mib MiB in one piece"
	else
		"$veneer" run -m "${mib}M,hugepages=$size,prealloc" -a spin --serial none \
			>"$work/out" 2>"$work/err" </dev/null &
		local pid=$!
		if awaited says "veneer-ram.*kernelpagesize_kB=$kib" "/proc/$pid/numa_maps"; then
			pass "$size pages back the guest"
		else
			fail "$size pages back the guest"
		fi
		kill "$pid" 2>/dev/null
		wait "$pid"
	fi
	give_back
}
hugepages 2M 2048 64
hugepages 1G 1048576 1024

# run_limited FILE LIMIT ARGUMENT...: `run` in a cgroup of its own with this limit of pages of 2 MiB. The
# hierarchy is mounted where no other process sees it. $status is 77 where it cannot be.
cat >"$work/limited" <<'END'
mount -t cgroup -o hugetlb none "$1" || exit 77
root=$1
group=$1/veneer-test-$$
mkdir "$group" || exit 77
leave() {
	echo $$ >"$root/cgroup.procs"
	rmdir "$group"
}
trap leave EXIT
echo "$3" >"$group/hugetlb.2MB.$2" && echo $$ >"$group/cgroup.procs" || exit 77
shift 3
"$@"
exit
END
run_limited() {
	local file=$1 limit=$2
	shift 2
	mkdir -p "$work/cgroup"
	status=0
	unshare --mount bash "$work/limited" "$work/cgroup" "$file" "$limit" \
		timeout --signal=KILL 120 "$veneer" run "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
}
expect_limited() {
	if [ "$status" -eq 77 ]; then
		skip "$1" "no hugetlb controller of cgroups 1, or not this limit: $(head -n 1 "$work/err")"
	else
		expect "$@"
	fi
}
limits() {
	local words limit
	for words in '' ,prealloc ,node=0; do
		for limit in limit_in_bytes rsvd.limit_in_bytes; do
			run_limited "$limit" 16M -m "64M,hugepages=2M$words" -a exit=3
			expect_limited "a limit of huge pages is named, and raised: $limit -m 64M,hugepages=2M$words" 125 \
				"32 pages needed, .* leaves 8, 24 missing; raise it: echo 67108864 > .*/hugetlb.2MB.$limit"
		done
	done
	run_limited limit_in_bytes 64M -m 64M,hugepages=2M -a exit=3
	expect_limited "a guest that just fits" 3
}

# A guest whose memory is cut off, as a page is that has a hardware error, ends by itself.
reads() {
	"$veneer" stats "$pid" 2>/dev/null | grep -qE "^blk0.0 +[1-9]"
}
lost() {
	local fd
	truncate -s 16M "$work/disk"
	: >"$work/out"
	"$veneer" run -m 64M,hugepages=2M -d "$work/disk,readonly" -a "blk-load=read4k,32,poll,1000000000" \
		>"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	awaited reads
	for fd in "/proc/$pid/fd/"*; do
		case $(readlink "$fd") in *memfd:veneer-ram*) truncate -s 2M "$fd" ;; esac
	done
	status=0
	wait "$pid" || status=$?
	expect "memory that is gone ends the guest with a message" 125 "the guest's memory"
	status=0
	timeout --signal=KILL 60 "$build/tests/guest/lost_memory" "$work/disk" 2M \
		>"$work/out" 2>"$work/err" || status=$?
	expect "and no other guest of the same process" 0 "the guest's memory"
}
file=/sys/kernel/mm/hugepages/hugepages-2048kB
if [ "$(id -u)" -ne 0 ] || [ ! -d "$file" ]; then
	skip "limits of huge pages, and memory that is gone" "this needs root, and pages of 2 MiB"
elif ! reserve 64; then
	skip "limits of huge pages, and memory that is gone" "this host could not free 128 MiB in pages of 2 MiB"
else
	if unshare --mount true 2>"$work/err"; then
		limits
	else
		skip "limits of huge pages" "no mounts of its own: $(cat "$work/err")"
	fi
	lost
fi
give_back

# Of two cells one has huge pages.
if [ "$(id -u)" -ne 0 ] || [ ! -d "$file" ]; then
	skip "a cell has huge pages of its own" "this needs root, and pages of 2 MiB"
elif ! reserve 16; then
	skip "a cell has huge pages of its own" "this host could not free 32 MiB in pages of 2 MiB"
else
	run -c 2 --numa cell=0,cpus=0,memory=64M --numa cell=1,cpus=1,memory=32M,hugepages=2M,node=0 \
		-a exit=3
	expect "a cell has huge pages of its own" 3
	run -c 2 --numa cell=0,cpus=0,memory=1G,hugepages=2M --numa cell=1,cpus=1,memory=64M,hugepages=2M \
		-a exit=3
	expect "what two cells take from one reserve is counted together" 125 "544 pages needed"
fi
give_back

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
run -m 64M,hugepages=2M,merge=on -a exit=0
expect "huge pages are not merged" 125 "hugepages="
run -c 3 --numa cell=0,cpus=0-1,memory=64M -a exit=0
expect "a CPU in no cell is named" 125 "CPU 2 is in none of the 1 cells"
run -c 2 --numa cell=0,cpus=0-1,memory=64M --numa cell=1,cpus=1,memory=64M -a exit=0
expect "a CPU in two cells is named" 125 "CPU 1 is in cell 1"
run -c 2 --numa cell=0,cpus=0-1,memory=64M,node=77 -a exit=0
expect "a cell on a node that is not there is refused" 125 "node=77"
run -m 63M -a exit=0
expect "less than the built-in guest needs is refused" 125 "needs 64M of memory, and is given 64512K"
run -c 2 --numa cell=0,cpus=0,memory=32M --numa cell=1,cpus=1,memory=31M -a exit=0
expect "in cells, too" 125 "needs 64M of memory, and is given 64512K"
run -c 2 -m 128M --numa cell=0,cpus=0-1,memory=64M -a exit=0
expect "cells that are not all memory are refused" 125 "131072K.* 65536K"

finish
