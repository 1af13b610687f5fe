"""The bars: rows a second end to end, on a scale of powers of ten. An SVG without anything from elsewhere."""

import math
from html import escape
from statistics import median

from .catalogue import REFERENCE
from .report import number, ratio

WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 960, 230, 150, 92, 20, 10
COLOURS = {"rowmill": "#0b6e4f", REFERENCE: "#4a5568"}
OTHER = "#7fa7d6"


def svg(session, entries):
    shown = [entry for entry in entries if entry.runs and median(entry.end_to_end) > 0]
    absent = [entry for entry in entries if entry not in shown]
    values = [value for entry in shown for value in entry.end_to_end if value > 0] or [1, 10]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    width = WIDTH - LEFT - RIGHT
    bottom = TOP + len(shown) * (BAR + GAP) + 4
    height = bottom + 52 + 18 * len(absent)
    at = lambda value: LEFT + width * (math.log10(max(value, 10**low)) - low) / (high - low)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#1a202c">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="28" font-size="17" font-weight="bold">{session["rows"]:,} rows, submitted and worked off: rows a second</text>',
        f'<text x="16" y="50" fill="#4a5568">Median of {session["rounds"]} runs, the thin line from the least to the most; × the reference of the same round.</text>',
        '<text x="16" y="68" fill="#4a5568">Longer is faster; each step of the scale is ten times the one before.</text>',
    ]
    for power in range(low, high + 1):
        x = at(10**power)
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="#d5dbe3"/>')
        out.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{10**power:,}</text>')
    out.append(f'<text x="{LEFT + width / 2:.0f}" y="{bottom + 40}" text-anchor="middle" fill="#4a5568">rows a second, end to end (logarithmic)</text>')
    for i, entry in enumerate(shown):
        y, value = TOP + i * (BAR + GAP), median(entry.end_to_end)
        least, most = at(min(entry.end_to_end)), at(max(entry.end_to_end))
        weight = ' font-weight="bold"' if entry.peer == "rowmill" else ""
        out.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end"{weight}>{escape(entry.name)}</text>')
        out.append(f'<rect x="{LEFT}" y="{y}" width="{max(at(value) - LEFT, 1):.1f}" height="{BAR}" fill="{COLOURS.get(entry.peer, OTHER)}"/>')
        middle = y + BAR / 2
        out.append(f'<path d="M{least:.1f} {middle}H{most:.1f}M{least:.1f} {middle - 4}v8M{most:.1f} {middle - 4}v8" stroke="#1a202c" fill="none"/>')
        cut = ", cut off" if entry.cut else ""
        out.append(f'<text x="{max(at(value), most) + 8:.1f}" y="{y + 15}"{weight}>{number(value)} (× {escape(ratio(entry))}{cut})</text>')
    for i, entry in enumerate(absent):
        why = "could not run" if not entry.runs else "recorded nothing"
        out.append(f'<text x="16" y="{bottom + 62 + 18 * i}" fill="#9b2c2c">{escape(entry.name)}: {why}, see the table</text>')
    return "\n".join(line for line in [*out, "</svg>"] if line) + "\n"
