// SPDX-License-Identifier: Apache-2.0
//
// `--disk` and `--net`: what there is, and what it is made of on the host.
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cli/options_parts.h"
#include "cli/options_words.h"

#define SERIAL_BYTES 20 // virtio 1.2 section 5.2.6: a device's identity
#define MTU_MIN      68 // RFC 791
#define NOT_COMMON   1

static int parse_cache(struct veneer_disk *disk, const char *value, struct veneer_error *error)
{
	static const struct {
		const char *name;
		enum veneer_cache cache;
	} modes[] = {
		{"none", VENEER_CACHE_NONE},
		{"writeback", VENEER_CACHE_WRITEBACK},
		{"writethrough", VENEER_CACHE_WRITETHROUGH},
		{"directsync", VENEER_CACHE_DIRECTSYNC},
		{"unsafe", VENEER_CACHE_UNSAFE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		if (strcmp(value, modes[i].name) == 0) {
			disk->cache = modes[i].cache;
			return 0;
		}
	}
	return refuse(error,
		"--disk: cache='%s' is not none, writeback, writethrough, directsync or unsafe",
		value);
}

static int parse_queues(
	unsigned *queues, const char *option, const char *value, struct veneer_error *error)
{
	uint64_t count;

	if (parse_number(value, VENEER_QUEUES_MAX, &count) < 0 || count == 0)
		return refuse(error, "%s: queues='%s' is not a number from 1 to %d", option, value,
			VENEER_QUEUES_MAX);
	*queues = (unsigned)count;
	return 0;
}

static int parse_poll(
	unsigned *poll_us, const char *option, const char *value, struct veneer_error *error)
{
	uint64_t count;

	if (parse_number(value, VENEER_POLL_MAX, &count) < 0)
		return refuse(error, "%s: poll-us='%s' is not a number from 0 to %d", option, value,
			VENEER_POLL_MAX);
	*poll_us = count ? (unsigned)count : VENEER_POLL_OFF;
	return 0;
}

// A limit and what may come at once: N[:BURST], or sizes.
static int parse_limit(const char *name, const char *value, bool is_size, uint64_t *rate,
	uint64_t *burst, struct veneer_error *error)
{
	char text[64];
	char *colon;
	int ret = -EINVAL;

	*burst = 0;
	if (snprintf(text, sizeof(text), "%s", value) < (int)sizeof(text)) {
		colon = strchr(text, ':');
		if (colon)
			*colon++ = '\0';
		ret = is_size ? parse_size(text, rate) : parse_number(text, UINT64_MAX, rate);
		if (ret == 0 && colon)
			ret = is_size ? parse_size(colon, burst)
				      : parse_number(colon, UINT64_MAX, burst);
		if (ret == 0 && (*rate < (is_size ? KIB : 1) || (colon && *burst == 0)))
			ret = -EINVAL;
	}
	if (ret < 0)
		return refuse(error, "%s='%s' is not %s", name, value,
			is_size ? "SIZE or SIZE:BURST, of 1K a second or more, such as 100M"
				: "N or N:BURST, of 1 a second or more");
	return 0;
}

static int parse_disk_switch(
	bool *on, const char *name, const char *value, struct veneer_error *error)
{
	if (parse_switch(value, on) < 0)
		return refuse(error, "--disk: %s='%s' is neither on nor off", name, value);
	return 0;
}

static int parse_detect_zeroes(
	enum veneer_detect_zeroes *mode, const char *value, struct veneer_error *error)
{
	if (strcmp(value, "off") == 0)
		*mode = VENEER_DETECT_ZEROES_OFF;
	else if (strcmp(value, "on") == 0)
		*mode = VENEER_DETECT_ZEROES_ON;
	else if (strcmp(value, "unmap") == 0)
		*mode = VENEER_DETECT_ZEROES_UNMAP;
	else
		return refuse(error, "--disk: detect-zeroes='%s' is not off, on or unmap", value);
	return 0;
}

// There is one format, and the word is for what looks like another one.
static int parse_format(bool *raw, const char *value, struct veneer_error *error)
{
	*raw = strcmp(value, "raw") == 0;
	if (*raw)
		return 0;
	return refuse(error,
		"--disk: format='%s' is not raw, the only format; "
		"qemu-img convert -O raw makes a raw disk of an image",
		value);
}

static int parse_block_size(uint64_t *size, const char *value, struct veneer_error *error)
{
	if (parse_number(value, VENEER_BLOCK_SIZE_MAX, size) == 0 &&
		*size >= VENEER_BLOCK_SIZE_MIN && (*size & (*size - 1)) == 0)
		return 0;
	return refuse(error, "--disk: block-size='%s' is not 512, 1024, 2048 or 4096", value);
}

static int parse_disk_word(
	struct veneer_disk *disk, const char **serial, const char *word, struct veneer_error *error)
{
	const char *value;

	if (strcmp(word, "readonly") == 0) {
		disk->readonly = true;
	} else if ((value = value_of(word, "cache"))) {
		return parse_cache(disk, value, error);
	} else if ((value = value_of(word, "format"))) {
		return parse_format(&disk->raw, value, error);
	} else if ((value = value_of(word, "block-size"))) {
		return parse_block_size(&disk->block_size, value, error);
	} else if ((value = value_of(word, "queues"))) {
		return parse_queues(&disk->queues, "--disk", value, error);
	} else if ((value = value_of(word, "poll-us"))) {
		return parse_poll(&disk->poll_us, "--disk", value, error);
	} else if ((value = value_of(word, "sqpoll"))) {
		return parse_disk_switch(&disk->sqpoll, "sqpoll", value, error);
	} else if ((value = value_of(word, "iopoll"))) {
		return parse_disk_switch(&disk->iopoll, "iopoll", value, error);
	} else if ((value = value_of(word, "detect-zeroes"))) {
		return parse_detect_zeroes(&disk->detect_zeroes, value, error);
	} else if ((value = value_of(word, "iops"))) {
		return parse_limit(
			"--disk: iops", value, false, &disk->iops, &disk->iops_burst, error);
	} else if ((value = value_of(word, "bps"))) {
		return parse_limit("--disk: bps", value, true, &disk->bps, &disk->bps_burst, error);
	} else if ((value = value_of(word, "serial"))) {
		if (!*value || strlen(value) > SERIAL_BYTES)
			return refuse(error, "--disk: serial='%s' is not 1 to %d bytes long", value,
				SERIAL_BYTES);
		*serial = value;
	} else {
		return unknown_word(error, "--disk", word,
			"readonly, cache=MODE, queues=N, serial=S, poll-us=N, "
			"detect-zeroes=on|unmap, iops=N[:BURST], bps=SIZE[:BURST], "
			"sqpoll=on|off, iopoll=on|off, block-size=N, format=raw; "
			"a comma within a path is written ,,");
	}
	return 0;
}

// On success the disk owns copies of its strings.
static int parse_disk_words(
	struct veneer_disk *disk, const struct words *words, struct veneer_error *error)
{
	const char *serial = NULL;

	if (!*words->words[0])
		return refuse(error, "--disk: '' is not a path; a comma within one is written ,,");
	for (unsigned i = 1; i < words->count; i++) {
		int ret = parse_disk_word(disk, &serial, words->words[i], error);
		if (ret < 0)
			return ret;
	}
	disk->path = strdup(words->words[0]);
	disk->serial = serial ? strdup(serial) : NULL;
	if (disk->path && (!serial || disk->serial))
		return 0;
	free((char *)(uintptr_t)disk->path);
	return out_of_memory(error);
}

int parse_disk(struct options *options, const char *argument, struct veneer_error *error)
{
	struct veneer_disk disk = {.cache = VENEER_CACHE_WRITEBACK};
	struct words words;
	struct veneer_disk *disks =
		reallocarray(options->disks, options->disk_count + 1, sizeof(*options->disks));

	if (!disks)
		return out_of_memory(error);
	options->disks = disks;
	int ret = words_split(&words, "--disk", argument, error);
	if (ret < 0)
		return ret;
	ret = parse_disk_words(&disk, &words, error);
	words_free(&words);
	if (ret == 0)
		disks[options->disk_count++] = disk;
	return ret;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);

	return c && at ? (int)(at - digits) : -1;
}

