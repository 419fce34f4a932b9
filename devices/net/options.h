// SPDX-License-Identifier: Apache-2.0
//
// What a network is configured with: the option `net`.
#ifndef VN_NET_OPTIONS_H
#define VN_NET_OPTIONS_H

#include <netinet/in.h>

#include "base/file_prop.h"
#include "base/prop.h"
#include "base/rate_prop.h"

// Who carries packets between queues and a TAP interface.
enum vn_net_vhost {
	// The host's kernel (vhost-net), where this user may open it and there is no limit; else
	// Veneer.
	VN_NET_VHOST_AUTO,
	VN_NET_VHOST_ON,
	VN_NET_VHOST_OFF,
};

// A port of the host whose connections or packets go to one of the guest.
struct vn_net_forward {
	bool udp;
	struct in_addr address; // of the host
	uint16_t host_port, guest_port;
};

struct vn_net_forwards {
	struct vn_net_forward *list; // owned
	size_t count;
};

// The strings are owned. One of `tap` and `user` is set.
struct vn_net_options {
	struct vn_file tap; // an existing interface of the host
	bool user; // through the host's own sockets, without privileges
	struct vn_net_forwards forwards; // with `user`
	uint8_t mac[6]; // all zero: from the guest's name and the interface
	unsigned queues; // pairs; more than one with `tap` only
	unsigned mtu; // bytes; 0: the interface's own
	enum vn_net_vhost vhost; // with `tap`
	// Each way, all queues together; not with VN_NET_VHOST_ON.
	struct vn_rate_options pps, bps;
	// The largest bound of busy polling, for what the guest sends; not with vhost.
	unsigned poll_us;
};

extern const struct vn_option vn_net_option;

#endif
