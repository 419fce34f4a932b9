// SPDX-License-Identifier: Apache-2.0
//
// What a PC's kernel cannot find by itself: the serial port, the virtio-mmio devices, and the value
// that switches the machine off. iasl compiles it when Veneer is built; arch/x86/acpi.c puts the
// byte code into guest memory and sets the bits of VDEV. The build replaces the words between @ by
// their values in arch/x86/map.h.
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
