"""One fresh PostgreSQL (and, where a peer needs it, one Redis) in a temporary folder."""

import glob
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time

from . import process

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    # Or a checkpoint would fall into some runs and not into others; the kit makes one before each run.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "logging_collector": "off",
}
USER = "postgres"


class Missing(Exception):
    """Something that has to be installed is not there."""


def programs():
    """The folder of initdb and postgres, looked for as the tests do."""
    named = os.environ.get("ROWMILL_TEST_PG_BIN")
    folders = [named] if named else []
    if not named:
        config = shutil.which("pg_config")
        if config:
            folders.append(subprocess.run([config, "--bindir"], capture_output=True, text=True).stdout.strip())
        number = lambda path: [int(n) for n in re.findall(r"\d+", path)]
        folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=number, reverse=True)
    for folder in folders:
        if all(os.access(os.path.join(folder, name), os.X_OK) for name in ("initdb", "postgres", "psql")):
            return folder
    raise Missing("PostgreSQL (initdb, postgres, psql) is not installed; ROWMILL_TEST_PG_BIN names its folder")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """Runs until `stop`; everything is below the folder that it is given."""

    def __init__(self, folder):
        self.bin = programs()
        self.data = os.path.join(folder, "postgres")
        self.port = free_port()
        self.child = None
        os.mkdir(self.data, 0o700)
        self.who = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            self.who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.data, nobody.pw_uid, nobody.pw_gid)
        made = subprocess.run(
            [self.program("initdb"), "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"],
            capture_output=True, text=True, cwd=self.data, env=self.environment(), **self.who,
        )
        if made.returncode:
            raise Missing(f"initdb failed: {made.stderr.strip().splitlines()[-1:]}")

    def program(self, name):
        return os.path.join(self.bin, name)

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**kept, "LC_ALL": "C"}

    def start(self):
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        log = open(os.path.join(self.data, "server.log"), "ab")
        self.child = process.start(
            [self.program("postgres"), "-D", self.data, "-p", str(self.port), *options], ending=signal.SIGQUIT,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data, env=self.environment(), **self.who,
        )
        log.close()
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.sql("select 1")
            except RuntimeError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    with open(os.path.join(self.data, "server.log"), errors="replace") as file:
                        raise Missing("PostgreSQL did not start: " + "".join(file.readlines()[-3:])) from None
                time.sleep(0.1)

    def stop(self):
        if self.child:
            process.end(self.child, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def url(self, database):
        return f"postgres://{USER}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def sql(self, text, database="postgres", limit=600):
        """The answer of one statement as text."""
        done = subprocess.run(
            [self.program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", text],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, env=self.environment(), timeout=limit,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def version(self):
        return self.sql("show server_version").split()[0]

    def written(self):
        """The position in the write-ahead log, in bytes."""
        return int(self.sql("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"))

    def cpu(self):
        return process.tree_seconds(self.child.pid)


class Redis:
    """Alya wants one; it keeps nothing on the disk."""

    def __init__(self, folder):
        program = shutil.which("redis-server")
        if not program:
            raise Missing("redis-server is not installed")
        self.port = free_port()
        self.child = process.start(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise Missing("redis-server did not start") from None
                time.sleep(0.05)

    def stop(self):
        process.end(self.child)

    def address(self):
        return f"127.0.0.1:{self.port}"
