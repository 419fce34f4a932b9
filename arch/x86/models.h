// SPDX-License-Identifier: Apache-2.0
//
// The processor that a guest is shown: "MODEL[,+feature][,-feature]...", judged against what the
// host offers. The table of models is models.inc. Pure.
#ifndef VN_X86_MODELS_H
#define VN_X86_MODELS_H

#include <stdio.h>

#include "arch/x86/cpuid.h"

// Turn the table of what the host offers into that of the processor `cpu`; NULL: "host". -EINVAL
// for words that are not known, -ENOTSUP for what this host cannot show.
int vn_model_apply(struct vn_cpuid *cpuid, const char *cpu, struct veneer_error *error);

// Models and features, in lines for a person, each with a mark of whether this host can run it.
// -ENOMEM, or what writing ran into.
int vn_model_list(struct vn_cpuid *cpuid, FILE *out, struct veneer_error *error);

#endif
