// SPDX-License-Identifier: Apache-2.0
//
// bzImage: each compression with a real payload, and one case for each way in which the image or
// its payload can be wrong.
#include "kernel_image.h"

#include <errno.h>
#include <sys/resource.h>

#include "arch/x86/bzimage.h"

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

#define COMPRESSIONS (sizeof(compressions) / sizeof(compressions[0]))

static int load(const struct bytes *file, struct vn_elf *elf, struct setup_header *header,
	struct veneer_error *error)
{
	struct vn_image image;
	vn_image_from_memory(&image, "bzImage", file->data, file->size);
	error->message[0] = '\0';
	vn_elf_begin(elf, "bzImage", &memory, error);
	return vn_bzimage_load(&image, header, elf);
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
	const size_t sizes[] = {ELF_LOW_LEAST, (8 << 20) - ELF_LOW_OFFSET - RELOCATIONS, 9 << 20};
	for (size_t i = 0; i < COMPRESSIONS; i++)
		for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
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
			assert_int_equal(header.init_size, 4 << 20);
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

static void no_payload(struct bytes *file)
{
	bzimage_header(file)->payload_length = 0;
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

static const struct {
	const char *name;
	void (*spoil)(struct bytes *file);
	const char *text;
} malformed[] = {
	{"old protocol", old_version, "boot protocol 2.07; 2.08 or newer"},
	{"no 64-bit capability", no_64_bit, "not a 64-bit kernel"},
	{"setup_sects", large_setup, "setup part, 131072 bytes, is longer than the file"},
	{"no payload", no_payload, "has no payload"},
	{"payload_offset", payload_behind_file, "cut short: the kernel's payload ends at 4294"},
	{"payload_length", payload_too_long, "cut short: the kernel's payload ends at 4294"},
	{"cut file", file_cut, "cut short: the kernel's payload ends at"},
	{"unknown format", unknown_format, "no known compression format"},
	{"bzip2", bzip2, "its bzip2 payload is not supported"},
	{"lzma", lzma_alone, "its lzma payload is not supported"},
	{"lzo", lzo, "its lzo payload is not supported"},
	{"lz4 frame", lz4_frame, "its lz4 frame payload is not supported"},
	{"payload of one byte", one_byte_payload, "no known compression format"},
};

static void test_malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
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
		for (size_t n = 0; n < sizeof(damages) / sizeof(damages[0]); n++) {
			struct bytes file = make_kernel(compressions[i].compress, 1 << 20);
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
		struct bytes file = make_kernel(compressions[i].compress, 1 << 20);
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
	struct bytes room = make_bytes(8 << 20);
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
	assert_true(peak_kib() - before < 512 << 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compressions),
		cmocka_unit_test(test_recognise),
		cmocka_unit_test(test_header_forms),
		cmocka_unit_test(test_old_protocol),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_damaged_payload),
		cmocka_unit_test(test_trailer),
		cmocka_unit_test(test_bad_content),
		cmocka_unit_test(test_bomb),
		cmocka_unit_test(test_mutations),
	};
	return cmocka_run_group_tests(tests, create_memory, destroy_memory);
}
