#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Statistics: what is counted agrees with what the built-in guest did, running guests are found and
# asked, and nothing about that can fail a run.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
if ! command -v jq >/dev/null; then
	echo "1..0 # SKIP no jq"
	exit 0
fi
export XDG_RUNTIME_DIR=$work/run
mkdir -m 700 "$work/run"
disk=$work/disk

# counted FILTER: what jq says of the last run's statistics, without quotes.
counted() {
	jq -r "$1" "$work/err" 2>&1
}

# agrees NAME FILTER: the filter is true of them.
agrees() {
	[ "$status" -ne 0 ] || [ "$(counted "$2")" = true ] || status="not: $2"
	expect "$1" 0
}

# on_pci SIZE WORDS [ARGUMENT]...: a fresh disk, and the statistics as JSON.
on_pci() {
	local size=$1 words=$2
	shift 2
	rm -f "$disk"
	truncate -s "$size" "$disk"
	run --transport pci -d "$disk" --stats=json "$@" -a "$words"
}

queue='.devices[0].queues[0]'
on_pci 8M "blk-read=0,8 blk-write=8,16 blk-flush blk-id"
agrees "four requests and their bytes" \
	"$queue | .requests == 4 and .read_bytes == 4096 + 20 and .written_bytes == 8192 and .errors == 0"
agrees "each was notified and timed" \
	"$queue | .notifications == 4 and .wakeups == 4 and .batches == 4 and .latency.count == 4"
agrees "percentiles ascend within what was measured" "$queue.latency |
	0 < .p50_ns and .p50_ns <= .p99_ns and .p99_ns <= .p999_ns and .p999_ns <= .sum_ns * 17 / 16"
agrees "KVM counts as well" '.vcpus[0].kvm.exits > 0 and (.kvm | length) > 0'
agrees "it ran for a time" '.running_ns > 0 and .guest == (.pid | tostring)'
on_pci 8M blk-read=16384,1
[ "$status" -ne 11 ] || status=0
agrees "an error is a request" "$queue | .requests == 1 and .errors == 1 and .read_bytes == 0"

# The data path has no exits to user space: eight times the requests, and as many exits.
on_pci 8M blk-fill=1
few=$(counted "$queue.requests") exits=$(counted '.vcpus[0].user_exits.mmio')
agrees "a fill's bytes" "$queue | .written_bytes == 8388608 and .latency.count == .requests"
on_pci 64M blk-fill=1
agrees "no exit to user space for a request on PCI" \
	"$queue.requests > 4 * $few and .vcpus[0].user_exits.mmio == $exits"
agrees "notifications are no more than requests" "$queue | .notifications <= .requests"
on_pci 64M blk -c 2
agrees "interrupts are no more than requests" "$queue | .interrupts > 0 and .interrupts <= .requests"

# KVM's own polling, by its own count. A guest to which completions come while it still submits
# never halts: such a run is repeated, up to four times.
halting() {
	for _ in 1 2 3 4 5; do
		on_pci "$@"
		[ "$(counted '.vcpus[0].kvm.halt_exits')" = 0 ] || return
	done
}
halting 8M blk -c 1,halt-poll-ns=0
agrees "halt-poll-ns=0: a halt never polls" \
	'.vcpus[0].kvm | .halt_wakeup > 0 and .halt_attempted_poll == 0'
halting 8M blk -c 1,halt-poll-ns=1000000
agrees "halt-poll-ns=1000000: halts do" '.vcpus[0].kvm.halt_attempted_poll > 0'

run -a exit=3 --stats
expect "tables at the end, and the guest's own status" 3 '^guest [0-9]+, pid [0-9]+, ended, ran for' \
	'^vCPU +exits' '^0 +[1-9]'

# begin NAME [ARGUMENT]...: a guest that runs until it is killed; its process in $pid.
begin() {
	local name=$1
	shift
	"$veneer" run --name "$name" --serial none --timeout 60 "$@" -a spin </dev/null \
		>"$work/$name.out" 2>"$work/$name.err" &
	pid=$!
	awaited "$veneer" stats "$name" >/dev/null 2>&1
}

# ask ARGUMENT...: any command of the program, judged as a run is.
ask() {
	status=0
	timeout --signal=KILL 60 "$veneer" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
}

