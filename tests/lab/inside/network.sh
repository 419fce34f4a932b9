#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A Linux guest's network. On a TAP of four queues: link and MTU as the guest sees them, files
# both ways compared by checksum, which queues carry packets as `ethtool -L` changes their number,
# and iperf3 both ways with offloads and without, told apart by the packets' sizes. Much the same with
# vhost-net, and a driver that is unbound and an interface that is deleted there. Through user
# networking, as a user without privileges: DHCP, DNS, and TCP out and in.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

mtu=3000
bulk=$((8 << 20))
mkdir "$work/web"
head -c 2000000 /dev/urandom >"$work/web/file"
chmod -R a+rX "$work"
sum_of() {
	sha256sum "$1" | cut -d ' ' -f 1
}
sum=$(sum_of "$work/web/file")

busybox httpd -h "$work/web" -p 8080
echo 'nameserver 127.0.0.1' >/etc/resolv.conf
# A DNS server that knows one address of one name.
perl -MSocket -e '
	socket(my $s, PF_INET, SOCK_DGRAM, 0) or die;
	bind($s, sockaddr_in(53, INADDR_LOOPBACK)) or die;
	while (my $peer = recv($s, my $q, 512, 0)) {
		my ($id, undef, undef, undef, undef, undef, $rest) = unpack("n6 a*", $q);
		my $found = $rest =~ /^\x04host\x04test\x00\x00\x01\x00\x01/;
		my $question = substr($rest, 0, index($rest, "\0") + 5);
		send($s, pack("n6", $id, 0x8180, 1, $found ? 1 : 0, 0, 0) . $question .
			($found ? pack("n3 N n C4", 0xc00c, 1, 1, 60, 4, 192, 0, 2, 53) : ""), 0, $peer);
	}' &

# Takes what guests send to port 7001, one connection after the other. What it would send never
# comes, nor ends: nc takes an end for one of both directions.
mkfifo "$work/never"
while busybox nc -l -p 7001 >"$work/coming" <>"$work/never"; do
	mv "$work/coming" "$work/from-guest"
done &

# Both guests' first lines: what they send to the host, and how they fetch from it.
cat >"$work/common" <<'END'
fetch() { # HOST [COMMAND]...: the sum of the host's file
	local host=$1
	shift
	"$@" wget -q -O - "http://$host:8080/file" | sha256sum | cut -d ' ' -f 1
}
send() { # HOST: a file of the guest's own
	dd if=/dev/urandom of=/tmp/data bs=1k count=1500 2>/dev/null
	nc "$1" 7001 </tmp/data || fail "cannot send"
	echo "GUEST-SENT $(sum_of /tmp/data)"
}
must() { # COMMAND...
	"$@" >/tmp/said 2>&1 || {
		cat /tmp/said
		fail "not done: $*"
	}
}
ask() { # WHAT: of the host, which attends to this console
	echo "GUEST-ASKS $1"
}
END

# What both guests on a TAP do first.
cat "$work/common" - >"$work/on-tap" <<'END'
of_device() {
	cat "/sys/class/net/eth0/$1"
}
until_carrier() {
	for _ in $(seq 100); do
		[ "$(of_device carrier)" != "$1" ] || return 0
		sleep 0.2
	done
	fail "no carrier $1"
}
offloads() { # on|off
	must tools ethtool -K eth0 tx "$1" sg "$1" tso "$1" gso "$1" rx-gro-hw "$1" gro "$1"
}
bulk() { # tx|rx on|off [OPTION]: iperf3, and what the data packets were
	local bytes packets
	bytes=$(of_device "statistics/$1_bytes") packets=$(of_device "statistics/$1_packets")
	must tools iperf3 -c 192.0.2.1 -n "$(word bulk)" $3
	echo "GUEST-BULK-$1-$2 $(($(of_device "statistics/$1_bytes") - bytes))" \
		$(($(of_device "statistics/$1_packets") - packets))
}
packets() {
	tools ethtool -S eth0 | sed -n 's/^ *\([rt]x\)_queue_\([0-9]*\)_packets: /\1\2 /p'
}
spread() { # PAIRS: four files at once from all CPUs, over as many pairs of queues
	cpus=$(grep -c ^processor /proc/cpuinfo)
	must tools ethtool -L eth0 combined "$1"
	must ping -c 3 -q 192.0.2.1
	packets >/tmp/before
	for file in 0 1 2 3; do
		fetch 192.0.2.1 taskset "$(printf %x $((1 << file % cpus)))" >"/tmp/sum$file" &
		pids="${pids-} $!"
	done
	wait $pids
	pids=
	packets >/tmp/after
	echo "GUEST-QUEUES-$1" $(paste /tmp/before /tmp/after | awk '$4 > $2 { print $1 }' | sort)
	echo "GUEST-SUMS-$1" $(cat /tmp/sum? | sort | uniq -c)
}
set_up() {
	ip link set eth0 up
	ip address add 192.0.2.2/24 dev eth0
	until_carrier 1
}

