#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# veneer pause, resume, reset, stop and wait: what they do to a guest, how they and its run end, and what they refuse.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"
export XDG_RUNTIME_DIR=$work/run
mkdir -m 700 "$work/run"

# ask ARGUMENT...: any command of the program, judged as a run is.
ask() {
	status=0
	timeout --signal=KILL 100 "$veneer" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
}

# quietly NAME: the last command succeeded and said nothing.
quietly() {
	[ "$status" -ne 0 ] || [ ! -s "$work/out" ] || status="something on standard output"
	[ "$status" != 0 ] || [ ! -s "$work/err" ] || status="something on standard error"
	expect "$1" 0
}

# Wrong usage and what is refused are status 125, and a line says what.
for command in pause resume reset stop wait; do
	ask "$command"
	expect "$command: of no guest" 125 "$command: which guest"
	ask "$command" one two
	expect "$command: of two guests" 125 "'two' after 'one'"
	ask "$command" web --bogus
	expect "$command: an option that there is not" 125 "'--bogus'.*veneer help $command"
	ask "$command" nobody
	expect "$command: a guest that there is not" 125 "no guest 'nobody' is running"
done
ask stop web --time soon
expect "stop: a time that is none" 125 "'soon' is not a number from 0"

if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	skip "guests are controlled" "no usable /dev/kvm"
	finish
	exit
fi

# begin WORDS [ARGUMENT]...: the guest `web`, whose command line has these words; its process in $pid, and what is
# written to descriptor 3 is typed there. `echo` answers in capitals, and is done after "quit".
begin() {
	local words=$1
	shift
	rm -f "$work/in"
	mkfifo "$work/in"
	"$veneer" run --name web --timeout 300 -a "$words" "$@" <"$work/in" >"$work/web" 2>"$work/web.err" 3>&- &
	pid=$!
	exec 3>"$work/in"
	awaited says 'ready\|for ever' "$work/web"
}

# A named kernel, which may know the power button.
begin_kernel() {
	begin "$@" --kernel "$build/guest/veneer-guest.elf" --transport mmio --rng off
}

# ended NAME STATUS [PATTERN]...: the run ends with it.
ended() {
	wait "$pid"
	status=$?
	cp "$work/web" "$work/out"
	cp "$work/web.err" "$work/err"
	expect "$@"
}

# ready COUNT: the guest has begun that often.
ready() {
	[ "$(grep -ca '^ready' "$work/web")" -eq "$1" ]
}

# clients COUNT: so many are connected, at least; the socket that listens is another.
clients() {
	[ "$(find "/proc/$pid/fd" -lname 'socket:*' 2>/dev/null | wc -l)" -gt "$1" ]
}

# begin_wait: someone waits, in $waiter.
begin_wait() {
	"$veneer" wait web >"$work/wait.out" 2>"$work/wait.err" </dev/null 3>&- &
	waiter=$!
	awaited clients 1
}

# waited NAME STATUS [PATTERN]...: with it, the waiting ends.
waited() {
	wait "$waiter"
	status=$?
	cp "$work/wait.out" "$work/out"
	cp "$work/wait.err" "$work/err"
	expect "$@"
}

# is_in PROCESS LETTER: its state, as proc_pid_stat(5) has it.
is_in() {
	grep -q "^State:[[:space:]]$2" "/proc/$1/status"
}

# sleeps CLIENT: it waits for the answer.
sleeps() {
	is_in "$1" S && [ -n "$(find "/proc/$1/fd" -lname 'socket:*')" ]
}

# ---- Pause, resume, reset

begin echo
echo one >&3
awaited says ONE "$work/web"
ask pause web
quietly "a guest pauses"
echo two >&3
sleep 0.5
! says TWO "$work/web"
status=$?
expect "and does nothing" 0
ask pause "$pid"
quietly "pausing twice, and by its process"
ask stats web --json
expect "a paused guest has statistics" 0 '"guest":"web".*"state":"paused"'
ask stats web
expect "which say so in words, too" 0 "^guest web, pid $pid, paused, ran for [0-9.]* s\$"
ask list
expect "and is listed" 0 "^web +$pid +paused\$"
ask resume web
quietly "it goes on"
awaited says TWO "$work/web"
status=$?
expect "with what was typed meanwhile" 0
ask resume web
quietly "resuming twice"
ask reset web
quietly "a guest is reset"
awaited ready 2
status=$?
expect "and begins anew" 0
echo three >&3
awaited says THREE "$work/web"
status=$?
expect "and answers" 0
ask pause web
ask reset web
quietly "a paused guest is reset"
sleep 0.5
ready 2
status=$?
expect "and stays paused" 0
ask resume web
awaited ready 3
status=$?
expect "until it is resumed" 0
if command -v curl >/dev/null; then
	socket=$XDG_RUNTIME_DIR/veneer/web.sock
	curl -s --unix-socket "$socket" -X POST http://veneer/pause >"$work/out" 2>"$work/err"
	status=$?
	expect "the same by HTTP" 0 '^\{"state":"paused"\}$'
	curl -s --unix-socket "$socket" -X POST http://veneer/resume >"$work/out" 2>"$work/err"
	status=$?
	expect "and back" 0 '^\{"state":"running"\}$'
	curl -s --unix-socket "$socket" http://veneer/pause >"$work/out" 2>"$work/err"
	status=$?
	expect "but not by GET" 0 '^only POST is served there$'
