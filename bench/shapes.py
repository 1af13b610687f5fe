"""The program of `cargo bench --bench shapes`, for those that look at one of its shapes."""

import json
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def built():
    """The program of the shapes, as it is measured."""
    command = ["cargo", "bench", "--bench", "shapes", "--no-run", "--locked", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    made = [m for m in map(json.loads, lines) if m.get("executable") and m["target"]["name"] == "shapes"]
    return made[-1]["executable"]


def once(options, name, tell, hear):
    """A run of one round, and its surroundings: by these pipes it says when what NAME says begins and has ended, and hears that it may go on."""
    command = [options.binary or built(), "--on", getattr(options, "on", "postgres"), "--rows", str(options.rows), "--rounds", "1", options.shape]
    return command, {**os.environ, "ROWMILL_PROFILE": name, "ROWMILL_PROFILE_PIPES": f"{tell}:{hear}"}
