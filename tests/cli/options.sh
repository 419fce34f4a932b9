#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# One table for each thing that can be configured: the command line, its help, the manual page, docs/options.md, the
# shells' completion and --config-file all know the same options, words and bounds.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"

# same NAME: whether the files listed and found have the same lines, of which there are some.
same() {
	sort -u "$work/found" >"$work/out"
	diff "$work/listed" "$work/out" >"$work/err" && [ -s "$work/listed" ]
	status=$?
	expect "$1" 0
}

# Rows have an option ("-d --disk", "--numa"), and below each its words ("queues=N").
name_rows() {
	sed -E 's/^(-.), /\1 /; s/^((-. )?--[a-z-]+).*/\1/'
}

# help_rows COMMAND, manual_rows COMMAND, markdown_rows COMMAND: the rows of the help, of the manual page, and of
# docs/options.md.
help_rows() {
	"$veneer" help "$1" | sed -nE 's/^  (-.*)/\1/p; s/^ {6}([^ -][^ ]*).*/\1/p' | name_rows
}

manual_rows() {
	sed -n "/^\.SS veneer $1\( \|$\)/,/^\.S[SH] /p" "$build/cli/veneer.1" | sed 's/\\f[BIR]//g; s/\\-/-/g' |
		sed -n '/^\.TP$/{n;p}' | name_rows
}

markdown_rows() {
	# shellcheck disable=SC2016 # the table's own quotes
	"$build/cli/describe" options | sed -n "/^## veneer $1$/,/^## /p" | sed -nE 's/^\| `([^`]*)` \|.*/\1/p' | name_rows
}

# Of rows as above: the options; and each word with its option, but those without a name ("PATH").
options() {
	grep '^-' | sort -u
}

words() {
	local option='' row
	while read -r row; do
		case $row in
		-*) option=${row##* } ;;
		[a-z]*) echo "$option ${row%%[=[]*}" ;;
		esac
	done | sort -u
}

# what_follows SHELL COMMAND OPTION: what the shell completes after it.
what_follows() {
	sed -n "s|^$2/$3 ||p" "$build/cli/$1"
}

# said COMMAND OPTION...: puts into $work/said what the program says of it. If it takes the option, it runs no guest,
# and finds none of this name.
said() {
	local -a harmless=()
	[ "$1" != run ] || harmless=(--dry-run)
	! grep -q "^$1 GUEST" "$build/cli/veneer" || harmless=("no-guest-$$")
	"$veneer" "$@" "${harmless[@]}" >"$work/said" 2>&1 </dev/null
}

markdown_rows run >"$work/rows"
sed 's/^\.\.\.,//' "$work/rows" | words >"$work/run-words"
grep -E '^(-|\.\.\.,)' "$work/rows" | sed 's/^\.\.\.,//' | words >"$work/run-later-words"
"$build/cli/describe" commands >"$work/commands"

