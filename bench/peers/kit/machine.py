"""What a reader has to know of the machine; never its name, a user's or a path."""

import os
import platform
import re
import shutil
import statistics
import subprocess
import time

from .catalogue import HERE


def memory_gb():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemTotal")) / (1 << 20)


def processor():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        named = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
        return next(named, platform.machine())


def file_system(folder):
    """The kind of the file system that a folder is on."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1]
    return "unknown"


def device(folder):
    """What kind of disk that is, as far as the system says."""
    number = os.stat(folder).st_dev
    place = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    for place in (place, os.path.dirname(place)):
        try:
            with open(f"{place}/queue/rotational", encoding="ascii") as file:
                turns = file.read().strip() == "1"
        except OSError:
            continue
        name = os.path.basename(place)
        kinds = {"vd": "virtual disk", "nvme": "NVMe disk", "xvd": "virtual disk", "dm-": "mapped disk", "md": "RAID"}
        # A virtual disk often says that it rotates, whatever it is.
        kind = next((kind for start, kind in kinds.items() if name.startswith(start)), "hard disk" if turns else "solid-state disk")
        return kind
    return "disk of an unknown kind"


def sync_ms(folder, times=200):
    """The median time of writing 8 kB and syncing it."""
    path = os.path.join(folder, "sync")
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    took = []
    try:
        for i in range(times):
            began = time.perf_counter()
            os.pwrite(file, b"x" * 8192, 8192 * (i % 64))
            os.fdatasync(file)
            took.append(time.perf_counter() - began)
    finally:
        os.close(file)
        os.unlink(path)
    return statistics.median(took) * 1000


def tool(command):
    """The version that a program says it has."""
    if not shutil.which(command[0]):
        return None
    said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
    return found.group(0) if found else None


def commit():
    """The commit of the project's tree, and whether that was changed since; nothing where it is no clone."""
    command = ["git", "-C", HERE, "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
    if not shutil.which(command[0]):
        return None
    said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return said.stdout.strip() or None


def describe(folder, postgres):
    tools = {
        "Rust": ["rustc", "--version"],
        "Go": ["go", "version"],
        "Node.js": ["node", "--version"],
        "Java": ["java", "-version"],
    }
    kernel = re.match(r"\d+(\.\d+)*", platform.release())
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_gb(), 1),
        "disk": device(folder),
        "file_system": file_system(folder),
        "sync_ms": round(sync_ms(folder), 2),
        "kernel": f"{platform.system()} {kernel.group(0) if kernel else ''}".strip(),
        "postgresql": postgres.version(),
        "load": round(os.getloadavg()[0], 2),
        "tools": {name: version for name, command in tools.items() if (version := tool(command))},
    }
