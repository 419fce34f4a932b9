# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the guest tests share: TAP lines, and a run of Veneer whose status and output are kept.
# Sourced by bash scripts that are given the build directory as $1.

# A shell cannot undo that its caller ignores a signal (nohup, a service manager), and what it starts
# inherits that: begin again with every signal's default action.
if [ -z "${default_signals-}" ]; then
	default_signals=yes exec env --default-signal "$BASH" "$0" "$@"
fi
unset default_signals

build=${1:?usage: $0 BUILD-DIRECTORY}
veneer=$build/veneer
work=$(mktemp -d)
trap cleanup EXIT
number=0
failures=0
pid= # of what runs in the background

cleanup() {
	rm -rf "$work"
}

pass() {
	number=$((number + 1))
	echo "ok $number - $1"
}

fail() {
	number=$((number + 1))
	failures=$((failures + 1))
	echo "not ok $number - $1"
	sed 's/^/# /' "$work/out" "$work/err" 2>/dev/null
}

skip() {
	number=$((number + 1))
	echo "ok $number - $1 # SKIP $2"
}

finish() {
	echo "1..$number"
	[ "$failures" -eq 0 ]
}

# run ARGUMENT...: Veneer with nothing to read; $status, $work/out and $work/err hold the rest.
# The limit is a safety net against a hang, far above what any run takes.
run() {
	status=0
	timeout --signal=KILL 120 "$veneer" run "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
}

# expect NAME STATUS [PATTERN]...: the last run ended with STATUS, and each extended regular
# expression is found in its output or messages.
expect() {
	local name=$1 wanted=$2 pattern
	shift 2
	if [ "$status" != "$wanted" ]; then
		fail "$name: status $status, not $wanted"
		return
	fi
	for pattern in "$@"; do
		if ! grep -qaE -- "$pattern" "$work/out" "$work/err"; then
			fail "$name: no match for '$pattern'"
			return
		fi
	done
	pass "$name"
}

# eventually COMMAND...: until the command succeeds. The limit, a minute and more, is a safety net as well.
eventually() {
	local tries=3000
	until "$@"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.02
	done
}

# awaited COMMAND...: the same, and not longer than the process $pid is there.
awaited() {
	eventually ended_or "$@" && "$@"
}

ended_or() {
	"$@" || ! kill -0 "$pid" 2>/dev/null
}

# says PATTERN [FILE]: the file has a line with it, $work/out when none is named. What runs in the background
# empties that in its own time: whoever waits for it empties it before, of what the one before said.
says() {
	grep -qa -- "$1" "${2-$work/out}"
}

need_kvm() {
	if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
		echo "1..0 # SKIP no usable /dev/kvm"
		exit 0
	fi
}
