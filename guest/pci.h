// SPDX-License-Identifier: Apache-2.0
/*
 * PCI: the functions of bus 0, their configuration space, BARs and MSI-X messages.
 */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_FUNCTIONS 32 /* slots of a bus; function 0 of each is looked at */
#define PCI_BARS      6
#define PCI_VECTORS   4 /* messages of one function that are ever used */

#define PCI_VENDOR_ID       0x00
#define PCI_DEVICE_ID       0x02
#define PCI_COMMAND         0x04
#define PCI_STATUS          0x06
#define PCI_HEADER_TYPE     0x0e
#define PCI_BAR0            0x10
#define PCI_SUBSYSTEM_ID    0x2e
#define PCI_CAPABILITIES    0x34
#define PCI_COMMAND_MEMORY  2
#define PCI_COMMAND_MASTER  4
#define PCI_CAPABILITY_MSIX 0x11
#define PCI_VENDOR_SPECIFIC 0x09
#define PCI_VENDOR_VIRTIO   0x1af4

#define MSIX_CONTROL       2 /* in the capability */
#define MSIX_ENABLE        0x8000
#define MSIX_FUNCTION_MASK 0x4000
#define MSIX_ENTRY_BYTES   16
#define MSIX_ENTRY_CONTROL 12 /* in an entry of the table */
#define MSIX_ENTRY_MASKED  1

struct pci_bar {
	uint64_t base, bytes; /* bytes 0: none; of memory only */
	bool wide; /* 64 bits, and so two registers */
};

struct pci_function {
	uint64_t config; /* its configuration space in memory, or 0: through the ports */
	unsigned slot;
	uint16_t vendor, device;
	struct pci_bar bars[PCI_BARS];
	uint8_t msix; /* the capability, 0 if there is none */
	uint32_t vectors;
	uint64_t table, pending; /* addresses of the MSI-X table and pending bits */
	int irqs[PCI_VECTORS]; /* for each message, index in irq_counts[] or -1 */
};

extern struct pci_function pci_functions[PCI_FUNCTIONS];

/* A register of 1, 2, 4 or 8 bytes in memory, at any address: one plain `mov`. */
uint64_t mmio_read(uint64_t address, unsigned bytes);
void mmio_write(uint64_t address, uint64_t value, unsigned bytes);

/*
 * Looks, the first time, at what there is: in the memory that the device tree or
 * `pci=BASE[,WINDOW]` names, or for `pci=ports` through ports 0xcf8 and 0xcfc. Turns memory
 * decoding, bus mastering and MSI-X on, with all messages masked. A 64-bit BAR without an address
 * gets one from WINDOW on. Returns how many functions there are.
 */
unsigned pci_scan(void);

/* `bytes` (1, 2 or 4, 8 in memory) of the configuration space. */
uint64_t pci_read(const struct pci_function *function, unsigned offset, unsigned bytes);
void pci_write(
	const struct pci_function *function, unsigned offset, uint64_t value, unsigned bytes);

/* Through the ports whatever the function says: 1, 2 or 4 bytes. */
uint32_t pci_port_read(unsigned slot, unsigned offset, unsigned bytes);
void pci_port_write(unsigned slot, unsigned offset, uint32_t value, unsigned bytes);

/* The capability with this ID at or behind `from` (0: the first), or 0. */
uint8_t pci_capability(const struct pci_function *function, uint8_t from, uint8_t id);
uint8_t pci_next_capability(const struct pci_function *function, uint8_t from, uint8_t id);

/* Writes a BAR, whatever the address; bars[] keeps what it was. */
void pci_move_bar(const struct pci_function *function, unsigned bar, uint64_t address);

/* Lets message `vector` interrupt this CPU and unmasks it; the index in irq_counts[], or -1. */
int pci_irq(struct pci_function *function, uint32_t vector);

/* The entry of the MSI-X table: which interrupt it sends, and whether it is masked. */
void msix_set(const struct pci_function *function, uint32_t vector, int irq);
void msix_mask(const struct pci_function *function, uint32_t vector, bool mask);
void msix_control(const struct pci_function *function, uint16_t control);
bool msix_pending(const struct pci_function *function, uint32_t vector);

#endif
