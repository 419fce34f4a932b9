#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# virtio-net with the built-in guest on /dev/kvm and a TAP in a network namespace of its own: pings,
# datagrams sent back, numbered datagrams both ways, every byte checked at both ends.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
if [ "$(id -u)" -ne 0 ]; then
	echo "1..0 # SKIP only root can make a TAP and a network namespace"
	exit 0
fi
if ! command -v ip >/dev/null; then
	echo "1..0 # SKIP no ip (iproute2)"
	exit 0
fi
if [ -z "${VENEER_TEST_NAMESPACE:-}" ]; then
	if ! unshare --net true 2>/dev/null; then
		echo "1..0 # SKIP this machine lets nobody make a network namespace"
		exit 0
	fi
	rm -rf "$work"
	exec env VENEER_TEST_NAMESPACE=1 unshare --net "$0" "$@"
fi
ip link set lo up
if ! ip tuntap add dev vn0 mode tap vnet_hdr 2>"$work/err"; then
	echo "1..0 # SKIP no TAP: $(head -n 1 "$work/err")"
	exit 0
fi
ip address add 192.0.2.1/24 dev vn0
ip link set vn0 txqueuelen 10000 up # none is lost when the guest has to wait for a CPU

netpeer=$build/tests/guest/netpeer
guest=192.0.2.2

cleanup() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null
	rm -rf "$work"
}

# start WORDS READY [ARGUMENT]...: a guest in the background, until it prints READY.
start() {
	local words=$1 ready=$2
	shift 2
	: >"$work/out"
	"$veneer" run --net tap=vn0 --timeout 100 "$@" -a "$words" >"$work/out" 2>"$work/err" \
		</dev/null &
	pid=$!
	awaited says "$ready"
}

# The guest's end by itself: its status counts for the next expect.
finish_guest() {
	wait "$pid"
	status=$?
	pid=
}

# Ask for the guest's Ethernet address, by a datagram to a port that it ignores, and say whether the host knows it.
# Of what is sent before, the host keeps some ninety datagrams and drops the others.
is_known() {
	"$netpeer" quit "$guest" 10 && ip neighbour show "$guest" dev vn0 | grep -q lladdr
}

# peer NAME ARGUMENT...: the host's end must find all as it should be.
peer() {
	local name=$1
	shift
	if "$netpeer" "$@" >"$work/peer" 2>&1; then
		pass "$name"
	else
		fail "$name: $(cat "$work/peer")"
	fi
}

for transport in pci mmio; do
	start net-echo "net-echo: ready" --transport "$transport"
	peer "$transport: 300 pings" ping "$guest" 0 300 56
	peer "$transport: 100 pings of a whole frame" ping "$guest" 0 100 1472
	peer "$transport: 2000 datagrams come back" echo "$guest" 7 2000 1024
	peer "$transport: an odd number of bytes" echo "$guest" 7 200 1471
	peer "$transport: empty ones" echo "$guest" 7 200 0
	"$netpeer" quit "$guest" 7
	finish_guest
	expect "$transport: the guest has seen no wrong checksum" 0 \
		'net-echo: [1-9][0-9]* ARP, 400 pings, 2400 datagrams, [0-9]+ bytes answered, 0 wrong'

	start net-recv=3000 "net-recv: ready" --transport "$transport"
	awaited is_known
	peer "$transport: the host sends" send "$guest" 9 3000 1472
	"$netpeer" quit "$guest" 9
	finish_guest
	expect "$transport: the guest receives 3000 numbered datagrams" 0 \
		'net-recv: 3000 of 3000 datagrams, 4416000 bytes, 0 misplaced, 0 wrong'

	: >"$work/peer"
	"$netpeer" recv vn0 9 3000 1024 >"$work/peer" 2>&1 &
	pid=$!
	awaited says ready "$work/peer"
	run --net tap=vn0 --transport "$transport" -a net-send=3000,1024
	expect "$transport: the guest sends 3000 numbered datagrams" 0 'net-send: 3000 of 3000'
	if wait "$pid"; then
		pass "$transport: the host receives them all, in order"
	else
		fail "$transport: the host receives them all, in order: $(cat "$work/peer")"
	fi
	pid=
done

export XDG_RUNTIME_DIR=$work/run
mkdir -m 700 "$work/run"

# pause_often: in the background, pauses the guest `paused` at random moments, for at most 10 ms each, until it has
# ended or enough().
pause_often() {
	rm -f "$work/enough"
	: >"$work/pauses"
	while [ ! -e "$work/enough" ] && "$veneer" pause paused 2>"$work/pause"; do
		echo >>"$work/pauses"
		sleep "0.00$((RANDOM % 10))"
		"$veneer" resume paused 2>>"$work/pause" || break
		sleep "0.00$((RANDOM % 10))"
	done &
	pauser=$!
}

# enough NAME: the pauses are over, and were more than a few.
enough() {
	local count
	: >"$work/enough"
	wait "$pauser"
	count=$(wc -l <"$work/pauses")
	if [ "$count" -lt 10 ]; then
		fail "$1: only $count pauses meanwhile: $(cat "$work/pause")"
	else
		pass "$1: $count pauses meanwhile"
	fi
}

