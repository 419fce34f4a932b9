// SPDX-License-Identifier: Apache-2.0
//
// The processor that a guest is shown: "MODEL[,+feature][,-feature]...", checked against what the
// host offers. The table of models is models.inc. Pure.
#ifndef VN_X86_MODELS_H
#define VN_X86_MODELS_H

#include <stdio.h>

#include "arch/x86/cpuid.h"

// Whether these are the names of a model (NULL: "host") and of features ("+x,-y", or NULL), and
// none of these is both added and taken away. Whether the host can show them is found by
// vn_model_apply(). -EINVAL.
int vn_model_check(const char *model, const char *features, struct veneer_error *error);

// Turn the table of what the host offers into that of the processor `cpu`; NULL: "host". -EINVAL
// for words that are not known, -ENOTSUP for what this host cannot show.
int vn_model_apply(struct vn_cpuid *cpuid, const char *cpu, struct veneer_error *error);

// Models and features, in lines for a person, each with a mark of whether this host can run it.
// -ENOMEM, or what writing ran into.
int vn_model_list(struct vn_cpuid *cpuid, FILE *out, struct veneer_error *error);

#endif
