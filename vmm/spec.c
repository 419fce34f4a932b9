// SPDX-License-Identifier: Apache-2.0
//
// Check a configuration as a whole and fill in its defaults.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/option_limits.h"
#include "vmm/config.h"
#include "vmm/device_table.h"
#include "vmm/devices.h"

static int check_items(struct veneer_config *config, struct veneer_error *error)
{
	int code = 0;
	for (size_t i = 0; code == 0 && i < config->count; i++) {
		const struct vn_config_item *item = &config->items[i];
		code = vn_option_check(item->option, item->values, item->given, error);
		if (code < 0)
			vn_config_number_key(item->option, item->number, error);
	}
	return code;
}

// Return `code`; on failure, set the error's key to the property of the item that is the cell.
static int of_cell(const struct vn_spec *spec, unsigned cell, const char *property, int code,
	struct veneer_error *error)
{
	for (unsigned i = 0; code < 0 && i < spec->cell_count; i++) {
		const struct vn_cell_options *options =
			vn_config_values(spec->config, &vn_cell_option, i);
		if (options->number == cell)
			vn_error_set_key(error, "numa%u.%s", i, property);
	}
	return code;
}

static int check_cell_cpu(
	unsigned cell, unsigned cpu, unsigned cpus, bool seen, struct veneer_error *error)
{
	if (cpu >= cpus)
		return vn_fail(error, -EINVAL,
			"numa: cell %u has CPU %u; the guest's last CPU is %u", cell, cpu,
			cpus - 1);
	if (seen)
		return vn_fail(error, -EINVAL, "numa: CPU %u is in cell %u and in one before it",
			cpu, cell);
	return 0;
}

// Each vCPU is in exactly one cell, and cells name no others.
static int check_cell_cpus(const struct vn_spec *spec, struct veneer_error *error)
{
	unsigned cpus = spec->cpus->count;
	struct vn_cpuset seen = {.bits = {0}};
	for (unsigned i = 0; i < spec->cell_count; i++) {
		vn_cpuset_for_each(cpu, &spec->cells[i].cpus)
		{
			int code = check_cell_cpu(i, cpu, cpus, vn_cpuset_has(&seen, cpu), error);
			if (code < 0)
				return of_cell(spec, i, "cpus", code, error);
			vn_cpuset_add(&seen, cpu);
		}
	}
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		if (!vn_cpuset_has(&seen, cpu))
			return vn_fail(error, -EINVAL, "numa: CPU %u is in none of the %u cells",
				cpu, spec->cell_count);
	return 0;
}

// Sort the cells by number; numbers are 0 to count - 1.
static int sort_cells(struct vn_spec *spec, struct veneer_error *error)
{
	unsigned found = 0;
	spec->cell_count = vn_config_count(spec->config, &vn_cell_option);
	for (unsigned i = 0; i < spec->cell_count; i++) {
		const struct vn_cell_options *cell =
			vn_config_values(spec->config, &vn_cell_option, i);
		if (found & 1u << cell->number) {
			vn_fail(error, -EINVAL, "numa: cell %u is there twice", cell->number);
			vn_error_set_key(error, "numa%u.cell", i);
			return -EINVAL;
		}
		found |= 1u << cell->number;
		spec->cells[cell->number] = *cell;
	}
	for (unsigned i = 0; i < spec->cell_count; i++)
		if (!(found & 1u << i))
			return vn_fail(error, -EINVAL,
				"numa: cells are numbered from 0 without gaps; there is no cell %u",
				i);
	return 0;
}

// Cells take what they leave open from --memory, whose size becomes the sum of the cells.
static int complete_cells(
	struct vn_spec *spec, struct vn_memory_options *memory, struct veneer_error *error)
{
	uint64_t size = 0;
	for (unsigned i = 0; i < spec->cell_count; i++) {
		struct vn_cell_options *cell = &spec->cells[i];
		if (cell->size > UINT64_MAX - size)
			return vn_fail(error, -EINVAL,
				"numa: the cells have more memory than 64 bits hold");
		size += cell->size;
		if (cell->hugepage_size == 0)
			cell->hugepage_size = memory->hugepage_size;
		if (cell->node < 0)
			cell->node = memory->node;
	}
	if (memory->size != 0 && memory->size != size) {
		vn_fail(error, -EINVAL,
			"memory: it is %" PRIu64 "K, but the cells of numa have %" PRIu64
			"K together",
			(uint64_t)(memory->size / KIB), (uint64_t)(size / KIB));
		vn_error_set_key(error, "memory.size");
		return -EINVAL;
	}
	memory->size = size;
	return check_cell_cpus(spec, error);
}

static void make_one_cell(struct vn_spec *spec, struct vn_memory_options *memory)
{
	struct vn_cell_options *cell = &spec->cells[0];
	if (memory->size == 0)
		memory->size = VN_MEMORY_DEFAULT;
	*cell = (struct vn_cell_options){
		.size = memory->size, .hugepage_size = memory->hugepage_size, .node = memory->node};
	for (unsigned cpu = 0; cpu < spec->cpus->count; cpu++)
		vn_cpuset_add(&cell->cpus, cpu);
	spec->cell_count = 1;
}

