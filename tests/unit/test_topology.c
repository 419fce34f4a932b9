// SPDX-License-Identifier: Apache-2.0
//
// Topologies that programs ask for, and the APIC ids of their CPUs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "arch/x86/topology.h"
#include "base/limits.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void ids_have_gaps(void **state)
{
	static const struct {
		struct vn_topology topology;
		unsigned count;
		uint32_t ids[12];
	} cases[] = {
		{{1, 1, 3, 1, 0}, 3, {0, 1, 2}},
		{{2, 1, 2, 1, 0}, 4, {0, 1, 2, 3}},
		{{1, 1, 2, 2, 0}, 4, {0, 1, 2, 3}},
		{{2, 1, 3, 1, 0}, 6, {0, 1, 2, 4, 5, 6}},
		{{1, 1, 2, 3, 0}, 6, {0, 1, 2, 4, 5, 6}},
		{{3, 1, 1, 2, 0}, 6, {0, 1, 2, 3, 4, 5}},
		{{2, 3, 1, 1, 0}, 6, {0, 1, 2, 4, 5, 6}},
		{{2, 1, 3, 2, 0}, 12, {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13}},
		// Cores that share a level 3 cache are together.
		{{1, 1, 6, 1, 3}, 6, {0, 1, 2, 4, 5, 6}},
		{{1, 1, 5, 1, 2}, 5, {0, 1, 2, 3, 4}},
		{{1, 1, 3, 2, 3}, 6, {0, 1, 2, 3, 4, 5}},
		{{1, 1, 3, 1, 64}, 3, {0, 1, 2}},
	};

	(void)state;
	for (size_t n = 0; n < COUNT(cases); n++)
		for (unsigned i = 0; i < cases[n].count; i++)
			assert_int_equal(
				vn_topology_apic_id(&cases[n].topology, i), cases[n].ids[i]);
}

// Whatever the topology: ids rise, fit in the MADT's 8 bits and are within the socket's field.
static void ids_of_all_topologies(void **state)
{
	(void)state;
	for (unsigned sockets = 1; sockets <= VN_CPUS_MAX; sockets++)
		for (unsigned dies = 1; sockets * dies <= VN_CPUS_MAX; dies++)
			for (unsigned cores = 1; sockets * dies * cores <= VN_CPUS_MAX; cores++) {
				unsigned threads = VN_CPUS_MAX / (sockets * dies * cores);
				struct vn_topology topology = {sockets, dies, cores, threads, 0};
				struct vn_topology_shifts shifts = vn_topology_shifts(&topology);
				unsigned cpus = sockets * dies * cores * threads;
				uint32_t last = 0;

				for (unsigned i = 0; i < cpus; i++) {
					uint32_t id = vn_topology_apic_id(&topology, i);

					assert_true(i == 0 ? id == 0 : id > last);
					assert_int_equal(
						id >> shifts.socket, i / (dies * cores * threads));
					assert_int_equal(id >> shifts.core,
						vn_topology_apic_id(&topology, i - i % threads) >>
							shifts.core);
					last = id;
				}
				assert_true(last < 255);
			}
}

static void made_from_a_request(void **state)
{
	const struct vn_topology_options none = {0}, some = {2, 1, 4, 2};
	struct vn_topology topology;
	struct veneer_error error;

	(void)state;
	assert_int_equal(vn_topology_check(&none, 5, &error), 0);
	vn_topology_make(&topology, &none, 5, NULL, NULL);
	assert_memory_equal(&topology, (&(struct vn_topology){1, 1, 5, 1, 0}), sizeof(topology));
	assert_int_equal(vn_topology_check(&some, 16, &error), 0);
	vn_topology_make(&topology, &some, 16, NULL, NULL);
	assert_memory_equal(&topology, (&(struct vn_topology){2, 1, 4, 2, 0}), sizeof(topology));
	assert_int_equal(vn_topology_socket_cpus(&topology), 8);
}