while read -r command; do
	{
		markdown_rows "$command"
		echo '-h --help'
	} | options >"$work/options"
	tr ' ' '\n' <"$work/options" | sort -u >"$work/names"
	grep -- '^--' "$work/names" >"$work/long"
	grep '^-. ' "$work/options" >"$work/letters"

	cp "$work/options" "$work/listed"
	help_rows "$command" | options >"$work/found"
	same "$command: the help has each option, with its letter"
	manual_rows "$command" | options >"$work/found"
	same "$command: the manual page has each option, with its letter"
	for shell in veneer _veneer; do
		cp "$work/long" "$work/listed"
		grep "^$command " "$build/cli/$shell" | grep -o -- '--[a-z-]*' >"$work/found"
		same "$command: completion has each option ($shell)"
		cp "$work/names" "$work/listed"
		sed -n "s|^$command/\(-[^ ]*\) .*|\1|p" "$build/cli/$shell" >"$work/found"
		same "$command: and what may follow it ($shell)"
		cp "$work/letters" "$work/listed"
		while read -r letter option; do
			[ "$(what_follows "$shell" "$command" "$letter")" != "$(what_follows "$shell" "$command" "$option")" ] ||
				echo "$letter $option"
		done <"$work/letters" >"$work/found"
		same "$command: after a letter the same as after its option ($shell)"
	done

	# An unknown option is reported as such, whatever else is wrong; an empty command line is not wrong.
	cp "$work/long" "$work/listed"
	{
		cat "$work/long"
		echo --no-such-option
	} | while read -r option; do
		said "$command" "$option="
		grep -q 'unknown option' "$work/said" || echo "$option"
	done >"$work/found"
	same "$command: the command line has each option"
	sed 's/ .*//' "$work/letters" >"$work/listed"
	for letter in {a..z} {A..Z}; do
		said "$command" "-$letter" ''
		grep -q 'unknown option' "$work/said" || echo "-$letter"
	done >"$work/found"
	same "$command: and each letter"
	cp "$work/letters" "$work/listed"
	while read -r letter option; do
		said "$command" "$letter" ''
		mv "$work/said" "$work/said-of-letter"
		said "$command" "$option" ''
		cmp -s "$work/said" "$work/said-of-letter" && echo "$letter $option"
	done <"$work/letters" >"$work/found"
	same "$command: which stands for its option"
done <"$work/commands"

# The other commands have no table, and so must have no option but --help.
sed -n 's/^veneer //p' "$build/cli/veneer" | tr ' ' '\n' | grep -v '^-' | sort >"$work/all"
sort "$work/commands" | comm -13 - "$work/all" >"$work/others"
while read -r command; do
	echo "$command" --help >"$work/listed"
	grep "^$command[ /]" "$build/cli/veneer" | grep -oE -- "^$command| --?[a-z].*" | tr -d '\n' >"$work/found"
	echo >>"$work/found"
	{
		help_rows "$command"
		manual_rows "$command"
		markdown_rows "$command"
	} | grep '^-' >>"$work/found"
	for letter in {a..g} {i..z} {A..Z}; do
		"$veneer" "$command" "-$letter" >/dev/null 2>&1 </dev/null
		[ $? -eq 125 ] || echo "-$letter"
	done >>"$work/found"
	same "$command: no option but --help"
done <"$work/others"
[ "$(wc -l <"$work/commands")" -ge 2 ] && [ "$(wc -l <"$work/others")" -ge 2 ]
status=$?
expect "there are commands with options and without" 0

cp "$work/run-words" "$work/listed"
help_rows run | words >"$work/found"
same "the help has each word"
manual_rows run | words >"$work/found"
same "the manual page has each word"
cp "$work/run-later-words" "$work/listed"
for shell in veneer _veneer; do
	sed -n 's|^run/\(--[a-z-]*\) [a-z]*.* ,\(.*\)|\1\2|p' "$build/cli/$shell" | while read -r option rest; do
		for word in $rest; do
			[[ $word == [a-z]* ]] && echo "$option ${word%%=*}"
		done
	done >"$work/found"
	same "completion has each word ($shell)"
done

for section in SIGNALS "EXIT STATUS" FILES EXAMPLES "SEE ALSO"; do
	grep -x "\.SH $section" "$build/cli/veneer.1" >"$work/out" 2>"$work/err"
	status=$?
	expect "the manual page has the section $section" 0
done
if command -v groff >/dev/null; then
	groff -ww -man -Tascii -rLL=80n -P-cbou "$build/cli/veneer.1" >"$work/page" 2>"$work/err"
	status=$?
	grep -nE '.{81}|[[:alpha:]]-$' "$work/page" >"$work/out"
	[ -s "$work/page" ] && [ ! -s "$work/out" ] && [ ! -s "$work/err" ] || status=1
	expect "the manual page has lines of 80 columns at most, and none is hyphenated" 0
else
	skip "the manual page has lines of 80 columns at most, and none is hyphenated" "no groff here"
