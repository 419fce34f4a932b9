# SPDX-License-Identifier: Apache-2.0
"""What is measured: every metric, and for each group of them how one side gets its figures.

A group has steps; a step is what is done on all sides in turn before the next one begins, so that
what disturbs the machine for a while disturbs every side.
"""

import fnmatch
import os
import shutil
import subprocess
import tempfile

from . import host, monitor
from .host import Missing
from .monitor import Failed, Guest

LOWER, HIGHER = "lower", "higher"

DEPTHS = (1, 8, 32, 128)
LARGE_DEPTH = 4
MODES = ("poll", "irq")
SMALL, BULK = 64, 64294  # bytes of a frame; BULK is 44 segments of TCP
MEMORY_MIB = 1024  # of the guest that measures memory: a buffer of 256 MiB
DEBUG_EXIT = "0xf4"


class Metric:
    """A row: its name, unit, which way is better, its group, and whether the host has it too. What
    is `counted` is in the JSON, and on the page beside the rows that it helps to explain. All
    figures of one load have its name but for the last part."""

    def __init__(self, name, unit, better, group, counted=False):
        self.name, self.unit, self.better, self.group = name, unit, better, group
        self.counted = counted
        self.native = (group in ("cpu", "block", "network") or name == "start.exit") and not (
            name.startswith("blk.id.") or name.endswith(".notified"))
        self.load, self.figure = name.rsplit(".", 1)

    def sides(self):
        """The sides that have a figure for it, unless something goes wrong."""
        return ("native", "veneer", "qemu") if self.native else ("veneer", "qemu")


class Bench:
    """All that the steps share."""

    def __init__(self, build, file, veneer, cpus, quick):
        self.build, self.file, self.cpus, self.quick = build, file, cpus, quick
        self.veneer, self.qemu, self.q35 = veneer, None, None
        self.without = {}  # side: why it takes no part
        self.cpus_allowed = os.sched_getaffinity(0)
        self.statsfd = f"{build}/bench/libbench-statsfd.so"
        self.commands = {}  # (what, side): as it was first run

    def tool(self, name):
        return f"{self.build}/bench/bench-{name}"

    def guest(self, side, what, words, **options):
        guest = Guest(side, words, self.cpus, **options)
        self.commands.setdefault((what, side.name), guest.command)
        return guest

    def native(self, what, *arguments):
        """A program of ours on the vCPU's CPU; its rows."""
        command = [self.tool("native"), *arguments]
        self.commands.setdefault((what, "native"), command)
        rows, status, errors = monitor.run_program(command, self.cpus[0])
        if status:
            raise Failed(f"native: {errors}")
        return rows


class Step:
    """One thing to measure on each side that can: functions of (bench, side) to {metric: value}.
    `names` has patterns of the metrics that come of it."""

    def __init__(self, group, names, native=None, guest=None):
        self.group, self.names, self.native, self.guest = group, names, native, guest

    def metrics_of(self, metrics, side):
        return [metric for metric in metrics if side in metric.sides()
                and any(fnmatch.fnmatchcase(metric.name, name) for name in self.names)]


# Start ----------------------------------------------------------------------------------------

def started(bench, what, side, port, command, expected):
    """Runs `command` under bench-start, on all CPUs."""
    bench.commands.setdefault((what, side), command)
    everywhere = ",".join(map(str, sorted(bench.cpus_allowed)))
    rows, status, errors = monitor.run_program(
        ["taskset", "-c", everywhere, bench.tool("start"), port, *command])
    if status != expected:
        raise Failed(f"{side}: status {status} of a guest that ends at once: {errors}")
    return rows


def can_trace():
    return os.geteuid() == 0 and os.path.exists(f"{host.TRACE}/events/kvm/kvm_pio/id")


def native_start(bench):
    rows = started(bench, "start", "native", "0", [bench.tool("native"), "exit"], 0)
    return {"start.exit": rows["start.exit"] / 1000}


