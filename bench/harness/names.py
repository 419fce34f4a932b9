# SPDX-License-Identifier: Apache-2.0
"""Every metric's name in words: its load, and what was measured of it."""

WAYS = {"poll": "guest polling", "irq": "by interrupt"}
KINDS = {
    "read4k": "random 4 KiB reads",
    "write4k": "random 4 KiB writes",
    "read1m": "sequential 1 MiB reads",
    "write1m": "sequential 1 MiB writes",
    "id": "requests that read no disk",
}
FRAMES = {"64": "64-byte frames", "64294": "64 KiB TCP segments"}
FIGURES = {
    "iops": "rate",
    "pps": "rate",
    "rate": "throughput",
    "p50": "median latency",
    "p99": "99th percentile of latency",
    "cpu": "CPU time of the I/O threads",
    "busy": "I/O threads' share of a CPU",
    "all": "exits",
    "user": "exits to user space",
    "notified": "notifications",
    "interrupted": "interrupts",
}
# Those whose names are not made of parts: the load, the figure.
WHOLE = {
    "start.first": ("start of a guest", "to its first port write"),
    "start.exit": ("start of a guest", "to the end of the process"),
    "start.first.q35": ("start of a guest, QEMU a q35", "to its first port write"),
    "start.exit.q35": ("start of a guest, QEMU a q35", "to the end of the process"),
    "memory.overhead": ("memory beyond the guest's", "no device"),
    "memory.overhead.devices": ("memory beyond the guest's", "a disk and a network"),
    "size.binary": ("the program", "size, stripped"),
    "cpu.loop": ("CPU", "dependent decrement and jump"),
    "mem.write": ("memory", "writing"),
    "mem.read": ("memory", "reading"),
    "mem.copy": ("memory", "copying"),
    "mem.latency": ("memory", "latency of a load, large buffer"),
    "mem.latency.cached": ("memory", "latency of a load, 16 KiB"),
}


def disk_load(kind, depth, mode):
    return f"{KINDS[kind]}, {depth.removeprefix('qd')} in flight, {WAYS[mode]}"


def network_load(direction, size, mode=None):
    way = f", {WAYS[mode]}" if mode and direction != "send" else ""
    words = {"send": "guest sends {}", "receive": "guest receives {}", "rtt": "{} there and back"}
    return words[direction].format(FRAMES[size]) + way


def load_of(metric):
    """In words, for a heading."""
    if metric.name in WHOLE:
        words = WHOLE[metric.name][0]
    else:
        group, *parts = metric.load.split(".")
        is_disk = group == "blk" or parts[0] in KINDS
        words = disk_load(*parts) if is_disk else network_load(*parts)
    return words[0].upper() + words[1:]


def figure_of(metric):
    return WHOLE[metric.name][1] if metric.name in WHOLE else FIGURES[metric.figure]


def name_of(metric):
    return f"{load_of(metric)}: {figure_of(metric)}"
