// SPDX-License-Identifier: Apache-2.0
//
// A network that needs no privilege and no configuration: libslirp, a TCP/IP stack in this process,
// turns what the guest sends into calls of the host's own sockets. The guest sees 10.0.2.0/24: the
// host at .2, a name server at .3, and itself at .15, by DHCP. IPv4 only.
//
// libslirp rather than passt, because that gives the guest the host's own addresses and so needs an
// interface with a route, while a sandbox that has nothing but its loopback must do.
//
// The library is loaded when the first such device is made: guests without one do not pay for it.
#ifndef VN_NET_USER_H
#define VN_NET_USER_H

#include "devices/net/backend.h"
#include "devices/net/options.h"

// Make the network of `options`, with the ports that it forwards, of which nothing is needed
// afterwards. On failure one line says what mends it: -ENOENT (libslirp is not installed),
// -EADDRINUSE and the like for a port...
int vn_net_user_open(struct vn_net_backend **backend, const struct vn_net_options *options,
	const struct vn_log *log, struct veneer_error *error);

#endif