fi

# An unknown member of a file is reported as such; a known one may have its value refused.
markdown_rows run | options | sed 's/.* //' | sort >"$work/listed"
while read -r option; do
	echo "{\"${option#--}\": \"\"}" >"$work/config.json"
	"$veneer" run --config-file "$work/config.json" --dry-run >"$work/said" 2>&1
	grep -q 'there is no such option' "$work/said" || echo "$option"
done <"$work/listed" >"$work/found"
same "--config-file has each option"

# Each listed word is known to its option, whatever its value.
cp "$work/run-words" "$work/listed"
{
	cat "$work/run-words"
	echo "--memory no-such-word"
} | while read -r option word; do
	echo "{\"${option#--}\": {\"$word\": \"\"}}" >"$work/config.json"
	"$veneer" run --config-file "$work/config.json" --dry-run >"$work/said" 2>&1
	grep -q 'unknown word' "$work/said" || echo "$option $word"
done >"$work/found"
same "and each word of an option"

# answer WHAT VALUE COMMAND OPTION...: whether the program refuses an option for its value. It may refuse it for
# something else, with a line that says so, but not die.
answer() {
	local status
	said "${@:3}"
	status=$?
	if grep -qF "'$2' is " "$work/said"; then
		echo "$1: no"
	elif [ $status -eq 0 ] || { [ $status -eq 125 ] && grep -q '^veneer: ' "$work/said"; }; then
		echo "$1: yes"
	else
		echo "$1: status $status"
	fi
}

# takes COMMAND FIRST OPTION WORD VALUE: whether the command line, with FIRST before the word, and a file take the
# value, or say that it is none; nothing is said of what else there must be. FIRST "-": nothing need be before the
# word; "first", "whole": the value is the option's first word, or all of it.
takes() {
	local command=$1 first=$2 option=$3 word=$4 value=$5 text=$2,$4=$5 member="{\"$4\": $5}"
	case $first in
	first) text=$value ;;
	whole) text=$value member=$value ;;
	-) text=$word=$value ;;
	esac
	answer line "$value" "$command" "--$option" "$text"
	[ "$command" = run ] || return
	echo "{\"$option\": $member}" >"$work/config.json"
	answer file "$value" run --config-file "$work/config.json"
}

# What may come before a word of each option; "-": nothing need.
first_of() {
	case $1 in
	cpus) echo 1 ;;
	cpu) echo host ;;
	memory) echo 1G ;;
	disk) echo disk.img ;;
	net) echo tap=tap0 ;;
	numa) echo - ;;
	*) echo "no example of --$1 in $0" >&2 ;;
	esac
}

# Bounds are where the table says.
"$build/cli/describe" ranges >"$work/ranges"
while read -r command option word role least most; do
	first=$role
	[ "$role" != word ] || first=$(first_of "$option")
	cases="$least=yes"
	[ "$least" = 0 ] || cases+=" $((least - 1))=no"
	[ "$most" = - ] || cases+=" $most=yes $((most + 1))=no"
	for case in $cases; do
		value=${case%=*}
		echo "line: ${case#*=}" >"$work/listed"
		[ "$command" != run ] || echo "file: ${case#*=}" >>"$work/listed"
		takes "$command" "$first" "$option" "$word" "$value" >"$work/found"
		cmp -s "$work/listed" "$work/found" || echo "$command: $option.$word=$value: $(tr '\n' ' ' <"$work/found")"
	done
done <"$work/ranges" >"$work/out" 2>"$work/err"
[ ! -s "$work/out" ] && [ ! -s "$work/err" ] && [ "$(wc -l <"$work/ranges")" -ge 10 ]
status=$?
expect "each number has its bounds where the table says" 0

# completes LINE PATTERN..., lacks LINE PATTERN: there is a reply for each pattern, or none for it.
completes() {
	complete_line "$1"
	expect "$shell: completion of '$1'" 0 "${@:2}"
}

