// SPDX-License-Identifier: Apache-2.0
//
// The built-in guest's ELF as data. BUILTIN_GUEST is its file, given by the build.
	.section .rodata.builtin_guest, "a"
	.global vn_builtin_guest, vn_builtin_guest_size
	.hidden vn_builtin_guest, vn_builtin_guest_size
	.balign 16
vn_builtin_guest:
	.incbin BUILTIN_GUEST
vn_builtin_guest_end:
	.balign 8
vn_builtin_guest_size:
	.quad vn_builtin_guest_end - vn_builtin_guest
	.section .note.GNU-stack, "", @progbits
