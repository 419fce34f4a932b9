#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Linux guests are paused and resumed at random moments (pauses.pl), 250 times each:
#
#   disks    fio verifies what it writes: through four queues to files on an ext4 whose discards have several ranges,
#            and to a disk with a limit, whose blocks it also discards
#   TAP      files go there and back, compared by checksum, iperf3 runs both ways, and numbered datagrams are sent
#            both ways, of which none may be missing, doubled or late; with a limit
#   vhost    the same with vhost-net, which has no limits, on virtio-pci and, with 100 pauses, on virtio-mmio
#   journal  the journal of tests/lab/journal_writer.c on a disk with a limit; it still grows after the pauses, and
#            the guest's power is cut in one more
#
# The limits are below what the guests could do here, so that a request waits for its time whenever there is a pause.
# And a guest whose CPUs are busy is paused by `veneer pause` for longer than its kernel lets a CPU be stuck.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

pauses=250
some=50 # what a guest has done at least, of datagrams or numbers; a tenth of what is usual
long_pause=30 # seconds; a soft lockup is found after 20, an RCU stall after 21
judge=/host/build/tests/guest/journal

if [ "${MONITOR##*/}" = monitor-qemu ]; then
	echo "1..0 # SKIP only Veneer is controlled by 'veneer pause'"
	exit 0
fi

# What a guest's kernel may say after a pause that went wrong.
lateness='soft lockup|hard lockup|stuck for|blocked for more than|hung_task|I/O error|[Rr][Cc][Uu].*stall'
lateness="$lateness|clocksource|NETDEV WATCHDOG|timed out"

# The guests' first lines.
cat >"$work/common" <<'END_OF_SCRIPT'
must() { # COMMAND...
	"$@" >/tmp/said 2>&1 || {
		cat /tmp/said
		fail "not done: $*"
	}
}
# begin: the pauses begin; /tmp/enough exists when they are over.
begin() {
	{
		read -r _
		: >/tmp/enough
	} </dev/console &
	echo GUEST-BEGINS
}
END_OF_SCRIPT

# Each pass has a seed of its own, so that fio does not take what an earlier one wrote for what this one did.
cat "$work/common" - >"$work/disks-script" <<'END_OF_SCRIPT'
verify() { # PASS OPTION...
	local pass=$1
	shift
	tools fio --name=verify --randseed="$pass" --direct=1 --ioengine=libaio --iodepth=8 --fsync=16 \
		--verify=crc32c --verify_fatal=1 "$@"
}
# Four files that grow at once, in random order, so that each has many extents; then two are removed.
files() {
	verify "$1" --directory=/mnt --rw=randwrite --size=2m --numjobs=4 --fallocate=none --bsrange=4k-16k &&
		rm /mnt/verify.1.0 /mnt/verify.3.0 && sync
}
trims() {
	verify "$1" --filename=/dev/vdb --rw=randtrimwrite --size=512k --bs=4k
}
until_enough() { # COMMAND
	local pass=0
	until [ -e /tmp/enough ]; do
		pass=$((pass + 1))
		"$1" $pass >"/tmp/$1" 2>&1 || {
			cat "/tmp/$1"
			fail "fio found an error in $1, pass $pass"
		}
	done
	echo "GUEST-PASSES-$1 $pass"
}
echo mq-deadline >/sys/block/vda/queue/scheduler || fail "no scheduler that merges"
mount -t ext4 -o discard /dev/vda /mnt || fail "cannot mount /dev/vda"
tools true
set -- /sys/block/vda/mq/*
echo "GUEST-QUEUES $#"
begin
until_enough trims &
until_enough files
wait $!
echo "GUEST-FILES $(cat /mnt/verify.0.0 /mnt/verify.2.0 | sha256sum | cut -d ' ' -f 1)"
umount /tools/mnt /mnt || fail "cannot unmount"
echo 3 >/proc/sys/vm/drop_caches
echo "GUEST-TRIMMED $(sum_of /dev/vdb)"
echo "GUEST-DISCARDS" $(awk '{ print $12, $13 }' /sys/block/vda/stat)
END_OF_SCRIPT

cat "$work/common" - >"$work/net-script" <<'END_OF_SCRIPT'
ip link set eth0 up
ip address add 192.0.2.2/24 dev eth0
cp /datagrams.pl /tmp
dd if=/dev/urandom of=/tmp/data bs=1k count=500 2>/dev/null
wanted=$(sum_of /tmp/data)
must tools ethtool -L eth0 combined 2
must ping -c 3 -q 192.0.2.1
tools perl /tmp/datagrams.pl receive 7003 >/tmp/received 2>&1 &
receiver=$!
until netstat -lun | grep -q ':7003 '; do sleep 0.1; done
begin
tools perl /tmp/datagrams.pl send 192.0.2.1 7003 /tmp/enough &
sender=$!
rounds=0 rates=
until [ -e /tmp/enough ]; do
	nc 192.0.2.1 7001 </tmp/data >/tmp/back || fail "no file comes back"
	[ "$(sum_of /tmp/back)" = "$wanted" ] || fail "another file came back"
	for way in '' -R; do
		must tools iperf3 -c 192.0.2.1 -t 2 $way
		rates="$rates $(sed -n 's/.* \([0-9.]* [A-Z]*bits.sec\).*receiver.*/\1/p' /tmp/said)"
	done
	rounds=$((rounds + 1))
