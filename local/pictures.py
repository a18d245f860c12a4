"""Draws docs/outage.svg from the model run and docs/startup.svg from the last bench run.

The `<metadata>` of each picture holds the data it shows; tests compare them with the runs.
"""

from __future__ import annotations

import html
import io
import json
import re
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent

# Each color on a light page, and on a dark one. Browsers do not always report a dark page: either can be read on both.
COLORS = {
    "#59636e": "#9198a1",
    "#818b98": "#656c76",
    "#bc4c00": "#f0883e",
    "#0969da": "#4493f8",
}
TEXT, GRAY, ORANGE, BLUE = COLORS

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "sqs-auto-redrive",
        "font.sans-serif": "DejaVu Sans",
        "font.size": 13,
        "text.color": TEXT,
        "axes.edgecolor": GRAY,
        "xtick.color": GRAY,
        "ytick.color": GRAY,
        "xtick.labelcolor": TEXT,
        "ytick.labelcolor": TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def page(width: int, height: int, title: str, *lines: str) -> Figure:
    """A figure of this size in pixels, with this heading. matplotlib counts 72 pixels to an inch in SVG."""
    figure = Figure(figsize=(width / 72, height / 72))
    figure.text(10 / width, 1 - 22 / height, title, weight="bold", size=15)
    for number, line in enumerate(lines):
        figure.text(10 / width, 1 - (45 + 19 * number) / height, line)
    return figure


def write(name: str, figure: Figure, title: str, data: str) -> None:
    """Writes docs/NAME. The same data give the same bytes."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    _, tag, svg = re.sub(r" +\n", "\n", file.getvalue()).partition("<svg")
    head, body = svg.split("\n", 1)
    rules = [
        f'  [style*="{part}: {light}"] {{ {part}: {dark} !important }}'
        for light, dark in COLORS.items()
        for part in ("fill", "stroke")
    ]
    dark_rules = "\n".join(rules)
    text = f"""{tag}{head.replace('pt"', '"')}
<title>{html.escape(title)}</title>
<metadata>
{html.escape(data, quote=False)}</metadata>
<style>
text {{ font-family: system-ui, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif !important }}
@media (prefers-color-scheme: dark) {{
{dark_rules}
}}
</style>
{body}"""
    (ROOT / "docs" / name).write_text(text, encoding="utf-8")


# What a rule's curve shows, during the outage and after it.
REMARKS = {
    "every hour, no guards": (
        "A redrive during the outage:\nevery message fails again.",
        "The last messages wait\nfor the next hour.",
    ),
    "every 5 min, no guards": (
        "Each dip is a redrive:\nevery message fails again.",
        "",
    ),
    "the policy": (
        "The first redrive fails. Then the\nfunction waits while the DLQ grows.",
        "The DLQ stopped growing:\none redrive empties it.",
    ),
}


def outage(data: str) -> None:
    """`data` has a line of JSON for each rule: see tests/it/model.rs."""
    rules = [json.loads(line) for line in data.splitlines()]
    figure = page(
        700,
        520,
        "Messages in the DLQ, minute by minute",
        "30 messages arrive each minute. The consumer is down for the first two hours (shaded).",
    )
    axes = figure.subplots(len(rules), sharex=True, sharey=True)
    figure.subplots_adjust(left=0.082, right=0.975, top=0.825, bottom=0.098, hspace=0.46)
    for axis, rule in zip(axes, rules, strict=True):
        color = BLUE if rule["rule"] == "the policy" else ORANGE
        depths = rule["depths"]
        axis.axvspan(0, 120, color=GRAY, alpha=0.16, linewidth=0)
        axis.fill_between(range(len(depths)), depths, color=color, alpha=0.2, linewidth=0)
        axis.plot(depths, color=color, linewidth=1.6)
        outcome = f"{rule['failedAgain']:,} messages failed again · empty {rule['recovered']} min after the outage"
        axis.text(0, 1.09, rule["rule"], transform=axis.transAxes, weight="bold", color=color)
        axis.text(1, 1.09, outcome, transform=axis.transAxes, horizontalalignment="right")
        for minute, remark in zip((2, 141), REMARKS[rule["rule"]], strict=True):
            for number, line in enumerate(remark.splitlines()):
                axis.text(minute, 3300 - 660 * number, line, size=12)
        axis.yaxis.set_major_formatter("{x:,.0f}")
    axes[0].set(xlim=(0, len(depths) - 1), ylim=(0, 4000), yticks=(0, 2000, 4000))
    labels = ("0", "30", "60", "90", "120\noutage ends", "150", "180 min")
    axes[-1].set_xticks(range(0, 181, 30), labels)
    write("outage.svg", figure, "Depth of a DLQ over an outage of two hours, under three rules", data)


def startup(results: str) -> None:
    """`results` is bench/results.md; the numbers are drawn as written there."""
    shown = r"^\| (?:median|one queue, one redrive, TLS.*: cold start to first answer, ms \|).*$"
    header, *rows = re.findall(shown, results, re.MULTILINE)
    peers = header.strip("| ").split(" | ")
    figure = page(
        700,
        340,
        "Cold start to the first answer",
        "From the start of the process: one queue, one redrive, over TLS. In brackets: times ours.",
        "Medians. Lambda's microVM start and the download of the code are not included.",
    )
    axis = figure.add_axes((0.2, 0.02, 0.78, 0.75))
    axis.axis("off")
    y, longest = 0.0, 0.0
    for row in rows:
        cells = dict(zip(peers, row.strip("| ").split(" | "), strict=True))
        cpu = "CPU share of a 128 MB function" if "128 MB" in row else "one whole CPU"
        axis.text(0, y, cpu, weight="bold")
        for peer in ("sqs-auto-redrive", "Node", "Python"):
            y += 1
            value, _, times = cells[peer].strip("*").partition(" ")
            ms = float(value.replace(",", ""))
            longest = max(longest, ms)
            ours = peer == "sqs-auto-redrive"
            axis.barh(y, ms, color=BLUE if ours else GRAY, height=0.62)
            axis.text(-8, y, peer, horizontalalignment="right", verticalalignment="center")
            label = f"{value} ms {times}".strip()
            axis.text(ms + 8, y, label, verticalalignment="center", weight="bold" if ours else "normal")
        y += 1.6
    axis.set(xlim=(0, 1.23 * longest), ylim=(y - 0.9, -0.7))
    data = "\n".join((header, *rows, ""))
    write("startup.svg", figure, "Cold start to the first answer, beside Node and Python", data)


if __name__ == "__main__":
    outage(Path(sys.argv[1]).read_text(encoding="utf-8"))
    startup((ROOT / "bench" / "results.md").read_text(encoding="utf-8"))