begin web -c 2
web=$pid
begin db
db=$pid
ask list
expect "running guests are listed" 0 "^db +$db +running\$" "^web +$web +running\$"
ask stats
expect "as they are without a name" 0 "^web +$web +running\$"
ask stats web
expect "a guest by its name" 0 "^guest web, pid $web" '^1 ' '^all '
ask stats "$db"
expect "and by its process" 0 "^guest db, pid $db" '^0 '
ask stats --json db
jq -e '.guest == "db" and .vcpus[0].kvm.exits >= 0' "$work/out" >/dev/null || status=1
expect "as JSON" 0
ask stats db --prometheus
expect "for Prometheus" 0 '^# TYPE veneer_vcpu_user_exits_total counter$' \
	"^veneer_guest_running_seconds\\{guest=\"db\",pid=\"$db\"\\} [0-9.]+\$"
ask stats db --prometheus --output "$work/db.prom"
expect "into a file" 0
[ "$(head -c 6 "$work/db.prom")" = '# HELP' ] && [ -z "$(find "$work" -name 'db.prom.*')" ]
status=$?
expect "which is whole, with nothing beside it" 0
ask stats db --json --output "$work/missing/file"
expect "a file that cannot be written is named" 125 "$work/missing/file"
ask stats nobody
expect "a guest that is not there: those that are" 125 "'nobody'.*: .*db.*web"
ask stats --json
expect "no guest, though a format" 125 'of which guest'
run --name web -a exit=0
expect "a name that is taken is refused" 125 "'web' is running already"

# Clients that connect and then do nothing take no one's place.
quiet=()
for _ in $(seq 12); do
	"$veneer" stats web --watch=1000 >/dev/null 2>&1 &
	quiet+=($!)
done
sleep 0.5
ask stats web --json
expect "a guest with a dozen idle clients answers" 0 '"guest":"web"'
kill "${quiet[@]}"
wait "${quiet[@]}" 2>/dev/null

"$veneer" stats web --watch=0.1 >"$work/watched" 2>"$work/watched.err" &
watcher=$!
pid=$watcher
awaited says 'a second, over' "$work/watched"
kill "$web"
wait "$web"
wait "$watcher"
status=$?
cp "$work/watched" "$work/out"
cp "$work/watched.err" "$work/err"
expect "a guest that is watched ends, and so does the watching" 0 'a second, over the last [0-9.]+ s' \
	"'web' has ended"
ask list
grep -q '^web' "$work/out" && status=1
expect "it is listed no more" 0 '^db '

kill -KILL "$db"
wait "$db" 2>/dev/null
[ -S "$XDG_RUNTIME_DIR/veneer/db.sock" ]
status=$?
expect "a killed program leaves its socket" 0
begin db
ask stats db
expect "and the next of that name takes its place" 0 "^guest db, pid $pid"
kill "$pid"
wait "$pid"
find "$XDG_RUNTIME_DIR/veneer" -name '*.sock' >"$work/out"
[ ! -s "$work/out" ]
status=$?
expect "nothing is left behind" 0

# A reboot is a reset: of the same guest, by the same process.
began() {
	[ "$(grep -cax ready "$work/out")" -ge "$1" ]
}

# What others know the guest by: its process, its name, its MAC address, its socket.
identity() {
	"$veneer" stats again --json | jq -c '.pid, .guest, [.devices[].mac]'
	stat -c 'socket %i' "$XDG_RUNTIME_DIR/veneer/again.sock"
}

mkfifo "$work/lines"
: >"$work/out"
"$veneer" run --name again --net user --transport pci --reboot --timeout 100 \
	-a 'net-send=1,64 echo reset' <"$work/lines" >"$work/out" 2>"$work/err" &
pid=$!
exec 5>"$work/lines"
for life in 1 2 3; do
	awaited began "$life"
	identity >"$work/life$life" 2>&1
	echo quit >&5
done
awaited began 4
sent=$(grep -ca '^net-send: 1 of 1 ' "$work/out")
exec 5>&-
kill "$pid"
wait "$pid"
status="the identity in each life: $(cat "$work"/life[123])"
if [ "$sent" -eq 4 ] && cmp -s "$work/life1" "$work/life2" && cmp -s "$work/life2" "$work/life3" &&
	grep -qx "$pid" "$work/life1" &&
	grep -qE '^\["([0-9a-f]{2}:){5}[0-9a-f]{2}"\]$' "$work/life1" &&
	grep -qE '^socket [0-9]+$' "$work/life1"; then
	status=0
fi
expect "a reboot keeps process, socket and MAC address" 0

# Where there is nowhere to put a socket, the guest runs all the same.
XDG_RUNTIME_DIR=$work/missing run -a exit=3
expect "no run-time directory is a warning" 3 "warning: .*$work/missing"
chmod 755 "$XDG_RUNTIME_DIR/veneer"
run -a exit=3
expect "nor is one that others may enter used" 3 'warning: .*mode 0700'
ask list
expect "and its guests are not believed" 125 'mode 0700'

finish
