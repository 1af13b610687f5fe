"""From the lines of a session to a table that people read."""

from statistics import median

from .catalogue import REFERENCE


class Entry:
    """A peer with one setting: its figures of all rounds."""

    def __init__(self, count, lines, references):
        first = lines[0]
        self.peer, self.title, self.version = first["peer"], first["title"], first["version"]
        self.setting, self.what = first["setting"], first["what"]
        self.rounds = len(lines)
        good = [line for line in lines if "process" in line]
        self.runs = len(good)
        self.whys = sorted({line["why"] for line in lines if "why" in line})
        self.cut = [line for line in good if line["cut"]]
        self.cut_rows = [line["recorded"] for line in self.cut]
        self.submit = [count / line["submit"]["seconds"] for line in good if "submit" in line]
        self.process = [rate(line) for line in good]
        self.end_to_end = [end_to_end(count, line) for line in good]
        self.ratios = [
            rate_ / references[line["round"]]
            for line, rate_ in zip(good, self.end_to_end) if references.get(line["round"])
        ]
        both = lambda name: [sum(line[phase][name] for phase in ("submit", "process") if phase in line) for line in good]
        self.cpu, self.server_cpu = both("cpu"), both("server_cpu")
        self.peak = [line["peak_mb"] for line in good]
        self.wal_in = [line["submit"]["wal"] / count for line in good if "submit" in line]
        self.wal_out = [line["process"]["wal"] / line["recorded"] for line in good if line["recorded"]]

    @property
    def name(self):
        return f"{self.title}, {self.setting}"


def rate(line):
    return line["recorded"] / line["process"]["seconds"]


def end_to_end(count, line):
    """Rows a second over both phases; of a run that was cut off, the rate that it had in each."""
    per_row = line["submit"]["seconds"] / count if "submit" in line else 0.0
    done = rate(line)
    return 1 / (per_row + 1 / done) if done else 0.0


def entries(session, lines):
    """In the order of their speed, those that could not run last."""
    count = session["rows"]
    references = {line["round"]: end_to_end(count, line) for line in lines if line["peer"] == REFERENCE and "process" in line}
    groups = {}
    for line in lines:
        groups.setdefault((line["peer"], line["setting"]), []).append(line)
    made = [Entry(count, group, references) for group in groups.values()]
    return sorted(made, key=lambda e: (not e.runs, -median(e.end_to_end) if e.runs else 0))


def number(value):
    """Three digits that tell something."""
    if value >= 1000:
        digits = 10 ** (len(str(int(value))) - 3)
        return f"{round(value / digits) * digits:,}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values):
    """The median, the least and the most."""
    if not values:
        return "-"
    least, most = number(min(values)), number(max(values))
    return number(median(values)) + (f" ({least}–{most})" if least != most else "")


def middle(values):
    return number(median(values)) if values else "-"


def ratio(entry):
    if not entry.ratios:
        return "-"
    value = median(entry.ratios)
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}" if value >= 0.001 else "< 0.001"


def note(entry, limit):
    parts = []
    if entry.cut:
        least, most = min(entry.cut_rows), max(entry.cut_rows)
        rows = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        parts.append(f"cut off after {limit:g} s of work with {rows} rows done, in {len(entry.cut)} of {entry.rounds} runs: the rate until then")
    if entry.whys:
        what = "cannot run" if not entry.runs else f"no figures in {entry.rounds - entry.runs} of {entry.rounds} runs"
        parts.append(f"{what}: {'; '.join(entry.whys)}".replace("|", "\\|"))
    return "; ".join(parts)


HEAD = ["system", "setting", "submit/s", "process/s", "end to end/s", "× reference", "CPU s, program + server", "peak MB", "WAL bytes a row, in + out", "note"]


def row(entry, limit):
    what = f"{entry.setting}: {entry.what}" if entry.what else entry.setting
    name = f"**{entry.title}**" if entry.peer == "rowmill" else entry.title
    version = "" if entry.peer in (REFERENCE, "rowmill") else f" {entry.version}"
    if not entry.runs:
        return [name + version, what, *["-"] * 7, note(entry, limit)]
    return [
        name + version, what, spread(entry.submit), spread(entry.process), spread(entry.end_to_end), ratio(entry),
        f"{middle(entry.cpu)} + {middle(entry.server_cpu)}", middle(entry.peak),
        f"{middle(entry.wal_in)} + {middle(entry.wal_out)}", note(entry, limit),
    ]


def machine(session):
    m = session["machine"]
    tools = ", ".join(f"{name} {version}" for name, version in m["tools"].items())
    settings = ", ".join(f"`{name} = {value}`" for name, value in session["settings"].items())
    return (
        f"{m['cores']} cores ({m['processor']}), {m['memory_gb']:.0f} GB of memory, {m['disk']} with {m['file_system']} "
        f"(8 kB written and synced in {m['sync_ms']} ms, median), {m['kernel']}, PostgreSQL {m['postgresql']} "
        f"({settings}; everything else as it comes) on the same machine by TCP, {tools}. "
        f"Load average before the first run: {m['load']}."
    )


def written(session):
    commit = session.get("commit")
    return session["session"] + (f", rowmill at {commit}" if commit else "")


def text(session, lines, readme="../../bench/peers/README.md"):
    made = entries(session, lines)
    rows, rounds, limit = session["rows"], session["rounds"], session["limit"]
    table = [HEAD, ["---"] * len(HEAD), *(row(entry, limit) for entry in made)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in table)
    return f"""# Beside others

{rows:,} rows of about 90 bytes of JSON; each is parsed and gives a small result. Written by `bench/peers/run` ({written(session)}), {rounds} rounds:
in each all of them in turn, the reference first, each in a fresh database of the same server. Median (least–most).

![End to end, rows a second](peers.svg)

{table}

*Submit* is from the moment the file of rows is opened until all are acknowledged, *process* from the start of the work until the last
outcome is recorded, *end to end* both. *× reference* is the median of each round's ratio to the reference of the same round: a row queue, tuned by hand, in Go.
*CPU* is what both phases took, without the start and the warming up; *peak* is the program's alone. What each system does and does
not do for it, and where its settings are from: [bench/peers]({readme}). Every run: [peers.jsonl](peers.jsonl).

**The machine.** {machine(session)}
"""
