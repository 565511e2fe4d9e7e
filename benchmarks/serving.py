"""The service beside its yardsticks, on one machine in one run: how many requests a second, and how long one takes.

    python -m benchmarks.serving [--parts small large] [--seconds S] [--rounds N] [--checkpoints DIR] [--out FILE]

Needs `wrk` (Debian: wrk) and the `bench` extra. Load goes to loopback only. Capacity is wrk's, with connections that
send their next request when the last is answered; servers are driven in turn, round after round, and the medians are
printed. Latency at a rate is that of `benchmarks.open_loop`, of each figure the median of five rounds. The service runs
with one worker and with an API key, limits, request ids and metrics on. `benchmarks/yardsticks/` has the servers it is
measured against: `bare` ASGI, a FastAPI endpoint that does `nothing`, the `obvious` implementation, LitServe.

    small   a `bayes` model of MovieLens-100K (fitted first, or the one in --checkpoints): pairs, columns, Arrow, lists
    large   random models of 100,000 and a million items, 64 factors: exact lists of ten
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pyarrow as pa

from tests.support.drafts import publish_random
from tests.support.ports import held_port
from tests.support.waiting import wait_until

KEY = "benchmark-key-0123456789"
SERVERS = ("ratecast", "nothing", "bare", "obvious", "litserve")
WRK_CONNECTIONS = 16
FEW_CONNECTIONS = {"columns": 4, "echo": 4, "arrow": 4}  # of large bodies: 16 × 100,000 pairs are more than may wait
USERS, ITEMS = 943, 1682  # of MovieLens-100K: ids are 1 … U and 1 … I
LARGE_USERS, LARGE_FACTORS, LARGE_SEEN = 100_000, 64, 100


@dataclass(frozen=True)
class Server:
    """A running server: its name and port."""

    name: str
    port: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("small", "large"), default=("small", "large"))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run of a load generator")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoints", type=Path, help="a published model of MovieLens-100K")
    parser.add_argument("--out", type=Path, help="append the tables to this Markdown file")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    lines = [f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}."]
    with TemporaryDirectory() as folder:
        if "small" in arguments.parts:
            checkpoints = arguments.checkpoints or fitted(Path(folder) / "small")
            lines += small(checkpoints, Path(folder), arguments.seconds, arguments.rounds)
        if "large" in arguments.parts:
            for items in (100_000, 1_000_000):
                lines += large(items, Path(folder), arguments.seconds, arguments.rounds)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        with arguments.out.open("a", encoding="utf-8") as stream:
            stream.write(text)


def fitted(directory: Path) -> Path:
    command = "-m training fit --data ml-100k --split random:0.1 --preset bayes --out"
    subprocess.run([sys.executable, *command.split(), str(directory)], check=True, stdout=subprocess.DEVNULL)
    return directory


def small(checkpoints: Path, folder: Path, seconds: float, rounds: int) -> list[str]:
    rng = random.Random(0)  # noqa: S311
    users, items = ([str(rng.randint(1, last)) for _ in range(1_000)] for last in (USERS, ITEMS))
    pairs = [post({"user": user, "item": item}) for user, item in zip(users, items, strict=True)]
    columns = post({"users": users, "items": items})
    loads = {
        "pair": write(folder / "pair", pairs[:200]),
        "columns": write(folder / "columns", [columns]),
        "echo": write(folder / "echo", [columns.replace(b"/predict", b"/echo", 1)]),
        "arrow": write(folder / "arrow", [post_arrow(rng, 100_000)]),
        "top": write(folder / "top", [get(f"/users/{user}/top") for user in users[:200]]),
    }
    with ExitStack() as stack:
        ours = stack.enter_context(service(checkpoints))
        bare, nothing, obvious, fastapi_echo = (
            stack.enter_context(yardstick(name, checkpoints)) for name in ("bare", "nothing", "obvious", "echo")
        )
        forgetful = stack.enter_context(service(checkpoints, "forgetful", RECENT_LISTS="0"))
        runs = [
            ("pair", ours), ("pair", nothing), ("pair", bare), ("pair", obvious),
            ("columns", ours), ("echo", bare), ("columns", fastapi_echo), ("columns", obvious), ("arrow", ours),
            ("top", ours), ("top", forgetful), ("top", obvious),
        ]  # fmt: skip
        rates = capacities([(load, server, loads[load]) for load, server in runs], seconds, rounds)
        half = rates["pair", "ratecast"] / 2
        calm = {
            "pair": open_loop(ours, loads["pair"], half, seconds),
            "top": open_loop(ours, loads["top"], rates["top", "ratecast"] / 2, seconds),
        }
    with litserve_server(checkpoints) as litserve:  # by itself: its workers poll, and take a core while they wait
        rates |= capacities([("pair", litserve, loads["pair"])], seconds, rounds)
    return [
        "",
        f"| MovieLens-100K, requests/s | {' | '.join(SERVERS)} |",
        "|---|---|---|---|---|---|",
        row("`POST /predict`, one pair", "pair", rates),
        row("… 1,000 pairs as JSON columns; nothing, bare: decoded and encoded again", "columns", rates | echo(rates)),
        row("… 100,000 pairs as Arrow", "arrow", rates),
        row("`GET /users/{id}/top`, lists asked for before", "top", rates),
        row("`GET /users/{id}/top`, each found anew", "top", rates, ("forgetful", "nothing", "bare", "obvious")),
        "",
        "| asked | measured |",
        "|---|---|",
        f"| one pair ≥ 2.5 × do-nothing FastAPI | {ratio(rates, ('pair', 'ratecast'), ('pair', 'nothing')):.2f} |",
        f"| 1,000 pairs ≥ 1.2 M pairs/s | {rates['columns', 'ratecast'] / 1e3:.2f} M |",
        (
            f"| 1,000 pairs ≥ 0.7 × echo | {ratio(rates, ('columns', 'ratecast'), ('columns', 'echo')):.2f} of "
            f"a FastAPI endpoint, {ratio(rates, ('columns', 'ratecast'), ('echo', 'bare')):.2f} of a bare ASGI app |"
        ),
        f"| Arrow ≥ 5 M pairs/s | {rates['arrow', 'ratecast'] / 10:.2f} M |",
        (
            f"| list ≥ 0.7 × one pair | {ratio(rates, ('top', 'ratecast'), ('pair', 'ratecast')):.2f}, "
            f"found anew {ratio(rates, ('top', 'forgetful'), ('pair', 'ratecast')):.2f} |"
        ),
        f"| one pair at half of capacity: p99 ≤ 5 ms | {latency(calm['pair'])} |",
        f"| a list at half of capacity | {latency(calm['top'])} |",
    ]


def large(items: int, folder: Path, seconds: float, rounds: int) -> list[str]:
    checkpoints = folder / f"large-{items}"
    publish_random(checkpoints, LARGE_USERS, items, LARGE_FACTORS, LARGE_SEEN)
    rng = random.Random(0)  # noqa: S311
    requests = [get(f"/users/{rng.randrange(LARGE_USERS)}/top") for _ in range(2_000)]
    load = write(folder / f"top-{items}", requests, anew=f'"/users/" .. math.random(0, {LARGE_USERS - 1}) .. "/top"')
    with ExitStack() as stack:
        ours = stack.enter_context(service(checkpoints, RECENT_LISTS="0"))  # every list is found anew
        obvious = stack.enter_context(yardstick("obvious", checkpoints))
        rates = capacities([("top", ours, load), ("top", obvious, load)], seconds, rounds, connections=32)
        at_rate = open_loop(ours, load, 200 if items <= 100_000 else 50, max(seconds, 5.0))
        health = while_busy(ours, load, write(folder / f"live-{items}", [get("/health/live")]), seconds)
    shutil.rmtree(checkpoints)
    return [
        "",
        f"| {items:,} items × {LARGE_FACTORS}, top 10, {LARGE_SEEN} seen left out | ratecast | obvious |",
        "|---|---|---|",
        row("lists/s at concurrency 32", "top", rates, ("ratecast", "obvious")),
        f"| at {200 if items <= 100_000 else 50} requests/s | {latency(at_rate)} | |",
        f"| `/health/live` at 100/s while 32 clients ask for lists | {latency(health)} | |",
    ]


def while_busy(server: Server, load: Path, probe: Path, seconds: float) -> Mapping[str, float]:
    """Latency of a probe while wrk keeps the server at its capacity."""
    with subprocess.Popen(wrk_command(server, load, seconds + 1, 32), stdout=subprocess.DEVNULL) as busy:
        time.sleep(0.5)
        figures = open_loop(server, probe, 100, seconds, rounds=1)
        busy.wait()
    return figures


def capacities(
    runs: Sequence[tuple[str, Server, Path]], seconds: float, rounds: int, connections: int = WRK_CONNECTIONS
) -> dict[tuple[str, str], float]:
    """Requests/s of each load and server: the median over rounds in which they take turns. The first is a warm-up."""
    found: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds + 1):
        for load, server, requests in runs:
            rate = wrk(server, requests, seconds if turn else 1.0, FEW_CONNECTIONS.get(load, connections))
            if turn:
                found.setdefault((load, server.name), []).append(rate)
    return {run: statistics.median(rates) for run, rates in found.items()}


def wrk(server: Server, load: Path, seconds: float, connections: int) -> float:
    done = subprocess.run(wrk_command(server, load, seconds, connections), check=True, capture_output=True, text=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"{server.name}, {load.name}: {done.stdout}")
    found = re.search(r"Requests/sec: +([0-9.]+)", done.stdout)
    assert found is not None
    return float(found[1])


def wrk_command(server: Server, load: Path, seconds: float, connections: int) -> list[str]:
    script, url = str(load / "load.lua"), f"http://127.0.0.1:{server.port}/"
    duration = f"{max(1, round(seconds))}s"
    return ["wrk", "--threads=1", f"--connections={connections}", f"--duration={duration}", f"--script={script}", url]


def open_loop(server: Server, load: Path, rate: float, seconds: float, rounds: int = 5) -> Mapping[str, float]:
    """Latencies at a rate: of each figure the median over some rounds, and the errors of all of them."""
    files = sorted(str(file) for file in load.glob("*.http"))
    command = [sys.executable, "-m", "benchmarks.open_loop", "--port", str(server.port), "--rate", f"{rate:.0f}"]
    command += ["--seconds", str(seconds), "--requests", *files]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(rounds)
    ]
    medians = {name: statistics.median(figures[name] for figures in found) for name in found[0]}
    return medians | {"errors": sum(figures["errors"] for figures in found)}


def write(folder: Path, requests: Sequence[bytes], anew: str | None = None) -> Path:
    """Requests as files, and a script that lets wrk send them in turn, or GET the path that `anew` makes each time."""
    folder.mkdir()
    for number, request in enumerate(requests):
        (folder / f"{number:04}.http").write_bytes(request)
    (folder / "load.lua").write_text(
        "local requests, k = {}, 0\n"
        f"for n = 0, {len(requests) - 1} do\n"
        f'  local file = io.open(string.format("{folder}/%04d.http", n), "rb")\n'
        '  requests[n + 1] = file:read("*a")\n'
        "  file:close()\n"
        "end\n"
        "function request() k = k % #requests + 1; return requests[k] end\n"
    )
    if anew is not None:
        (folder / "load.lua").write_text(
            f"math.randomseed(os.time())\nlocal headers = {{Authorization = 'Bearer {KEY}'}}\n"
            f'function request() return wrk.format("GET", {anew}, headers) end\n'
        )
    return folder


def post(document: object) -> bytes:
    return http("POST", "/predict", json.dumps(document).encode(), "application/json")


def post_arrow(rng: random.Random, pairs: int) -> bytes:
    columns = {"user": [str(rng.randint(1, USERS)) for _ in range(pairs)]}
    columns |= {"item": [str(rng.randint(1, ITEMS)) for _ in range(pairs)]}
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return http("POST", "/predict", sink.getvalue().to_pybytes(), "application/vnd.apache.arrow.stream")


def get(path: str) -> bytes:
    return http("GET", path)


def http(method: str, path: str, body: bytes = b"", media_type: str | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {KEY}"]
    if media_type:
        lines += [f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + body


@contextmanager
def running(
    name: str, checkpoints: Path, probe: str, command: Callable[[int], list[str]], more: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server on a port held for it, wait until it answers, end it with the block."""
    settings = {"CHECKPOINTS": str(checkpoints), "API_KEYS": KEY, "LOG_LEVEL": "warning"} | dict(more or {})
    environment = os.environ | {f"RATECAST_{name}": value for name, value in settings.items()}
    with (
        held_port() as port,
        subprocess.Popen(command(port), env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process,
    ):
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}{probe}"), process)
            yield Server(name, port)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def answers(url: str) -> bool:
    """Whether anything is answered, an error too."""
    with suppress(httpx.TransportError):
        return httpx.get(url, timeout=5).status_code < 500
    return False


