// SPDX-License-Identifier: Apache-2.0
//
// The ACPI tables (ACPI 6.3), written straight into guest memory before the guest runs. They
// describe a hardware-reduced machine: no PM1 registers, no SCI, no timer, no FACS; it is switched
// off through the sleep registers. What varies between machines is the number of CPUs in the MADT,
// whether there is PCI, the numbers in the DSDT that say so and which virtio-mmio slots hold a
// device, and the NUMA cells in SRAT and SLIT.
#include "arch/x86/acpi.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

// System Description Table Header, section 5.2.6.
struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

// The DSDT as iasl made it (dsdt.S): a header and byte code.
extern const uint8_t vn_dsdt[];

// Generic Address Structure, section 5.2.3.2.
struct address {
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	uint64_t address;
} __attribute__((packed));

#define SPACE_SYSTEM_IO 1
#define ACCESS_BYTE     1

// Root System Description Pointer, section 5.2.5.3.
struct rsdp {
	char signature[8];
	uint8_t checksum; // of the first 20 bytes
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

#define RSDP_REVISION_1_SIZE 20

#define TABLES_MAX 5

struct xsdt {
	struct header header;
	uint64_t tables[TABLES_MAX];
} __attribute__((packed));

// Fixed ACPI Description Table, section 5.2.9; what hardware-reduced machines leave 0 has no name.
struct fadt {
	struct header header;
	uint8_t unused0[73];
	uint16_t iapc_boot_arch;
	uint8_t unused1;
	uint32_t flags;
	struct address reset_register;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_control;
	uint64_t x_dsdt;
	uint8_t unused2[96];
	struct address sleep_control;
	struct address sleep_status;
	char hypervisor_vendor[8];
} __attribute__((packed));

static_assert(offsetof(struct fadt, iapc_boot_arch) == 109, "ACPI 6.3 table 5-33");
static_assert(offsetof(struct fadt, x_dsdt) == 140, "ACPI 6.3 table 5-33");
static_assert(offsetof(struct fadt, sleep_control) == 244, "ACPI 6.3 table 5-33");
static_assert(sizeof(struct fadt) == 276, "ACPI 6.3 table 5-33");

#define FADT_REVISION      6
#define FADT_MINOR_VERSION 3
#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_PWR_BUTTON    (1u << 4) // not a fixed feature
#define FADT_SLP_BUTTON    (1u << 5) // not a fixed feature
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED    (1u << 20)
#define BOOT_ARCH_NO_VGA   (1u << 2)
#define BOOT_ARCH_NO_CMOS  (1u << 5)

// Multiple APIC Description Table, section 5.2.12.
struct madt {
	struct header header;
	uint32_t lapic_address;
	uint32_t flags;
} __attribute__((packed));

struct madt_lapic {
	uint8_t type;
	uint8_t length;
	uint8_t processor_uid;
	uint8_t apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type;
	uint8_t length;
	uint8_t ioapic_id;
	uint8_t reserved;
	uint32_t address;
	uint32_t gsi_base;
} __attribute__((packed));

struct madt_x2apic {
	uint8_t type;
	uint8_t length;
	uint16_t reserved;
	uint32_t x2apic_id;
	uint32_t flags;
	uint32_t processor_uid;
} __attribute__((packed));

#define MADT_REVISION      4
#define MADT_LAPIC         0
#define MADT_IOAPIC        1
#define MADT_X2APIC        9
#define MADT_LAPIC_ENABLED 1u

// Ids of local APIC entries have 8 bits and 255 is the broadcast: CPUs from there on have an x2APIC
// entry each (section 5.2.12.12).
#define MADT_LAPICS_MAX 255

// PCI Firmware Specification 3.3 section 4.1.2: where configuration space is in memory.
struct mcfg {
	struct header header;
	uint64_t reserved0;
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus;
	uint8_t last_bus;
	uint32_t reserved1;
} __attribute__((packed));

// System Resource Affinity Table, section 5.2.16: a cell is a proximity domain. An entry's domain
// has 32 bits, but that of a local APIC is in two pieces, of which the low byte suffices here.
struct srat {
	struct header header;
	uint32_t one; // whatever it means
	uint64_t reserved;
} __attribute__((packed));

struct srat_lapic {
	uint8_t type;
	uint8_t length;
	uint8_t domain;
	uint8_t apic_id;
	uint32_t flags;
	uint8_t sapic_eid;
	uint8_t domain_high[3];
	uint32_t clock_domain;
} __attribute__((packed));

struct srat_memory {
	uint8_t type;
	uint8_t length;
	uint32_t domain;
	uint16_t reserved0;
	uint64_t base;
	uint64_t size;
	uint32_t reserved1;
	uint32_t flags;
	uint64_t reserved2;
} __attribute__((packed));

struct srat_x2apic {
	uint8_t type;
	uint8_t length;
	uint16_t reserved0;
	uint32_t domain;
	uint32_t x2apic_id;
	uint32_t flags;
	uint32_t clock_domain;
	uint32_t reserved1;
} __attribute__((packed));

static_assert(sizeof(struct srat_lapic) == 16, "ACPI 6.3 table 5-71");
static_assert(sizeof(struct srat_memory) == 40, "ACPI 6.3 table 5-72");
static_assert(sizeof(struct srat_x2apic) == 24, "ACPI 6.3 table 5-74");

#define SRAT_REVISION 3
#define SRAT_LAPIC    0
#define SRAT_MEMORY   1
#define SRAT_X2APIC   2
#define SRAT_ENABLED  1u

// System Locality Information Table, section 5.2.17.
struct slit {
	struct header header;
	uint64_t localities;
	uint8_t distances[]; // a row for each
} __attribute__((packed));

// Guest memory that the tables are taken from, front to back.
struct area {
	uint8_t *host;
	uint64_t used;
	struct veneer_error *error;
};

// `size` zeroed bytes, aligned to 16, and their address; NULL when there is no room.
static void *take(struct area *area, size_t size, uint64_t *gpa)
{
	uint64_t at = (area->used + 15) & ~15ull;

	if (at + size > VN_MAP_BIOS_RESET - VN_MAP_ACPI) {
		vn_fail(area->error, -ENOSPC, "the ACPI tables do not fit into %llu bytes",
			VN_MAP_BIOS_RESET - VN_MAP_ACPI);
		return NULL;
	}
	area->used = at + size;
	*gpa = VN_MAP_ACPI + at;
	return memset(area->host + at, 0, size);
}

// What makes all `length` bytes add up to 0 when it is stored in a byte that is 0 now.
static uint8_t checksum(const void *table, size_t length)
{
	const uint8_t *byte = table;
	uint8_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + byte[i]);
	return (uint8_t)-sum;
}

