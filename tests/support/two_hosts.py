"""Two hosts for a test: network namespaces joined by a pair of virtual interfaces, each with an address of its own.

Run as `unshare --user --map-root-user --net python -m tests.support.two_hosts COMMAND…`, the command is started on
both, with `{host}` in its words replaced by 0 and 1; the exit code is the first one that is not 0. The bytes that
left each host follow as the last line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FIRST, SECOND = "10.77.0.1", "10.77.0.2"


def prefix() -> list[str]:
    """The command that runs the command after it on two hosts."""
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    return [*unshare, sys.executable, "-m", __name__]


def main(command: list[str]) -> int:
    other = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    inside = ["nsenter", "--target", str(other.pid), "--net"]
    here = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{other.pid}/ns/net").readlink() == here:  # until unshare has done its work
        os.sched_yield()
    try:
        _ip("link", "add", "first", "type", "veth", "peer", "name", "second", "netns", str(other.pid))
        for words, address, name in (([], FIRST, "first"), (inside, SECOND, "second")):
            _ip("address", "add", f"{address}/24", "dev", name, within=words)
            for device in (name, "lo"):
                _ip("link", "set", device, "up", within=words)
        words = [[word.replace("{host}", str(host)) for word in command] for host in (0, 1)]
        networks = ("first", "second")
        environments = [{**os.environ, "GLOO_SOCKET_IFNAME": network} for network in networks]
        second = subprocess.Popen([*inside, *words[1]], env=environments[1], stdout=sys.stderr)
        codes = [subprocess.run(words[0], env=environments[0], check=False).returncode, second.wait()]
        print("sent", _sent("first"), _sent("second", inside))  # noqa: T201
        return next((code for code in codes if code), 0)
    finally:
        other.kill()
        other.wait()


def _ip(*words: str, within: list[str] | tuple[()] = ()) -> None:
    subprocess.run([*within, "ip", *words], check=True)


def _sent(device: str, within: list[str] | tuple[()] = ()) -> int:
    """Bytes that the kernel has sent through a device."""
    if not within:
        return _counter(Path("/proc/net/dev").read_text(), device)
    return _counter(
        subprocess.run([*within, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True).stdout, device
    )


def _counter(table: str, device: str) -> int:
    (line,) = (line for line in table.splitlines() if line.strip().startswith(f"{device}:"))
    return int(line.split(":")[1].split()[8])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