// Six bytes in hexadecimal, of one device: neither a group's address nor all zero.
static int parse_mac(uint8_t mac[6], const char *value, struct veneer_error *error)
{
	const char *at = value;
	unsigned sum = 0;
	bool good = true;

	for (unsigned i = 0; i < 6 && good; i++) {
		int high = hex_digit(at[0]);
		int low = high < 0 ? -1 : hex_digit(at[1]);
		good = low >= 0 && at[2] == (i < 5 ? ':' : '\0');
		if (good)
			mac[i] = (uint8_t)(high << 4 | low);
		sum |= mac[i];
		at += 3;
	}
	if (good && sum != 0 && !(mac[0] & 1))
		return 0;
	return refuse(error,
		"--net: mac='%s' is not the address of one device, such as 02:00:00:00:00:01",
		value);
}

static bool is_port(const char *text, size_t length)
{
	char digits[6];
	uint64_t port;

	if (length >= sizeof(digits))
		return false;
	memcpy(digits, text, length);
	digits[length] = '\0';
	return parse_number(digits, UINT16_MAX, &port) == 0 && port > 0;
}

// tcp:ADDR:HOSTPORT:GUESTPORT or udp:...
static bool is_forward(const char *text)
{
	char address[INET_ADDRSTRLEN];
	struct in_addr unused;

	if (strncmp(text, "tcp:", 4) != 0 && strncmp(text, "udp:", 4) != 0)
		return false;
	text += 4;
	size_t length = strcspn(text, ":");
	if (length >= sizeof(address) || !text[length])
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	text += length + 1;
	length = strcspn(text, ":");
	return inet_pton(AF_INET, address, &unused) == 1 && is_port(text, length) && text[length] &&
	       is_port(text + length + 1, strlen(text + length + 1));
}