def start_of(bench, side, what, monitor_run, suffix):
    rows = started(bench, what, side.name, DEBUG_EXIT if can_trace() else "0",
                   monitor_run.command("exit=0"), side.exit_status)
    found = {name + suffix: value / 1000 for name, value in rows.items()}
    if not can_trace():
        raise Missing("KVM's trace events need root and tracefs", found)
    if "start.first" not in rows:
        raise Failed(f"{side.name}: no write to port {DEBUG_EXIT} was seen", found)
    return found


def guest_start(bench, side):
    return start_of(bench, side, "start", side, "")


def q35_start(bench, side):
    return start_of(bench, side, "start of q35", bench.q35 if side is bench.qemu else side, ".q35")


# Memory and size ------------------------------------------------------------------------------

def overhead(bench, side, name, **devices):
    memory = 256
    with bench.guest(side, name, "echo", memory=memory, **devices) as guest:
        guest.pause()
        extra = host.overhead_bytes(guest.pid, memory << 20)
        guest.go_on()
        guest.end()
    return {name: extra / (1 << 20)}


def guest_overhead(bench, side):
    return overhead(bench, side, "memory.overhead")


def guest_overhead_devices(bench, side):
    return overhead(bench, side, "memory.overhead.devices", disk=bench.file, tap=host.make_tap())


def binary_size(bench, side):
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "-o", stripped.name, shutil.which(side.path)], check=True)
        return {"size.binary": os.path.getsize(stripped.name) / 1024}


# CPU and memory -------------------------------------------------------------------------------

def native_cpu(bench):
    rows = bench.native("cpu", "cpu")
    rows.update(bench.native("mem", "mem", str((MEMORY_MIB - 4) << 20)))
    return rows


def guest_cpu(bench, side):
    with bench.guest(side, "cpu and mem", "echo cpu mem", memory=MEMORY_MIB) as guest:
        guest.start()
        return guest.end()


# Block ----------------------------------------------------------------------------------------

def disk_step(kind, depth):
    head = f"blk.{kind}.qd{depth}"

    def count(bench):
        if not bench.quick:
            return ""
        return ",100" if kind.endswith("1m") else ",1500"

    def native(bench):
        rows = bench.native("blk", "blk", bench.file, kind, str(depth))
        return {name.replace(head, f"{head}.{mode}"): value
                for mode in MODES for name, value in rows.items()}

    def guest(bench, side):
        loads = [f"blk-load={kind},{depth},{mode}{count(bench)} echo" for mode in MODES]
        used = {}
        with bench.guest(side, "blk", " ".join(["echo", *loads]), disk=bench.file) as running:
            running.pause()
            running.pin()
            for mode in MODES:
                before = running.io_seconds()
                running.go_on()
                running.pause()
                used[f"{head}.{mode}"] = running.io_seconds() - before
            running.go_on()
            rows = running.end()
        for load, seconds in used.items():
            took = rows[f"{load}.took"] / 1e6
            rows[f"{load}.busy"] = seconds / took
            rows[f"{load}.cpu"] = seconds * 1e6 / (rows[f"{load}.iops"] * took)
        return rows

    return Step("block", [f"{head}.*"], None if kind == "id" else native, guest)


# Network --------------------------------------------------------------------------------------

def peer(bench, what, size, count):
    command = [bench.tool("net"), what, host.TAP, str(size), str(count)]
    bench.commands.setdefault(("net", "the other end"), command)
    rows, status, errors = monitor.run_program(command, bench.cpus[1])
    if status:
        raise Failed(f"the network's other end: {errors}")
    return rows


def tap_program(bench, what, size, count, other):
    """The native side: a program on the TAP itself, and its peer if it has one."""
    host.make_tap()
    command = ["taskset", "-c", str(bench.cpus[0]), bench.tool("net"), what, host.TAP, str(size),
               str(count)]
    bench.commands.setdefault(("net", "native"), command[3:])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        rows = {}
        if other:
            lines.append(process.stdout.readline())
            rows = peer(bench, other, size, count)
        lines += process.stdout.read().split("\n")
    if process.returncode:
        raise Failed(f"native: bench-net {what}")
    for line in lines:
        match = monitor.ROW.match(line)
        if match:
            rows[match[1]] = float(match[2])
    return rows


