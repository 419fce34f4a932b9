// SPDX-License-Identifier: Apache-2.0
//
// ACPI tables of the machine: RSDP, XSDT, hardware-reduced FADT, MADT, MCFG where there is PCI,
// SRAT and SLIT where there are NUMA cells, and a DSDT whose byte code iasl made at build time from
// arch/x86/dsdt.asl.
#ifndef VN_X86_ACPI_H
#define VN_X86_ACPI_H

#include "arch/x86/machine.h"

// Write the tables into [VN_MAP_ACPI, VN_MAP_BIOS_RESET) and say where the RSDP is; behind them,
// code that resets the machine, for kernels that jump to a BIOS to have it done. -ENOSPC when they
// do not fit.
int vn_acpi_write(const struct vn_machine *machine, vn_gpa *rsdp, struct veneer_error *error);

#endif
