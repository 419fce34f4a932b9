// SPDX-License-Identifier: Apache-2.0
//
// bzImage: each compression with a real payload, where a kernel that decompresses itself is loaded,
// and one case for each way in which the image or its payload can be wrong.
#include "kernel_image.h"

#include <errno.h>
#include <sys/resource.h>

#include "arch/x86/bzimage.h"
#include "base/macros.h"

#define RELOCATIONS 5000u // bytes that follow the ELF file in the payload

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

typedef struct bytes (*compress_fn)(const struct bytes *plain);

static const struct {
	const char *name;
	compress_fn compress;
} compressions[] = {
	{"gzip", compress_gzip},
	{"xz", compress_xz},
	{"zstd", compress_zstd},
	{"lz4", compress_lz4},
};

#define COMPRESSIONS (ARRAY_SIZE(compressions))

static int open_bytes(struct vn_bzimage *bzimage, struct vn_image *image, const struct bytes *file,
	struct veneer_error *error)
{
	vn_image_from_memory(image, "bzImage", file->data, file->size);
	error->message[0] = '\0';
	return vn_bzimage_open(bzimage, image, error);
}

static int load(const struct bytes *file, struct vn_elf *elf, struct setup_header *header,
	struct veneer_error *error)
{
	struct vn_image image;
	struct vn_bzimage bzimage;
	uint64_t start;
	int code = open_bytes(&bzimage, &image, file, error);
	if (code < 0)
		return code;
	*header = bzimage.header;
	vn_elf_begin(elf, "bzImage", &memory, error);
	if (bzimage.on_host)
		return vn_bzimage_decompress(&bzimage, elf);
	code = vn_bzimage_place(&bzimage, &memory, &start, error);
	return code == 0 ? vn_bzimage_load(&bzimage, &memory, start, error) : code;
}

static struct bytes make_kernel(compress_fn compress, size_t low_size)
{
	struct bytes elf = make_elf(low_size);
	struct bytes plain = make_bytes(elf.size + RELOCATIONS);
	memcpy(plain.data, elf.data, elf.size);
	memset(plain.data + elf.size, 0x55, RELOCATIONS);
	struct bytes packed = compress(&plain);
	struct bytes file = make_bzimage(&packed);
	free(elf.data);
	free(plain.data);
	free(packed.data);
	return file;
}

// Small, and so large that every buffer and lz4's 8 MiB blocks are filled more than once.
static void test_compressions(void **state)
{
	(void)state;
	const size_t sizes[] = {ELF_LOW_LEAST, 8 * MIB - ELF_LOW_OFFSET - RELOCATIONS, 9 * MIB};
	for (size_t i = 0; i < COMPRESSIONS; i++)
		for (size_t n = 0; n < ARRAY_SIZE(sizes); n++) {
			struct bytes file = make_kernel(compressions[i].compress, sizes[n]);
			struct vn_elf elf;
			struct setup_header header;
			struct veneer_error error;
			soil_memory(&memory);
			if (load(&file, &elf, &header, &error) < 0)
				fail_msg("%s: %s", compressions[i].name, error.message);
			free(file.data);
			struct bytes plain = make_elf(sizes[n]);
			assert_elf_loaded(&memory, &plain);
			free(plain.data);
			assert_int_equal(elf.entry, ELF_ENTRY);
			assert_int_equal(header.init_size, 4 * MIB);
		}
}

static void test_recognise(void **state)
{
	(void)state;
	struct bytes file = make_kernel(compress_gzip, ELF_LOW_LEAST);
	struct vn_image image;
	vn_image_from_memory(&image, "bzImage", file.data, file.size);
	assert_true(vn_bzimage_recognise(&image));
	image.size = 0x200;
	assert_false(vn_bzimage_recognise(&image));
	image.size = file.size;
	bzimage_header(&file)->header++;
	assert_false(vn_bzimage_recognise(&image));
	bzimage_header(&file)->header--;
	bzimage_header(&file)->boot_flag = 0;
	assert_false(vn_bzimage_recognise(&image));
	free(file.data);
}

