// SPDX-License-Identifier: Apache-2.0
//
// The ELF loader: valid files in pieces of every size, and one case for each way in which a file
// can be wrong.
#include "kernel_image.h"

#include <errno.h>

#include "arch/x86/elf.h"
#include "base/macros.h"

static struct vn_memory memory;

static int create_memory(void **state)
{
	(void)state;
	make_memory(&memory, ELF_MEMORY);
	return 0;
}

static int destroy_memory(void **state)
{
	(void)state;
	vn_memory_destroy(&memory);
	return 0;
}

// Hand the file over in pieces of `chunk` bytes.
static int load(
	struct vn_elf *elf, const struct bytes *file, size_t chunk, struct veneer_error *error)
{
	error->message[0] = '\0';
	vn_elf_begin(elf, "kernel", &memory, error);
	for (size_t at = 0; at < file->size; at += chunk) {
		size_t left = file->size - at;
		int code = vn_elf_write(elf, file->data + at, left < chunk ? left : chunk);
		if (code < 0)
			return code;
	}
	return vn_elf_finish(elf);
}

static void test_pieces_of_every_size(void **state)
{
	(void)state;
	struct bytes file = make_elf(ELF_LOW_LEAST);
	const size_t chunks[] = {1, 7, 63, 64, 65, 4096, 4097, SIZE_MAX};
	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
		struct vn_elf elf;
		struct veneer_error error;
		soil_memory(&memory);
		assert_int_equal(load(&elf, &file, chunks[i], &error), 0);
		assert_elf_loaded(&memory, &file);
		assert_int_equal(elf.entry, ELF_ENTRY);
		assert_int_equal(elf.pvh_entry, ELF_PVH_ENTRY);
		assert_int_equal(elf.kernel_start, ELF_LOW_START);
		assert_int_equal(elf.kernel_end, ELF_HIGH_START + ELF_HIGH_SIZE);
	}
	free(file.data);
}

// A segment that begins at the file's first byte gets the headers too.
static void test_headers_in_segment(void **state)
{
	(void)state;
	struct bytes file = make_elf(ELF_LOW_LEAST);
	Elf64_Phdr *phdr = elf_phdr(&file, PHDR_LOW);
	phdr->p_offset = 0;
	phdr->p_filesz = phdr->p_memsz = file.size;
	const size_t chunks[] = {1, SIZE_MAX};
	for (size_t i = 0; i < 2; i++) {
		struct vn_elf elf;
		struct veneer_error error;
		soil_memory(&memory);
		assert_int_equal(load(&elf, &file, chunks[i], &error), 0);
		assert_memory_equal(vn_memory_at(&memory, VN_GPA(ELF_LOW_START), file.size),
			file.data, file.size);
	}
	free(file.data);
}

static void test_rest_is_not_needed(void **state)
{
	(void)state;
	struct bytes file = make_elf(ELF_LOW_LEAST);
	struct vn_elf elf;
	struct veneer_error error;
	vn_elf_begin(&elf, "kernel", &memory, &error);
	assert_int_equal(vn_elf_write(&elf, file.data, file.size - 1), 0);
	assert_false(vn_elf_complete(&elf));
	assert_int_equal(vn_elf_write(&elf, file.data + file.size - 1, 1), 0);
	assert_true(vn_elf_complete(&elf));
	assert_int_equal(vn_elf_write(&elf, "symbols", 7), 0);
	assert_int_equal(vn_elf_finish(&elf), 0);
	assert_elf_loaded(&memory, &file);
	free(file.data);
}

static void test_pvh_note_forms(void **state)
{
	(void)state;
	struct bytes file = make_elf(ELF_LOW_LEAST);
	struct vn_elf elf;
	struct veneer_error error;
	uint32_t *note = elf_note(&file);

	note[1] = 4; // a 32-bit description
	elf_phdr(&file, PHDR_NOTE)->p_filesz = 20;
	assert_int_equal(load(&elf, &file, 1, &error), 0);
	assert_int_equal(elf.pvh_entry, ELF_PVH_ENTRY);

	// Behind another note, in a segment whose notes are aligned to 8 bytes.
	const uint32_t gnu = 0x00554e47, xen = 0x006e6558;
	const uint32_t notes[12] = {4, 4, 5, gnu, 1, 0, 4, 8, 18, xen, ELF_PVH_ENTRY, 0};
	memcpy(note, notes, sizeof(notes));
	elf_phdr(&file, PHDR_NOTE)->p_align = 8;
	elf_phdr(&file, PHDR_NOTE)->p_filesz = sizeof(notes);
	assert_int_equal(load(&elf, &file, 1, &error), 0);
	assert_int_equal(elf.pvh_entry, ELF_PVH_ENTRY);

	note[8] = 17; // another note of Xen's
	assert_int_equal(load(&elf, &file, 1, &error), 0);
	assert_int_equal(elf.pvh_entry, 0);

	drop_note(&file);
	assert_int_equal(load(&elf, &file, 1, &error), 0);
	assert_int_equal(elf.pvh_entry, 0);
	free(file.data);
}

