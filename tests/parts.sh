# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by tests/check: which part of a run this is, and about how long the rest takes. What each part
# took is kept in the file $parts_file for the next run on this machine, in lines of SECONDS NAME.

: "${parts_file:?}"
parts_names=() parts_at=-1 parts_began=0 parts_spent=0 parts_foreseen=0
declare -A parts_seconds=()

# parts_plan [NAME SECONDS]...: the parts in their order, and what each takes where nothing is known.
parts_plan() {
	local seconds name
	while [ $# -gt 1 ]; do
		parts_names+=("$1")
		parts_seconds[$1]=$2
		shift 2
	done
	[ -f "$parts_file" ] && [ -r "$parts_file" ] || return 0
	while read -r seconds name; do
		if [[ $seconds =~ ^[0-9]{1,5}$ && -n $name && -n ${parts_seconds[$name]+planned} ]]; then
			parts_seconds[$name]=$((10#$seconds))
		fi
	done <"$parts_file"
}

# parts_next: the part before has ended, and the next begins; says so.
parts_next() {
	parts_end
	parts_at=$((parts_at + 1)) parts_began=$SECONDS
	printf '\n== part %d of %d: %s (%s since the start, about %s left)\n' $((parts_at + 1)) \
		${#parts_names[@]} "${parts_names[parts_at]}" "$(parts_time "$parts_spent")" \
		"$(parts_time "$(parts_left)")"
}

# parts_end: the part has ended.
parts_end() {
	local name seconds=$((SECONDS - parts_began))
	[ "$parts_at" -ge 0 ] && [ "$parts_at" -lt ${#parts_names[@]} ] || return 0
	name=${parts_names[parts_at]}
	parts_spent=$((parts_spent + seconds))
	parts_foreseen=$((parts_foreseen + ${parts_seconds[$name]}))
	parts_keep "$name" "$seconds"
}

# Seconds from here to the end. Once half a minute was foreseen, by as much more or less as it took.
parts_left() {
	local name left=0
	for name in "${parts_names[@]:parts_at}"; do
		left=$((left + ${parts_seconds[$name]}))
	done
	if [ "$parts_foreseen" -ge 30 ]; then
		left=$((left * parts_spent / parts_foreseen))
	fi
	echo "$left"
}

# For the next run; a file that cannot be written leaves it without.
parts_keep() {
	{
		mkdir -p "$(dirname "$parts_file")" && {
			awk -v name="$1" '{ line = $0; sub(/^[^ ]* /, ""); if ($0 != name) print line }' \
				"$parts_file" 2>/dev/null
			echo "$2 $1"
		} >"$parts_file.new" && mv "$parts_file.new" "$parts_file"
	} 2>/dev/null || true
}

parts_time() {
	if [ "$1" -lt 90 ]; then
		echo "$1 s"
	else
		echo "$((($1 + 30) / 60)) min"
	fi
}
