// SPDX-License-Identifier: Apache-2.0
#include "devices/net/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/macros.h"
#include "base/option_limits.h"
#include "base/spin.h"
#include "base/words.h"
#include "devices/net/mac.h"

#define MTU_MIN 68 // RFC 791

#define FORWARD_MAX 64 // bytes, written out
#define PORT_DIGITS 5

#define KIND_TAP  BIT64(0) // in the order of the rows
#define KIND_USER BIT64(1)

#define FIELD(field) VN_PROP_FIELD(struct vn_net_options, field)

static bool is_interface(const char *value)
{
	return strlen(value) < IF_NAMESIZE && !strpbrk(value, "/ ");
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
	return c && at ? (int)(at - digits) : -1;
}

// Six bytes in hexadecimal, of one device: neither a group's address nor all zero.
static int parse_mac(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	uint8_t mac[6];
	unsigned sum = 0;
	const char *at = value;
	(void)prop;
	(void)why;
	for (unsigned i = 0; i < sizeof(mac); i++, at += 3) {
		int high = hex_digit(at[0]);
		int low = high < 0 ? -1 : hex_digit(at[1]);
		if (low < 0 || at[2] != (i < sizeof(mac) - 1 ? ':' : '\0'))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
		sum |= mac[i];
	}
	if (sum == 0 || (mac[0] & 1))
		return -EINVAL;
	memcpy(field, mac, sizeof(mac));
	return 0;
}

