# SPDX-License-Identifier: Apache-2.0
"""What a run says: a table for the terminal, JSON, and a page with plots."""

import html
import json
import shlex
import statistics
import textwrap
import time

from . import names, svg
from .bounds import bound_of
from .groups import DEPTHS, HIGHER

SIDES = ("native", "veneer", "qemu")
TITLES = {
    "start": "Start",
    "footprint": "Footprint",
    "cpu": "CPU and memory",
    "block": "Block",
    "network": "Network",
    "exits": "Exits, notifications and interrupts",
}
EXPLAINED = {
    "start": "From execve() to the guest's first write to a port (first) and to the end of the "
             "process (exit), of a guest that ends at once. QEMU is a microvm, in rows with q35 "
             "that machine. The native figure is a program that does nothing.",
    "footprint": "Memory: Pss of the process less the guest's own pages, with no device and with a "
                 "disk and a network. Binary: stripped, without the libraries it loads and without "
                 "firmware.",
    "cpu": "The same machine code on the host and in the guest, on the same CPU.",
    "block": "Random 4 KiB and sequential 1 MiB requests on one file with O_DIRECT, one queue. poll: "
             "the guest looks at the ring; irq: it sleeps until the interrupt. The native program has "
             "one way to wait, and stands beside both. cpu: what all threads but the vCPU's take of "
             "their processor, polling among it. id: the disk's serial number, for which no disk is "
             "read.",
    "network": "Frames of 64 bytes, and TCP segments of 64294 for the device to cut up (TSO), between "
               "guest and host through a TAP; the time of a frame to the guest and back. The native "
               "program reads and writes the TAP itself.",
    "exits": "For each request or packet: all exits of the vCPU by KVM's statistics, those to user "
             "space by KVM's trace events, and what the guest sent and took.",
}
STYLE = """
body { font: 15px/1.5 system-ui, 'DejaVu Sans', sans-serif; color: #1f2933; background: #fff;
  max-width: 1080px; margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.7em; margin: 0 0 .2em; } h2 { font-size: 1.25em; margin: 2em 0 .3em;
  border-bottom: 1px solid #cbd2d9; padding-bottom: .2em; } h3 { font-size: 1em; margin: 1.2em 0 .3em; }
p { margin: .4em 0 .8em; max-width: 50em; } table { border-collapse: collapse; font-size: 13px; width: 100%; }
td, th { padding: .22em .7em; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { font-weight: 600; border-bottom: 1px solid #9aa5b1; } tr:nth-child(even) td { background: #f5f7fa; }
td:first-child, th:first-child, .facts td { text-align: left; } .facts { width: auto; }
.facts td:first-child { color: #616e7c; } .spread { color: #7b8794; font-size: 11px; }
.plots { display: flex; flex-wrap: wrap; gap: 18px 14px; } .worse { color: #b42318; font-weight: 600; }
pre { background: #f5f7fa; padding: .7em 1em; font-size: 12px; white-space: pre-wrap; word-break: break-all; }
.behind td { vertical-align: top; white-space: normal; text-align: left; }
.behind .bound { background: #fff; padding-top: 1em; color: #52606d; }
.id { color: #7b8794; font-size: 11px; font-weight: normal; } .words, th.words { text-align: left; }
td.load, tr:nth-child(even) td.load { background: #fff; font-weight: 600; padding-top: .8em; }
.key span { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 1.2em; }
.key span:first-child { margin-left: 0; } .note { background: #fffbea; padding: .5em 1em; }
"""


BEHIND = 0.95  # of the other's performance: less is said, and explained
NO_COUNT = 0.01  # for each request: as good as none
Q35 = ".q35"
VERDICTS = ("ahead", "level", "behind")
LEVEL = ("Level: within 5 %, or some run of Veneer's is better and some worse than one of the other's.")
EMULATED = ("This KVM has neither VT-x nor AMD-V and emulates ring 0 one instruction at a time, so the rows "
            "with q35 measure how long it takes to emulate that machine's firmware; they are not counted "
            "in the summary. A microvm's qboot is emulated too, which takes a few milliseconds.")


