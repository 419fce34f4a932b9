# SPDX-License-Identifier: Apache-2.0
"""The two monitors: their command lines, and a guest that runs under either."""

import json
import os
import re
import select
import shutil
import subprocess
import time

from . import host

ROW = re.compile(r"^([a-z]\w*(?:\.\w+)+)\s+([0-9.]+) (\S+)")
VCPU = re.compile(r"^(vcpu\d+|CPU \d+/KVM)$")
STEP_SECONDS = 60
FIRMWARE = "qboot.rom"


class Failed(Exception):
    """A guest or a program that did not do what it was asked, in lines of which the last is the most
    telling; and the figures that there are all the same."""

    def __init__(self, reason, found=None):
        super().__init__(reason)
        self.found = found or {}


class Veneer:
    name = "veneer"
    exit_status = 0

    def __init__(self, build):
        self.path = f"{build}/veneer"
        shown = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=True)
        self.version = shown.stdout.strip()

    def command(self, words, memory=256, disk=None, tap=None):
        devices = []
        if disk or tap:
            devices += ["--transport", "pci"]
        if disk:
            devices += ["--disk", disk.replace(",", ",,") + ",cache=none"]
        if tap:
            devices += ["--net", f"tap={tap},vhost=off"]
        return [self.path, "run", "--memory", f"{memory}M", *devices, "--cmdline", words]


class Qemu:
    """A microvm, or a q35; devices on PCI, where their interrupts are messages."""

    name = "qemu"
    exit_status = 1  # 2 * 0 + 1

    def __init__(self, path, guest, machine="microvm"):
        self.path, self.guest, self.machine = path, guest, machine
        self.version = version_line(path)
        self.data = self.data_beside()
        self.cpu = "host"
        helped = self.ask("-device", "virtio-blk-pci,help")
        self.maps_queues = "iothread-vq-mapping" in helped

    def ask(self, *arguments):
        return subprocess.run([self.path, *arguments], capture_output=True, text=True,
                              timeout=STEP_SECONDS).stdout

    def data_beside(self):
        """-L for a QEMU that was unpacked somewhere: its build may look in /usr/share alone, where
        nothing is, or another version's firmware."""
        known = {os.path.realpath(line) for line in self.ask("-L", "help").split("\n")}
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(self.path)))
        beside = [f"{prefix}/share/{name}" for name in ("qemu", "seabios")]
        return [word for directory in beside
                if os.path.isdir(directory) and directory not in known
                for word in ("-L", directory)]

    def choose_cpu(self):
        """Some KVMs refuse a register that QEMU sets for `host`."""
        for self.cpu in ("host", "host,-arch-capabilities"):
            _, status, errors = run_program(self.command("exit=0"))
            if status == self.exit_status:
                return
        raise Failed(f"{self.name}: status {status} of a guest that ends at once\n{errors}".rstrip())

    def machine_options(self, pci):
        """A microvm's firmware is said, because it is SeaBIOS for a microvm with ACPI, which starts
        a kernel by an option ROM alone. (Debian 12's package has qboot under SeaBIOS's name.)"""
        if self.machine == "q35":
            return ["-M", "q35"]
        devices = "acpi=on,pcie=on" if pci else "acpi=off"
        return ["-M", f"microvm,{devices},pit=off,pic=off,rtc=off,isa-serial=on,x-option-roms=off",
                "-bios", FIRMWARE]

    def disk(self, path):
        file = path.replace(",", ",,")
        device = {"driver": "virtio-blk-pci", "drive": "d", "disable-legacy": "on", "num-queues": 1}
        if self.maps_queues:
            device["iothread-vq-mapping"] = [{"iothread": "io0"}]
        else:
            device["iothread"] = "io0"
        return ["-object", "iothread,id=io0",
                "-drive", f"id=d,file={file},format=raw,if=none,cache=none,aio=io_uring",
                "-device", json.dumps(device)]

    def command(self, words, memory=256, disk=None, tap=None):
        devices = []
        if disk:
            devices += self.disk(disk)
        if tap:
            devices += ["-netdev", f"tap,id=n,ifname={tap},script=no,downscript=no,vhost=off",
                        "-device", "virtio-net-pci,netdev=n,disable-legacy=on,romfile="]
        if devices:
            words = "pci=0xe0000000,0xc0000000 " + words
        return [self.path, *self.data, *self.machine_options(bool(devices)), "-accel", "kvm",
                "-cpu", self.cpu, "-m", str(memory), "-name", "bench,debug-threads=on", "-nodefaults",
                "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-device",
                "isa-debug-exit,iobase=0xf4,iosize=4", *devices, "-kernel", self.guest, "-append", words]


