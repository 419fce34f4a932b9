// SPDX-License-Identifier: Apache-2.0
/*
 * Ring 3's entry: reads the machine, does what the words of the command line ask for, in their
 * order, and leaves with a status.
 */
#include "blk.h"
#include "commands.h"
#include "hostile.h"
#include "machine.h"
#include "net_commands.h"
#include "print.h"
#include "report.h"
#include "smp.h"
#include "transport_commands.h"

struct start_info;
void guest_main(const struct start_info *info);
void on_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t cr2);

/* What a word does; returns the exit status it calls for, 0 if all is well. */
struct action {
	const char *word;
	int (*run)(const char *value);
};

void on_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t cr2)
{
	print("FAIL: exception %lu, error %lx, rip %lx, cr2 %lx\n", vector, error, rip, cr2);
	leave(1);
}

/* The parts count failures; any makes the exit status 1. */
static int act_cpu(const char *value)
{
	(void)value;
	return report_cpu() > 0;
}

static int act_mem(const char *value)
{
	(void)value;
	return report_memory() > 0;
}

static int act_smp(const char *value)
{
	(void)value;
	return report_smp() > 0;
}

static int act_blk(const char *value)
{
	(void)value;
	return report_blk() > 0;
}

static const struct action actions[] = {
	{"dump", command_dump},
	{"cpu", act_cpu},
	{"mem", act_mem},
	{"smp", act_smp},
	{"blk", act_blk},
	{"blk-load", blk_command_load},
	{"blk-fill", blk_command_fill},
	{"blk-journal", blk_command_journal},
	{"blk-check", blk_command_check},
	{"blk-io-error", blk_command_errors},
	{"blk-read", blk_command_read},
	{"blk-write", blk_command_write},
	{"blk-id", blk_command_id},
	{"blk-flush", blk_command_flush},
	{"hostile", command_hostile},
	{"msix-mask", command_msix_mask},
	{"queue-reset", command_queue_reset},
	{"driver-reset", command_driver_reset},
	{"features-wrong", command_features_wrong},
	{"net-echo", command_net_echo},
	{"net-send", command_net_send},
	{"net-recv", command_net_recv},
	{"net-hostile", command_net_hostile},
	{"net-load", command_net_load},
	{"config-scan", command_config_scan},
	{"echo", command_echo},
	{"flood", command_flood},
	{"keep", command_keep},
	{"spin", command_spin},
	{"hlt", command_hlt},
	{"triple", command_triple},
	{"ill0", command_ill0},
	{"reset", command_reset},
	{"poweroff", command_poweroff},
	{"button", command_button},
	{"panic", command_panic},
};

static const struct action *find_action(const char *word, const char **value)
{
	for (unsigned i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		const char *a = actions[i].word, *w = word;

		while (*a && *w == *a) {
			a++;
			w++;
		}
		if (!*a && (!*w || *w == '=')) {
			*value = *w ? w + 1 : w;
			return &actions[i];
		}
	}
	return NULL;
}

static int report_all(void)
{
	char ghz[DECIMAL_BYTES];
	int failures;

	print("Veneer guest: %u CPUs, %lu MiB RAM, TSC %s GHz (%s)\n", machine.cpu_count,
		machine_ram_bytes() >> 20, format_decimal(ghz, machine.tsc_hz / 1000000, 3),
		machine.tsc_source);
	print("ratio: the guest's performance divided by the host's own; 1.00 is equal, "
	      "less is slower\n"
	      "p50, p99: median and 99th percentile of the latency\n");
	failures = report_cpu() + report_smp() + report_memory() + report_blk();
	report_close();
	return failures > 0;
}

void guest_main(const struct start_info *info)
{
	const struct action *action;
	const char *value;
	bool acted = false;
	int status = 0;

	if (!machine_read(info))
		leave((uint32_t)fail("PVH start info", "its magic number", "another"));
	value = machine_word("exit");
	if (value)
		command_exit(value);
	for (unsigned i = 0; i < machine.word_count; i++) {
		int result;

		action = find_action(machine.words[i], &value);
		if (!action)
			continue;
		acted = true;
		result = action->run(value);
		if (result > status)
			status = result;
	}
	if (!acted)
		status = report_all();
	leave((uint32_t)status);
}
