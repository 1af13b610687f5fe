"""The peers: a folder with a `peer.json` each, and how each is built."""

import glob
import json
import os
import re
import shutil
import subprocess
import time

from . import process
from .server import Missing

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(ROOT, "target", "peers")
REFERENCE = "raw"
# The order of the runs in a round, the reference first.
ORDER = ["raw", "rowmill", "alya", "river", "riverqueue", "graphile-worker", "spring-batch", "pg-boss", "apalis"]


class Peer:
    def __init__(self, name):
        self.name = name
        self.folder = os.path.join(HERE, name)
        self.out = os.path.join(OUT, name)
        with open(os.path.join(self.folder, "peer.json"), encoding="utf-8") as file:
            said = json.load(file)
        self.title = said["title"]
        self.version = said["version"]
        self.needs = said["needs"]
        self.servers = said.get("servers", [])
        self.prepare = said.get("prepare")
        self.one_phase = said.get("one_phase", False)
        self.recorded = said["recorded"]
        self.settings = said["settings"]
        self._build = said["build"]
        self._program = said["program"]
        self._environment = said.get("environment", {})

    def filled(self, text):
        return text.replace("{out}", self.out).replace("{root}", ROOT)

    def program(self, setting):
        return [self.filled(part) for part in self._program] + setting["arguments"]

    def environment(self, **more):
        own = {name: self.filled(value) for name, value in self._environment.items()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**kept, **own, "PEER_OUT": self.out, **more}

    def build(self, limit, log):
        """Fetches what is pinned and builds it; says why where that fails."""
        for need in self.needs:
            if not shutil.which(need):
                raise Missing(f"{need} is not installed")
        os.makedirs(self.out, exist_ok=True)
        folder = self.folder
        if self.prepare == "npm":
            # node_modules stands beside the program, and not in the source tree.
            folder = self.out
            for path in glob.glob(os.path.join(self.folder, "*")):
                shutil.copy(path, folder)
        if self.prepare == "cargo":
            # It is built with what the project itself is locked to.
            shutil.copy(os.path.join(ROOT, "Cargo.lock"), self.folder)
        deadline = time.monotonic() + limit
        for command in self._build:
            words = [word for part in command for word in (profile() if part == "{profile}" else [self.filled(part)])]
            run_build(words, folder, self.environment(), deadline - time.monotonic(), limit, log)


def profile():
    """The project's own release profile, as arguments of cargo."""
    with open(os.path.join(ROOT, "Cargo.toml"), encoding="utf-8") as file:
        section = file.read().partition("\n[profile.release]\n")[2].partition("\n[")[0]
    lines = (line.strip() for line in section.splitlines())
    return [word for line in lines if line and not line.startswith("#") for word in ("--config", f"profile.release.{line}")]


def run_build(command, folder, environment, left, limit, log):
    with open(log, "w+", encoding="utf-8", errors="replace") as out:
        child = process.start(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            code = child.wait(max(left, 1))
        except subprocess.TimeoutExpired:
            raise Missing(f"its build took longer than {limit:g} s") from None
        finally:
            process.end(child)
        if code:
            out.seek(0)
            raise Missing(f"its build failed: {reason(out.read())}")


def reason(text):
    """What of a program's output says most, without addresses and paths."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(?i)(npm )?\[?(error|fatal|panic|exception)", line)]
    return clean("; ".join(telling[:2] or lines[-1:] or ["it said nothing"]))


def clean(text):
    text = re.sub(r"[a-z]+://\S+", "(address)", text)
    # An address may stand without a scheme, too.
    text = re.sub(r"\b(?:\d{1,3}\.){3}\d{1,3}(:\d+)?\b", "(address)", text)
    text = re.sub(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*", "(path)", text)
    text = re.sub(r"\b" + re.escape(os.uname().nodename) + r"\b", "(host)", text)
    return " ".join(text.split())[:200]


def names():
    return [name for name in ORDER if os.path.exists(os.path.join(HERE, name, "peer.json"))]