// setup_sects 0 stands for 4; what lies behind the header's own length is not part of it.
static void test_header_forms(void **state)
{
	(void)state;
	struct bytes file = make_kernel(compress_gzip, ELF_LOW_LEAST);
	struct vn_elf elf;
	struct setup_header header;
	struct veneer_error error;
	bzimage_header(&file)->setup_sects = 0;
	bzimage_header(&file)->payload_offset = BZIMAGE_SETUP_SIZE + BZIMAGE_PAYLOAD_OFFSET - 2560;
	assert_int_equal(load(&file, &elf, &header, &error), -ENOEXEC); // before the payload
	free(file.data);

	file = make_kernel(compress_gzip, ELF_LOW_LEAST);
	struct bytes wide = make_bytes(file.size + 512);
	memcpy(wide.data, file.data, BZIMAGE_SETUP_SIZE);
	memcpy(wide.data + 2560, file.data + BZIMAGE_SETUP_SIZE, file.size - BZIMAGE_SETUP_SIZE);
	bzimage_header(&wide)->setup_sects = 0;
	bzimage_header(&wide)->jump = 0x5eeb; // up to payload_length and pref_address
	assert_int_equal(load(&wide, &elf, &header, &error), 0);
	assert_int_equal(header.pref_address, ELF_LOW_START);
	assert_int_equal(header.init_size, 0);
	free(file.data);
	free(wide.data);
}

// Kernels before 2.12 do not say that they are 64-bit ones; the payload does.
static void test_old_protocol(void **state)
{
	(void)state;
	struct bytes file = make_kernel(compress_gzip, ELF_LOW_LEAST);
	bzimage_header(&file)->version = 0x020a;
	bzimage_header(&file)->xloadflags = 0;
	struct vn_elf elf;
	struct setup_header header;
	struct veneer_error error;
	assert_int_equal(load(&file, &elf, &header, &error), 0);
	free(file.data);
}

static uint8_t *payload(struct bytes *file)
{
	return file->data + BZIMAGE_SETUP_SIZE + BZIMAGE_PAYLOAD_OFFSET;
}

static void unknown_format(struct bytes *file)
{
	memset(payload(file), 0x33, 8);
}

static void bzip2(struct bytes *file)
{
	memcpy(payload(file), "BZh9", 4);
}

static void lzma_alone(struct bytes *file)
{
	memcpy(payload(file), "\x5d\0\0\x80\0", 5);
}

static void lzo(struct bytes *file)
{
	memcpy(payload(file), "\x89LZO\0\r\n\x1a\n", 9);
}

static void lz4_frame(struct bytes *file)
{
	memcpy(payload(file), "\x04\x22\x4d\x18", 4);
}

static void one_byte_payload(struct bytes *file)
{
	bzimage_header(file)->payload_length = 1;
}

static void no_payload(struct bytes *file)
{
	bzimage_header(file)->payload_offset = 0;
	bzimage_header(file)->payload_length = 0;
}

static void (*const not_for_host[])(struct bytes *file) = {
	unknown_format,
	bzip2,
	lzma_alone,
	lzo,
	lz4_frame,
	one_byte_payload,
	no_payload,
};

// The kernel decompresses such a payload; without a 64-bit entry point, it cannot.
static void test_own_decompressor(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(not_for_host); i++) {
		struct bytes file = make_kernel(compress_gzip, ELF_LOW_LEAST);
		struct vn_image image;
		struct vn_bzimage bzimage;
		struct veneer_error error;
		assert_int_equal(open_bytes(&bzimage, &image, &file, &error), 0);
		assert_true(bzimage.on_host);
		not_for_host[i](&file);
		assert_int_equal(open_bytes(&bzimage, &image, &file, &error), 0);
		assert_false(bzimage.on_host);

		uint64_t start;
		size_t size = bzimage.header.syssize * 16;
		uint8_t *place = vn_memory_at(&memory, VN_GPA(ELF_LOW_START), size + 1);
		memset(place, 0xee, size + 1);
		assert_int_equal(vn_bzimage_place(&bzimage, &memory, &start, &error), 0);
		assert_int_equal(start, ELF_LOW_START);
		assert_int_equal(vn_bzimage_load(&bzimage, &memory, start, &error), 0);
		assert_memory_equal(place, file.data + BZIMAGE_SETUP_SIZE, size);
		assert_int_equal(place[size], 0xee); // no signature

		bzimage_header(&file)->version = 0x020b;
		int code = open_bytes(&bzimage, &image, &file, &error);
		assert_refused("2.11", code, -ENOEXEC, &error,
			"names no gzip, xz, zstd or lz4 payload; but it speaks boot protocol 2.11");
		bzimage_header(&file)->version = 0x020c;
		bzimage_header(&file)->xloadflags = 0;
		code = open_bytes(&bzimage, &image, &file, &error);
		assert_refused("i386", code, -ENOEXEC, &error, "names no 64-bit entry point");
		free(file.data);
	}
}

