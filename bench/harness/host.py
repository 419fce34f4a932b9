# SPDX-License-Identifier: Apache-2.0
"""The host: namespaces of our own, a TAP, KVM's trace events, what machine this is."""

import ctypes
import functools
import os
import platform
import re
import shutil
import struct
import subprocess
import sys

MARK = "VENEER_BENCH_NAMESPACE"
TRACE = "/sys/kernel/tracing"
TAP = "bench0"
LIBC = ctypes.CDLL(None, use_errno=True)
SYS_PERF_EVENT_OPEN = 298  # x86-64, as the next one
SYS_PIDFD_GETFD = 438


class Missing(Exception):
    """A figure that this machine cannot give, and why; and those beside it that it can."""

    def __init__(self, reason, found=None):
        super().__init__(reason)
        self.found = found or {}


def enter_namespaces():
    """Runs this program again where a TAP and a mount disturb nobody."""
    if MARK in os.environ:
        return
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--net", "--mount"]
    environment = dict(os.environ, **{MARK: "yes"})
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.execvpe("unshare", [*command, sys.executable, *sys.argv], environment)
    os.environ[MARK] = "no"


def mount_tracefs():
    """KVM's trace events; without the right to mount, their figures are missing."""
    if os.environ[MARK] == "yes" and not os.path.exists(f"{TRACE}/events"):
        subprocess.run(["mount", "-t", "tracefs", "none", TRACE], stderr=subprocess.DEVNULL)


@functools.cache
def make_tap():
    """The TAP's name, in our own network namespace; the kernel says nothing on it by itself."""
    if os.environ[MARK] != "yes":
        raise Missing("no right to make a network namespace with a TAP")
    made = subprocess.run(["ip", "tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"],
                          capture_output=True, text=True)
    if made.returncode:
        raise Missing("no TAP: " + made.stderr.strip())
    with open(f"/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6", "w") as f:
        f.write("1")
    subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
    return TAP


def kvm_exits(pid):
    """Exits of all vCPUs of process `pid` so far, by KVM's statistics (KVM_GET_STATS_FD in the
    kernel's api.rst). bench-statsfd has left their descriptors open."""
    directory = f"/proc/{pid}/fd"
    found = {os.readlink(f"{directory}/{fd}"): int(fd) for fd in os.listdir(directory)}
    vcpus = [fd for name, fd in found.items() if "kvm-vcpu-stats" in name]
    if not vcpus:
        raise Missing("this KVM has no statistics to read (KVM_CAP_BINARY_STATS_FD)")
    process = os.pidfd_open(pid)
    try:
        return sum(read_statistic(process, fd, "exits") for fd in vcpus)
    finally:
        os.close(process)


def read_statistic(process, fd, wanted):
    """One number behind another process's descriptor of statistics."""
    file = system_call(SYS_PIDFD_GETFD, process, fd, 0)
    try:
        _, name_bytes, count, _, descriptors, data = struct.unpack("6I", os.pread(file, 24, 0))
        for i in range(count):
            text = os.pread(file, 16 + name_bytes, descriptors + i * (16 + name_bytes))
            _, _, _, offset, _ = struct.unpack("IhHII", text[:16])
            if text[16:].split(b"\0")[0].decode() == wanted:
                return struct.unpack("Q", os.pread(file, 8, data + offset))[0]
    finally:
        os.close(file)
    raise Missing(f"this KVM does not count {wanted}")


class UserExits:
    """Counts exits to user space on vCPU threads, by KVM's trace event: unlike the statistics, it
    counts all kinds on every KVM."""

    EVENT = f"{TRACE}/events/kvm/kvm_userspace_exit/id"
    TRACEPOINT = 2
    ATTRIBUTE_BYTES = 128

    def __init__(self, tasks):
        number = read(self.EVENT, "")
        if not number:
            raise Missing("KVM's trace events need root and tracefs")
        # struct perf_event_attr: type, size, config; all else 0, so it counts, and from now on.
        attributes = struct.pack("=IIQ", self.TRACEPOINT, self.ATTRIBUTE_BYTES, int(number))
        attributes = attributes.ljust(self.ATTRIBUTE_BYTES, b"\0")
        self.files = [system_call(SYS_PERF_EVENT_OPEN, attributes, task, -1, -1, 0)
                      for task in tasks]

    def read(self):
        return sum(int.from_bytes(os.read(file, 8), "little") for file in self.files)

    def close(self):
        for file in self.files:
            os.close(file)


def system_call(number, *arguments):
    result = LIBC.syscall(number, *arguments)
    if result < 0:
        raise Missing(f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


def overhead_bytes(pid, guest_bytes):
    """Pss of the process less that of the guest's memory: mappings as large as that, or larger."""
    total = 0
    counted = True
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            header = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if header:
                counted = int(header[2], 16) - int(header[1], 16) < guest_bytes
            elif counted and line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def read(path, otherwise="unknown"):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return otherwise


def cpu_seconds(pid, task):
    """Processor time of a thread so far; none of one that has gone."""
    return int(read(f"/proc/{pid}/task/{task}/schedstat", "0").split()[0]) / 1e9


def cpu_model():
    match = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.M)
    return match[1] if match else platform.processor()


def hardware_virtualization():
    flags = re.search(r"^flags\s*:(.*)$", read("/proc/cpuinfo"), re.M)
    words = flags[1].split() if flags else []
    for flag, name in (("vmx", "VT-x"), ("svm", "AMD-V")):
        if flag in words:
            return name
    return None


def emulates_ring0():
    """Without VT-x or AMD-V, KVM is software and steps through a guest's ring 0, firmware too, one
    instruction at a time."""
    return hardware_virtualization() is None


def file_system(path):
    shown = subprocess.run(["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", path],
                           capture_output=True, text=True)
    return " on ".join(shown.stdout.split()) or "unknown"


def file_bytes(path):
    with open(path, "rb") as f:
        return f.seek(0, os.SEEK_END)


def commit(directory):
    if not shutil.which("git"):
        return "unknown"
    shown = subprocess.run(["git", "-C", directory, "describe", "--always", "--dirty"],
                           capture_output=True, text=True)
    return shown.stdout.strip() or "unknown"


def facts():
    """What a reader needs to know of the machine, in the order to print it."""
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    huge = re.search(r"\[(\w+)\]", read("/sys/kernel/mm/transparent_hugepage/enabled"))
    return {
        "CPU": f"{cpu_model()}, {os.cpu_count()} CPUs",
        "hardware virtualization": hardware_virtualization() or "none: KVM emulates a guest's ring 0",
        "memory": f"{int(memory[1]) >> 20} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "none"),
        "transparent huge pages": huge[1] if huge else "none",
        "load average at the start": read("/proc/loadavg").split(" ")[0],
    }