static int make_cells(struct vn_spec *spec, struct veneer_error *error)
{
	struct vn_memory_options *memory = vn_config_values(spec->config, &vn_memory_option, 0);
	spec->memory = memory;
	int code = sort_cells(spec, error);
	spec->numa = spec->cell_count > 0;
	if (code == 0 && spec->numa)
		code = complete_cells(spec, memory, error);
	else if (code == 0)
		make_one_cell(spec, memory);
	if (code < 0)
		vn_error_set_key(error, "numa");
	return code;
}

// A size that no host can give.
static int check_cell_size(const struct vn_spec *spec, unsigned number, struct veneer_error *error)
{
	const struct vn_cell_options *cell = &spec->cells[number];
	char whose[32] = "memory: ";
	if (spec->numa)
		snprintf(whose, sizeof(whose), "numa: cell %u: ", number);
	int code = vn_memory_check_size(cell->size, vn_memory_page_size(cell), whose, error);
	if (spec->numa)
		return of_cell(spec, number, "memory", code, error);
	if (code < 0)
		vn_error_set_key(error, "memory.size");
	return code;
}

static int check_cell_memory(const struct vn_spec *spec, struct veneer_error *error)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < spec->cell_count; i++) {
		code = check_cell_size(spec, i, error);
		if (code < 0 || !spec->memory->merge)
			continue;
		code = vn_memory_check_merge(
			vn_memory_page_size(&spec->cells[i]), "memory: ", error);
		if (code < 0)
			vn_error_set_key(error, "memory.merge");
	}
	return code;
}

static int check_builtin_memory(const struct vn_spec *spec, struct veneer_error *error)
{
	if (spec->kernel || spec->memory->size >= VN_BUILTIN_MEMORY_MIN)
		return 0;
	vn_fail(error, -EINVAL,
		"%s: the built-in guest needs %" PRIu64 "M of memory, and is given %" PRIu64 "K",
		spec->numa ? "numa" : "memory", (uint64_t)(VN_BUILTIN_MEMORY_MIN / MIB),
		(uint64_t)(spec->memory->size / KIB));
	vn_error_set_key(error, "%s", spec->numa ? "numa" : "memory.size");
	return -EINVAL;
}

static const struct vn_file *file_of(
	const struct veneer_config *config, const struct vn_option *option)
{
	const struct vn_file_options *values = vn_config_values(config, option, 0);
	return vn_file_is_set(&values->file) ? &values->file : NULL;
}

static const char *string_of(const struct veneer_config *config, const struct vn_option *option)
{
	return ((const struct vn_string_options *)vn_config_values(config, option, 0))->text;
}

static void view(struct vn_spec *spec)
{
	const struct veneer_config *config = spec->config;
	const struct vn_transport_options *transport =
		vn_config_values(config, &vn_transport_option, 0);
	spec->kernel = file_of(config, &vn_kernel_option);
	spec->initrd = file_of(config, &vn_initrd_option);
	spec->cmdline = string_of(config, &vn_cmdline_option);
	spec->name = string_of(config, &vn_name_option);
	spec->cpus = vn_config_values(config, &vn_cpus_option, 0);
	spec->cpu = vn_config_values(config, &vn_cpu_option, 0);
	// The built-in guest starts fastest without PCI; distributions' kernels look for devices
	// there.
	spec->transport = transport->transport;
	if (spec->transport == VN_TRANSPORT_DEFAULT)
		spec->transport = spec->kernel ? VN_TRANSPORT_PCI : VN_TRANSPORT_MMIO;
}

void *vn_spec_device(const struct vn_spec *spec, const struct vn_device_type *type, unsigned number)
{
	const struct vn_device_guest guest = {
		.cpus = spec->cpus->count, .has_kernel = spec->kernel != NULL};
	void *values = vn_config_values(spec->config, type->option, number);
	return values && (!type->complete || type->complete(values, &guest)) ? values : NULL;
}

int vn_spec_make(
	struct vn_spec *spec, const struct veneer_config *config, struct veneer_error *error)
{
	*spec = (struct vn_spec){.numa = false};
	int code = vn_config_copy(&spec->config, config, error);
	if (code < 0)
		return code;
	code = check_items(spec->config, error);
	if (code == 0) {
		view(spec);
		code = make_cells(spec, error);
	}
	if (code == 0)
		code = check_cell_memory(spec, error);
	if (code == 0)
		code = check_builtin_memory(spec, error);
	if (code == 0)
		code = vn_devices_check(spec, error);
	if (code < 0)
		vn_spec_free(spec);
	return code;
}

void vn_spec_free(struct vn_spec *spec)
{
	veneer_config_free(spec->config);
	*spec = (struct vn_spec){.numa = false};
}

int veneer_config_check(const struct veneer_config *config, struct veneer_error *error)
{
	struct vn_spec spec;
	int code = vn_spec_make(&spec, config, error);
	if (code == 0)
		vn_spec_free(&spec);
	return code;
}
