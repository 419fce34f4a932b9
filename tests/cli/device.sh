#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# docs/adding-a-device.md lists the files that the entropy device's commit touches: these know the device, and nothing
# else in the library, the program and its documents does, nor a test that needs to know each option.
set -uo pipefail
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../guest/lib.sh"

cd "$(dirname "$0")/../.." || exit 1
sed -n '/^## /q; s/^    \([a-z].*\)$/\1/p' docs/adding-a-device.md | sort >"$work/listed"
{
	ls tests/unit/test_rng.c
	grep -l "^  'rng',$" tests/unit/meson.build
	grep -lE '^[[:space:]]*\{"rng",' tests/*/*.c
	grep -lE '^[[:space:]]*(rng|--rng)\)' tests/*/*.sh tests/lab/inside/*.sh
	grep -lF '`--rng' docs/*.md
	grep -rlE --include='*.[chS]' --include=meson.build --include='*.in' -e "rng\.[ch]['\"]" -e 'vn_rng_' \
		-e "['\"]rng" -e VIRTIO_ID_RNG base host core arch pci virtio devices vmm cli
} | sort -u >"$work/out"
diff "$work/listed" "$work/out" >"$work/err"
status=$?
[ "$(wc -l <"$work/out")" -eq 8 ] || status=1
expect "only the eight files that docs/adding-a-device.md lists know the entropy device" 0

"$build/cli/describe" options >"$work/out"
diff docs/options.md "$work/out" >"$work/err"
status=$?
expect "docs/options.md is what the tables say" 0

tests/cli/quoted.py docs/adding-a-device.md devices/rng.h devices/rng.c vmm/device_table.c >"$work/out" 2>"$work/err"
status=$?
expect "docs/adding-a-device.md quotes the code as it is" 0 '^7 quotations'

finish
