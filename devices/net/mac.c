// SPDX-License-Identifier: Apache-2.0
//
// A MAC address is seen by the whole network and machine-id(5) is confidential, so what is made of
// that goes through a keyed hash with a key of our own.
#include "devices/net/mac.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/siphash.h"
#include "base/sysfs.h"

#define MACHINE_ID_DIGITS 32

// Never changed: addresses would.
static const uint8_t key[16] = {
	'v', 'e', 'n', 'e', 'e', 'r', ' ', 'M', 'A', 'C', ' ', 'a', 'd', 'd', 'r', '1'};

// What tells this host from others: its machine-id, or its name where it has none (a container,
// say).
struct host {
	char id[sizeof(((struct utsname *)NULL)->nodename)];
};

static void identify(struct host *host, const char *root)
{
	int code = vn_sysfs_line(root, host->id, sizeof(host->id), "/etc/machine-id");
	if (code == 0 && strspn(host->id, "0123456789abcdef") == MACHINE_ID_DIGITS &&
		strlen(host->id) == MACHINE_ID_DIGITS)
		return;
	struct utsname names;
	*host = (struct host){""};
	if (uname(&names) == 0)
		memcpy(host->id, names.nodename, sizeof(host->id));
}

// Neither a group's nor from a manufacturer's range.
static void set_kind(uint8_t mac[6])
{
	mac[0] = (uint8_t)((mac[0] & ~1u) | 2u);
}

int vn_mac_derive(uint8_t mac[6], const char *root, const char *identity, const char *device,
	struct veneer_error *error)
{
	struct host host;
	char *text;
	identify(&host, root);
	int size = asprintf(&text, "%s\n%s\n%s", host.id, identity, device);
	if (size < 0)
		return vn_fail(error, -ENOMEM, "no memory to make a MAC address");
	uint64_t hash = vn_siphash(key, text, (size_t)size);
	free(text);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)(hash >> (8 * i));
	set_kind(mac);
	return 0;
}