static char *format_mac(const struct vn_prop *prop, const void *field)
{
	(void)prop;
	const uint8_t *mac = field;
	char *text;
	int length = asprintf(&text, VN_MAC_FORMAT, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return length < 0 ? NULL : text;
}

static bool parse_port(const char *text, uint16_t *port)
{
	uint64_t number;
	if (!text || strlen(text) > PORT_DIGITS || vn_parse_number(text, UINT16_MAX, &number) < 0 ||
		number == 0)
		return false;
	*port = (uint16_t)number;
	return true;
}

// tcp:ADDR:HOSTPORT:GUESTPORT or udp:...
static bool parse_forward(struct vn_net_forward *forward, const char *value)
{
	char text[FORWARD_MAX];
	if (snprintf(text, sizeof(text), "%s", value) >= (int)sizeof(text))
		return false;
	char *rest = text;
	const char *protocol = strsep(&rest, ":"), *address = strsep(&rest, ":"),
		   *host_port = strsep(&rest, ":");
	forward->udp = strcmp(protocol, "udp") == 0;
	return (forward->udp || strcmp(protocol, "tcp") == 0) && address &&
	       inet_pton(AF_INET, address, &forward->address) == 1 &&
	       parse_port(host_port, &forward->host_port) && parse_port(rest, &forward->guest_port);
}

static int add_forward(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	struct vn_net_forwards *forwards = field;
	struct vn_net_forward forward;
	(void)prop;
	(void)why;
	if (!parse_forward(&forward, value))
		return -EINVAL;
	struct vn_net_forward *list =
		reallocarray(forwards->list, forwards->count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	forwards->list = list;
	list[forwards->count++] = forward;
	return 0;
}

static size_t count_forwards(const void *field)
{
	return ((const struct vn_net_forwards *)field)->count;
}

static char *format_forward(const void *field, size_t index)
{
	const struct vn_net_forward *forward =
		&((const struct vn_net_forwards *)field)->list[index];
	char *text, address[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &forward->address, address, sizeof(address));
	int length = asprintf(&text, "%s:%s:%u:%u", forward->udp ? "udp" : "tcp", address,
		forward->host_port, forward->guest_port);
	return length < 0 ? NULL : text;
}

static int copy_forwards(void *to, const void *from)
{
	const struct vn_net_forwards *forwards = from;
	struct vn_net_forwards *copy = to;
	*copy = (struct vn_net_forwards){.count = forwards->count};
	if (forwards->count == 0)
		return 0;
	copy->list = calloc(forwards->count, sizeof(*copy->list));
	if (!copy->list) {
		copy->count = 0;
		return -ENOMEM;
	}
	memcpy(copy->list, forwards->list, forwards->count * sizeof(*copy->list));
	return 0;
}

static void release_forwards(void *field)
{
	struct vn_net_forwards *forwards = field;
	free(forwards->list);
	*forwards = (struct vn_net_forwards){.count = 0};
}

static const struct vn_prop_type prop_mac = {.parse = parse_mac, .format = format_mac};
static const struct vn_prop_type prop_forward = {.parse = add_forward,
	.count = count_forwards,
	.format_item = format_forward,
	.copy = copy_forwards,
	.release = release_forwards};

static const char *const VHOST_MODES[] = {"auto", "on", "off", NULL};

static const struct vn_prop props[] = {
	{"tap", "NAME", "Through this existing TAP interface of the host.", NULL, &vn_prop_file,
		FIELD(tap), .flags = VN_PROP_KIND, .min = 1, .accepts = is_interface,
		.choices = "the name of an interface"},
	{"user", NULL,
		"Through sockets of the host (libslirp): needs no privileges, and is slower.", NULL,
		&vn_prop_flag, FIELD(user), .flags = VN_PROP_KIND},
	{"mac", "M", "The guest's MAC address.",
		"made from --name and the interface, the same for each run; without a name, random",
		&prop_mac, FIELD(mac),
		.choices = "the address of one device, such as 02:00:00:00:00:01"},
	{"queues", "N",
		"With tap: number of queue pairs, each with an I/O thread. More than one needs a "
		"TAP with multi_queue.",
		"1", &vn_prop_number, FIELD(queues), .min = 1, .max = VN_QUEUES_MAX,
		.kinds = KIND_TAP},
	{"mtu", "N", "With tap: the MTU in bytes, at most the interface's.", "the interface's",
		&vn_prop_number, FIELD(mtu), .min = MTU_MIN, .max = UINT16_MAX, .kinds = KIND_TAP},
	{"vhost", "auto|on|off",
		"With tap. on: the host's kernel carries the packets (vhost-net). off: Veneer does. "
		"auto: on where /dev/vhost-net can be opened and there is no limit.",
		"auto", &vn_prop_word, FIELD(vhost), .words = VHOST_MODES, .kinds = KIND_TAP},
	{"poll-us", "N",
		"Look for packets of the guest for at most N microseconds (0: never) before the I/O "
		"thread sleeps. The time adapts to the guest's use. No effect with vhost.",
		VN_STRING(VN_SPIN_US_DEFAULT), &vn_prop_number, FIELD(poll_us),
		.max = VN_SPIN_US_MAX},
	{"pps", "N[:BURST]",
		"Limit to N packets a second, each way, all queues together. BURST: how many may "
		"pass at once after a pause; if not given, a tenth of a second's worth. Not with "
		"vhost=on.",
		"no limit", &vn_prop_rate, FIELD(pps), .min = 1},
	{"bps", "SIZE[:BURST]",
		"Limit to SIZE bytes a second, each way, all queues together. BURST: as for pps. "
		"Not with vhost=on.",
		"no limit", &vn_prop_byte_rate, FIELD(bps), .min = VN_BYTE_RATE_MIN},
	{"hostfwd", "tcp:ADDR:HOSTPORT:GUESTPORT",
		"With user: forward what reaches HOSTPORT on the host's IPv4 address ADDR to the "
		"guest's GUESTPORT. udp:... forwards datagrams.",
		"none", &prop_forward, FIELD(forwards), .kinds = KIND_USER,
		.choices = "tcp:ADDR:HOSTPORT:GUESTPORT or udp:..., "
			   "with an IPv4 address of the host and ports from 1 to 65535"},
	{.name = NULL},
};

static bool is_same_port(const struct vn_net_forward *a, const struct vn_net_forward *b)
{
	return a->udp == b->udp && a->address.s_addr == b->address.s_addr &&
	       a->host_port == b->host_port;
}

// Each of the host's ports is forwarded once.
static int check_forwards(const struct vn_net_forwards *forwards, struct veneer_error *error)
{
	for (size_t i = 0; i < forwards->count; i++) {
		const struct vn_net_forward *forward = &forwards->list[i];
		char address[INET_ADDRSTRLEN];
		size_t j = 0;
		while (j < i && !is_same_port(&forwards->list[j], forward))
			j++;
		if (j == i)
			continue;
		inet_ntop(AF_INET, &forward->address, address, sizeof(address));
		vn_fail(error, -EINVAL, "net: hostfwd: port %u of %s (%s) is forwarded twice",
			forward->host_port, address, forward->udp ? "udp" : "tcp");
		vn_error_set_key(error, "net.hostfwd");
		return -EINVAL;
	}
	return 0;
}

static int check(void *values, struct veneer_error *error)
{
	const struct vn_net_options *options = values;
	if (options->vhost == VN_NET_VHOST_ON &&
		(options->pps.per_second > 0 || options->bps.per_second > 0)) {
		vn_fail(error, -EINVAL,
			"net: vhost keeps to no limit: pps and bps need it to be off or auto");
		vn_error_set_key(error, "net.vhost");
		return -EINVAL;
	}
	return check_forwards(&options->forwards, error);
}

static const struct vn_net_options defaults = {
	.tap = VN_NO_FILE, .queues = 1, .poll_us = VN_SPIN_US_DEFAULT};

const struct vn_option vn_net_option = {.name = "net",
	.many = true,
	.help = "A virtio network device.",
	.props = props,
	.size = sizeof(struct vn_net_options),
	.defaults = &defaults,
	.check = check};
