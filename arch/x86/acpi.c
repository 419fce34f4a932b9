// SPDX-License-Identifier: Apache-2.0
//
// The ACPI tables (ACPI 6.3), written straight into guest memory before the guest runs. They
// describe a hardware-reduced machine: no PM1 registers, no SCI, no timer, no FACS; it is switched
// off through the sleep registers. What varies between machines is the number of CPUs in the MADT
// and four bytes of the DSDT that say which virtio-mmio slots hold a device.
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

struct xsdt {
	struct header header;
	uint64_t tables[2];
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

#define MADT_REVISION      4
#define MADT_LAPIC         0
#define MADT_IOAPIC        1
#define MADT_LAPIC_ENABLED 1u

// APIC ids of these entries have 8 bits, 255 is the broadcast, and the IOAPIC takes one.
#define MADT_CPUS_MAX 254

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

	if (at + size > VN_MAP_ACPI_END - VN_MAP_ACPI) {
		vn_fail(area->error, -ENOSPC, "the ACPI tables do not fit into %llu bytes",
			VN_MAP_ACPI_END - VN_MAP_ACPI);
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

// Set VDEV of the byte code. `Name (VDEV, ...)` is NameOp, the name, DWordPrefix and the value
// (section 20.2); a second match would mean that this pattern is also something else.
static int set_slots(uint8_t *aml, size_t length, uint32_t bits, struct veneer_error *error)
{
	static const uint8_t pattern[] = {0x08, 'V', 'D', 'E', 'V', 0x0c};
	const uint8_t *end = aml + length;
	uint8_t *found = memmem(aml, length, pattern, sizeof(pattern));
	uint8_t *value;

	if (!found || (size_t)(end - found) < sizeof(pattern) + sizeof(bits))
		return vn_fail(error, -EINVAL, "the DSDT has no VDEV of four bytes");
	value = found + sizeof(pattern);
	if (memmem(value, (size_t)(end - value), pattern, sizeof(pattern)))
		return vn_fail(error, -EINVAL, "the DSDT has more than one VDEV");
	memcpy(value, &bits, sizeof(bits));
	return 0;
}

static int write_dsdt(struct area *area, const struct vn_machine *machine, uint64_t *gpa)
{
	size_t length = ((const struct header *)vn_dsdt)->length;
	struct header *header = take(area, length, gpa);
	uint32_t bits;
	int ret;

	if (!header)
		return -ENOSPC;
	memcpy(header, vn_dsdt, length);
	ret = slot_bits(machine, &bits, area->error);
	if (ret < 0)
		return ret;
	ret = set_slots((uint8_t *)header, length, bits, area->error);
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

// Every pin is what ACPI assumes of it (ISA pins edge and high, GSI n on pin n), so there are no
// interrupt source overrides; hardware-reduced machines have no 8259 to announce either.
static int write_madt(struct area *area, unsigned cpus, uint64_t *gpa)
{
	size_t length =
		sizeof(struct madt) + cpus * sizeof(struct madt_lapic) + sizeof(struct madt_ioapic);
	struct madt *madt;
	struct madt_lapic *lapic;
	struct madt_ioapic *ioapic;

	if (cpus > MADT_CPUS_MAX)
		return vn_fail(area->error, -ENOSPC, "the MADT has room for %u CPUs, not %u",
			MADT_CPUS_MAX, cpus);
	madt = take(area, length, gpa);
	if (!madt)
		return -ENOSPC;
	madt->lapic_address = (uint32_t)VN_MAP_LAPIC;
	lapic = (struct madt_lapic *)(madt + 1);
	for (unsigned i = 0; i < cpus; i++)
		*lapic++ = (struct madt_lapic){
			.type = MADT_LAPIC,
			.length = sizeof(*lapic),
			.processor_uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = MADT_LAPIC_ENABLED,
		};
	ioapic = (struct madt_ioapic *)lapic;
	*ioapic = (struct madt_ioapic){
		.type = MADT_IOAPIC,
		.length = sizeof(*ioapic),
		.ioapic_id = (uint8_t)cpus, // the first that no CPU has
		.address = (uint32_t)VN_MAP_IOAPIC,
	};
	finish(&madt->header, "APIC", MADT_REVISION, length);
	return 0;
}

static int write_xsdt(struct area *area, uint64_t fadt, uint64_t madt, uint64_t *gpa)
{
	struct xsdt *xsdt = take(area, sizeof(*xsdt), gpa);

	if (!xsdt)
		return -ENOSPC;
	xsdt->tables[0] = fadt;
	xsdt->tables[1] = madt;
	finish(&xsdt->header, "XSDT", 1, sizeof(*xsdt));
	return 0;
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

int vn_acpi_write(const struct vn_machine *machine, vn_gpa *rsdp, struct veneer_error *error)
{
	struct area area = {.error = error};
	uint64_t at = 0, dsdt = 0, fadt = 0, madt = 0, xsdt = 0;
	struct rsdp *pointer;
	int ret;

	area.host =
		vn_memory_at(machine->memory, VN_GPA(VN_MAP_ACPI), VN_MAP_ACPI_END - VN_MAP_ACPI);
	if (!area.host)
		return vn_fail(error, -ENOSPC,
			"the guest's memory ends before %#llx, where the "
			"ACPI tables go",
			VN_MAP_ACPI_END);
	// First, so that a kernel that searches the BIOS area for it finds it too.
	pointer = take(&area, sizeof(*pointer), &at);
	if (!pointer)
		return -ENOSPC;
	ret = write_dsdt(&area, machine, &dsdt);
	if (ret < 0)
		return ret;
	ret = write_fadt(&area, dsdt, &fadt);
	if (ret < 0)
		return ret;
	ret = write_madt(&area, machine->cpus, &madt);
	if (ret < 0)
		return ret;
	ret = write_xsdt(&area, fadt, madt, &xsdt);
	if (ret < 0)
		return ret;
	fill_rsdp(pointer, xsdt);
	*rsdp = VN_GPA(at);
	return 0;
}