done
wait $sender || fail "cannot send datagrams"
wait $receiver || fail "datagrams: $(cat /tmp/received)"
echo "GUEST-ROUNDS $rounds, at$rates"
echo "GUEST-DATAGRAMS $(cat /tmp/received)"
END_OF_SCRIPT

cat "$work/common" - >"$work/journal-script" <<'END_OF_SCRIPT'
echo GUEST-BEGINS
/journal_writer /dev/vda 1 || fail "the journal cannot be written"
END_OF_SCRIPT

cat "$work/common" - >"$work/busy-script" <<'END_OF_SCRIPT'
for cpu in 1 2; do
	taskset $cpu sh -c 'while :; do :; done' &
done
sleep 2
begin
before=$(cut -d . -f 1 /proc/uptime)
until [ -e /tmp/enough ]; do sleep 1; done
echo "GUEST-UPTIME $(($(cut -d . -f 1 /proc/uptime) - before))"
kill %1 %2
END_OF_SCRIPT

# many: the pauses of a guest; what went wrong is in $work/pauses.err, and ends the guest.
many() {
	until_console GUEST-BEGINS
	perl /host/lab/inside/pauses.pl guest "$pauses" >"$work/pauses" 2>"$work/pauses.err" ||
		"$MONITOR" stop guest --time 0 2>>"$work/pauses.err"
}

# flushed: up to which number the journal is, as far as the guest has said.
flushed() {
	tr -d '\r' <"$work/console" | sed -n 's/^flushed \([0-9]*\)$/\1/p' | tail -n 1 | grep . || echo 0
}

attend() {
	case $part in
	disks)
		many
		echo enough
		;;
	net)
		until_console GUEST-BEGINS
		perl /host/lab/inside/datagrams.pl send 192.0.2.2 7003 "$work/enough" 2>>"$work/pauses.err" &
		many
		: >"$work/enough"
		echo enough
		wait
		;;
	journal)
		many
		before=$(flushed)
		until [ "$(flushed)" -gt "$before" ]; do sleep 0.2; done
		"$MONITOR" pause guest 2>>"$work/pauses.err"
		"$MONITOR" stop guest --time 0 2>>"$work/pauses.err"
		;;
	busy)
		until_console GUEST-BEGINS
		sleep 1
		"$MONITOR" pause guest 2>"$work/pauses.err" && sleep "$long_pause" &&
			"$MONITOR" resume guest 2>>"$work/pauses.err" && echo 1 >"$work/pauses"
		sleep 10
		echo enough
		;;
	esac
}

# Each try finds disks and a network that no other one has touched.
servers=()
before_try() {
	local server
	rm -f "$work"/{disk,raw,pauses,pauses.err,enough,received}
	for server in "${servers[@]}"; do
		kill "$server" 2>/dev/null
		wait "$server" 2>/dev/null
	done
	servers=()
	case $part in
	disks)
		mkfs.ext4 -q "$work/disk" 64M >/dev/null
		truncate -s 512K "$work/raw"
		;;
	journal) truncate -s 4M "$work/raw" ;;
	net)
		ip link delete vn0 2>/dev/null
		ip tuntap add vn0 mode tap multi_queue
		# What comes while the guest is paused waits there, and more of it than by default.
		ip link set vn0 mtu 3000 txqueuelen 10000 up
		ip address add 192.0.2.1/24 dev vn0
		iperf3 -s >"$work/iperf3" 2>&1 &
		servers+=($!)
		busybox nc -ll -p 7001 -e /bin/cat &
		servers+=($!)
		perl /host/lab/inside/datagrams.pl receive 7003 >"$work/received" 2>&1 &
		servers+=($!)
		;;
	esac
}

# run PART ARGUMENT...
run() {
	part=$1
	shift
	initrd_with "$work/$part-script" '' /host/lab/inside/datagrams.pl /host/build/tests/lab/journal_writer
	run_guest --name guest -k "$guest/vmlinuz" -i "$work/initrd" "$@"
}

# told NAME: what the guest said in the line GUEST-NAME.
told() {
	tr -d '\r' <"$work/console" | sed -n "s/^GUEST-$1 *//p"
}

# paused COUNT: what is wrong with how the guest was paused.
paused() {
	local number
	number=$(tail -n 1 "$work/pauses" 2>/dev/null)
	[ "$number" = "$1" ] || echo "${number:-no} pauses of $1: $(cat "$work/pauses.err" 2>/dev/null)"
}