// Fill in the header, once the rest of the table is there.
static void finish(struct header *header, const char *signature, uint8_t revision, size_t length)
{
	memcpy(header->signature, signature, sizeof(header->signature));
	header->length = (uint32_t)length;
	header->revision = revision;
	memcpy(header->oem_id, "VENEER", sizeof(header->oem_id));
	memcpy(header->oem_table_id, "VENEER  ", sizeof(header->oem_table_id));
	header->oem_revision = 1;
	memcpy(header->creator_id, "VNEE", sizeof(header->creator_id));
	header->creator_revision = 1;
	header->checksum = checksum(header, length);
}

// Which slots hold a device. The byte code computes addresses and pins from the slot's number, so
// a device elsewhere would not be found.
static int slot_bits(const struct vn_machine *machine, uint32_t *bits, struct veneer_error *error)
{
	*bits = 0;
	for (unsigned i = 0; i < VN_VIRTIO_SLOTS; i++) {
		const struct vn_machine_virtio *slot = &machine->virtio[i];

		if (slot->size == 0)
			continue;
		if (slot->base != VN_MAP_VIRTIO + i * VN_MAP_VIRTIO_STEP ||
			slot->size != VN_MAP_VIRTIO_STEP || slot->gsi != VN_GSI_VIRTIO + i)
			return vn_fail(error, -EINVAL,
				"virtio-mmio slot %u is not where the ACPI byte code says", i);
		*bits |= 1u << i;
	}
	return 0;
}