static int place(uint64_t pref, uint32_t init_size, bool relocatable, uint64_t *start)
{
	struct bytes file = make_kernel(compress_gzip, ELF_LOW_LEAST);
	no_payload(&file);
	bzimage_header(&file)->pref_address = pref;
	bzimage_header(&file)->init_size = init_size;
	bzimage_header(&file)->relocatable_kernel = relocatable;
	// 16 MiB, a gap up to one page above 1 GiB, and then up to 2 GiB.
	const uint64_t second = 1024 * MIB + 4096;
	struct vn_memory gaps;
	make_memory(&gaps, 2048 * MIB);
	gaps.ram[0].size = 16 * MIB;
	gaps.ram[1] =
		(struct vn_ram){VN_GPA(second), 2048 * MIB - second, gaps.ram[0].host + second};
	gaps.ram_count = 2;
	struct vn_image image;
	struct vn_bzimage bzimage;
	struct veneer_error error;
	assert_int_equal(open_bytes(&bzimage, &image, &file, &error), 0);
	*start = 0;
	int code = vn_bzimage_place(&bzimage, &gaps, start, &error);
	if (code < 0)
		assert_refused("place", code, -E2BIG, &error, "M of memory to decompress itself");
	vn_memory_destroy(&gaps);
	free(file.data);
	return code;
}

// At the preferred address, with init_size bytes of room; a relocatable kernel, else, at the next
// multiple of its alignment that has them.
static void test_placement(void **state)
{
	(void)state;
	uint64_t start;
	assert_int_equal(place(4 * MIB, 12 * MIB, true, &start), 0);
	assert_int_equal(start, 4 * MIB);
	assert_int_equal(place(4 * MIB, 12 * MIB, false, &start), 0);
	assert_int_equal(start, 4 * MIB);
	assert_int_equal(place(4 * MIB, 12 * MIB + 1, true, &start), 0);
	assert_int_equal(start, 1026 * MIB); // aligned to 2 MiB
	assert_int_equal(place(4 * MIB, 12 * MIB + 1, false, &start), -E2BIG);
	assert_int_equal(place(4 * MIB + 4096, MIB, true, &start), 0);
	assert_int_equal(start, 6 * MIB);
	assert_int_equal(place(4 * MIB + 4096, MIB, false, &start), 0);
	assert_int_equal(start, 4 * MIB + 4096);
	assert_int_equal(place(1100 * MIB, MIB, false, &start), 0);
	assert_int_equal(start, 1100 * MIB);
	assert_int_equal(place(4 * MIB, 1022 * MIB, true, &start), 0);
	assert_int_equal(place(4 * MIB, 1022 * MIB + 1, true, &start), -E2BIG);
	assert_int_equal(place(2048 * MIB, MIB, true, &start), -E2BIG);
	assert_int_equal(place(VN_MAP_HOLE - 1, MIB, true, &start), -E2BIG);
}

static void old_version(struct bytes *file)
{
	bzimage_header(file)->version = 0x0207;
}

static void no_64_bit(struct bytes *file)
{
	bzimage_header(file)->xloadflags = 0;
}

static void large_setup(struct bytes *file)
{
	bzimage_header(file)->setup_sects = 255;
}

static void payload_behind_file(struct bytes *file)
{
	bzimage_header(file)->payload_offset = UINT32_MAX;
}

static void payload_too_long(struct bytes *file)
{
	bzimage_header(file)->payload_length = UINT32_MAX;
}

static void file_cut(struct bytes *file)
{
	file->size -= BZIMAGE_TAIL + 1;
}

static void part_cut(struct bytes *file)
{
	no_payload(file);
	file->size -= BZIMAGE_TAIL + 1;
}

static void part_too_long(struct bytes *file)
{
	no_payload(file);
	bzimage_header(file)->syssize = UINT32_MAX;
}

