// SPDX-License-Identifier: Apache-2.0
//
// The DSDT's byte code as data. DSDT_AML is its file, given by the build.
	.section .rodata.dsdt, "a"
	.global vn_dsdt
	.hidden vn_dsdt
	.balign 16
vn_dsdt:
	.incbin DSDT_AML
	.section .note.GNU-stack, "", @progbits
