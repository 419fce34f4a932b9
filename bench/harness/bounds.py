# SPDX-License-Identifier: Apache-2.0
"""What bounds each metric, on whatever machine: the words that stand beside a row where Veneer is
behind. The first pattern that fits a metric's name is its own.
"""

import fnmatch

BOUNDS = (
    ("start.first*", "The kernel: execve(), making a virtual machine and its vCPU, which on some "
                     "kernels waits for grace periods, and clearing the guest's first pages. Then the "
                     "dynamic linker."),
    ("start.exit*", "The same, and taking the virtual machine down, which is the kernel's too. The "
                    "native figure is a process alone."),
    ("memory.*", "The program, its libraries, and the stacks and rings of its threads."),
    ("size.binary", "The program with the guest that is built in."),
    ("cpu.loop", "The CPU: the guest runs on it without an exit. A difference is other work on that "
                 "CPU, or its clock."),
    ("mem.*", "Memory, and nested page tables where the CPU has them: with large pages on both sides "
              "little is walked."),
    ("blk.id.*", "No disk is read: by interrupt this is the price of one notification, if the loop has "
                 "gone to sleep, and of one interrupt to a guest that sleeps. Native and this together "
                 "are what a read at depth 1 has to cost."),
    ("blk.*.qd1.poll.*", "The disk, and a system call for each request. The guest pays a notification "
                         "where the loop has given up looking."),
    ("blk.*.qd1.irq.*", "The disk, one interrupt to a guest that sleeps, and a notification where the "
                        "loop has given up looking: it can look only while it has a CPU to itself. "
                        "blk.id has the price of the two; a native program pays neither."),
    ("blk.*.poll.*", "The disk, as long as the loop is not busy all the time. A disk that answers all "
                     "that is in flight at once idles until the guest has submitted again; the native "
                     "program is told of parts (interrupted) and keeps it at work."),
    ("blk.*.irq.*", "The disk, and between its answers one interrupt and one notification for a batch: "
                    "while these take their time, the rest of the batch completes, and the disk idles. "
                    "The deeper the queue, the less they weigh."),
    ("net.send.*", "The TAP: a system call for each frame, natively too."),
    ("net.receive.*.irq.*", "The TAP, as below, and an interrupt for each batch of frames."),
    ("net.receive.*", "The TAP: a system call for each frame, natively too. The sender shares the "
                      "monitor's CPU."),
    ("net.rtt.*.poll.*", "The scheduler: the host's end and the loop share a CPU and wake each other. "
                         "The native program has the vCPU's CPU."),
    ("net.rtt.*", "The scheduler, as with polling, and an interrupt to a guest that sleeps for each "
                  "frame."),
    ("exits.*.poll.*", "A notification for each batch of requests where the loop has given up looking; "
                       "other exits are the host's interrupts on the vCPU's CPU."),
    ("exits.read4k.*", "A notification and an interrupt for each batch of requests, and an interrupt "
                       "takes exits of its own: going to sleep, its end."),
    ("exits.*", "A notification for each batch of frames, an interrupt for each batch received."),
)


def bound_of(name):
    """The pattern that is a metric's, and its words."""
    return next(pair for pair in BOUNDS if fnmatch.fnmatchcase(name, pair[0]))
