// SPDX-License-Identifier: Apache-2.0
//
// The ELF loader. Nothing in the file is believed: every header is checked against the guest's
// memory map before the first byte of a segment is placed.
#include "arch/x86/elf.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/x86/map.h"
#include "base/macros.h"

#define NOTE_PHYS32_ENTRY 18 // XEN_ELFNOTE_PHYS32_ENTRY

void vn_elf_begin(struct vn_elf *elf, const char *name, const struct vn_memory *memory,
	struct veneer_error *error)
{
	elf->name = name;
	elf->memory = memory;
	elf->error = error;
	elf->position = 0;
	elf->needed = UINT64_MAX;
	elf->head_size = sizeof(Elf64_Ehdr);
	elf->head_done = false;
	elf->load_count = 0;
	elf->note_count = 0;
	elf->entry = 0;
	elf->pvh_entry = 0;
	elf->kernel_start = UINT64_MAX;
	elf->kernel_end = 0;
}

#define fail(elf, ...) vn_fail((elf)->error, -ENOEXEC, __VA_ARGS__)

static int check_header(struct vn_elf *elf, const Elf64_Ehdr *header)
{
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		return fail(elf, "%s: not an ELF file", elf->name);
	if (header->e_ident[EI_CLASS] != ELFCLASS64)
		return fail(elf, "%s: not a 64-bit ELF file", elf->name);
	if (header->e_ident[EI_DATA] != ELFDATA2LSB)
		return fail(elf, "%s: not a little-endian ELF file", elf->name);
	if (header->e_machine != EM_X86_64)
		return fail(elf, "%s: ELF file for another machine (%u), not x86-64", elf->name,
			header->e_machine);
	if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		return fail(elf, "%s: ELF file of type %u, not an executable", elf->name,
			header->e_type);
	return 0;
}

static int check_phdr_table(struct vn_elf *elf, const Elf64_Ehdr *header)
{
	if (header->e_phnum == 0)
		return fail(elf, "%s: ELF file without program headers", elf->name);
	if (header->e_phentsize != sizeof(Elf64_Phdr))
		return fail(elf, "%s: ELF program headers of %u bytes instead of %zu", elf->name,
			header->e_phentsize, sizeof(Elf64_Phdr));
	if (header->e_phnum > VN_ELF_PHDRS_MAX)
		return fail(elf, "%s: %u ELF program headers, more than %u", elf->name,
			header->e_phnum, VN_ELF_PHDRS_MAX);
	size_t size = header->e_phnum * sizeof(Elf64_Phdr);
	if (header->e_phoff < sizeof(Elf64_Ehdr) || header->e_phoff > VN_ELF_HEAD_MAX - size)
		return fail(elf,
			"%s: ELF program headers at offset %" PRIu64
			", not within the first %u bytes",
			elf->name, header->e_phoff, VN_ELF_HEAD_MAX);
	elf->entry = header->e_entry;
	elf->head_size = header->e_phoff + size;
	return 0;
}

static int check_overlap(struct vn_elf *elf, const struct vn_elf_piece *new)
{
	for (unsigned i = 0; i < elf->load_count; i++) {
		const struct vn_elf_piece *old = &elf->loads[i];
		if (new->start < old->start + old->size && old->start < new->start + new->size)
			return fail(elf,
				"%s: the segments at guest-physical 0x%" PRIx64 " and 0x%" PRIx64
				" overlap",
				elf->name, old->start, new->start);
	}
	return 0;
}

// Whether the segment could be in RAM, if there were enough.
static bool below_hole(const Elf64_Phdr *phdr)
{
	return phdr->p_paddr < VN_MAP_HOLE && phdr->p_memsz <= VN_MAP_HOLE - phdr->p_paddr;
}

static int fail_place(const struct vn_elf *elf, const Elf64_Phdr *wrong)
{
	Elf64_Ehdr header;
	uint64_t end = 0;
	memcpy(&header, elf->head, sizeof(header));
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr phdr;
		memcpy(&phdr, elf->head + header.e_phoff + i * sizeof(phdr), sizeof(phdr));
		if (phdr.p_type == PT_LOAD && below_hole(&phdr) &&
			phdr.p_paddr + phdr.p_memsz > end)
			end = phdr.p_paddr + phdr.p_memsz;
	}
	if (below_hole(wrong) && elf->memory->size < end)
		return fail(elf,
			"%s: the kernel needs %" PRIu64 "M of memory, and the guest has %" PRIu64
			"K",
			elf->name, (end + MIB - 1) / MIB, elf->memory->size / 1024);
	return fail(elf,
		"%s: the segment at guest-physical 0x%" PRIx64 ", %" PRIu64
		" KiB long, does not fit into the guest's memory below 3 GiB",
		elf->name, wrong->p_paddr, wrong->p_memsz / 1024);
}

