#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Processor models and topologies as a Linux guest sees them. Every model of
# `--cpu ?` either runs or is refused by the features that the list says it
# lacks. All but those of another vendor are booted without what they lack, some
# of them with a topology and looked at closely.

set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /host/lab/inside/lib.sh

if [ "${MONITOR##*/}" = monitor-qemu ]; then
	echo "1..0 # SKIP only Veneer has these models"
	exit 0
fi

# What the guest's kernel knows of its first CPU, and what lscpu makes of them all.
cat >"$work/script" <<'END'
sed '/^$/q' /proc/cpuinfo | sed 's/^/GUEST-CPU /; s/\t*:/:/'
tools lscpu >/tmp/lscpu || fail "no lscpu"
sed 's/^/GUEST-CPU /; s/: */: /' /tmp/lscpu
END
initrd_with "$work/script" ''

# said KEY: what the guest says of KEY, in /proc/cpuinfo's words or lscpu's.
said() {
	tr -d '\r' <"$work/console" | sed -n "s/^GUEST-CPU $1: //p" | head -n 1
}

# lacks MODEL: the features that the list says it lacks, in a line.
lacks() {
	local mark rest here=''
	while read -r mark rest && [ -n "$mark" ]; do
		case $mark in
		[+-])
			[ "${rest%% *}" = "$1" ] && here=yes || here=
			mark=${rest#"${rest%% *}"}
			rest=
			;;
		esac
		# shellcheck disable=SC2086 # words, with one space between
		[ -z "$here" ] || printf '%s ' $mark $rest
	done <"$work/list" | sed 's/ $//'
}

# without MODEL: the model without what it lacks here.
without() {
	local feature cpu=$1
	for feature in $(lacks "$1"); do
		cpu=$cpu,-$feature
	done
	echo "$cpu"
}

# The host's caches of one name, as lscpu says them: `16 MiB`.
host_cache() {
	lscpu -C=NAME,ONE-SIZE -B | awk -v name="$1" '$1 == name { print $2 }'
}

# bytes TEXT: what `16 MiB (1 instance)` comes to, for one instance.
bytes() {
	awk '{ unit = $2 == "KiB" ? 1024 : $2 == "MiB" ? 1048576 : 1
		print $1 * unit / substr($3, 2) }' <<<"$1"
}

# judge CPU SOCKETSxDIESxCORESxTHREADS PRESENT ABSENT [IDENTITY]: boots it; the
# flags PRESENT must be in /proc/cpuinfo and ABSENT must not, and there
# family/model/name must be IDENTITY.
judge() {
	local cpu=$1 topology=$2 present=$3 absent=$4 identity=${5-} flags wrong='' sockets dies cores threads
	local name="--cpu ${cpu%%,*} with $topology" cache instances
	IFS=x read -r sockets dies cores threads <<<"$topology"
	run_guest -k "$guest/vmlinuz" -i "$work/initrd" -m 256M --cpu "$cpu" \
		-c "$((sockets * dies * cores * threads)),topology=$topology" \
		-d /dev/vdb,readonly -d /dev/vdb,readonly -a "$cmdline guest.test=script"
	if ! ended_well; then
		not_ok "$name" "$(why)"
		show "$work/console"
		return
	fi
	flags=" $(said flags) "
	for flag in $present; do
		[[ $flags == *" $flag "* ]] || wrong+=" no $flag;"
	done
	for flag in $absent; do
		[[ $flags != *" $flag "* ]] || wrong+=" $flag;"
	done
	[ "$(said 'Socket(s)')" = "$sockets" ] || wrong+=" $(said 'Socket(s)') sockets;"
	[ "$(said 'Core(s) per socket')" = "$((dies * cores))" ] ||
		wrong+=" $(said 'Core(s) per socket') cores;"
	[ "$(said 'Thread(s) per core')" = "$threads" ] ||
		wrong+=" $(said 'Thread(s) per core') threads;"
	[ "$identity" = '' ] ||
		[ "$(said 'cpu family')/$(said model)/$(said 'model name')" = "$identity" ] ||
		wrong+=" the identity $(said 'cpu family')/$(said model)/$(said 'model name');"
	for cache in L1d L1i L2 L3; do
		instances=$((sockets * dies * cores))
		[ "$cache" != L3 ] || instances=$((sockets * dies))
		case $(said "$cache cache") in
		*"($instances instance"*) ;;
		*) wrong+=" $cache: $(said "$cache cache");" ;;
		esac
		[ "$(bytes "$(said "$cache cache")")" = "$(host_cache "$cache")" ] ||
			wrong+=" $cache of $(bytes "$(said "$cache cache")") bytes, not $(host_cache "$cache");"
	done
	if [ -n "$wrong" ]; then
		not_ok "$name" "the guest has$wrong"
		tr -d '\r' <"$work/console" | grep '^GUEST-CPU' | quote
	else
		ok "$name"
	fi
}

# boots MODEL: without what it lacks.
boots() {
	run_guest -k "$guest/vmlinuz" -i "$guest/initrd" -m 256M --cpu "$(without "$1")" -a "$cmdline"
	ended_well
}

plan 6
name="--cpu ? lists what runs here"
if "$MONITOR" run --cpu '?' >"$work/list" 2>&1 && grep -q '^+ baseline' "$work/list"; then
	ok "$name"
else
	not_ok "$name" "status $?"
	show "$work/list"
fi

name="models that lack features are refused by their names"
wrong='' refused=0
mapfile -t models < <(sed -n '/^$/q; s/^- \([^ ]*\).*/\1/p' "$work/list")
for model in "${models[@]}"; do
	missing=$(lacks "$model")
	"$MONITOR" run -k "$guest/vmlinuz" --cpu "$model" >"$work/refusal" 2>&1
	status=$?
	case $missing in
	*'(Intel)'*) missing="Intel's" ;;
	*) missing="lacks $missing" ;;
	esac
	# A line does not hold all of those that lack most.
	missing=${missing:0:300}
	if [ "$status" -ne 125 ] || ! grep -qF "$missing" "$work/refusal"; then
		wrong+=" $model"
	fi
	refused=$((refused + 1))
done
if [ -n "$wrong" ] || [ "$refused" -eq 0 ]; then
	not_ok "$name" "of $refused not:$wrong"
	show "$work/refusal"
else
	ok "$name"
fi

judge host 1x1x3x1 'hypervisor x2apic tsc_deadline_timer topoext rdrand' ''
judge baseline 2x1x2x1 'sse2 syscall nx lm x2apic' 'pni ssse3 avx aes rdrand svm cx16'
judge "$(without EPYC)" 1x1x2x2 'sse4a aes bmi2 topoext' 'svm 3dnow cx16 sha_ni clzero misalignsse' '23/1/Veneer EPYC'

name="every other model of this vendor boots"
wrong='' booted=''
while read -r _ model lacking; do
	case "$model $lacking" in
	'host '* | 'baseline '* | 'EPYC '* | *'(Intel)') continue ;;
	esac
	if boots "$model"; then
		booted+=" $model"
	else
		wrong+=" $model ($(why))"
		show "$work/console"
	fi
done < <(sed -n '/^$/q; /^[+-]/p' "$work/list")
if [ -n "$wrong" ] || [ -z "$booted" ]; then
	not_ok "$name" "not:$wrong; but:$booted"
else
	ok "$name:$booted"
fi
finish