def figure(value):
    """Three digits that count, or all before the point."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}"[:5].rstrip(".")


def performance(metric, row, other):
    """Veneer's performance as a multiple of the other's, or None."""
    mine, theirs = row["veneer"], row[other]
    if not mine or not theirs:
        return None
    return mine / theirs if metric.better == HIGHER else theirs / mine


def spread(values):
    return f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else ""


def tail(load):
    """Its name without the group: exits have the names of the loads that they belong to."""
    return load.partition(".")[2]


def overlap(row, other):
    """Whether some run of Veneer's was better than some of the other's, and some worse."""
    mine, theirs = row["values"]["veneer"], row["values"][other]
    return min(mine) <= max(theirs) and min(theirs) <= max(mine)


SIDE_NAMES = {"native": "native", "veneer": "Veneer", "qemu": "QEMU"}


def verdict(metric, row, other):
    """Of VERDICTS, or None if there is nothing to compare."""
    mine, theirs = row["veneer"], row[other]
    if mine is None or theirs is None:
        return None
    if min(mine, theirs) == 0:
        return "level" if max(mine, theirs) < NO_COUNT else \
            "ahead" if (mine > theirs) == (metric.better == HIGHER) else "behind"
    value = performance(metric, row, other)
    if BEHIND <= value <= 1 / BEHIND or overlap(row, other):
        return "level"
    return "ahead" if value > 1 else "behind"


class Document:
    """What a run found. `emulated`: this KVM emulates ring 0, and so QEMU's firmware."""

    def __init__(self, metrics, rows, steps, facts, commands, runs, emulated):
        self.metrics, self.rows, self.steps, self.facts = metrics, rows, steps, facts
        self.commands, self.runs, self.emulated = commands, runs, emulated
        self.pairs = list(zip(metrics, rows))

    # The summary ----------------------------------------------------------------------------

    def judged(self, other, group=None):
        """(verdict, metric, row) of all that the summary counts, the best ratio first."""
        found = []
        for metric, row in self.shown(group):
            said = verdict(metric, row, other)
            if said and not (self.emulated and metric.name.endswith(Q35)):
                found.append((said, metric, row))
        return sorted(found, key=lambda one: performance(one[1], one[2], other) or 0, reverse=True)

    def leaves_out_q35(self):
        return self.emulated and any(metric.name.endswith(Q35) for metric in self.metrics)

    def counts(self, other, group=None):
        said = [one[0] for one in self.judged(other, group)]
        return [said.count(word) for word in VERDICTS]

    def sentences(self):
        """How often Veneer is ahead of each, level, and behind."""
        for other in ("qemu", "native"):
            ahead, level, behind = self.counts(other)
            total = ahead + level + behind
            if total:
                yield (f"Beside {SIDE_NAMES[other]}, Veneer is ahead in {ahead} of {total} figures, level "
                       f"in {level}, behind in {behind}.")

    def missing(self):
        """What is missing, a line for each reason and side. A group, or what comes of one step, is
        named as a whole if all of it is."""
        reasons = {}  # (side, reason): {metrics}
        for metric, row in self.pairs:
            for side, reason in row["missing"].items():
                reasons.setdefault((side, reason), set()).add(metric.name)
        return [f"{SIDE_NAMES[side]}: {', '.join(self.names_of(side, names))}: {reason}"
                for (side, reason), names in reasons.items()]

    def names_of(self, side, missing):
        if all(side not in m.sides() or m.name in missing for m in self.metrics):
            return ["everything"]
        names = []
        for group, title in TITLES.items():
            steps = [step for step in self.steps
                     if step.group == group and step.metrics_of(self.metrics, side)]
            wholes = [step for step in steps
                      if {m.name for m in step.metrics_of(self.metrics, side)} <= missing]
            if steps and wholes == steps:
                names.append(f"all of '{title}'")
                continue
            for step in steps:
                lacking = [m.name for m in step.metrics_of(self.metrics, side) if m.name in missing]
                names += step.names if step in wholes and lacking else lacking
        return names

    def shown(self, group=None):
        return [(metric, row) for metric, row in self.pairs
                if not metric.counted and group in (None, metric.group)]

    # The terminal ---------------------------------------------------------------------------

    def print(self):
        self.print_summary()
        line = "  {:32} {:>12} {:>10} {:>10} {:>10} {:>8} {:>9}  {}"
        print(line.format("metric", "unit", "native", "veneer", "qemu", "vs qemu", "vs native",
                          "veneer's spread"))
        load = None
        for metric, row in self.shown():
            if names.load_of(metric) != load:
                load = names.load_of(metric)
                print(load)
            print(line.format(metric.name, metric.unit, *(figure(row[side]) for side in SIDES),
                              *(self.ratio(metric, row, other) for other in ("qemu", "native")),
                              spread(row["values"]["veneer"])))
        print(f"\nMedians; runs: {self.runs}. vs qemu, vs native: Veneer's performance as a multiple of "
              "theirs;\nmore is better, whether the figure is a time or a rate.")
        print("p50, p99: median and 99th percentile of the latency; cpu: time of all threads but the "
              "vCPU's.")
        if self.leaves_out_q35():
            print(textwrap.fill(EMULATED, 100))
        for line in self.missing():
            print(f"missing: {line}")

    def print_summary(self):
        for sentence in self.sentences():
            print(sentence)
        for said, metric, row in reversed(self.judged("qemu")):
            if said == "behind":
                print(f"  behind QEMU: {self.ratio(metric, row, 'qemu'):>5}  {metric.name}  "
                      f"({names.name_of(metric)})")
        print(LEVEL + "\n")

    @staticmethod
    def ratio(metric, row, other):
        value = performance(metric, row, other)
        return "–" if value is None else f"{value:.2f}"

    # JSON -----------------------------------------------------------------------------------

    def write_json(self, path):
        with open(path, "w") as f:
            f.write("[\n" + ",\n".join(json.dumps(row) for row in self.rows) + "\n]\n")

    # The page -------------------------------------------------------------------------------

    def write_html(self, path):
        groups = list(dict.fromkeys(metric.group for metric in self.metrics))
        body = [self.head(), self.summary(), self.machine(), *(self.section(group) for group in groups), self.command_list()]
        with open(path, "w") as f:
            f.write("<!DOCTYPE html>\n<html lang=en><meta charset=utf-8>"
                    "<meta name=viewport content='width=device-width'>"
                    f"<title>Veneer, QEMU and the host</title><style>{STYLE}</style>\n"
                    + "\n".join(body) + "\n</html>\n")

    def head(self):
        key = "".join(f"<span style='background:{svg.COLOURS[side]}'></span>{name}"
                      for side, name in zip(SIDES, ("native", "Veneer", "QEMU")))
        notes = "".join(f"<p class=note>Missing: {html.escape(line)}" for line in self.missing())
        runs = "one run, so no spread" if self.runs == 1 else f"medians of {self.runs} runs"
        return (f"<h1>Veneer, QEMU and the host, side by side</h1>"
                f"<p>{time.strftime('%-d %B %Y, %H:%M UTC', time.gmtime())}; {runs}, "
                "the three in turn within each. Ratios are Veneer's performance as a multiple of the "
                "other's: 1.00 is equal, more is better for Veneer, whether the figure is a time or a "
                "rate. Dots are single runs, bars reach to the median, and lines join medians."
                f"<p class=key>{key}{notes}")

    def machine(self):
        facts = "".join(f"<tr><td>{html.escape(name)}<td>{html.escape(str(value))}"
                        for name, value in self.facts.items())
        return f"<h2>The machine and the programs</h2><table class=facts>{facts}</table>"

    def summary(self):
        """What was won and lost: numbers for each group, and every loss to QEMU by name."""
        left_out = " The q35 rows are not counted: see Start." if self.leaves_out_q35() else ""
        cells = ["<h2>In short</h2><p>", " ".join(self.sentences()), f" {LEVEL}{left_out}",
                 "<table><tr><th>beside QEMU<th>ahead<th>level<th>behind<th class=words>best"]
        for group in dict.fromkeys(metric.group for metric in self.metrics):
            judged = self.judged("qemu", group)
            if not judged:
                continue
            said, best, row = judged[0]
            words = f"{self.ratio(best, row, 'qemu')} {html.escape(names.name_of(best))}"
            cells.append(f"<tr><td>{TITLES[group]}"
                         + "".join(f"<td>{count}" for count in self.counts("qemu", group))
                         + f"<td class=words>{words if said == 'ahead' else ''}")
        cells.append("</table>")
        losses = [one[1:] for one in reversed(self.judged("qemu")) if one[0] == "behind"]
        if losses:
            cells.append("<h3>Behind QEMU</h3><table><tr><th>figure<th>Veneer<th>QEMU<th>vs QEMU")
            for metric, row in losses:
                cells.append(f"<tr><td>{self.titled(metric, names.name_of(metric))}"
                             f"<td>{figure(row['veneer'])} {metric.unit}<td>{figure(row['qemu'])}"
                             f"<td class=worse>{self.ratio(metric, row, 'qemu')}")
            cells.append("</table>")
        return "".join(cells)

    @staticmethod
    def titled(metric, words):
        """A readable name with the key beside it."""
        return f"{html.escape(words)} <span class=id>{metric.name}</span>"

    def section(self, group):
        pairs = self.shown(group)
        note = f"<p class=note>{EMULATED}" if group == "start" and self.leaves_out_q35() else ""
        plots = self.depth_plots(pairs) if group == "block" else ""
        bars = [pair for pair in pairs if not (group == "block" and "4k." in pair[0].name)]
        return (f"<h2>{TITLES[group]}</h2><p>{html.escape(EXPLAINED[group])}</p>{note}{plots}"
                f"<div class=plots>{''.join(svg.bars(metric, row) for metric, row in bars)}</div>"
                f"<h3>Figures</h3>{self.table(pairs)}{self.behind(pairs)}")

    @staticmethod
    def depth_plots(pairs):
        rows = {metric.name: (metric, row) for metric, row in pairs}
        parts = []
        for kind, name in (("read4k", "Random 4 KiB reads"), ("write4k", "Random 4 KiB writes")):
            for mode, way in (("poll", "polling"), ("irq", "by interrupt")):
                parts.append(f"<h3>{name}, {way}, against requests in flight "
                             f"<span class=id>blk.{kind}.qd*.{mode}</span></h3><div class=plots>")
                for what, title in (("iops", "IOPS"), ("p50", "median latency, us"),
                                    ("p99", "99th percentile, us")):
                    series = {side: [(depth, rows[f"blk.{kind}.qd{depth}.{mode}.{what}"][1]
                                      ["values"][side]) for depth in DEPTHS] for side in SIDES}
                    parts.append(svg.lines(title, series))
                parts.append("</div>")
        return "".join(parts)

    def table(self, pairs):
        cells = ["<table><tr><th>metric<th>unit<th>native<th>Veneer<th>QEMU<th>vs QEMU<th>vs native"]
        load = None
        for metric, row in pairs:
            if names.load_of(metric) != load:
                load = names.load_of(metric)
                cells.append(f"<tr><td colspan=7 class=load>{html.escape(load)}")
            cells.append(f"<tr><td>{self.titled(metric, names.figure_of(metric))}<td>{metric.unit}")
            for side in SIDES:
                between = spread(row["values"][side])
                reason = html.escape(row["missing"].get(side, ""), quote=True)
                cells.append((f"<td title='{reason}'>" if reason else "<td>") + figure(row[side])
                             + (f"<br><span class=spread>{between}</span>" if between else ""))
            for other in ("qemu", "native"):
                value = performance(metric, row, other)
                worse = " class=worse" if value and value < BEHIND and other == "qemu" else ""
                cells.append(f"<td{worse}>{self.ratio(metric, row, other)}")
        return "".join(cells) + "</table>"

    def behind(self, pairs):
        """The loads in which Veneer is behind, below what bounds them and beside what was counted."""
        found = {}  # by bound, then by load: {other: [figures]}
        for metric, row in pairs:
            for other in ("qemu", "native"):
                value = performance(metric, row, other)
                if value is None or value >= BEHIND:
                    continue
                loads = found.setdefault(bound_of(metric.name), {})
                key = (metric.load, names.load_of(metric))
                figures = loads.setdefault(key, {"qemu": [], "native": []})[other]
                figures.append(f"{metric.figure} {value:.2f}{'~' if overlap(row, other) else ''}")
        if not found:
            return ""
        cells = ["<h3>Where Veneer is behind</h3><p>Figures below 0.95 of the other's, and what was "
                 "counted in the same runs: Veneer's (QEMU's, native). ~: runs of the two overlap.</p>"
                 "<table class=behind><tr><th>load<th>vs QEMU<th>vs native<th>counted"]
        for (_, words), loads in found.items():
            cells.append(f"<tr><td colspan=4 class=bound>{html.escape(words)}")
            for (load, words), others in loads.items():
                cells.append(f"<tr><td>{html.escape(words)}<br><span class=id>{load}</span><td>{'<br>'.join(others['qemu'])}"
                             f"<td>{'<br>'.join(others['native'])}<td>{self.counted(load)}")
        return "".join(cells) + "</table>"

    def counted(self, load):
        """What was counted under a load, in its own rows or in those of `exits`."""
        lines = {}
        for metric, row in self.pairs:
            counts = metric.counted or metric.figure == "cpu" or metric.group == "exits"
            if not counts or not f"{tail(load)}.".startswith(f"{tail(metric.load)}."):
                continue
            others = [figure(row["qemu"])] + (["native " + figure(row["native"])]
                                              if metric.native else [])
            lines.setdefault(metric.figure, f"{metric.figure} {figure(row['veneer'])} {metric.unit} "
                                            f"({', '.join(others)})")
        return "<br>".join(lines.values())

    def command_list(self):
        parts = ["<h2>The exact commands</h2><p>As they ran first; the words for the guest change from "
                 "one load to the next.</p>"]
        for (what, side), command in self.commands.items():
            parts.append(f"<h3>{html.escape(f'{what}: {side}')}</h3>"
                         f"<pre>{html.escape(shlex.join(command))}</pre>")
        return "".join(parts)


def rows_of(metrics, values, missing, runs):
    """The rows of the JSON: medians, all values for the spread, and why some are not there."""
    rows = []
    for metric in metrics:
        found = values[metric.name]
        row = {"metric": metric.name, "unit": metric.unit}
        for side in SIDES:
            row[side] = round(statistics.median(found[side]), 4) if found[side] else None
        row["runs"] = runs
        row["values"] = {side: [round(value, 4) for value in found[side]] for side in SIDES}
        row["missing"] = {}
        for side in SIDES:
            times, reason = missing.get((metric.name, side), (0, ""))
            if times:
                row["missing"][side] = f"{times} of {runs} runs: {reason}" if found[side] else reason
        rows.append(row)
    return rows