# What waits in the device's buffers, in the TAP and in the guest's rings stays there, and in order.
for transport in pci mmio; do
	start net-echo "net-echo: ready" --transport "$transport" --name paused
	pause_often
	peer "$transport, paused: 300 pings" ping "$guest" 0 300 56
	peer "$transport, paused: 20000 datagrams come back" echo "$guest" 7 20000 1024
	enough "$transport"
	"$netpeer" quit "$guest" 7
	finish_guest
	expect "$transport, paused: the guest has seen no wrong checksum" 0 ' 300 pings, 20000 datagrams, .* 0 wrong'

	start net-recv=30000 "net-recv: ready" --transport "$transport" --name paused
	awaited is_known
	pause_often
	peer "$transport, paused: the host sends" send "$guest" 9 30000 1472
	enough "$transport"
	"$netpeer" quit "$guest" 9
	finish_guest
	expect "$transport, paused: the guest receives 30000 numbered datagrams" 0 \
		'net-recv: 30000 of 30000 datagrams, 44160000 bytes, 0 misplaced, 0 wrong'

	: >"$work/peer"
	"$netpeer" recv vn0 9 100000 1024 >"$work/peer" 2>&1 &
	pid=$!
	awaited says ready "$work/peer"
	"$veneer" run --net tap=vn0 --transport "$transport" --name paused -a net-send=100000,1024 \
		>"$work/out" 2>"$work/err" </dev/null &
	sender=$!
	eventually "$veneer" pause paused 2>/dev/null
	pause_often
	wait "$sender"
	status=$?
	expect "$transport, paused: the guest sends 100000 numbered datagrams" 0 'net-send: 100000 of 100000'
	enough "$transport"
	if wait "$pid"; then
		pass "$transport, paused: the host receives them all, in order"
	else
		fail "$transport, paused: the host receives them all, in order: $(cat "$work/peer")"
	fi
	pid=
done

# Addresses that are not given: one for a name and an interface, also after a reset; else another each time.
# addresses: those that the last run's guests had, each once.
addresses() {
	sed -n 's/^net: \([0-9a-f:]*\) at .*/\1/p' "$work/out" | tr -d '\r' | sort -u
}
seen=
for arguments in "--name web" "--name web" "--name db" "" ""; do
	# shellcheck disable=SC2086 # words
	run --net tap=vn0 $arguments --stats -a net-send=1,8
	mac=$(addresses)
	expect "${arguments:-no name}: a locally administered address, which statistics name" 0 \
		"^net: .[26ae]:$(cut -c 4- <<<"$mac") at" "^net0 has the MAC address $mac\$"
	seen+="$mac"$'\n'
done
if [ "$(head -n 2 <<<"$seen" | sort -u | wc -l)" = 1 ] && [ "$(sort -u <<<"$seen" | grep -c :)" = 4 ]; then
	pass "a name's address stays, and the others are others"
else
	fail "a name's address stays, and the others are others: $seen"
fi
run --net tap=vn0 --reboot --timeout 1.5 -a 'net-send=1,8 reset'
lives=$(grep -c '^net: ' "$work/out")
if [ "$status" = 124 ] && [ "$lives" -gt 1 ] && [ "$(addresses | wc -l)" = 1 ]; then
	pass "a reset keeps the address"
else
	fail "a reset keeps the address: status $status, $lives lives, $(addresses)"
fi

# Two guests, of which neither has a name or an address of its own, on one bridge with the host.
if ip link add br0 type bridge 2>"$work/err"; then
	ip address add 198.51.100.1/24 dev br0
	ip link set br0 up
	guests=()
	for i in 2 3; do
		ip tuntap add dev "vn$i" mode tap
		ip link set "vn$i" master br0 up
		: >"$work/guest$i"
		"$veneer" run --net "tap=vn$i" --timeout 100 -a "ip=198.51.100.$i net-echo" \
			>"$work/guest$i" 2>&1 </dev/null &
		pid=$!
		guests+=("$pid")
		awaited says "net-echo: ready" "$work/guest$i"
	done
	pid=
	for round in 1 2; do
		for i in 2 3; do
			peer "bridge, round $round: 100 pings of guest $i" ping 198.51.100.$i 0 100 56
			peer "bridge, round $round: 200 datagrams of guest $i" echo 198.51.100.$i 7 200 1024
		done
	done
	for i in 2 3; do
		"$netpeer" quit 198.51.100.$i 7
	done
	wait "${guests[@]}"
	ip link delete br0
else
	skip "two guests on a bridge" "$(head -n 1 "$work/err")"
fi

# A hostile guest, while frames come that nobody waits for.
mac=52:54:00:12:34:56
ip neighbor replace "$guest" lladdr "$mac" dev vn0
for transport in pci mmio; do
	"$netpeer" send "$guest" 9 1000000 512 &
	pid=$!
	run --transport "$transport" --net "tap=vn0,mac=$mac" -a net-hostile
	kill "$pid"
	wait "$pid" 2>/dev/null
	pid=
	expect "$transport: a hostile guest breaks its own device only, which is named" 0 \
		'net-hostile: [0-9]+ attacks, 0 failures' 'warning: net0'
done

truncate -s 8M "$work/disk"
run --transport pci --net tap=vn0 -d "$work/disk" -a "config-scan features-wrong blk"
expect "registers of disk and network attacked on PCI" 0 'config-scan: 4 functions.*: ok' \
	'features-wrong: 2 devices: ok' 'blk.verify +ok'

finish