// Set a number of the byte code. `Name (XXXX, 0x...)` is NameOp, the name, a prefix that says how
// many bytes follow, and the value (section 20.2); a second match would mean that this pattern is
// also something else.
static int set_number(uint8_t *aml, size_t length, const char *name, uint8_t prefix,
	const void *number, size_t size, struct veneer_error *error)
{
	const uint8_t pattern[] = {0x08, (uint8_t)name[0], (uint8_t)name[1], (uint8_t)name[2],
		(uint8_t)name[3], prefix};
	const uint8_t *end = aml + length;
	uint8_t *found = memmem(aml, length, pattern, sizeof(pattern));
	uint8_t *value;

	if (!found || (size_t)(end - found) < sizeof(pattern) + size)
		return vn_fail(error, -EINVAL, "the DSDT has no %s of %zu bytes", name, size);
	value = found + sizeof(pattern);
	if (memmem(value, (size_t)(end - value), pattern, sizeof(pattern)))
		return vn_fail(error, -EINVAL, "the DSDT has more than one %s", name);
	memcpy(value, number, size);
	return 0;
}

static int set_dword(
	uint8_t *aml, size_t length, const char *name, uint32_t value, struct veneer_error *error)
{
	return set_number(aml, length, name, 0x0c, &value, sizeof(value), error);
}

static int set_qword(
	uint8_t *aml, size_t length, const char *name, uint64_t value, struct veneer_error *error)
{
	return set_number(aml, length, name, 0x0e, &value, sizeof(value), error);
}

// What the byte code cannot know of the machine.
static int set_numbers(
	uint8_t *aml, size_t length, const struct vn_machine *machine, struct veneer_error *error)
{
	uint32_t bits;
	int ret;

	ret = slot_bits(machine, &bits, error);
	if (ret == 0)
		ret = set_dword(aml, length, "VDEV", bits, error);
	if (ret == 0)
		ret = set_qword(aml, length, "PBAS", machine->pci.base, error);
	if (ret == 0)
		ret = set_qword(aml, length, "PLEN", machine->pci.size, error);
	return ret;
}

static int write_dsdt(struct area *area, const struct vn_machine *machine, uint64_t *gpa)
{
	size_t length = ((const struct header *)vn_dsdt)->length;
	struct header *header = take(area, length, gpa);
	int ret;

	if (!header)
		return -ENOSPC;
	memcpy(header, vn_dsdt, length);
	ret = set_numbers((uint8_t *)header, length, machine, area->error);
	if (ret < 0)
		return ret;
	header->checksum = 0;
	header->checksum = checksum(header, length);
	return 0;
}

static struct address port(uint16_t number)
{
	return (struct address){
		.space = SPACE_SYSTEM_IO,
		.bit_width = 8,
		.access_size = ACCESS_BYTE,
		.address = number,
	};
}

static int write_fadt(struct area *area, uint64_t dsdt, uint64_t *gpa)
{
	struct fadt *fadt = take(area, sizeof(*fadt), gpa);

	if (!fadt)
		return -ENOSPC;
	// Bit 1 stays 0: behind the keyboard controller's ports is a reset line and no keyboard.
	fadt->iapc_boot_arch = BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_CMOS;
	fadt->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON |
		      FADT_RESET_REG_SUP | FADT_HW_REDUCED;
	fadt->reset_register = port(VN_PORT_RESET);
	fadt->reset_value = VN_RESET_VALUE;
	fadt->minor_version = FADT_MINOR_VERSION;
	fadt->x_dsdt = dsdt;
	fadt->sleep_control = port(VN_PORT_SLEEP_CONTROL);
	fadt->sleep_status = port(VN_PORT_SLEEP_STATUS);
	memcpy(fadt->hypervisor_vendor, "VENEER  ", sizeof(fadt->hypervisor_vendor));
	finish(&fadt->header, "FACP", FADT_REVISION, sizeof(*fadt));
	return 0;
}

// The entry of one CPU at `at`, or only its size where that is NULL.
static size_t add_cpu(uint8_t *at, unsigned index, uint32_t id)
{
	const struct madt_lapic lapic = {
		.type = MADT_LAPIC,
		.length = sizeof(lapic),
		.processor_uid = (uint8_t)index,
		.apic_id = (uint8_t)id,
		.flags = MADT_LAPIC_ENABLED,
	};
	const struct madt_x2apic x2apic = {
		.type = MADT_X2APIC,
		.length = sizeof(x2apic),
		.x2apic_id = id,
		.flags = MADT_LAPIC_ENABLED,
		.processor_uid = index,
	};
	bool wide = id >= MADT_LAPICS_MAX;
	size_t size = wide ? sizeof(x2apic) : sizeof(lapic);

	if (at)
		memcpy(at, wide ? (const void *)&x2apic : &lapic, size);
	return size;
}

