// SPDX-License-Identifier: Apache-2.0
/*
 * The words that are not measures: ends of every kind, the serial line both ways, and what the
 * guest was told. Each returns the exit status it calls for, if it returns.
 */
#ifndef GUEST_COMMANDS_H
#define GUEST_COMMANDS_H

#include <stdint.h>

__attribute__((noreturn)) void leave(uint32_t status);

int command_exit(const char *value);
int command_spin(const char *value);
int command_hlt(const char *value);
int command_triple(const char *value);
int command_ill0(const char *value);
int command_reset(const char *value);
int command_poweroff(const char *value);
int command_button(const char *value);
int command_panic(const char *value);
int command_echo(const char *value);
int command_flood(const char *value);
int command_keep(const char *value);
int command_dump(const char *value);

#endif
