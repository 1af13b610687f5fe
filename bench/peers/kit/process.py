"""Processes that end with the kit, and what they cost, as Linux counts it."""

import ctypes
import os
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1


def start(command, ending=signal.SIGKILL, **more):
    """Begins a program in a process group of its own; it gets the signal should the kit die before it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def tie():
        libc.prctl(PR_SET_PDEATHSIG, int(ending))

    return subprocess.Popen(command, start_new_session=True, preexec_fn=tie, **more)


def end(child, *signals):
    """Sends the signals one after another to the group of a program that `start` began, until it has ended."""
    for number in signals or (signal.SIGTERM, signal.SIGKILL):
        # The group outlives its first process where that one has left others behind.
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            child.poll()
            if not members(child.pid):
                break
            time.sleep(0.02)
        else:
            continue
        break
    child.wait()


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def undisturbed():
    """Whatever is sent from now on is no reason to leave things lying."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)


def stat(pid):
    """The fields of /proc/PID/stat after the name, or none where the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def everybody():
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat(name)
            if fields and fields[0] != "Z":
                yield int(name), fields


def members(group):
    """The processes of a group."""
    return [pid for pid, fields in everybody() if int(fields[2]) == group]


def seconds(fields, with_ended=True):
    """Processor time in user and in system mode, of ended children too."""
    spent = fields[11:15] if with_ended else fields[11:13]
    return sum(map(int, spent)) / TICK


def group_seconds(group):
    """What the living processes of a group have used, and those of their children that have ended."""
    return sum(seconds(fields) for _, fields in everybody() if int(fields[2]) == group)


def tree_seconds(parent):
    """What a server and its children have used."""
    own = stat(parent)
    total = seconds(own) if own else 0.0
    return total + sum(seconds(fields) for _, fields in everybody() if int(fields[1]) == parent)


def group_peak(group):
    """Megabytes: the sum of each living process's own peak."""
    total = 0
    for pid in members(group):
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                total += next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1024
