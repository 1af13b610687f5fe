"""One run of one peer: told when to begin each phase, and looked at from outside at each end."""

import os
import selectors
import subprocess
import time

from . import process
from .catalogue import clean, reason


class Failed(Exception):
    """A run that gave no figures, and why."""


class Program:
    """A peer's program, which says `ready`, `submitted SECONDS` and `processed SECONDS`."""

    def __init__(self, command, environment, folder):
        self.errors = open(os.path.join(folder, "stderr"), "w+", encoding="utf-8", errors="replace")
        self.child = process.start(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment, cwd=folder,
        )
        os.set_blocking(self.child.stdout.fileno(), False)
        self.reader = selectors.DefaultSelector()
        self.reader.register(self.child.stdout, selectors.EVENT_READ)
        self.text = b""

    def tell(self, what):
        try:
            self.child.stdin.write(what.encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass

    def wait(self, word, limit):
        """The number after the word, once the program has said it; none where the time is over."""
        deadline = time.monotonic() + limit
        while True:
            while b"\n" in self.text:
                line, _, self.text = self.text.partition(b"\n")
                said = line.decode(errors="replace").split()
                if said[:1] == [word]:
                    return float(said[1]) if len(said) > 1 else 0.0
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if self.reader.select(left):
                piece = self.child.stdout.read()
                if not piece and piece is not None:
                    raise Failed(self.why())
                self.text += piece or b""

    def why(self):
        try:
            code = self.child.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self.errors.flush()
        self.errors.seek(0)
        return f"it ended with code {code}: {reason(self.errors.read())}"

    def end(self):
        self.tell("end")
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            pass
        process.end(self.child)
        for file in (self.child.stdin, self.child.stdout, self.errors):
            try:
                file.close()
            except BrokenPipeError:
                pass
        self.reader.close()


class Phase:
    """What a span of time cost the program, the server and its log."""

    def __init__(self, postgres, program):
        self.postgres, self.program = postgres, program
        self.written = postgres.written()
        self.server = postgres.cpu()
        self.own = process.group_seconds(program.child.pid)

    def end(self):
        own = process.group_seconds(self.program.child.pid) - self.own
        server = self.postgres.cpu() - self.server
        wal = self.postgres.written() - self.written
        return {"cpu": round(own, 2), "server_cpu": round(server, 2), "wal": wal}


def run(peer, setting, postgres, rows, files, redis, limits, folder):
    """The figures of one run, in a database of its own."""
    database = "peer"
    postgres.sql(f"drop database if exists {database} with (force)")
    postgres.sql(f"create database {database}")
    environment = peer.environment(
        PEER_URL=postgres.url(database), PEER_ROWS=files[0], PEER_WARM=files[1],
        **({"PEER_REDIS": redis.address()} if redis else {}),
    )
    program = Program(peer.program(setting), environment, folder)
    try:
        return measured(peer, setting, postgres, database, program, rows, limits)
    finally:
        program.end()
        postgres.sql(f"drop database if exists {database} with (force)")


def measured(peer, setting, postgres, database, program, rows, limits):
    if program.wait("ready", limits["start"]) is None:
        raise Failed(f"it was not ready within {limits['start']:g} s")
    line = {}
    # None between the phases: it would have every page that is updated written whole into the log.
    postgres.sql("checkpoint")
    if not peer.one_phase:
        phase = Phase(postgres, program)
        program.tell("submit")
        took = program.wait("submitted", limits["run"])
        if took is None:
            raise Failed(f"it had not submitted {rows:,} rows within {limits['run']:g} s")
        line["submit"] = {"seconds": took, **phase.end()}
        postgres.sql("analyze", database)
    phase = Phase(postgres, program)
    program.tell("process")
    took = program.wait("processed", limits["run"])
    costs = phase.end()
    line["peak_mb"] = round(process.group_peak(program.child.pid), 1)
    line["cut"] = took is None
    recorded = int(postgres.sql(setting.get("recorded", peer.recorded).replace("{rows}", str(rows)), database))
    if took is not None and recorded != rows:
        raise Failed(clean(f"it said that all was done, and {recorded:,} of {rows:,} outcomes were recorded"))
    line["recorded"] = recorded
    line["process"] = {"seconds": limits["run"] if took is None else took, **costs}
    return line