static int add_load(struct vn_elf *elf, const Elf64_Phdr *phdr)
{
	if (phdr->p_memsz < phdr->p_filesz)
		return fail(elf,
			"%s: the segment at guest-physical 0x%" PRIx64 " has %" PRIu64
			" bytes in the file but only %" PRIu64 " in memory",
			elf->name, phdr->p_paddr, phdr->p_filesz, phdr->p_memsz);
	if (phdr->p_memsz == 0)
		return 0;
	if (phdr->p_paddr < VN_MAP_KERNEL_MIN)
		return fail(elf,
			"%s: a segment begins at guest-physical 0x%" PRIx64
			"; kernels are loaded from 1 MiB on",
			elf->name, phdr->p_paddr);
	uint8_t *host = NULL;
	if (below_hole(phdr))
		host = vn_memory_at(elf->memory, VN_GPA(phdr->p_paddr), phdr->p_memsz);
	if (!host)
		return fail_place(elf, phdr);

	struct vn_elf_piece piece = {.offset = phdr->p_offset,
		.file_size = phdr->p_filesz,
		.start = phdr->p_paddr,
		.size = phdr->p_memsz,
		.host = host};
	int code = check_overlap(elf, &piece);
	if (code < 0)
		return code;
	elf->loads[elf->load_count++] = piece;
	if (piece.start < elf->kernel_start)
		elf->kernel_start = piece.start;
	if (piece.start + piece.size > elf->kernel_end)
		elf->kernel_end = piece.start + piece.size;
	return 0;
}

static int add_note(struct vn_elf *elf, const Elf64_Phdr *phdr, uint64_t *notes_size)
{
	if (phdr->p_filesz > VN_ELF_NOTES_MAX - *notes_size)
		return fail(
			elf, "%s: more than %u bytes of ELF notes", elf->name, VN_ELF_NOTES_MAX);
	elf->note_pieces[elf->note_count++] = (struct vn_elf_piece){.offset = phdr->p_offset,
		.file_size = phdr->p_filesz,
		.align = phdr->p_align,
		.host = elf->notes + *notes_size};
	*notes_size += phdr->p_filesz;
	return 0;
}

static int add_phdr(struct vn_elf *elf, const Elf64_Phdr *phdr, uint64_t *notes_size)
{
	if (phdr->p_type != PT_LOAD && phdr->p_type != PT_NOTE)
		return 0;
	uint64_t end;
	if (__builtin_add_overflow(phdr->p_offset, phdr->p_filesz, &end))
		return fail(elf, "%s: a segment's offset 0x%" PRIx64 " in the file is out of range",
			elf->name, phdr->p_offset);
	if (phdr->p_filesz > 0 && end > elf->needed)
		elf->needed = end;
	return phdr->p_type == PT_LOAD ? add_load(elf, phdr) : add_note(elf, phdr, notes_size);
}

static int read_phdrs(struct vn_elf *elf)
{
	Elf64_Ehdr header;
	memcpy(&header, elf->head, sizeof(header));
	uint64_t notes_size = 0;
	elf->needed = 0;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr phdr;
		memcpy(&phdr, elf->head + header.e_phoff + i * sizeof(phdr), sizeof(phdr));
		int code = add_phdr(elf, &phdr, &notes_size);
		if (code < 0)
			return code;
	}
	if (elf->load_count == 0)
		return fail(elf, "%s: ELF file without anything to load", elf->name);
	return 0;
}

// Copy what of the file's bytes [position, position + size) belongs to a piece.
static void fill_piece(
	const struct vn_elf_piece *piece, uint64_t position, const uint8_t *data, uint64_t size)
{
	uint64_t piece_end = piece->offset + piece->file_size;
	uint64_t from = piece->offset > position ? piece->offset : position;
	uint64_t to = piece_end < position + size ? piece_end : position + size;
	if (from < to)
		memcpy(piece->host + (from - piece->offset), data + (from - position), to - from);
}

static void fill_pieces(struct vn_elf *elf, uint64_t position, const uint8_t *data, uint64_t size)
{
	for (unsigned i = 0; i < elf->load_count; i++)
		fill_piece(&elf->loads[i], position, data, size);
	for (unsigned i = 0; i < elf->note_count; i++)
		fill_piece(&elf->note_pieces[i], position, data, size);
}

