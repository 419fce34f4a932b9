# SPDX-License-Identifier: Apache-2.0
"""The two kinds of plot: bars for one metric, and lines over the depth of the queue."""

import html
import math
import statistics

from . import names

SIDES = ("native", "veneer", "qemu")
COLOURS = {"native": "#7b8794", "veneer": "#0f766e", "qemu": "#d97706"}

BAR_WIDTH, BAR_STEP, BAR_TOP = 340, 22, 50
LABEL, VALUE = 50, 70  # pixels at a bar's left and right
LINE_WIDTH, LINE_HEIGHT = 338, 215
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 26


def text(x, y, words, size=11, anchor="start", colour="#52606d", weight="normal"):
    return (f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{colour}' "
            f"font-weight='{weight}'>{html.escape(str(words))}</text>")


def frame(width, height, parts):
    return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
            f"viewBox='0 0 {width} {height}' font-family='system-ui, DejaVu Sans, sans-serif'>"
            + "".join(parts) + "</svg>")


def short(value):
    """For an axis or a bar's end: three digits that count and a k or M."""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * limit or (letter == "M" and abs(value) >= limit):
            return f"{value / limit:.3g}{letter}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def bars(metric, row):
    """A bar to the median and a dot for each run, for every side that has the figure."""
    sides = [side for side in SIDES if row["values"][side]]
    top = max((max(row["values"][side]) for side in sides), default=0) or 1
    scale = (BAR_WIDTH - LABEL - VALUE) / top
    parts = [text(0, 13, names.load_of(metric), 12, weight="600", colour="#1f2933"),
             text(0, 29, f"{names.figure_of(metric)}, {metric.unit}; {metric.better} is better"),
             text(0, 43, metric.name, 10, colour="#7b8794")]
    for i, side in enumerate(sides):
        y = BAR_TOP + BAR_STEP * i
        median = statistics.median(row["values"][side])
        parts.append(text(0, y + 11, {"qemu": "QEMU", "veneer": "Veneer"}.get(side, side)))
        parts.append(f"<rect x='{LABEL}' y='{y}' width='{max(median * scale, 1):.1f}' height='15' "
                     f"fill='{COLOURS[side]}' opacity='.85'/>")
        for value in row["values"][side]:
            parts.append(f"<circle cx='{LABEL + value * scale:.1f}' cy='{y + 7.5}' r='2.5' fill='#fff' "
                         f"stroke='{COLOURS[side]}'/>")
        parts.append(text(LABEL + max(row["values"][side]) * scale + 7, y + 11, short(median),
                          weight="600", colour="#1f2933"))
    return frame(BAR_WIDTH, BAR_TOP + BAR_STEP * len(sides), parts)


def decades(low, high):
    """Ticks 1, 2, 5, 10, ... around the values, at least two."""
    ticks = [m * 10 ** e for e in range(-3, 10) for m in (1, 2, 5)]
    below = max([t for t in ticks if t <= low], default=ticks[0])
    above = min([t for t in ticks if t >= high], default=ticks[-1])
    chosen = [t for t in ticks if below <= t <= above]
    if len(chosen) > 7:
        chosen = [t for t in chosen if str(t).startswith("1")]
    return chosen, below, above


def lines(title, series):
    """Medians joined, all values as dots, over the depth; both axes logarithmic."""
    every = [value for points in series.values() for _, values in points for value in values]
    if not every:
        return ""
    ticks, low, high = decades(min(every), max(every))
    depths = [depth for depth, _ in next(iter(series.values()))]
    span = math.log(high / low) or 1

    def x(depth):
        return LEFT + (LINE_WIDTH - LEFT - RIGHT) * depths.index(depth) / (len(depths) - 1)

    def y(value):
        return LINE_HEIGHT - BOTTOM - (LINE_HEIGHT - TOP - BOTTOM) * math.log(value / low) / span

    parts = [text(0, 14, title, 12, weight="600", colour="#1f2933")]
    for tick in ticks:
        parts.append(f"<line x1='{LEFT}' x2='{LINE_WIDTH - RIGHT}' y1='{y(tick):.1f}' "
                     f"y2='{y(tick):.1f}' stroke='#e4e7eb'/>")
        parts.append(text(LEFT - 6, y(tick) + 4, short(tick), 10, "end"))
    for depth in depths:
        parts.append(text(x(depth), LINE_HEIGHT - 8, depth, 10, "middle"))
    for side, points in series.items():
        joined = " ".join(f"{x(depth):.1f},{y(statistics.median(values)):.1f}"
                          for depth, values in points if values)
        parts.append(f"<polyline points='{joined}' fill='none' stroke='{COLOURS[side]}' "
                     "stroke-width='2'/>")
        parts += [f"<circle cx='{x(depth):.1f}' cy='{y(value):.1f}' r='2.5' fill='#fff' "
                  f"stroke='{COLOURS[side]}'/>" for depth, values in points for value in values]
    return frame(LINE_WIDTH, LINE_HEIGHT, parts)
