// SPDX-License-Identifier: Apache-2.0
//
// Preloaded into a monitor, whichever it is: leaves a descriptor of KVM's statistics open for each
// virtual machine and vCPU that is made, for bench/run to fetch (pidfd_getfd) and read. Only the
// process that made them may ask KVM for one. Nothing else changes, and nothing while the guest
// runs.
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;

	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	int result = (int)syscall(SYS_ioctl, fd, request, argument);
	if (result >= 0 && (request == KVM_CREATE_VM || request == KVM_CREATE_VCPU))
		syscall(SYS_ioctl, result, KVM_GET_STATS_FD, NULL);
	return result;
}