static void test_contains(void **state)
{
	(void)state;
	struct bytes file = make_elf(ELF_LOW_LEAST);
	struct vn_elf elf;
	struct veneer_error error;
	assert_int_equal(load(&elf, &file, SIZE_MAX, &error), 0);
	assert_true(vn_elf_contains(&elf, ELF_LOW_START));
	assert_false(vn_elf_contains(&elf, ELF_LOW_START - 1));
	assert_true(vn_elf_contains(&elf, ELF_HIGH_START + ELF_HIGH_FILE - 1));
	assert_false(vn_elf_contains(&elf, ELF_HIGH_START + ELF_HIGH_FILE)); // only zeroes
	free(file.data);
}

static void bad_magic(struct bytes *file)
{
	file->data[0] = 'M';
}

static void bad_class(struct bytes *file)
{
	file->data[EI_CLASS] = ELFCLASS32;
}

static void bad_endianness(struct bytes *file)
{
	file->data[EI_DATA] = ELFDATA2MSB;
}

static void bad_machine(struct bytes *file)
{
	elf_header(file)->e_machine = EM_AARCH64;
}

static void bad_type(struct bytes *file)
{
	elf_header(file)->e_type = ET_REL;
}

static void no_phdrs(struct bytes *file)
{
	elf_header(file)->e_phnum = 0;
}

static void bad_phdr_size(struct bytes *file)
{
	elf_header(file)->e_phentsize = 32;
}

static void many_phdrs(struct bytes *file)
{
	elf_header(file)->e_phnum = VN_ELF_PHDRS_MAX + 1;
}

static void late_phdrs(struct bytes *file)
{
	elf_header(file)->e_phoff = 0x2000;
}

static void phdrs_in_header(struct bytes *file)
{
	elf_header(file)->e_phoff = 8;
}

static void phdrs_wrap(struct bytes *file)
{
	elf_header(file)->e_phoff = UINT64_MAX - 8;
}

static void nothing_to_load(struct bytes *file)
{
	elf_phdr(file, PHDR_LOW)->p_type = PT_NULL;
	elf_phdr(file, PHDR_HIGH)->p_type = PT_NULL;
}

static void less_memory_than_file(struct bytes *file)
{
	elf_phdr(file, PHDR_LOW)->p_memsz = 16;
}

static void offset_overflow(struct bytes *file)
{
	elf_phdr(file, PHDR_LOW)->p_offset = UINT64_MAX - 16;
}

static void offset_behind_file(struct bytes *file)
{
	elf_phdr(file, PHDR_LOW)->p_offset = 1ull << 60;
}

static void segment_too_low(struct bytes *file)
{
	elf_phdr(file, PHDR_LOW)->p_paddr = VN_MAP_KERNEL_MIN - 1;
}

static void segment_over_the_end(struct bytes *file)
{
	elf_phdr(file, PHDR_HIGH)->p_paddr = ELF_MEMORY - ELF_HIGH_SIZE + 1;
}

static void segment_in_hole(struct bytes *file)
{
	elf_phdr(file, PHDR_HIGH)->p_paddr = VN_MAP_HOLE;
}

static void segment_in_high_memory(struct bytes *file)
{
	elf_phdr(file, PHDR_HIGH)->p_paddr = VN_MAP_HIGH_RAM;
}

static void segment_wraps(struct bytes *file)
{
	elf_phdr(file, PHDR_HIGH)->p_paddr = UINT64_MAX - 16;
}

static void segment_endless(struct bytes *file)
{
	elf_phdr(file, PHDR_HIGH)->p_memsz = UINT64_MAX;
}

static void segments_overlap(struct bytes *file)
{
	elf_phdr(file, PHDR_HIGH)->p_paddr = ELF_LOW_START + ELF_LOW_LEAST - 1;
}

static void overlap_within(struct bytes *file)
{
	elf_phdr(file, PHDR_LOW)->p_paddr = ELF_HIGH_START + 0x1000;
}

static void truncated(struct bytes *file)
{
	file->size--;
}

static void truncated_phdrs(struct bytes *file)
{
	file->size = 100;
}

static void truncated_header(struct bytes *file)
{
	file->size = 63;
}

static void long_notes(struct bytes *file)
{
	elf_phdr(file, PHDR_NOTE)->p_filesz = VN_ELF_NOTES_MAX + 1;
}

static void note_overrun(struct bytes *file)
{
	elf_note(file)[1] = 9;
}

static void note_huge_name(struct bytes *file)
{
	elf_note(file)[0] = UINT32_MAX;
}

static void pvh_note_size(struct bytes *file)
{
	elf_note(file)[1] = 2;
}

