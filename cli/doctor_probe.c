// SPDX-License-Identifier: Apache-2.0
//
// What only a system call tells about the live host.
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cpuset.h"
#include "cli/doctor.h"

static int accessible(const char *path)
{
	return access(path, R_OK | W_OK) < 0 ? -errno : 0;
}

static void probe_kvm(struct doctor_probes *probes)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	probes->kvm = fd < 0 ? -errno : ioctl(fd, KVM_GET_API_VERSION, 0);
	probes->tsc_control = probes->kvm;
	if (fd < 0)
		return;
	if (probes->kvm < 0)
		probes->kvm = -errno;
	probes->tsc_control = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL);
	if (probes->tsc_control < 0)
		probes->tsc_control = -errno;
	close(fd);
}

// The kind of ring that Veneer's threads wait in.
static int probe_io_uring(void)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(
		8, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (ret == 0)
		io_uring_queue_exit(&ring);
	return ret;
}

static bool has_ipc_lock(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

	return syscall(SYS_capget, &header, data) == 0 &&
	       (data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK));
}

// Isolated CPUs are not in a process's affinity, yet it may ask for them. What the kernel grants
// when all are asked for is what the cgroup's cpuset allows.
static void probe_allowed(struct vn_cpuset *allowed)
{
	cpu_set_t before, all, granted;

	CPU_ZERO(&all);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		CPU_SET(cpu, &all);
	*allowed = (struct vn_cpuset){.bits = {0}};
	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		return;
	granted = before;
	if (sched_setaffinity(0, sizeof(all), &all) == 0) {
		sched_getaffinity(0, sizeof(granted), &granted);
		sched_setaffinity(0, sizeof(before), &before);
	}
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && cpu < VN_HOST_CPUS_MAX; cpu++) {
		if (CPU_ISSET(cpu, &granted))
			vn_cpuset_add(allowed, cpu);
	}
}

void doctor_probe(struct doctor_probes *probes)
{
	struct rlimit limit = {.rlim_cur = 0};

	probe_kvm(probes);
	probe_allowed(&probes->allowed);
	probes->vhost_net = accessible("/dev/vhost-net");
	probes->vfio = accessible("/dev/vfio/vfio");
	probes->io_uring = probe_io_uring();
	getrlimit(RLIMIT_MEMLOCK, &limit);
	probes->memlock = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
	probes->ipc_lock = has_ipc_lock();
}

void doctor_probe_disk(struct doctor_disk *disk, const char *path)
{
	struct stat status;

	*disk = (struct doctor_disk){.path = path};
	if (stat(path, &status) < 0)
		disk->code = -errno;
	else
		disk->device = S_ISBLK(status.st_mode) ? status.st_rdev : status.st_dev;
}
