// SPDX-License-Identifier: Apache-2.0
/*
 * The words that send, receive and answer packets, and attack the device. Each returns the exit
 * status that it calls for.
 */
#ifndef GUEST_NET_COMMANDS_H
#define GUEST_NET_COMMANDS_H

int command_net_echo(const char *value);
int command_net_send(const char *value);
int command_net_recv(const char *value);
int command_net_hostile(const char *value);
int command_net_load(const char *value);

#endif