static void pvh_entry_outside(struct bytes *file)
{
	put_note(file, ELF_LOW_START - 1);
}

static void pvh_entry_high(struct bytes *file)
{
	put_note(file, ELF_PVH_ENTRY + (1ull << 32));
}

static const struct {
	const char *name;
	void (*spoil)(struct bytes *file);
	const char *text;
} malformed[] = {
	{"magic", bad_magic, "not an ELF file"},
	{"class", bad_class, "not a 64-bit ELF"},
	{"endianness", bad_endianness, "not a little-endian"},
	{"machine", bad_machine, "another machine (183)"},
	{"type", bad_type, "type 1, not an executable"},
	{"no program headers", no_phdrs, "without program headers"},
	{"program header size", bad_phdr_size, "headers of 32 bytes instead of 56"},
	{"too many program headers", many_phdrs, "65 ELF program headers"},
	{"program headers too far", late_phdrs, "at offset 8192"},
	{"program headers in the ELF header", phdrs_in_header, "at offset 8,"},
	{"program header offset wraps", phdrs_wrap, "at offset 18446744073709551607"},
	{"nothing to load", nothing_to_load, "without anything to load"},
	{"memsz < filesz", less_memory_than_file, "but only 16 in memory"},
	{"p_offset overflows", offset_overflow, "out of range"},
	{"p_offset behind the file", offset_behind_file, "cut short"},
	{"below 1 MiB", segment_too_low, "begins at guest-physical 0xfffff"},
	{"past the end of memory", segment_over_the_end, "M of memory, and the guest has 49152K"},
	{"in the hole", segment_in_hole, "0xc0000000"},
	{"above 4 GiB", segment_in_high_memory, "0x100000000"},
	{"address wraps", segment_wraps, "0xffffffffffffffef"},
	{"endless", segment_endless, "does not fit"},
	{"overlap", segments_overlap, "0x200fff and 0x200000 overlap"},
	{"one within the other", overlap_within, "overlap"},
	{"one byte missing", truncated, "ends after 12287 of 12288 bytes"},
	{"cut in the program headers", truncated_phdrs, "within its headers"},
	{"cut in the ELF header", truncated_header, "within its headers"},
	{"too many notes", long_notes, "more than 4096 bytes"},
	{"note longer than its segment", note_overrun, "longer than its segment"},
	{"note with a huge name", note_huge_name, "longer than its segment"},
	{"size of the PVH note", pvh_note_size, "holds 2 bytes"},
	{"PVH entry outside", pvh_entry_outside, "PVH entry point 0x1fffff lies outside"},
	{"PVH entry above 4 GiB", pvh_entry_high, "0x100200200 lies outside"},
};

static void test_malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		struct bytes file = make_elf(ELF_LOW_LEAST);
		malformed[i].spoil(&file);
		struct vn_elf elf;
		struct veneer_error error;
		int code = load(&elf, &file, SIZE_MAX, &error);
		assert_refused(malformed[i].name, code, -ENOEXEC, &error, malformed[i].text);
		code = load(&elf, &file, 1, &error);
		assert_refused(malformed[i].name, code, -ENOEXEC, &error, malformed[i].text);
		assert_int_equal(strncmp(error.message, "kernel: ", 8), 0);
		free(file.data);
	}
}

// Whatever the headers say: no crash, and an answer.
static void test_mutations(void **state)
{
	(void)state;
	uint32_t random = 20240229;
	unsigned loaded = 0, refused = 0;
	for (unsigned round = 0; round < 4000; round++) {
		struct bytes file = make_elf(ELF_LOW_LEAST);
		size_t head = sizeof(Elf64_Ehdr) + PHDR_COUNT * sizeof(Elf64_Phdr);
		for (unsigned i = next_random(&random) % 3; i < 3; i++) {
			size_t at = next_random(&random) % (head + ELF_NOTE_SIZE);
			at = at < head ? at : at - head + ELF_NOTE_OFFSET;
			file.data[at] = (uint8_t)next_random(&random);
		}
		if (next_random(&random) % 8 == 0)
			file.size = next_random(&random) % file.size;
		struct vn_elf elf;
		struct veneer_error error;
		int code = load(&elf, &file, 1 + next_random(&random) % 8192, &error);
		if (code == 0)
			loaded++;
		else if (code == -ENOEXEC && error.message[0])
			refused++;
		free(file.data);
	}
	assert_int_equal(loaded + refused, 4000);
	assert_in_range(loaded, 100, 3900); // else the mutations reach nothing
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_of_every_size),
		cmocka_unit_test(test_headers_in_segment),
		cmocka_unit_test(test_rest_is_not_needed),
		cmocka_unit_test(test_pvh_note_forms),
		cmocka_unit_test(test_contains),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_mutations),
	};
	return cmocka_run_group_tests(tests, create_memory, destroy_memory);
}