def net_step(direction, size, count, modes):
    figure = "rate" if size == BULK else "pps"
    other = {"send": None, "receive": "source", "reflect": "rtt"}[direction]

    def names(rows, mode):
        """The metrics in what one end printed, whose keys may lack the mode."""
        found = {}
        for key, value in rows.items():
            parts = key.split(".")
            if parts[1] == "rtt" and direction == "reflect":
                found[f"net.rtt.{size}.{mode}.{parts[-1]}"] = value
            elif parts[1] == direction and parts[-1] == figure and direction != "reflect":
                found[f"net.{direction}.{size}.{mode}.{figure}"] = value
        return found

    def scaled(bench):
        return count // 10 if bench.quick else count

    def native(bench):
        rows = tap_program(bench, f"tap-{direction}", size, scaled(bench), other)
        return {k: v for mode in modes for k, v in names(rows, mode).items()}

    def guest(bench, side):
        tap = host.make_tap()
        found = {}
        for mode in modes:
            words = f"net-load={direction},{size},{scaled(bench)}"
            words += ",irq" if mode == "irq" else ""
            with bench.guest(side, "net", "echo " + words, tap=tap) as running:
                running.start()
                running.until("net-load: ready")
                rows = peer(bench, other, size, scaled(bench)) if other else {}
                rows.update(running.end())
            found.update(names(rows, mode))
        return found

    return Step("network", [f"net.{'rtt' if direction == 'reflect' else direction}.{size}.*"],
                native, guest)


# Exits ----------------------------------------------------------------------------------------

def exits_step(name, word, per_round, other=None, **wants):
    """Exits of one thing done: those of three times as many less those of so many, so that all
    else that the guest does, starting the device and printing, cancels out."""

    def rounds(bench, running, number):
        """Three readings of both counters, with `number` and then three times as many between."""
        user = host.UserExits(running.pin())
        seen = []
        for repeat in (1, 3, 0):
            seen.append((host.kvm_exits(running.pid), user.read()))
            running.go_on()
            if not repeat:
                break
            if "tap" in wants:
                running.until("net-load: ready")
            if other:
                peer(bench, other, SMALL, repeat * number)
            running.pause()
        user.close()
        return seen

    def guest(bench, side):
        number = per_round // (4 if bench.quick else 1)
        devices = {"disk": bench.file} if "disk" in wants else {"tap": host.make_tap()}
        words = f"echo {word.format(number)} echo {word.format(3 * number)} echo"
        with bench.guest(side, "exits", words, preload=bench.statsfd, **devices) as running:
            running.pause()
            a, b, c = rounds(bench, running, number)
            rows = running.end()
        every, user = ((z - 2 * y + x) / (2 * number) for x, y, z in zip(a, b, c))
        found = {f"exits.{name}.all": max(0, every), f"exits.{name}.user": max(0, user)}
        for key, value in rows.items():
            if key.endswith((".notified", ".interrupted")):
                found[f"exits.{name}.{key.rsplit('.')[-1]}"] = value
        return found

    return Step("exits", [f"exits.{name}.*"], None, guest)


EXITS = [
    exits_step(f"read4k.qd{depth}.{mode}", f"blk-load=read4k,{depth},{mode}," + "{}", count,
               disk=True)
    for depth, count in ((1, 2000), (32, 8000)) for mode in MODES
] + [
    exits_step("send.64", f"net-load=send,{SMALL}," + "{}", 40000, tap=True),
    exits_step("receive.64.irq", f"net-load=receive,{SMALL}," + "{},irq", 40000, "source",
               tap=True),
]
EXIT_NAMES = [f"read4k.qd{d}.{m}" for d in (1, 32) for m in MODES] + ["send.64", "receive.64.irq"]