// Every pin is what ACPI assumes of it (ISA pins edge and high, GSI n on pin n), so there are no
// interrupt source overrides; hardware-reduced machines have no 8259 to announce either.
static int write_madt(struct area *area, const struct vn_machine *machine, uint64_t *gpa)
{
	const struct vn_topology *topology = &machine->topology;
	uint32_t last = vn_topology_apic_id(topology, machine->cpus - 1);
	const struct madt_ioapic ioapic = {
		.type = MADT_IOAPIC,
		.length = sizeof(ioapic),
		// The first that no CPU has, where there is one: of those that CPUs share the
		// IOAPIC's is told by its address.
		.ioapic_id = last + 1 < MADT_LAPICS_MAX ? (uint8_t)(last + 1) : 0,
		.address = (uint32_t)VN_MAP_IOAPIC,
	};
	size_t length = sizeof(struct madt) + sizeof(ioapic);
	struct madt *madt;
	uint8_t *at;

	for (unsigned i = 0; i < machine->cpus; i++)
		length += add_cpu(NULL, i, vn_topology_apic_id(topology, i));
	madt = take(area, length, gpa);
	if (!madt)
		return -ENOSPC;
	madt->lapic_address = (uint32_t)VN_MAP_LAPIC;
	at = (uint8_t *)(madt + 1);
	for (unsigned i = 0; i < machine->cpus; i++)
		at += add_cpu(at, i, vn_topology_apic_id(topology, i));
	memcpy(at, &ioapic, sizeof(ioapic));
	finish(&madt->header, "APIC", MADT_REVISION, length);
	return 0;
}

static int write_mcfg(struct area *area, uint64_t *gpa)
{
	struct mcfg *mcfg = take(area, sizeof(*mcfg), gpa);

	if (!mcfg)
		return -ENOSPC;
	mcfg->base = VN_MAP_ECAM; // segment 0 and bus 0 alone
	finish(&mcfg->header, "MCFG", 1, sizeof(*mcfg));
	return 0;
}

// The affinity of one CPU at `at`, or only its size where that is NULL; as in the MADT.
static size_t add_cpu_affinity(uint8_t *at, uint32_t id, uint8_t cell)
{
	const struct srat_lapic lapic = {
		.type = SRAT_LAPIC,
		.length = sizeof(lapic),
		.domain = cell,
		.apic_id = (uint8_t)id,
		.flags = SRAT_ENABLED,
	};
	const struct srat_x2apic x2apic = {
		.type = SRAT_X2APIC,
		.length = sizeof(x2apic),
		.domain = cell,
		.x2apic_id = id,
		.flags = SRAT_ENABLED,
	};
	bool wide = id >= MADT_LAPICS_MAX;
	size_t size = wide ? sizeof(x2apic) : sizeof(lapic);

	if (at)
		memcpy(at, wide ? (const void *)&x2apic : &lapic, size);
	return size;
}

static size_t add_cpu_affinities(uint8_t *at, const struct vn_machine *machine)
{
	size_t size = 0;

	for (unsigned i = 0; i < machine->cpus; i++)
		size += add_cpu_affinity(at ? at + size : NULL,
			vn_topology_apic_id(&machine->topology, i), machine->numa.cell_of[i]);
	return size;
}

static size_t add_memory_affinities(uint8_t *at, const struct vn_memory *memory)
{
	size_t size = 0;

	for (unsigned i = 0; i < memory->cell_count; i++) {
		const struct vn_memory_cell *cell = &memory->cells[i];

		for (unsigned n = 0; n < cell->part_count; n++) {
			const struct srat_memory entry = {
				.type = SRAT_MEMORY,
				.length = sizeof(entry),
				.domain = i,
				.base = cell->parts[n].start.addr,
				.size = cell->parts[n].size,
				.flags = SRAT_ENABLED,
			};

			if (at)
				memcpy(at + size, &entry, sizeof(entry));
			size += sizeof(entry);
		}
	}
	return size;
}

static int write_srat(struct area *area, const struct vn_machine *machine, uint64_t *gpa)
{
	size_t length = sizeof(struct srat) + add_cpu_affinities(NULL, machine) +
			add_memory_affinities(NULL, machine->memory);
	struct srat *srat = take(area, length, gpa);
	uint8_t *at;

	if (!srat)
		return -ENOSPC;
	srat->one = 1;
	at = (uint8_t *)(srat + 1);
	at += add_cpu_affinities(at, machine);
	add_memory_affinities(at, machine->memory);
	finish(&srat->header, "SRAT", SRAT_REVISION, length);
	return 0;
}