static void part_too_short(struct bytes *file)
{
	no_payload(file);
	bzimage_header(file)->syssize = 0x20;
}

static void small_init_size(struct bytes *file)
{
	no_payload(file);
	bzimage_header(file)->init_size = bzimage_header(file)->syssize * 16 - 1;
}

static void low_address(struct bytes *file)
{
	no_payload(file);
	bzimage_header(file)->pref_address = 0xff000;
}

static void high_address(struct bytes *file)
{
	no_payload(file);
	bzimage_header(file)->pref_address = UINT64_MAX - 4095;
}

static void odd_alignment(struct bytes *file)
{
	no_payload(file);
	bzimage_header(file)->kernel_alignment = 3 * MIB;
}

static void no_alignment(struct bytes *file)
{
	no_payload(file);
	bzimage_header(file)->kernel_alignment = 0;
}

static const struct {
	const char *name;
	void (*spoil)(struct bytes *file);
	const char *text;
} malformed[] = {
	{"old protocol", old_version, "boot protocol 2.07, and the 64-bit entry point needs 2.12"},
	{"no 64-bit capability", no_64_bit, "not a 64-bit kernel"},
	{"setup_sects", large_setup, "setup part, 131072 bytes, is longer than the file"},
	{"payload_offset", payload_behind_file, "cut short: the kernel's payload ends at 4294"},
	{"payload_length", payload_too_long, "cut short: the kernel's payload ends at 4294"},
	{"cut file", file_cut, "cut short: the kernel's payload ends at"},
	{"cut part", part_cut, "cut short: the kernel's protected-mode part ends at"},
	{"syssize", part_too_long, "cut short: the kernel's protected-mode part ends at 6871"},
	{"short part", part_too_short, "512 bytes, ends before its 64-bit entry point"},
	{"init_size", small_init_size, "is less than its protected-mode part"},
	{"low address", low_address, "prefers address 0xff000;"},
	{"high address", high_address, "prefers address 0xfffffffffffff000;"},
	{"alignment", odd_alignment, "alignment, 3145728, is not a power of two"},
	{"no alignment", no_alignment, "alignment, 0, is not a power of two"},
};

static void test_malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		struct bytes file = make_kernel(compress_gzip, ELF_LOW_LEAST);
		malformed[i].spoil(&file);
		struct vn_elf elf;
		struct setup_header header;
		struct veneer_error error;
		int code = load(&file, &elf, &header, &error);
		assert_refused(malformed[i].name, code, -ENOEXEC, &error, malformed[i].text);
		assert_int_equal(strncmp(error.message, "bzImage: ", 9), 0);
		free(file.data);
	}
}

// Damage to the payload, for every compression.
static void cut_half(struct bytes *file)
{
	bzimage_header(file)->payload_length /= 2;
}

static void cut_last_word(struct bytes *file)
{
	bzimage_header(file)->payload_length -= 8;
}

static void trailing_bytes(struct bytes *file)
{
	bzimage_header(file)->payload_length += 13;
}

static void damage_middle(struct bytes *file)
{
	size_t length = bzimage_header(file)->payload_length;
	memset(payload(file) + length / 2, 0, 1024); // lz4 has no checksum: hit more than literals
}

static const struct {
	const char *name;
	void (*spoil)(struct bytes *file);
} damages[] = {
	{"half is missing", cut_half},
	{"the end is missing", cut_last_word},
	{"trailing bytes", trailing_bytes},
	{"damaged", damage_middle},
};

static void test_damaged_payload(void **state)
{
	(void)state;
	for (size_t i = 0; i < COMPRESSIONS; i++)
		for (size_t n = 0; n < ARRAY_SIZE(damages); n++) {
			struct bytes file = make_kernel(compressions[i].compress, MIB);
			damages[n].spoil(&file);
			struct vn_elf elf;
			struct setup_header header;
			struct veneer_error error;
			int code = load(&file, &elf, &header, &error);
			char text[32];
			snprintf(text, sizeof(text), "its %s payload ", compressions[i].name);
			assert_refused(damages[n].name, code, -ENOEXEC, &error, text);
			free(file.data);
		}
}