def version_line(path):
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=STEP_SECONDS)
    return shown.stdout.split("\n")[0]


def find_qemu():
    """The one that a user would start, or None. Another has to be named: which one happens to lie
    elsewhere must not change what is measured."""
    return shutil.which("qemu-system-x86_64")


class Guest:
    """A running guest, its serial line, and the rows that it has printed."""

    def __init__(self, monitor, words, cpus, preload=None, **options):
        self.monitor, self.cpus = monitor, cpus
        self.command = monitor.command(words, **options)
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, bufsize=0,
                                        env=dict(os.environ, LD_PRELOAD=preload or ""))
        self.pid = self.process.pid
        self.text = ""  # not yet a whole line
        self.rows = {}
        self.log = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def fail(self, what):
        said = "\n".join(self.log[-10:])
        try:
            self.process.wait(1)  # if it has closed its output, it is about to end
            errors = self.process.stderr.read().decode(errors="replace")
        except subprocess.TimeoutExpired:
            errors = ""
        raise Failed(f"{self.monitor.name}: {what}\n{said}\n{errors}".rstrip())

    def take_line(self, line):
        self.log.append(line)
        if line.startswith("FAIL"):
            self.fail("the guest says")
        row = ROW.match(line)
        if row:
            self.rows[row[1]] = float(row[2])

    def until(self, wanted):
        """Reads on to the line `wanted`, or to the end of the output if that is None."""
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [],
                                        max(0, deadline - time.monotonic()))
            if not ready:
                self.fail(f"no '{wanted or 'end'}' within {STEP_SECONDS} s")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                if wanted is None:
                    return
                self.fail(f"it ended before '{wanted}'")
            *lines, self.text = (self.text + data.decode(errors="replace")).split("\n")
            found = False
            for line in lines:
                self.take_line(line.rstrip("\r"))
                found |= line.rstrip("\r") == wanted
            if found:
                return

    def pause(self):
        """Waits for the word `echo` in the guest, which sleeps there until go_on()."""
        self.until("ready")

    def go_on(self):
        self.process.stdin.write(b"quit\n")

    def threads(self):
        """Each thread's number, and whether it is a vCPU's."""
        for task in map(int, os.listdir(f"/proc/{self.pid}/task")):
            yield task, bool(VCPU.match(host.read(f"/proc/{self.pid}/task/{task}/comm")))

    def io_seconds(self):
        """Processor time so far of all threads but the vCPUs'."""
        return sum(host.cpu_seconds(self.pid, task)
                   for task, is_vcpu in self.threads() if not is_vcpu)

    def pin(self):
        """vCPUs to the one CPU, all other threads to the other. The vCPUs' threads."""
        vcpus = []
        for task, is_vcpu in self.threads():
            if is_vcpu:
                vcpus.append(task)
            try:
                os.sched_setaffinity(task, {self.cpus[0] if is_vcpu else self.cpus[1]})
            except ProcessLookupError:
                pass  # one of io_uring's workers, gone
        if not vcpus:
            self.fail("no thread has the name of a vCPU's")
        return vcpus

    def start(self):
        """For words that begin with `echo`: pins the threads once all are there, and goes on."""
        self.pause()
        self.pin()
        self.go_on()

    def end(self):
        """To the end of the guest, which must be a good one."""
        self.until(None)
        if self.process.wait() != self.monitor.exit_status:
            self.fail(f"exit status {self.process.returncode}")
        return self.rows


def run_program(command, cpu=None):
    """The rows that a program of the host's prints."""
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
    try:
        ran = subprocess.run([*pinned, *command], stdin=subprocess.DEVNULL, capture_output=True,
                             text=True, timeout=STEP_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]}: no end within {STEP_SECONDS} s") from None
    rows = {}
    for line in ran.stdout.split("\n"):
        row = ROW.match(line)
        if row:
            rows[row[1]] = float(row[2])
    return rows, ran.returncode, ran.stderr