def service(checkpoints: Path, name: str = "ratecast", **settings: str) -> AbstractContextManager[Server]:
    command = [sys.executable, "-m", "app", "--port"]
    return running(name, checkpoints, "/health/ready", lambda port: [*command, str(port)], settings)


def yardstick(name: str, checkpoints: Path) -> AbstractContextManager[Server]:
    flags = [
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--no-access-log",
        "--no-proxy-headers",
        "--log-level",
        "warning",
        "--port",
    ]
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.yardsticks.{name}:app", *flags]
    return running(name, checkpoints, "/", lambda port: [*command, str(port)])


def litserve_server(checkpoints: Path) -> AbstractContextManager[Server]:
    command = [sys.executable, "-m", "benchmarks.yardsticks.litserve"]
    return running("litserve", checkpoints, "/health", lambda port: [*command, str(port)])


def echo(rates: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {("columns", "bare"): rates["echo", "bare"], ("columns", "nothing"): rates["columns", "echo"]}


def ratio(rates: Mapping[tuple[str, str], float], ours: tuple[str, str], theirs: tuple[str, str]) -> float:
    return rates[ours] / rates[theirs]


def row(
    title: str,
    load: str,
    rates: Mapping[tuple[str, str], float],
    servers: Sequence[str] = SERVERS,
) -> str:
    cells = [f"{rates[load, name]:,.0f}" if (load, name) in rates else "" for name in servers]
    return f"| {title} | " + " | ".join(cells) + " |"


def latency(figures: Mapping[str, float]) -> str:
    errors = f", {figures['errors']:.0f} errors" if figures["errors"] else ""
    return (
        f"p50 {figures['p50']:.2f}, p99 {figures['p99']:.2f}, p99.9 {figures['p99.9']:.2f} ms "
        f"at {figures['rate']:,.0f}/s{errors}"
    )


if __name__ == "__main__":
    main()
