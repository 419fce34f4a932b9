#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A whole Debian: to multi-user.target with all services up, a login on the serial port, its disk and
# clock, and a clean end. With each kernel, and as README.md has a newcomer start it.

set -u
# shellcheck source-path=SCRIPTDIR source=debian.sh
. /host/lab/inside/debian.sh

# judge_readme: the command that README.md has a newcomer type in the lab, where the image is in the
# current folder.
judge_readme() {
	local name="Debian, by the command in README.md" way=poweroff arguments
	if [ "${MONITOR##*/}" = monitor-qemu ]; then
		skip "$name" "the command is Veneer's"
		return
	fi
	eval "arguments=($(cat arguments))"
	run_guest "${arguments[@]}"
	expect_system "$name" 2 '6\.1\..*-cloud-amd64'
}

plan 3
judge backports 1 poweroff
judge generic 2 poweroff
judge_readme
finish
