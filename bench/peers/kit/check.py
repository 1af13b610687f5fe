"""What can be known of the kit without a server, a registry or a build; part of `./check lint`."""

import os
import sys
from xml.etree import ElementTree

from . import catalogue, plot, report, rows

MACHINE = {
    "processor": "some processor", "cores": 2, "memory_gb": 24.0, "disk": "virtual disk", "file_system": "ext4",
    "sync_ms": 0.5, "kernel": "Linux 6.1", "postgresql": "15.1", "load": 0.1, "tools": {"Go": "1.25"},
}
SESSION = {"session": "2026-01-01", "commit": "0123456789ab", "rows": 1000, "rounds": 2, "limit": 10.0, "machine": MACHINE, "settings": {"fsync": "on"}}


def line(peer, round_, submit, process, recorded=1000, cut=False, setting="best"):
    made = {
        "peer": peer, "title": peer, "version": "1.0", "setting": setting, "what": "as it is", "round": round_,
        "peak_mb": 10.0, "cut": cut, "recorded": recorded, "process": {"seconds": process, "cpu": 1.0, "server_cpu": 2.0, "wal": 4000},
    }
    if submit:
        made["submit"] = {"seconds": submit, "cpu": 0.5, "server_cpu": 0.5, "wal": 3000}
    return made


LINES = [
    line("raw", 1, 0.5, 0.5), line("raw", 2, 1.0, 1.0),
    line("rowmill", 1, 0.05, 0.05), line("rowmill", 2, 0.05, 0.05),
    line("spring-batch", 1, None, 2.0), line("spring-batch", 2, None, 2.0),
    line("alya", 1, 1.0, 10.0, 100, True), line("alya", 2, 1.0, 10.0, 0, True),
    {"peer": "apalis", "title": "apalis", "version": "1.0", "setting": "best", "what": "", "round": 1, "why": "its build failed: a | b"},
]


def the_report_says_what_was_measured():
    made = {entry.peer: entry for entry in report.entries(SESSION, LINES)}
    assert list(made) == ["rowmill", "raw", "spring-batch", "alya", "apalis"], list(made)
    # Each round is compared with its own reference: 10,000 of 1,000, and 10,000 of 500.
    assert [round(r, 6) for r in made["rowmill"].ratios] == [10, 20], made["rowmill"].ratios
    assert made["spring-batch"].submit == [] and made["spring-batch"].end_to_end == [500, 500]
    assert made["raw"].cpu == [1.5, 1.5] and made["raw"].wal_in == [3, 3] and made["raw"].wal_out == [4, 4]
    assert made["alya"].wal_out == [40]
    text = report.text(SESSION, LINES)
    for part in (
        "| **rowmill** | best: as it is | 20,000 | 20,000 | 10,000 | 15.0 |", "| 750 (500–1,000) |", "| 15.0 | 1.50 + 2.50 | 10.0 | 3.00 + 4.00 |  |",
        "(2026-01-01, rowmill at 0123456789ab)", "cut off after 10 s of work with 0 to 100 rows done, in 2 of 2 runs", "cannot run: its build failed: a \\| b",
    ):
        assert part in text, (part, text)
    drawn = ElementTree.fromstring(plot.svg(SESSION, report.entries(SESSION, LINES)))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "apalis, best: could not run, see the table" in texts, texts
    assert "10,000 (× 15.0)" in texts, texts


def numbers_have_three_digits():
    said = {1_234_567: "1,230,000", 999: "999", 45.67: "45.7", 1.234: "1.23", 0.0: "0.00", 9_999: "10,000"}
    for value, text in said.items():
        assert report.number(value) == text, (value, report.number(value))


def rows_are_those_of_the_projects_own_benchmark():
    assert rows.row(1_000_007) == '{"account":"ACC000007","amount":"5433.07","type":"debit","ref":"REF-6e3650216217"}'


def reasons_name_no_place():
    said = catalogue.clean(f"GET https://registry.example/a at /srv/who/x.js on {os.uname().nodename} from 10.1.2.3:443")
    assert said == "GET (address) at (path) on (host) from (address)", said
    assert catalogue.reason("x\n\x1b[31merror: cannot\x1b[0m\nmore\n") == "error: cannot"


def each_peer_is_whole():
    assert catalogue.names() == catalogue.ORDER
    for peer in map(catalogue.Peer, catalogue.names()):
        names = [setting["name"] for setting in peer.settings]
        assert names and len(names) == len(set(names)), peer.name
        assert "{rows}" in peer.recorded or peer.recorded.startswith("select "), peer.name


def each_version_is_the_one_that_is_pinned():
    for peer in map(catalogue.Peer, catalogue.names()):
        if peer.name == "rowmill":
            continue
        said = peer.version.split()[-1]
        pinned = [name for name in ("go.sum", "Cargo.lock", "package-lock.json", "pom.xml") if os.path.exists(os.path.join(peer.folder, name))]
        assert len(pinned) == 1, (peer.name, pinned)
        with open(os.path.join(peer.folder, pinned[0]), encoding="utf-8") as file:
            assert said in file.read(), (peer.name, said)


def every_file_compiles():
    for folder, _, names in os.walk(os.path.join(catalogue.HERE, "kit")):
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    compile(file.read(), name, "exec")


def all_right():
    checks = [
        every_file_compiles, rows_are_those_of_the_projects_own_benchmark, numbers_have_three_digits,
        the_report_says_what_was_measured, reasons_name_no_place, each_peer_is_whole, each_version_is_the_one_that_is_pinned,
    ]
    failed = 0
    for check in checks:
        try:
            check()
        except Exception as e:  # noqa: BLE001: each is told, whatever it is
            failed += 1
            print(f"bench/peers: {check.__name__.replace('_', ' ')}: {type(e).__name__}: {e}", file=sys.stderr)
    return 1 if failed else 0