set_up
echo "GUEST-MTU $(of_device mtu)"
ask link-down
until_carrier 0
ask link-up
until_carrier 1
echo "GUEST-PAIRS" $(tools ethtool -l eth0 | sed -n 's/^Combined:[^0-9]*//p')
send 192.0.2.1
END

cat "$work/on-tap" - >"$work/tap-script" <<'END'
for pairs in 1 2 4; do
	spread "$pairs"
done
for state in on off; do
	offloads "$state"
	bulk tx "$state"
	bulk rx "$state" -R
done
echo "GUEST-SUM-WITHOUT $(fetch 192.0.2.1)"
END

# The host's kernel serves the queues: as many of them as the guest uses, a driver that comes back, and
# an interface that goes.
cat "$work/on-tap" - >"$work/vhost-script" <<'END'
for pairs in 2 1 2; do
	spread "$pairs"
done
for way in 'tx on' 'rx on -R'; do
	bulk $way
done
device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
driver=/sys/bus/virtio/drivers/virtio_net
for round in 1 2; do
	echo "$device" >$driver/unbind
	echo "$device" >$driver/bind
	set_up
	echo "GUEST-AGAIN $(fetch 192.0.2.1)"
done
ask delete
until_carrier 0
ping -c 2 -W 1 -q 192.0.2.1 >/dev/null && fail "an interface that was deleted answers"
END

# A driver that knows of UDP segmentation, which this host's TAP has not: the features that it accepted.
cat "$work/common" - >"$work/vhost-mmio-script" <<'END'
echo "GUEST-SEGMENTATION $(cut -c 12,55-57 /sys/class/net/eth0/device/features)"
ip link set eth0 up
ip address add 192.0.2.2/24 dev eth0
send 192.0.2.1
echo "GUEST-SUM $(fetch 192.0.2.1)"
END

cat "$work/common" - >"$work/user-script" <<'END'
cat >/tmp/lease <<'LEASE'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "GUEST-LEASE $ip/$mask $router $dns"
LEASE
chmod +x /tmp/lease
ip link set eth0 up
udhcpc -i eth0 -n -q -s /tmp/lease >/tmp/dhcp 2>&1 || fail "no DHCP: $(cat /tmp/dhcp)"
grep '^GUEST-' /tmp/dhcp
echo "GUEST-DNS" $(nslookup -type=a host.test 10.0.2.3 | sed -n '/^Name/,$s/^Address[^:]*: *//p')
echo "GUEST-SUM $(fetch 10.0.2.2)"
send 10.0.2.2
nc -l -p 7000 -e /bin/cat &
until netstat -ltn | grep -q ':7000 '; do sleep 0.1; done
ask forward
wait
END

attend() {
	case $part in
	tap | vhost)
		until_console 'GUEST-ASKS link-down'
		ip link set vn0 down
		until_console 'GUEST-ASKS link-up'
		ip link set vn0 up
		[ "$part" = vhost ] || return
		until_console 'GUEST-ASKS delete'
		ip link delete vn0
		;;
	user)
		until_console 'GUEST-ASKS forward'
		busybox nc 127.0.0.1 7700 <"$work/web/file" >"$work/echo"
		;;
	esac
}

# Each try finds a network that no other one has touched.
server=
before_try() {
	rm -f "$work/from-guest" "$work/echo"
	[ "$part" != user ] || return 0
	if [ -n "$server" ]; then
		kill "$server"
		wait "$server" 2>/dev/null # its port is free again
	fi
	ip link delete vn0 2>/dev/null
	ip tuntap add vn0 mode tap multi_queue
	ip link set vn0 mtu "$mtu" up
	ip address add 192.0.2.1/24 dev vn0
	iperf3 -s >"$work/iperf3" 2>&1 &
	server=$!
}

# run PART ARGUMENT...
run() {
	local kernel=
	part=$1
	shift
	[ "$part" != vhost-mmio ] || kernel=-backports
	initrd_with "$work/$part-script" "$kernel"
	run_guest -k "$guest/vmlinuz$kernel" -i "$work/initrd" "$@"
}

# judge PART: what its guest has to show, and the guest itself if that is not right.
judge() {
	local before=$failed
	"$1"
	[ "$failed" -eq "$before" ] || show_guest
}

# told NAME: what the guest said in the line GUEST-NAME.
told() {
	tr -d '\r' <"$work/console" | sed -n "s/^GUEST-$1 *//p"
}

# equals NAME WHAT WANTED: a result that is right when the two are the same.
equals() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1" "'$2', not '$3'"
	fi
}

quiet() {
	equals "$1" "$(complaints | grep -Ev "$known")" ''
}

ended() {
	if ended_well; then
		ok "$1"
	else
		not_ok "$1" "$(why)"
	fi
}

# packets_of NAME: whether data went in packets larger than the MTU, by their mean size. The guest's
# driver counts what it has sent when it looks at the ring again, so the last of it is missing.
packets_of() {
	local bytes packets size=small
	read -r bytes packets <<<"$(told "BULK-$1")"
	if [ "${bytes:-0}" -lt $((bulk / 2)) ]; then
		echo "${bytes:-no} bytes"
		return
	fi
	[ $((bytes / packets)) -le $((mtu + 14)) ] || size=large
	echo "$size"
	echo "#   | $1: $bytes bytes in $packets packets" >&5
}