// The size behind the stream must be that of what came out.
static void test_trailer(void **state)
{
	(void)state;
	for (size_t i = 1; i < COMPRESSIONS; i++) {
		struct bytes file = make_kernel(compressions[i].compress, MIB);
		payload(&file)[bzimage_header(&file)->payload_length - 3] ^= 1;
		struct vn_elf elf;
		struct setup_header header;
		struct veneer_error error;
		int code = load(&file, &elf, &header, &error);
		assert_refused(compressions[i].name, code, -ENOEXEC, &error,
			"does not decompress to the size it claims");
		free(file.data);
	}
}

// What is inside must be an ELF kernel, all of it.
static void test_bad_content(void **state)
{
	(void)state;
	struct bytes text = make_bytes(100000);
	struct bytes packed = compress_zstd(&text);
	struct bytes file = make_bzimage(&packed);
	struct vn_elf elf;
	struct setup_header header;
	struct veneer_error error;
	int code = load(&file, &elf, &header, &error);
	assert_refused("zeroes", code, -ENOEXEC, &error, "not an ELF file");
	free(text.data);
	free(packed.data);
	free(file.data);

	struct bytes half = make_elf(ELF_LOW_LEAST);
	half.size -= 100;
	packed = compress_lz4(&half);
	file = make_bzimage(&packed);
	code = load(&file, &elf, &header, &error);
	assert_refused("half an ELF file", code, -ENOEXEC, &error, "the ELF file is cut short");
	free(half.data);
	free(packed.data);
	free(file.data);
}

// 2 GiB of zeroes in a few megabytes must be given up on.
static void test_bomb(void **state)
{
	(void)state;
	struct bytes elf = make_elf(ELF_LOW_LEAST);
	struct bytes room = make_bytes(8 * MIB);
	memcpy(room.data, elf.data, elf.size);
	struct bytes one = compress_lz4(&room); // magic, one block, the size
	size_t block = one.size - 8;
	struct bytes bomb = make_bytes(8 + 256 * block);
	memcpy(bomb.data, one.data, 4);
	for (size_t i = 0; i < 256; i++)
		memcpy(bomb.data + 4 + i * block, one.data + 4, block);
	struct bytes file = make_bzimage(&bomb);
	struct vn_elf loader;
	struct setup_header header;
	struct veneer_error error;
	int code = load(&file, &loader, &header, &error);
	assert_refused("bomb", code, -ENOEXEC, &error, "decompresses to more than 1 GiB");
	free(elf.data);
	free(room.data);
	free(one.data);
	free(bomb.data);
	free(file.data);
}

static long peak_kib(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

// Whatever the bytes say: no crash, an answer, and no more memory than a window takes.
static void test_mutations(void **state)
{
	(void)state;
	long before = peak_kib();
	uint32_t random = 19700101;
	unsigned answers = 0;
	for (size_t i = 0; i < COMPRESSIONS; i++) {
		struct bytes valid = make_kernel(compressions[i].compress, ELF_LOW_LEAST);
		for (unsigned round = 0; round < 500; round++) {
			struct bytes file = make_bytes(valid.size);
			memcpy(file.data, valid.data, valid.size);
			size_t start = round % 2 ? 0x1f1 : BZIMAGE_SETUP_SIZE + 0x100;
			size_t length = round % 4 ? 100 : valid.size - start - BZIMAGE_TAIL;
			for (unsigned n = next_random(&random) % 3; n < 3; n++)
				file.data[start + next_random(&random) % length] =
					(uint8_t)next_random(&random);
			struct vn_elf elf;
			struct setup_header header;
			struct veneer_error error;
			int code = load(&file, &elf, &header, &error);
			answers += code == 0 || (code < 0 && error.message[0]);
			free(file.data);
		}
		free(valid.data);
	}
	assert_int_equal(answers, 500 * COMPRESSIONS);
	assert_true(peak_kib() - before < (long)(512 * MIB / KIB));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compressions),
		cmocka_unit_test(test_recognise),
		cmocka_unit_test(test_header_forms),
		cmocka_unit_test(test_old_protocol),
		cmocka_unit_test(test_own_decompressor),
		cmocka_unit_test(test_placement),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_damaged_payload),
		cmocka_unit_test(test_trailer),
		cmocka_unit_test(test_bad_content),
		cmocka_unit_test(test_bomb),
		cmocka_unit_test(test_mutations),
	};
	return cmocka_run_group_tests(tests, create_memory, destroy_memory);
}
