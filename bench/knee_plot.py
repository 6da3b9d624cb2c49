# SPDX-License-Identifier: BSD-2-Clause
""" Draws the measurements of knee.py: one SVG, a panel a program, written directly.

Across: the memory a program gets, in percent of its peak, falling to the right. Up: times native, by powers of two.
"""

import math

COLUMNS = 4
PANEL_W, PANEL_H = 260, 210
LEFT, TOP, RIGHT, BOTTOM = 44, 34, 16, 38  # margins inside a panel
HEAD, FOOT = 74, 30
LEAST, MOST = 20, 114       # percent
TIMES_MOST = 32
INK, SOFT, GRID, PAPER = "#1f2933", "#66788a", "#e4e9ee", "#ffffff"
OURS, KERNEL, GOAL = "#0b6e99", "#d9822b", "#e9f4ec"
FONT = "font-family='Inter,Helvetica,Arial,sans-serif'"
GOALS = ((110, 1.02), (90, 1.5), (75, 3), (50, 8))


def across(share):
    return LEFT + (MOST - share) / (MOST - LEAST) * (PANEL_W - LEFT - RIGHT)


def up(times):
    """ The scale ends at TIMES_MOST; larger values are drawn there."""
    height = math.log2(max(0.8, min(times, TIMES_MOST)) / 0.8) / math.log2(TIMES_MOST / 0.8)
    return PANEL_H - BOTTOM - height * (PANEL_H - TOP - BOTTOM)


def text(x, y, words, size=11, fill=INK, anchor="start", weight="normal"):
    return "<text x='%.1f' y='%.1f' %s font-size='%g' fill='%s' text-anchor='%s' font-weight='%s'>%s</text>" % (
        x, y, FONT, size, fill, anchor, weight, words.replace("&", "&amp;").replace("<", "&lt;"))


def line(points, color, dash=""):
    return "<polyline points='%s' fill='none' stroke='%s' stroke-width='2.2' stroke-linejoin='round' stroke-linecap='round'%s/>" % (
        " ".join("%.1f,%.1f" % p for p in points), color, " stroke-dasharray='%s'" % dash if dash else "")


def dot(x, y, color):
    return "<circle cx='%.1f' cy='%.1f' r='3.4' fill='%s' stroke='%s' stroke-width='1.2'/>" % (x, y, color, PAPER)


def cross(x, y, color):
    return "<path d='M%.1f %.1fl7 7m0 -7l-7 7' stroke='%s' stroke-width='2' stroke-linecap='round'/>" % (x - 3.5, y - 3.5, color)


def arrow(x, y, color):
    return "<path d='M%.1f %.1fl4 7h-8z' fill='%s'/>" % (x, y - 4, color)


def grid():
    out = ["<path d='%sV%.1fH%.1fZ' fill='%s'/>" % (
        "M%.1f %.1f" % (across(GOALS[0][0]), up(GOALS[0][1])) + "".join("L%.1f %.1f" % (across(s), up(t)) for s, t in GOALS[1:]),
        PANEL_H - BOTTOM, across(GOALS[0][0]), GOAL)]
    for times in (1, 2, 4, 8, 16, 32):
        out.append("<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' stroke='%s'/>" % (LEFT, PANEL_W - RIGHT, up(times), up(times), GRID))
        out.append(text(LEFT - 6, up(times) + 3.5, "%d×" % times, 10, SOFT, "end"))
    for share in (100, 75, 50, 25):
        out.append("<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' stroke='%s'%s/>" % (
            across(share), across(share), TOP, PANEL_H - BOTTOM, GRID, "" if share < 100 else " stroke-dasharray='3 3'"))
        out.append(text(across(share), PANEL_H - BOTTOM + 15, "%d%%" % share, 10, SOFT, "middle"))
    return out


def curve(cells, color, dash=""):
    """cells: (share, cell). Killed: a cross at the foot; ended early: an arrow at the top."""
    out, points = [], []
    for share, cell in sorted(cells, key=lambda c: -c[0]):
        if "why" not in cell:
            points.append((across(share), up(cell["times"])))
    if len(points) > 1:
        out.append(line(points, color, dash))
    out += [dot(x, y, color) for x, y in points]
    for share, cell in cells:
        if cell.get("why", "").startswith("over"):
            out.append(arrow(across(share), TOP + 2, color))
        elif "why" in cell:
            out.append(cross(across(share), PANEL_H - BOTTOM - 8, color))
    return out


def panel(row):
    cells = row["cells"]
    out = ["<rect width='%d' height='%d' rx='6' fill='%s' stroke='%s'/>" % (PANEL_W - 10, PANEL_H - 8, PAPER, GRID)]
    out += grid()
    out.append(text(LEFT, 22, row["program"], 14, INK, weight="600"))
    out.append(text(PANEL_W - RIGHT - 4, 22, "%.0f MiB, %.1f s" % (row["peak"] / (1 << 20), row["native"]), 10.5, SOFT, "end"))
    kernel = [(c["kernel"].get("share", c["share"]), c["kernel"]) for c in cells if c["kernel"]]
    # A program that was killed stands at its limit: the memory that zram took by then is not
    # comparable.
    kernel = [(share if "why" not in k else 100 * k["limit"] / row["peak"], k) for share, k in kernel]
    out += curve(kernel, KERNEL, "5 4")
    ours = [(c["share"], c["quire"]) for c in cells]
    ours += [(c["kernel"]["share"], c["same"]) for c in cells if c["same"] and "why" not in c["same"]]
    return out + curve(ours, OURS)


def draw(result, path):
    rows = result["rows"]
    columns = min(COLUMNS, len(rows))
    width = max(columns * PANEL_W + 10, 540)
    height = HEAD + (len(rows) + columns - 1) // columns * PANEL_H + FOOT
    out = ["<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' viewBox='0 0 %d %d'>" % (width, height, width, height),
           "<rect width='%d' height='%d' fill='#f7f9fb'/>" % (width, height),
           text(12, 26, "Less memory than the program needs", 17, INK, weight="600"),
           text(12, 46, "Time, as a multiple of the native run, by the memory the program gets in percent of its peak.", 11.5, SOFT),
           dot(18, 60, OURS), text(28, 64, "quire run", 11.5, OURS, weight="600"),
           dot(112, 60, KERNEL), text(122, 64, "kernel, zram", 11.5, KERNEL, weight="600"),
           cross(226, 60, SOFT), text(236, 64, "killed or failed", 11.5, SOFT),
           arrow(344, 61, SOFT), text(354, 64, "ended at %d×" % result["bound"], 11.5, SOFT)]
    for n, row in enumerate(rows):
        out.append("<g transform='translate(%d %d)'>" % (10 + n % columns * PANEL_W, HEAD + n // columns * PANEL_H))
        out += panel(row)
        out.append("</g>")
    out.append(text(12, height - 11, "Green: what is aimed at. The kernel's memory is its cgroup's limit and what zram took. %s." % (
        "Medians of %d rounds" % result["rounds"] if result["rounds"] > 1 else "One round"), 10.5, SOFT))
    out.append("</svg>")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")