on_tap() {
	local pairs state way size
	run tap -c 4 -m 384M --net tap=vn0,queues=4,vhost=off -d /dev/vdb,readonly \
		-a "$cmdline guest.test=script,dmesg guest.level=4 guest.bulk=$bulk"
	ended "TAP: the guest does all of it"
	quiet "TAP: the guest's kernel has no complaint"
	equals "TAP: the interface's MTU" "$(told MTU)" "$mtu"
	equals "TAP: the link goes down and up" "$(told ASKS | xargs)" 'link-down link-up'
	equals "TAP: four pairs of queues, all in use at first" "$(told PAIRS)" '4 4'
	equals "TAP: a file from the guest" "$(sum_of "$work/from-guest")" "$(told SENT)"
	for pairs in 1 2 4; do
		equals "TAP: ethtool -L $pairs, and all of these queues carry packets" \
			"$(told "QUEUES-$pairs")" \
			"$(for way in rx tx; do seq -f "$way%.0f" 0 $((pairs - 1)); done | xargs)"
		equals "TAP: ethtool -L $pairs, four files at once" "$(told "SUMS-$pairs")" "4 $sum"
	done
	for state in on off; do
		size=large
		[ "$state" = on ] || size=small
		for way in tx rx; do
			equals "TAP: iperf3 $way, offloads $state, in packets that are $size" \
				"$(packets_of "$way-$state")" "$size"
		done
	done
	equals "TAP: a file to the guest without offloads" "$(told SUM-WITHOUT)" "$sum"
}

# How many queues the guest's statistics have for packets, and how many of these Veneer itself carried.
carried() {
	awk '$1 ~ /^net0\.[0-3]$/ { queues++; packets += $2 } END { print queues, packets }' "$work/console"
}

on_vhost() {
	local way
	run vhost -c 2 -m 384M --net tap=vn0,queues=2,vhost=on -d /dev/vdb,readonly --stats \
		-a "$cmdline guest.test=script,dmesg guest.level=4 guest.bulk=$bulk"
	ended "vhost: the guest does all of it"
	quiet "vhost: the guest's kernel has no complaint"
	equals "vhost: the link goes down and up, and the interface away" "$(told ASKS | xargs)" \
		'link-down link-up delete'
	equals "vhost: a file from the guest" "$(sum_of "$work/from-guest")" "$(told SENT)"
	equals "vhost: ethtool -L 2 1 2, and all of these queues carry packets" \
		"$(told QUEUES-2 | xargs) $(told QUEUES-1)" 'rx0 rx1 tx0 tx1 rx0 rx1 tx0 tx1 rx0 tx0'
	equals "vhost: ethtool -L 2 1 2, four files at once each time" \
		"$(told SUMS-2 | xargs) $(told SUMS-1)" "4 $sum 4 $sum 4 $sum"
	for way in tx rx; do
		equals "vhost: iperf3 $way, in packets that are large" "$(packets_of "$way-on")" large
	done
	equals "vhost: files to a driver that was unbound and bound again" "$(told AGAIN | xargs)" \
		"$sum $sum"
	equals "vhost: the monitor says that the interface was deleted" \
		"$(grep -c 'interface vn0 was deleted' "$work/console")" 1
	equals "vhost: of four queues, none of whose packets passes through the monitor" "$(carried)" '4 0'
}

# One interrupt for all queues, and a register that says why: the monitor passes it on.
on_vhost_mmio() {
	run vhost-mmio -c 2 -m 256M --transport mmio --net tap=vn0,queues=2,vhost=on \
		-d /dev/vdb,readonly -a "$cmdline guest.test=script guest.level=4"
	ended "vhost, MMIO: the guest does all of it"
	equals "vhost, MMIO: a file from the guest" "$(sum_of "$work/from-guest")" "$(told SENT)"
	equals "vhost, MMIO: a file to the guest" "$(told SUM)" "$sum"
	equals "vhost, MMIO: of HOST_TSO4, GUEST_USO4, GUEST_USO6 and HOST_USO, the first" \
		"$(told SEGMENTATION)" 1000
}

on_user() {
	chmod 666 /dev/kvm
	as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	run user -c 2 -m 256M --net user,hostfwd=tcp:127.0.0.1:7700:7000 \
		-a "$cmdline guest.test=script,dmesg guest.level=4"
	ended "user: the guest does all of it, its monitor without privileges"
	quiet "user: the guest's kernel has no complaint"
	equals "user: DHCP" "$(told LEASE)" '10.0.2.15/24 10.0.2.2 10.0.2.3'
	equals "user: DNS" "$(told DNS)" 192.0.2.53
	equals "user: a file to the guest" "$(told SUM)" "$sum"
	equals "user: a file from the guest" "$(sum_of "$work/from-guest")" "$(told SENT)"
	equals "user: a file in and back through hostfwd" "$(sum_of "$work/echo")" "$sum"
}

exec 5>&1
plan 39
judge on_tap
judge on_vhost
judge on_vhost_mmio
judge on_user
finish