// Collect the headers' bytes: first the ELF header, which says how far the program headers reach.
static int take_head(struct vn_elf *elf, const uint8_t **data, size_t *size)
{
	size_t missing = elf->head_size - (size_t)elf->position;
	size_t part = *size < missing ? *size : missing;
	memcpy(elf->head + elf->position, *data, part);
	elf->position += part;
	*data += part;
	*size -= part;
	if (part < missing)
		return 0;

	if (elf->head_size == sizeof(Elf64_Ehdr)) {
		Elf64_Ehdr header;
		memcpy(&header, elf->head, sizeof(header));
		int code = check_header(elf, &header);
		return code < 0 ? code : check_phdr_table(elf, &header);
	}
	int code = read_phdrs(elf);
	if (code < 0)
		return code;
	elf->head_done = true;
	return 0;
}

static int take_heads(struct vn_elf *elf, const uint8_t **data, size_t *size)
{
	int code = 0;
	while (code == 0 && !elf->head_done && *size > 0)
		code = take_head(elf, data, size);
	return code;
}

int vn_elf_look(struct vn_elf *elf, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	int code = take_heads(elf, &bytes, &size);
	return code < 0 ? code : elf->head_done;
}

void vn_elf_rewind(struct vn_elf *elf)
{
	elf->position = 0;
}

int vn_elf_write(struct vn_elf *elf, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	bool had_head = elf->head_done;
	int code = take_heads(elf, &bytes, &size);
	if (code < 0)
		return code;
	// A segment may well include the headers.
	if (elf->head_done && !had_head)
		fill_pieces(elf, 0, elf->head, elf->head_size);
	if (size > 0 && !vn_elf_complete(elf))
		fill_pieces(elf, elf->position, bytes, size);
	elf->position += size;
	return 0;
}

bool vn_elf_complete(const struct vn_elf *elf)
{
	return elf->head_done && elf->position >= elf->needed;
}

static uint64_t align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static int take_pvh_note(struct vn_elf *elf, const uint8_t *desc, uint32_t size)
{
	uint32_t entry32;
	if (size == sizeof(entry32)) {
		memcpy(&entry32, desc, sizeof(entry32));
		elf->pvh_entry = entry32;
	} else if (size == sizeof(elf->pvh_entry)) {
		memcpy(&elf->pvh_entry, desc, sizeof(elf->pvh_entry));
	} else {
		return fail(
			elf, "%s: the PVH note holds %u bytes instead of 4 or 8", elf->name, size);
	}
	if (!vn_elf_contains(elf, elf->pvh_entry))
		return fail(elf, "%s: the PVH entry point 0x%" PRIx64 " lies outside all segments",
			elf->name, elf->pvh_entry);
	return 0;
}

static int read_notes(struct vn_elf *elf, const struct vn_elf_piece *piece)
{
	const uint64_t align = piece->align == 8 ? 8 : 4;
	uint64_t at = 0;
	Elf64_Nhdr note;
	while (piece->file_size - at >= sizeof(note)) {
		memcpy(&note, piece->host + at, sizeof(note));
		uint64_t name = at + sizeof(note);
		uint64_t desc = align_up(name + note.n_namesz, align);
		uint64_t end = desc + note.n_descsz;
		if (end > piece->file_size)
			return fail(elf, "%s: an ELF note is longer than its segment", elf->name);
		if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == sizeof("Xen") &&
			memcmp(piece->host + name, "Xen", sizeof("Xen")) == 0)
			return take_pvh_note(elf, piece->host + desc, note.n_descsz);
		at = align_up(end, align);
		if (at > piece->file_size)
			break;
	}
	return 0;
}

int vn_elf_check_size(const struct vn_elf *elf, uint64_t size)
{
	if (!elf->head_done)
		return fail(elf, "%s: the ELF file is cut short: it ends within its headers",
			elf->name);
	if (size < elf->needed)
		return fail(elf,
			"%s: the ELF file is cut short: it ends after %" PRIu64 " of %" PRIu64
			" bytes",
			elf->name, size, elf->needed);
	return 0;
}

int vn_elf_finish(struct vn_elf *elf)
{
	int code = vn_elf_check_size(elf, elf->position);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < elf->load_count; i++) {
		const struct vn_elf_piece *piece = &elf->loads[i];
		memset(piece->host + piece->file_size, 0, piece->size - piece->file_size);
	}
	return vn_elf_find_pvh(elf);
}

int vn_elf_find_pvh(struct vn_elf *elf)
{
	for (unsigned i = 0; i < elf->note_count && elf->pvh_entry == 0; i++) {
		int code = read_notes(elf, &elf->note_pieces[i]);
		if (code < 0)
			return code;
	}
	return 0;
}

bool vn_elf_contains(const struct vn_elf *elf, uint64_t address)
{
	for (unsigned i = 0; i < elf->load_count; i++) {
		const struct vn_elf_piece *piece = &elf->loads[i];
		if (address >= piece->start && address - piece->start < piece->file_size)
			return true;
	}
	return false;
}