# All of it ------------------------------------------------------------------------------------

def metrics():
    rows = []

    def add(name, unit, better, group, counted=False):
        rows.append(Metric(name, unit, better, group, counted))

    def add_counted(head):
        add(f"{head}.cpu", "us/IO", LOWER, "block")
        add(f"{head}.busy", "CPUs", LOWER, "block", counted=True)
        add(f"{head}.notified", "/IO", LOWER, "block", counted=True)
        add(f"{head}.interrupted", "/IO", LOWER, "block", counted=True)

    for suffix in ("", ".q35"):
        add(f"start.first{suffix}", "ms", LOWER, "start")
        add(f"start.exit{suffix}", "ms", LOWER, "start")
    for name in ("memory.overhead", "memory.overhead.devices"):
        add(name, "MiB", LOWER, "footprint")
    add("size.binary", "KiB", LOWER, "footprint")
    add("cpu.loop", "ns/iteration", LOWER, "cpu")
    for name in ("write", "read", "copy"):
        add(f"mem.{name}", "MiB/s", HIGHER, "cpu")
    for name in ("mem.latency", "mem.latency.cached"):
        add(name, "ns/load", LOWER, "cpu")
    for kind in ("read4k", "write4k"):
        for mode in MODES:
            for depth in DEPTHS:
                head = f"blk.{kind}.qd{depth}.{mode}"
                add(f"{head}.iops", "IOPS", HIGHER, "block")
                add(f"{head}.p50", "us", LOWER, "block")
                add(f"{head}.p99", "us", LOWER, "block")
                add_counted(head)
    for kind in ("read1m", "write1m"):
        for mode in MODES:
            head = f"blk.{kind}.qd{LARGE_DEPTH}.{mode}"
            add(f"{head}.rate", "MiB/s", HIGHER, "block")
            add_counted(head)
    for mode in MODES:
        add(f"blk.id.qd1.{mode}.p50", "us", LOWER, "block")
        add_counted(f"blk.id.qd1.{mode}")
    add(f"net.send.{SMALL}.poll.pps", "packets/s", HIGHER, "network")
    add(f"net.send.{BULK}.poll.rate", "MiB/s", HIGHER, "network")
    for mode in MODES:
        add(f"net.receive.{SMALL}.{mode}.pps", "packets/s", HIGHER, "network")
        add(f"net.receive.{BULK}.{mode}.rate", "MiB/s", HIGHER, "network")
        add(f"net.rtt.{SMALL}.{mode}.p50", "us", LOWER, "network")
        add(f"net.rtt.{SMALL}.{mode}.p99", "us", LOWER, "network")
    for name in EXIT_NAMES:
        for figure in ("all", "user", "notified", "interrupted"):
            add(f"exits.{name}.{figure}", "/IO" if "read4k" in name else "/packet", LOWER, "exits")
    return rows


def steps():
    return [
        Step("start", ["start.first", "start.exit"], native_start, guest_start),
        Step("start", ["start.*.q35"], None, q35_start),
        Step("footprint", ["memory.overhead"], None, guest_overhead),
        Step("footprint", ["memory.overhead.devices"], None, guest_overhead_devices),
        Step("footprint", ["size.binary"], None, binary_size),
        Step("cpu", ["cpu.*", "mem.*"], native_cpu, guest_cpu),
        *(disk_step(kind, depth) for kind in ("read4k", "write4k") for depth in DEPTHS),
        disk_step("read1m", LARGE_DEPTH),
        disk_step("write1m", LARGE_DEPTH),
        disk_step("id", 1),
        net_step("send", SMALL, 300000, ("poll",)),
        net_step("send", BULK, 50000, ("poll",)),
        net_step("receive", SMALL, 200000, MODES),
        net_step("receive", BULK, 50000, MODES),
        net_step("reflect", SMALL, 5000, MODES),
        *EXITS,
    ]