# late: what the guest's kernel says about time or requests that it misses, and its other complaints.
late() {
	local bad
	bad=$(tr -d '\r' <"$work/console" | sed -n '/^GUEST-BEGINS/,$p' | grep -aE "$lateness" | grep -Ev "$known_mmio")
	[ -n "$bad" ] || bad=$(complaints | grep -Ev "$known_mmio")
	if [ -n "$bad" ]; then
		echo "the guest's kernel complains"
		quote <<<"$bad"
	fi
}

# note WORD...: a comment with the results.
note() {
	echo "#   | $* ($SECONDS s)" >&5
}

# verdict NAME FAULT...: right if none of the faults is one.
verdict() {
	local name=$1 fault
	shift
	for fault; do
		if [ -n "$fault" ]; then
			not_ok "$name" "$fault"
			show_guest
			return
		fi
	done
	ok "$name"
}

ended() {
	ended_well || why
}

# differs WHAT IS WANTED
differs() {
	[ "$2" = "$3" ] || echo "$1: '$2', not '$3'"
}

sum() {
	sha256sum | cut -d ' ' -f 1
}

# The files and the disk as the host sees them.
disks_differ() {
	local file
	if ! e2fsck -fn "$work/disk" >"$work/fsck" 2>&1; then
		echo "e2fsck is not content"
		quote <"$work/fsck"
		return
	fi
	rm -f "$work"/from-guest*
	for file in 0 2; do
		debugfs -R "dump /verify.$file.0 $work/from-guest$file" "$work/disk" 2>/dev/null
	done
	differs "the files' sum" "$(cat "$work"/from-guest[02] | sum)" "$(told FILES)"
	differs "the disk's sum" "$(sum <"$work/raw")" "$(told TRIMMED)"
}

# too_few NUMBER: of datagrams or numbers; or what else was said in place of it.
too_few() {
	[[ "$1" =~ ^[0-9]+$ ]] && [ "$1" -ge "$some" ] || echo "not $some or more, but '$1'"
}

# The guest's kernel made requests of more than one range.
not_merged() {
	local requests merged
	read -r requests merged <<<"$(told DISCARDS)"
	note "passes of fio: $(told PASSES-files) and $(told PASSES-trims); requests to discard: ${requests-}," \
		"ranges merged into them: ${merged-}"
	[ "${merged:-0}" -gt 0 ] || echo "no discard has two ranges"
}

on_disks() {
	run disks -c 4 -m 384M -d "$work/disk,queues=4" -d "$work/raw,queues=4,iops=50:5" -d /dev/vdb,readonly \
		-a "$cmdline guest.test=script,dmesg guest.level=4"
	verdict "disks: fio verifies all through $pauses pauses" "$(ended)" "$(paused $pauses)" \
		"$(differs queues "$(told QUEUES)" 4)"
	verdict "disks: discards had several ranges" "$(not_merged)"
	verdict "disks: the host finds the same" "$(disks_differ)"
	verdict "disks: the guest's kernel misses nothing" "$(late)"
}

# on_net NAME OPTIONS [ARGUMENT]...
on_net() {
	run net -c 2 -m 384M --net "tap=vn0,queues=2,$2" "${@:3}" -d /dev/vdb,readonly \
		-a "$cmdline guest.test=script,dmesg guest.level=4"
	verdict "$1: files and iperf3 through $pauses pauses" "$(ended)" "$(paused $pauses)"
	verdict "$1: datagrams to the guest, each once and in its turn" "$(too_few "$(told DATAGRAMS)")"
	verdict "$1: datagrams from the guest, each once and in its turn" "$(too_few "$(cat "$work/received")")"
	verdict "$1: the guest's kernel misses nothing" "$(late)"
	note "$1: rounds: $(told ROUNDS); datagrams in: $(told DATAGRAMS), out: $(cat "$work/received")"
}

on_journal() {
	local said
	run journal -c 2 -m 128M -d "$work/raw,queues=2,iops=60:6" -a "$cmdline guest.test=script"
	said=$(flushed)
	verdict "journal: it goes on through $pauses pauses" "$(paused $pauses)" "$(differs "exit status" "$status" 143)" \
		"$(too_few "$said")" "$(late)"
	verdict "journal: no number is lost, repeated or out of turn" \
		"$("$judge" "$work/raw" 1 "$said" 2>&1 | grep -v ^flushed)"
	note "numbers of the journal flushed: $said"
}

on_busy() {
	run busy -c 2 -m 256M -a "$cmdline guest.test=script,dmesg guest.level=4"
	verdict "a busy guest, paused for $long_pause s, goes on" "$(ended)" "$(paused 1)"
	verdict "its clock goes on in the pause" \
		"$([ "$(told UPTIME)" -ge "$long_pause" ] || echo "$(told UPTIME) s passed in the guest")"
	verdict "its kernel calls no CPU stuck" "$(late)"
	note "seconds that passed in the busy guest: $(told UPTIME)"
}

exec 5>&1
plan 21
guest_limit=150
on_disks
on_net TAP vhost=off,bps=1M
on_net vhost vhost=on
# There, vhost's interrupts pass through Veneer.
pauses=100 on_net "vhost on mmio" vhost=on --transport mmio
on_journal
on_busy
finish
