"""All runs of a session: one server, the peers in turn, round by round."""

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from . import machine, measure, process, rows
from .catalogue import OUT, clean
from .server import Missing, Postgres, Redis

WARM = 20_000
# What was built before is not to be in the way of the first run: the load that is waited for, and how long.
QUIET, PATIENCE = 0.5, 300


def say(text):
    print(text, file=sys.stderr, flush=True)


def build(peers, limit):
    """Builds all, and returns why those that cannot be built cannot."""
    lacking = {}
    for peer in peers:
        began = time.monotonic()
        say(f"building {peer.title} …")
        os.makedirs(OUT, exist_ok=True)
        try:
            peer.build(limit, os.path.join(OUT, f"{peer.name}.log"))
        except (Missing, OSError) as e:
            lacking[peer.name] = clean(str(e))
            say(f"    {lacking[peer.name]}")
        else:
            say(f"    {time.monotonic() - began:.0f} s")
    return lacking


def entries(peers, only):
    """Each peer with each of its settings; of the reference and of those that have no such name, all."""
    for peer in peers:
        named = [setting for setting in peer.settings if setting["name"] in only]
        for setting in named or peer.settings:
            yield peer, setting


def identity(peer, setting):
    return {"peer": peer.name, "title": peer.title, "version": peer.version, "setting": setting["name"], "what": setting["what"]}


def quiet():
    """Waits until the machine has little else to do, for a while at most."""
    last = time.monotonic() + PATIENCE
    if os.getloadavg()[0] > QUIET:
        say(f"waiting until the load is {QUIET}, {PATIENCE} s at most …")
    while os.getloadavg()[0] > QUIET and time.monotonic() < last:
        time.sleep(5)


def run(peers, options, out):
    """Measures; each line is given to `out` when it is known."""
    lacking = build(peers, options.build_limit)
    quiet()
    folder = tempfile.mkdtemp(prefix="rowmill-peers-", dir=options.dir)
    # The server runs as somebody else and has a folder of its own below.
    os.chmod(folder, 0o711)
    servers = []
    try:
        postgres = Postgres(folder)
        servers.append(postgres)
        postgres.start()
        redis, without = None, {}
        if any("redis" in peer.servers and peer.name not in lacking for peer in peers):
            try:
                redis = Redis(folder)
                servers.append(redis)
            except Missing as e:
                without["redis"] = str(e)
        for peer in peers:
            for server in peer.servers:
                if server in without:
                    lacking.setdefault(peer.name, without[server])
        session = {
            "session": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "commit": machine.commit(), "rows": options.rows, "rounds": options.rounds, "limit": options.limit,
            "machine": machine.describe(folder, postgres), "settings": shown(),
        }
        out(session)
        files = [os.path.join(folder, name) for name in ("rows.jsonl", "warm.jsonl")]
        rows.write(files[0], options.rows)
        rows.write(files[1], min(options.rows, WARM))
        limits = {"start": options.start_limit, "run": options.limit}
        for number in range(1, options.rounds + 1):
            for peer, setting in entries(peers, options.settings):
                line = {**identity(peer, setting), "round": number}
                if peer.name in lacking:
                    out({**line, "why": lacking[peer.name]})
                    continue
                say(f"round {number}: {peer.title}, {setting['name']} …")
                place = os.path.join(folder, "program")
                os.mkdir(place)
                line["load"] = round(os.getloadavg()[0], 2)
                try:
                    line |= measure.run(peer, setting, postgres, options.rows, files, redis, limits, place)
                    say(f"    {summary(line, options.rows)}")
                except (measure.Failed, RuntimeError, subprocess.TimeoutExpired, OSError) as e:
                    line["why"] = clean(str(e))
                    say(f"    {line['why']}")
                finally:
                    shutil.rmtree(place, ignore_errors=True)
                out(line)
    finally:
        process.undisturbed()
        for server in reversed(servers):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def shown():
    from .server import SETTINGS

    return {name: SETTINGS[name] for name in ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size")}


def summary(line, count):
    took = line["process"]["seconds"]
    if line["cut"]:
        return f"{line['recorded']:,} of {count:,} rows in {took:.0f} s, then it was cut off"
    before = line.get("submit", {}).get("seconds", 0.0)
    return f"{count / (before + took):,.0f} rows/s end to end, {line['peak_mb']:.0f} MB"


def read(path):
    """The session and its runs, as they were kept."""
    with open(path, encoding="utf-8") as file:
        first, *lines = [json.loads(line) for line in file if line.strip()]
    return first, lines