static int write_slit(struct area *area, const struct vn_machine_numa *numa, uint64_t *gpa)
{
	unsigned count = numa->cell_count;
	size_t length = sizeof(struct slit) + count * count;
	struct slit *slit = take(area, length, gpa);

	if (!slit)
		return -ENOSPC;
	slit->localities = count;
	for (unsigned i = 0; i < count; i++)
		memcpy(slit->distances + i * count, numa->distance[i], count);
	finish(&slit->header, "SLIT", 1, length);
	return 0;
}

static int write_xsdt(struct area *area, const uint64_t *tables, unsigned count, uint64_t *gpa)
{
	size_t size = count * sizeof(tables[0]);
	struct xsdt *xsdt = take(area, sizeof(xsdt->header) + size, gpa);

	if (!xsdt)
		return -ENOSPC;
	memcpy(xsdt->tables, tables, size);
	finish(&xsdt->header, "XSDT", 1, sizeof(xsdt->header) + size);
	return 0;
}

// The tables that the XSDT lists, and that. The DSDT is known to the FADT alone.
static int write_tables(struct area *area, const struct vn_machine *machine, uint64_t *xsdt)
{
	uint64_t dsdt, tables[TABLES_MAX];
	unsigned count = 0;
	int ret;

	ret = write_dsdt(area, machine, &dsdt);
	if (ret == 0)
		ret = write_fadt(area, dsdt, &tables[count++]);
	if (ret == 0)
		ret = write_madt(area, machine, &tables[count++]);
	if (ret == 0 && machine->pci.size != 0)
		ret = write_mcfg(area, &tables[count++]);
	if (ret == 0 && machine->numa.cell_count != 0)
		ret = write_srat(area, machine, &tables[count++]);
	if (ret == 0 && machine->numa.cell_count != 0)
		ret = write_slit(area, &machine->numa, &tables[count++]);
	return ret == 0 ? write_xsdt(area, tables, count, xsdt) : ret;
}

static void fill_rsdp(struct rsdp *rsdp, uint64_t xsdt)
{
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, "VENEER", sizeof(rsdp->oem_id));
	rsdp->revision = 2;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = xsdt;
	rsdp->checksum = checksum(rsdp, RSDP_REVISION_1_SIZE);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

// Linux does not use the reset register of a machine with hardware-reduced ACPI: it calls EFI, and
// where there is none, jumps to a BIOS's entry in real mode (reboot_init() and
// native_machine_emergency_restart() in arch/x86/kernel/reboot.c). There it finds this.
static void write_reset_entry(struct area *area)
{
	static const uint8_t code[] = {
		0xba, VN_PORT_RESET & 0xff, VN_PORT_RESET >> 8, // mov dx, VN_PORT_RESET
		0xb0, VN_RESET_VALUE, // mov al, VN_RESET_VALUE
		0xee, // out dx, al
		0xf4, // hlt
		0xeb, 0xfd, // jmp to the hlt
	};

	static_assert(sizeof(code) <= VN_MAP_ACPI_END - VN_MAP_BIOS_RESET, "16 bytes");
	memcpy(area->host + VN_MAP_BIOS_RESET - VN_MAP_ACPI, code, sizeof(code));
}

int vn_acpi_write(const struct vn_machine *machine, vn_gpa *rsdp, struct veneer_error *error)
{
	struct area area = {.error = error};
	uint64_t at = 0, xsdt = 0;
	struct rsdp *pointer;
	int ret;

	area.host =
		vn_memory_at(machine->memory, VN_GPA(VN_MAP_ACPI), VN_MAP_ACPI_END - VN_MAP_ACPI);
	if (!area.host)
		return vn_fail(error, -ENOSPC,
			"the guest's memory ends before %#llx, where the ACPI tables go",
			VN_MAP_ACPI_END);
	// First, so that a kernel that searches the BIOS area for it finds it too.
	pointer = take(&area, sizeof(*pointer), &at);
	if (!pointer)
		return -ENOSPC;
	ret = write_tables(&area, machine, &xsdt);
	if (ret < 0)
		return ret;
	fill_rsdp(pointer, xsdt);
	write_reset_entry(&area);
	*rsdp = VN_GPA(at);
	return 0;
}