lacks() {
	complete_line "$1"
	! grep -qE -- "$2" "$work/out" || status=1
	expect "$shell: completion of '$1' has no '$2'" 0
}

# What both shells complete. A reply of bash begins with all that is typed of an option's value; zsh's with what
# follows the last comma.
check_completion() {
	completes 'veneer ' '^run$' '^pause$' '^doctor$' '^help$'
	completes 'veneer run --k' '^--kernel$'
	completes 'veneer run --kernel ' '^vmlinuz$'
	lacks 'veneer run --kernel ' '^-'
	completes 'veneer run -k v' '^vmlinuz$'
	completes 'veneer run --kernel=v' '^vmlinuz$'
	completes 'veneer run --reboot ' '^--serial$'
	lacks 'veneer run --reboot ' '^vmlinuz$'
	completes 'veneer run --stats ' '^--serial$'
	completes 'veneer run --stats=' '^json$'
	completes 'veneer run --serial ' '^stdio$' '^pty$' '^file:$'
	completes 'veneer run -d d' '^disk\.img$'
	completes 'veneer run -d disk.img,' '^(disk\.img,)?readonly$' '^(disk\.img,)?queues=$'
	completes 'veneer run --disk disk.img,cache=' 'writeback$' 'none$'
	completes 'veneer run --disk=disk.img,readonly,block-size=' '4096$'
	lacks 'veneer run --disk disk.img,' '^vmlinuz$'
	completes 'veneer run --net ' '^tap=$' '^user$'
	completes 'veneer run --net user,v' '^(user,)?vhost=auto$'
	completes 'veneer run --numa ' '^cell=$'
	completes 'veneer run --transport ' '^pci$' '^mmio$'
	completes 'veneer doctor --disk d' '^disk\.img$'
	lacks 'veneer doctor --disk disk.img,' 'readonly'
	completes 'veneer stats --' '^--prometheus$'
	completes 'veneer stats ' '^web-1$'
	completes 'veneer stop --' '^--time$'
	completes 'veneer stop ' '^web-1$'
	completes 'veneer pause --' '^--help$'
	completes 'veneer pause ' '^web-1$'
	lacks 'veneer run ' '^web-1$'
}

# A guest that runs.
# shellcheck disable=SC2317 # the completion calls it
veneer() {
	[ "$*" != list ] || echo 'web-1 4711'
}

mkdir "$work/files"
cd "$work/files" || exit 1
touch vmlinuz disk.img

# complete_line LINE puts the replies into $work/out, one a line.
# shellcheck source=/dev/null
. "$build/cli/veneer"
complete_line() {
	COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
	COMPREPLY=()
	_veneer 2>"$work/err"
	printf '%s\n' "${COMPREPLY[@]}" >"$work/out"
	status=0
}
shell=bash
check_completion
completes 'veneer help ' '^stats$'