else
	skip "the same by HTTP" "no curl"
fi

# A guest that does not answer yet, and a client that is stopped meanwhile.
kill -STOP "$pid"
"$veneer" pause web >"$work/second" 2>&1 </dev/null 3>&- &
second=$!
awaited sleeps "$second"
kill -STOP "$second"
awaited is_in "$second" T
kill -CONT "$second"
awaited sleeps "$second"
kill -CONT "$pid"
wait "$second"
status=$?
cp "$work/second" "$work/out"
quietly "a client that is stopped and goes on has its answer"
ask resume web

# A guest whose backlog is full says its process only when it accepts clients again.
kill -STOP "$pid"
python3 - "$XDG_RUNTIME_DIR/veneer/web.sock" <<'END'
import socket, sys
clients = []
try:
    while True:
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].setblocking(False)
        clients[-1].connect(sys.argv[1])
except BlockingIOError:
    pass
END
"$veneer" pause "$pid" >"$work/second" 2>&1 </dev/null 3>&- &
second=$!
awaited sleeps "$second"
kill -CONT "$pid"
wait "$second"
status=$?
cp "$work/second" "$work/out"
quietly "a busy guest is found by its process, too"
ask resume web

# ---- Wait

"$veneer" wait "$pid" >"$work/second" 2>&1 </dev/null 3>&- &
second=$!
awaited clients 1
"$veneer" wait web >"$work/wait.out" 2>"$work/wait.err" </dev/null 3>&- &
waiter=$!
awaited clients 2
kill -0 "$waiter" && kill -0 "$second"
status=$?
expect "two wait" 0
echo quit 7 >&3
waited "the guest ends: the first one's status is the run's" 7
[ ! -s "$work/wait.out" ] && [ ! -s "$work/wait.err" ] && [ ! -s "$work/second" ]
status=$?
expect "and nothing is said" 0
wait "$second"
status=$?
expect "so is the second one's" 7
ended "and that of the run" 7
ask wait web
expect "now there is nobody to wait for" 125 "no guest 'web' is running"

begin 'echo triple'
begin_wait
echo quit >&3
waited "a crash" 120
ended "of the run" 120

begin spin
begin_wait
kill -TERM "$pid"
waited "a run that a signal ends" 143
ended "as the shell says it too" 143

begin spin
begin_wait
kill -KILL "$pid"
waited "a run that is killed says nothing" 125 "guest 'web' ended or gave no answer"
wait "$pid"

begin 'echo reset' --reboot
begin_wait
echo quit >&3
awaited ready 2
kill -0 "$waiter"
status=$?
expect "a guest that starts again has not ended" 0
ask stop web
quietly "until it is stopped"
waited "which the waiting sees" 143
ended "and the run" 143

# ---- Stop

begin spin
ask stop web
quietly "where there is no power button, stop ends the guest at once"
ended "and its run, as by SIGTERM" 143 "'veneer stop': the guest's power was cut"

begin_kernel button=2
ask stop web --time 100
quietly "stop returns when the guest has ended"
ended "which heard the button twice" 0
[ "$(grep -ca '^pressed' "$work/web")" -eq 2 ]
status=$?
expect "as it says" 0

begin_kernel echo
before=$(date +%s%N)
ask stop --time 2 web
took=$((($(date +%s%N) - before) / 1000000))
quietly "a guest that does not hear the button is ended"
[ "$took" -ge 2000 ]
status=$?
expect "after the time that was given" 0
ended "and its run, as by a second SIGTERM" 143 "'veneer stop': the guest's power was cut"

begin_kernel echo
"$veneer" stop -t 1000 web >"$work/second" 2>&1 </dev/null 3>&- &
second=$!
awaited clients 1
echo alive >&3
awaited says ALIVE "$work/web"
kill -0 "$second"
status=$?
expect "the guest still runs meanwhile" 0
ask stop -t 0 web
quietly "someone else has less patience"
wait "$second"
status=$?
expect "which ends it for both" 0
ended "and for the run" 143

begin_kernel button=2
"$veneer" stop -t 100 web >"$work/second" 2>&1 </dev/null 3>&- &
second=$!
awaited says '^pressed' "$work/web"
kill -TERM "$pid"
wait "$second"
status=$?
expect "a first SIGTERM meanwhile is another press" 0
ended "and does not cut the power" 0

# ---- Ending a paused guest

begin_kernel button
ask pause web
ask stop web --time 100
quietly "a paused guest is stopped"
ended "and hears the button" 0
says '^pressed' "$work/web"
status=$?
expect "as it says" 0

begin_kernel echo
ask pause web
ask stop web --time 0
quietly "or its power is cut"
ended "which its run says" 143 "'veneer stop': the guest's power was cut"

begin_kernel button
ask pause web
kill -TERM "$pid"
ended "SIGTERM presses a paused guest's button too" 0
says '^pressed' "$work/web"
status=$?
expect "which it hears" 0

begin spin
ask pause web
kill -TERM "$pid"
ended "or ends it" 143

begin spin --timeout 10
ask pause web
begin_wait
waited "the time limit holds for a paused guest" 124
ended "and its run" 124

find "$XDG_RUNTIME_DIR/veneer" -name '*.sock' >"$work/out"
grep -v '^$' "$work/out" >"$work/err"
[ ! -s "$work/err" ]
status=$?
expect "nothing is left behind" 0

finish
