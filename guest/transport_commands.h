// SPDX-License-Identifier: Apache-2.0
/*
 * Words that test a transport rather than a device, with a disk as the device. Each returns the
 * exit status that it calls for.
 */
#ifndef GUEST_TRANSPORT_COMMANDS_H
#define GUEST_TRANSPORT_COMMANDS_H

int command_msix_mask(const char *value);
int command_queue_reset(const char *value);
int command_driver_reset(const char *value);
int command_features_wrong(const char *value);
int command_config_scan(const char *value);

#endif