# What zsh has only while it completes, as far as _veneer uses it. A user's NULLCMD must not matter.
cat >"$work/complete.zsh" <<'END'
NULLCMD=:
compset() {
	local first=
	shift
	[[ $1 == 1 ]] && first=yes && shift
	[[ $PREFIX == ${~1}* ]] || return 1
	[[ -n $first ]] && PREFIX=${PREFIX#${~1}} || PREFIX=${PREFIX##${~1}}
}
compadd() {
	local word
	while [[ $1 != -- ]]; do shift; done
	shift
	for word; do [[ $word == ${PREFIX}* ]] && print -r -- $word; done
}
_files() {
	print -rl -- ${PREFIX}*(N)
}
veneer() {
	[[ $* == list ]] && print web-1 4711
}
_veneer() {
	local -a words=("${(@s: :)2}")
	local CURRENT=$#words PREFIX=$words[-1]
	source $1
}
_veneer "$@" || true
END
complete_zsh_line() {
	zsh -f "$work/complete.zsh" "$build/cli/_veneer" "$1" >"$work/out" 2>"$work/err"
	status=$?
	[ ! -s "$work/err" ] || status=1
}
if command -v zsh >/dev/null; then
	complete_line() {
		complete_zsh_line "$1"
	}
	shell=zsh
	check_completion
else
	skip "zsh: completion" "no zsh here"
fi
unset -f veneer
cd - >/dev/null || exit 1

run --config-file "$work/missing.json"
expect "a file that is not there" 125 "^veneer: --config-file: cannot read '$work/missing.json': No such file"
run --config-file "$work"
expect "a folder" 125 "^veneer: --config-file: cannot read '$work': Is a directory"
printf '{"cpus": 1,\n "memory": }' >"$work/config.json"
run --config-file "$work/config.json"
expect "a file that is no JSON" 125 'config.json: line 2, column'
printf '{"memory": {"size": "lots"}}' >"$work/config.json"
run --config-file "$work/config.json"
expect "an invalid value" 125 "config.json: memory: 'lots' is not a size"
for value in true '[]' '{}' 0 '"soon"' 1e-10; do
	printf '{"timeout": %s}' "$value" >"$work/config.json"
	run --config-file "$work/config.json" --dry-run
	expect "a time limit that is $value" 125 'config.json: timeout: '
done
for value in 0.00001 1234567890e-1 600 2.50; do
	printf '{"timeout": %s}' "$value" >"$work/config.json"
	run --config-file "$work/config.json" --dry-run
	expect "a time limit of $value" 0
done
# from_stdin TEXT ARGUMENT...: as run, with the text on standard input.
from_stdin() {
	status=0
	printf '%s' "$1" | timeout --signal=KILL 120 "$veneer" run --config-file - "${@:2}" >"$work/out" 2>"$work/err" ||
		status=$?
}
from_stdin '{"cpus": 2}' --dry-run
expect "options come from standard input" 0 '^vcpu1'
from_stdin '{"cpus": 2, "dry-run": true}' --cpus 1
! grep -q vcpu1 "$work/out"
status=$?
expect "and the command line has the last word" 0
from_stdin '{"cpus": "few"}' --dry-run
expect "what is wrong in it is said" 125 "^veneer: standard input: cpus: 'few' is not"
from_stdin '' --dry-run
expect "also where it is empty" 125 '^veneer: standard input: line 1, column 0'
from_stdin '{"cpus": 2}' --config-file - --dry-run
expect "it is read once" 125 '^veneer: --config-file -: standard input was read already$'
from_stdin '{"cmdline": "exit=7"}' --dump-dtb "$work/dtb"
! grep -q 'serial port' "$work/err"
status=$?
expect "the device tree has no use for it" 0
from_stdin '{"cmdline": "exit=7"}'
expect "and not the serial port's too" 125 '^veneer: --config-file -: the serial port reads standard input too'
from_stdin '{"serial": "stdio"}' --serial none --serial stdio
expect "wherever that is said" 125 '^veneer: --config-file -: the serial port reads standard input too'
printf '{"dry-run": false}' >"$work/config.json"
run --dry-run --config-file "$work/config.json" --dump-dtb "$work/dtb"
! grep -q vcpu0 "$work/out"
status=$?
expect "false puts an option back to its default" 0
printf '{"config-file": "x"}' >"$work/config.json"
run --config-file "$work/config.json"
expect "a file that names another" 125 'a file names no other'
printf '{"cpus": 2, "cmdline": "exit=7", "serial": "none", "timeout": 100, "memory": "64M"}' >"$work/config.json"
run --config-file "$work/config.json" --dry-run
expect "options come from a file" 0 'vcpu1'
run --config-file "$work/config.json" --cpus 1 --dry-run
expect "and the command line has the last word" 0 'vcpu0'
! grep -q vcpu1 "$work/out"
status=$?
expect "and nothing of the file's is left" 0

finish