static int add_forward(struct veneer_net *net, const char *value, struct veneer_error *error)
{
	if (!is_forward(value))
		return refuse(error,
			"--net: hostfwd='%s' is not tcp:ADDR:HOSTPORT:GUESTPORT or udp:..., "
			"with an IPv4 address of the host and ports from 1 to 65535",
			value);
	const char **forwards = reallocarray(
		(void *)(uintptr_t)net->forwards, net->forward_count + 1, sizeof(*forwards));
	if (!forwards)
		return out_of_memory(error);
	net->forwards = forwards;
	forwards[net->forward_count] = strdup(value);
	return forwards[net->forward_count++] ? 0 : out_of_memory(error);
}

static int parse_tap(struct veneer_net *net, const char *name, struct veneer_error *error)
{
	if (!*name || strlen(name) >= IF_NAMESIZE || strpbrk(name, "/ "))
		return refuse(error, "--net: tap='%s' is not the name of an interface", name);
	net->backend = VENEER_NET_TAP;
	net->tap = strdup(name);
	return net->tap ? 0 : out_of_memory(error);
}

// The words of every network: 0, -EINVAL, or NOT_COMMON for one that is not of them.
static int parse_net_word(struct veneer_net *net, const char *word, struct veneer_error *error)
{
	const char *value;

	if ((value = value_of(word, "mac")))
		return parse_mac(net->mac, value, error);
	if ((value = value_of(word, "pps")))
		return parse_limit("--net: pps", value, false, &net->pps, &net->pps_burst, error);
	if ((value = value_of(word, "bps")))
		return parse_limit("--net: bps", value, true, &net->bps, &net->bps_burst, error);
	if ((value = value_of(word, "poll-us")))
		return parse_poll(&net->poll_us, "--net", value, error);
	return NOT_COMMON;
}

static int parse_vhost(enum veneer_vhost *vhost, const char *value, struct veneer_error *error)
{
	if (strcmp(value, "on") == 0)
		*vhost = VENEER_VHOST_ON;
	else if (strcmp(value, "off") == 0)
		*vhost = VENEER_VHOST_OFF;
	else if (strcmp(value, "auto") != 0)
		return refuse(error, "--net: vhost='%s' is not on, off or auto", value);
	return 0;
}

static int parse_tap_word(struct veneer_net *net, const char *word, struct veneer_error *error)
{
	const char *value;
	uint64_t mtu;

	if ((value = value_of(word, "queues")))
		return parse_queues(&net->queues, "--net", value, error);
	if ((value = value_of(word, "vhost")))
		return parse_vhost(&net->vhost, value, error);
	if (!(value = value_of(word, "mtu")))
		return unknown_word(error, "--net tap", word,
			"mac=M, queues=N, mtu=N, vhost=on|off|auto, poll-us=N, pps=N[:BURST], "
			"bps=SIZE[:BURST]");
	if (parse_number(value, UINT16_MAX, &mtu) < 0 || mtu < MTU_MIN)
		return refuse(error, "--net: mtu='%s' is not a number from %d to %d", value,
			MTU_MIN, UINT16_MAX);
	net->mtu = (unsigned)mtu;
	return 0;
}

static int parse_user_word(struct veneer_net *net, const char *word, struct veneer_error *error)
{
	const char *value;

	if ((value = value_of(word, "hostfwd")))
		return add_forward(net, value, error);
	return unknown_word(error, "--net user", word,
		"mac=M, poll-us=N, pps=N[:BURST], bps=SIZE[:BURST], "
		"hostfwd=tcp:ADDR:HOSTPORT:GUESTPORT");
}

void free_net(const struct veneer_net *net)
{
	for (size_t i = 0; i < net->forward_count; i++)
		free((char *)(uintptr_t)net->forwards[i]);
	free((void *)(uintptr_t)net->forwards);
	free((char *)(uintptr_t)net->tap);
}

static int parse_net_words(
	struct veneer_net *net, const struct words *words, struct veneer_error *error)
{
	const char *kind = words->words[0];
	const char *tap = value_of(kind, "tap");
	int ret = 0;

	if (tap)
		ret = parse_tap(net, tap, error);
	else if (strcmp(kind, "user") == 0)
		net->backend = VENEER_NET_USER;
	else
		return refuse(error,
			"--net: '%s' is neither tap=NAME nor user, of which one comes first", kind);
	for (unsigned i = 1; i < words->count && ret == 0; i++) {
		ret = parse_net_word(net, words->words[i], error);
		if (ret == NOT_COMMON)
			ret = tap ? parse_tap_word(net, words->words[i], error)
				  : parse_user_word(net, words->words[i], error);
	}
	return ret;
}

// On success the net owns copies of its strings.
int parse_net(struct options *options, const char *argument, struct veneer_error *error)
{
	struct veneer_net net = {0};
	struct words words;
	struct veneer_net *nets =
		reallocarray(options->nets, options->net_count + 1, sizeof(*options->nets));

	if (!nets)
		return out_of_memory(error);
	options->nets = nets;
	int ret = words_split(&words, "--net", argument, error);
	if (ret < 0)
		return ret;
	ret = parse_net_words(&net, &words, error);
	words_free(&words);
	if (ret == 0)
		nets[options->net_count++] = net;
	else
		free_net(&net);
	return ret;
}