// A socket that nobody asked for, and a level 3 cache, is in one cell, and as large as that allows.
static void cells_part_caches_and_sockets(void **state)
{
	static const struct {
		struct vn_topology_options given;
		uint8_t cell_of[8];
		struct vn_topology made;
	} cases[] = {
		{{0}, {0}, {1, 1, 8, 1, 0}}, {{0}, {0, 0, 0, 0, 1, 1, 1, 1}, {2, 1, 4, 1, 0}},
		{{0}, {1, 1, 2, 2, 3, 3, 0, 0}, {4, 1, 2, 1, 0}},
		{{0}, {0, 0, 0, 0, 0, 0, 1, 1}, {4, 1, 2, 1, 0}},
		{{0}, {0, 1, 0, 1, 0, 1, 0, 1}, {8, 1, 1, 1, 0}},
		{{1, 1, 8, 1}, {0}, {1, 1, 8, 1, 0}},
		{{1, 1, 8, 1}, {0, 0, 0, 0, 1, 1, 1, 1}, {1, 1, 8, 1, 4}},
		{{2, 1, 4, 1}, {0, 0, 0, 0, 1, 1, 1, 1}, {2, 1, 4, 1, 0}},
		{{2, 1, 4, 1}, {0, 0, 1, 1, 2, 2, 3, 3}, {2, 1, 4, 1, 2}},
		{{1, 1, 8, 1}, {0, 0, 0, 0, 0, 0, 1, 1}, {1, 1, 8, 1, 6}},
		{{1, 1, 8, 1}, {0, 1, 0, 1, 0, 1, 0, 1}, {1, 1, 8, 1, 1}},
		{{1, 1, 4, 2}, {0, 0, 0, 0, 1, 1, 1, 1}, {1, 1, 4, 2, 4}},
		{{1, 1, 4, 2}, {0, 0, 1, 1, 0, 0, 1, 1}, {1, 1, 4, 2, 2}},
		{{1, 1, 4, 2}, {0, 1, 0, 1, 0, 1, 0, 1}, {1, 1, 4, 2, 2}}, // cores in two
	};
	struct vn_topology topology;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		vn_topology_make(&topology, &cases[i].given, 8, cases[i].cell_of, NULL);
		assert_memory_equal(&topology, &cases[i].made, sizeof(topology));
	}
}

// The host's level 3 caches part the guest's, within sockets and cells that stay as they are.
static void host_caches_part_caches(void **state)
{
	static const struct {
		struct vn_topology_options given;
		uint8_t cell_of[8], cache_of[8];
		struct vn_topology made;
	} cases[] = {
		{{0}, {0}, {0}, {1, 1, 8, 1, 0}},
		{{0}, {0}, {0, 0, 0, 0, 4, 4, 4, 4}, {1, 1, 8, 1, 4}},
		{{0}, {0}, {0, 1, 0, 1, 0, 1, 0, 1}, {1, 1, 8, 1, 1}},
		{{1, 1, 4, 2}, {0}, {0, 0, 2, 2, 4, 4, 6, 6}, {1, 1, 4, 2, 2}},
		{{2, 1, 4, 1}, {0}, {0, 0, 0, 0, 4, 4, 4, 4}, {2, 1, 4, 1, 0}},
		{{0}, {0, 0, 0, 0, 1, 1, 1, 1}, {0, 0, 2, 2, 4, 4, 6, 6}, {2, 1, 4, 1, 2}},
		{{1, 1, 8, 1}, {0, 0, 1, 1, 2, 2, 3, 3}, {0, 0, 0, 0, 4, 4, 4, 4}, {1, 1, 8, 1, 2}},
	};
	struct vn_topology topology;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		vn_topology_make(
			&topology, &cases[i].given, 8, cases[i].cell_of, cases[i].cache_of);
		assert_memory_equal(&topology, &cases[i].made, sizeof(topology));
	}
}

static void refusals(void **state)
{
	static const struct {
		struct vn_topology_options topology;
		const char *says;
	} cases[] = {
		{{2, 1, 4, 2}, "makes 16 CPUs, not the 8 of the guest"},
		{{0, 1, 4, 2}, "makes 0 CPUs"},
		{{8, 0, 0, 0}, "makes 0 CPUs"},
		{{65535, 65535, 65535, 65535}, "makes 18445618199572250625 CPUs"},
	};
	struct veneer_error error;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(vn_topology_check(&cases[i].topology, 8, &error), -EINVAL);
		assert_non_null(strstr(error.message, cases[i].says));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_have_gaps),
		cmocka_unit_test(ids_of_all_topologies),
		cmocka_unit_test(made_from_a_request),
		cmocka_unit_test(cells_part_caches_and_sockets),
		cmocka_unit_test(host_caches_part_caches),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
