// SPDX-License-Identifier: Apache-2.0
//
// What a PC's kernel cannot find by itself: the serial port, the PCI root, the virtio-mmio devices,
// the power button, and the value that switches the machine off. iasl compiles it when Veneer is
// built; arch/x86/acpi.c puts the byte code into guest memory and sets VDEV, PBAS and PLEN. The
// build replaces the words between @ by their values in arch/x86/map.h.
DefinitionBlock ("", "DSDT", 2, "VENEER", "VENEER  ", 1)
{
	// SLP_TYP of soft off; the rest is unused where sleep registers replace the PM1 block.
	Name (\_S5, Package () { @VN_SLEEP_S5@, 0, 0, 0 })

	Scope (\_SB)
	{
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, @VN_PORT_SERIAL@, @VN_PORT_SERIAL@, 1, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)
				{
					@VN_GSI_SERIAL@
				}
			})
		}

		// By which a kernel says that it has panicked; the methods are those of QEMU's
		// specification.
		Device (PVPA)
		{
			Name (_HID, "QEMU0001")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, @VN_PORT_PVPANIC@, @VN_PORT_PVPANIC@, 1, 1)
			})
			OperationRegion (PORT, SystemIO, @VN_PORT_PVPANIC@, 1)
			Field (PORT, ByteAcc, NoLock, Preserve)
			{
				EVNT, 8
			}
			Method (RDPT) { Return (EVNT) }
			Method (WRPT, 1, Serialized) { EVNT = Arg0 }
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, 0)
		}

		// Says by an interrupt that the power button was pressed, the only event there is:
		// a machine without fixed ACPI registers has no other way.
		Device (GED0)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive)
				{
					@VN_GSI_EVENT@
				}
			})

			// What is pending; reading clears it, and the interrupt with it.
			OperationRegion (EVTS, SystemIO, @VN_PORT_EVENT@, 1)
			Field (EVTS, ByteAcc, NoLock, Preserve)
			{
				PEND, 8
			}

			Method (_EVT, 1, Serialized)
			{
				Local0 = PEND
				If (Local0 & @VN_EVENT_BUTTON@)
				{
					Notify (PWRB, 0x80)
				}
			}
		}

		// Where BARs may be; no length says that there is no PCI. The monitor finds these
		// numbers by their names and sets them; the values here are only ones that take
		// eight bytes.
		Name (PBAS, 0x1000000000000000)
		Name (PLEN, 0x1000000000000000)

		Method (PSTA)
		{
			If (PLEN)
			{
				Return (0x0F)
			}
			Return (0)
		}

		// Configuration space in memory, as MCFG has it: kernels want it reserved.
		Device (ECAM)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, @VN_MAP_ECAM@, @VN_MAP_ECAM_SIZE@)
			})
			Method (_STA) { Return (PSTA ()) }
		}

		// One bus, without legacy interrupts and so without _PRT.
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_SEG, 0)
			Name (_BBN, 0)
			Method (_STA) { Return (PSTA ()) }

			Method (_CRS, 0, Serialized)
			{
				Name (WIND, ResourceTemplate ()
				{
					WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
						0, 0, 0, 0, 1)
					IO (Decode16, @VN_PORT_PCI@, @VN_PORT_PCI@, 1, 8)
					QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
						NonCacheable, ReadWrite, 0, 0, 0, 0, 1,,, BARS)
				})
				CreateQWordField (WIND, BARS._MIN, LOW)
				CreateQWordField (WIND, BARS._MAX, HIGH)
				CreateQWordField (WIND, BARS._LEN, SIZE)
				LOW = PBAS
				HIGH = PBAS + PLEN - 1
				SIZE = PLEN
				Return (WIND)
			}

			// The system may have what it asks for but hot-plugging: there is nothing
			// here that the monitor would do in its place (PCI Firmware Specification
			// 3.3 section 4.5.1).
			Method (_OSC, 4, Serialized)
			{
				CreateDWordField (Arg3, 0, STAT)
				If (Arg0 != ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
				{
					STAT |= 0x04 // no such UUID
					Return (Arg3)
				}
				CreateDWordField (Arg3, 8, CTRL)
				If (CTRL & 0x03)
				{
					CTRL &= ~0x03
					STAT |= 0x10 // not all of it
				}
				Return (Arg3)
			}
		}

		// Bit i says that slot i holds a device. The monitor finds these four bytes by the
		// name and sets them; the value here is only one that takes four.
		Name (VDEV, 0xFFFFFFFF)

		Method (VSTA, 1)
		{
			If (VDEV & (1 << Arg0))
			{
				Return (0x0F) // present, enabled, shown, working
			}
			Return (0)
		}

		// One template for all slots, filled anew at each call.
		Name (SLOT, ResourceTemplate ()
		{
			Memory32Fixed (ReadWrite, 0, @VN_MAP_VIRTIO_STEP@, REGS)
			Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive,,, LINE)
			{
				0
			}
		})
		CreateDWordField (SLOT, REGS._BAS, BASE)
		CreateDWordField (SLOT, LINE._INT, PIN)

		Method (VCRS, 1, Serialized)
		{
			BASE = @VN_MAP_VIRTIO@ + Arg0 * @VN_MAP_VIRTIO_STEP@
			PIN = @VN_GSI_VIRTIO@ + Arg0
			Return (SLOT)
		}

		Device (VIO0)
		{
			Name (_HID, "LNRO0005") // Linux's name of a virtio-mmio device
			Name (_UID, 0)
			Method (_STA) { Return (VSTA (0)) }
			Method (_CRS) { Return (VCRS (0)) }
		}

		Device (VIO1)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 1)
			Method (_STA) { Return (VSTA (1)) }
			Method (_CRS) { Return (VCRS (1)) }
		}

		Device (VIO2)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 2)
			Method (_STA) { Return (VSTA (2)) }
			Method (_CRS) { Return (VCRS (2)) }
		}

		Device (VIO3)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 3)
			Method (_STA) { Return (VSTA (3)) }
			Method (_CRS) { Return (VCRS (3)) }
		}

		Device (VIO4)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 4)
			Method (_STA) { Return (VSTA (4)) }
			Method (_CRS) { Return (VCRS (4)) }
		}

		Device (VIO5)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 5)
			Method (_STA) { Return (VSTA (5)) }
			Method (_CRS) { Return (VCRS (5)) }
		}

		Device (VIO6)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 6)
			Method (_STA) { Return (VSTA (6)) }
			Method (_CRS) { Return (VCRS (6)) }
		}

		Device (VIO7)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 7)
			Method (_STA) { Return (VSTA (7)) }
			Method (_CRS) { Return (VCRS (7)) }
		}
	}
}
