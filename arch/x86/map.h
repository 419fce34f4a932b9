// SPDX-License-Identifier: Apache-2.0
//
// The guest's physical address map and interrupt lines: every fixed number of the machine, once.
#ifndef VN_X86_MAP_H
#define VN_X86_MAP_H

// Low memory, all of it RAM for the loader to use before the kernel takes over.
#define VN_MAP_GDT             0x0500ull
#define VN_MAP_PVH_INFO        0x6000ull // start_info, module list, memory map
#define VN_MAP_BOOT_PARAMS     0x7000ull // Linux boot_params ("zero page")
#define VN_MAP_PAGE_TABLES     0x9000ull // PML4, PDPT and four page directories: 24 KiB
#define VN_MAP_PAGE_TABLES_END 0xf000ull
#define VN_MAP_CMDLINE         0x20000ull
#define VN_MAP_CMDLINE_MAX     2048ull // with the terminating NUL (Linux: COMMAND_LINE_SIZE)
#define VN_MAP_SETUP_DATA      0x30000ull // setup_data list: RNG seed, device tree
#define VN_MAP_SETUP_DATA_END  0x80000ull
#define VN_MAP_LOW_RAM_END     0x9fc00ull // the EBDA would begin here
#define VN_MAP_ACPI            0xe0000ull // RSDP and tables; reserved in the E820 map
#define VN_MAP_BIOS_RESET      0xffff0ull // F000:FFF0; the end of what ACPI tables may take
#define VN_MAP_ACPI_END        0x100000ull
#define VN_MAP_KERNEL_MIN      0x100000ull

// The hole below 4 GiB, where devices live, begins here whatever the RAM's size.
#define VN_MAP_HOLE        0xc0000000ull
#define VN_MAP_HIGH_RAM    0x100000000ull
#define VN_MAP_VIRTIO      0xd0000000ull // virtio-mmio slots, one page each
#define VN_MAP_VIRTIO_STEP 0x1000ull
#define VN_MAP_ECAM        0xe0000000ull // PCI bus 0's configuration space; reserved in E820
#define VN_MAP_ECAM_SIZE   0x100000ull
#define VN_MAP_IOAPIC      0xfec00000ull
#define VN_MAP_LAPIC       0xfee00000ull
#define VN_MAP_IDENTITY    0xfffbc000ull // KVM_SET_IDENTITY_MAP_ADDR: one page
#define VN_MAP_TSS         0xfffbd000ull // KVM_SET_TSS_ADDR: three pages

// Ports.
#define VN_PORT_KEYBOARD_DATA    0x60
#define VN_PORT_KEYBOARD_COMMAND 0x64
#define VN_PORT_DEBUG_EXIT       0xf4
#define VN_PORT_SERIAL           0x3f8
#define VN_PORT_PVPANIC          0x505
#define VN_PORT_PCI              0xcf8 // CONFIG_ADDRESS, and CONFIG_DATA at 0xcfc
#define VN_PORT_RESET_CONTROL    0xcf9 // a byte within CONFIG_ADDRESS: the chipset's own reset
#define VN_PORT_SLEEP_CONTROL    0x600 // ACPI 4.8.3.7
#define VN_PORT_SLEEP_STATUS     0x601
#define VN_PORT_RESET            0x602
#define VN_PORT_EVENT            0x603 // ACPI's generic event device: what is pending

#define VN_RESET_VALUE  0x01 // what a kernel writes to VN_PORT_RESET
#define VN_SLEEP_S5     5 // SLP_TYP of soft off
#define VN_SLEEP_ENABLE 0x20
#define VN_EVENT_BUTTON 0x01 // in VN_PORT_EVENT: the power button was pressed

// IOAPIC pins. Virtio-mmio slot i uses VN_GSI_VIRTIO + i; pins above 15 belong to no ISA device.
#define VN_GSI_SERIAL   4
#define VN_GSI_EVENT    5 // ACPI's generic event device
#define VN_GSI_VIRTIO   16
#define VN_VIRTIO_SLOTS 8
#define VN_IOAPIC_PINS  24

#endif
