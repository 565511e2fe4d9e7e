"""The commands that look after published versions, as a program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from models.registry.directory import CURRENT, current_split, current_version, publish, published
from models.registry.split import Split
from tests.support.checkpoints import small_draft
from tests.support.forks import Finished, Nursery


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Three versions in `tmp_path`, the last one current."""
    return [publish(tmp_path, small_draft()).version for _ in range(3)]


def lines(done: Finished) -> list[str]:
    assert (done.code, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_version_is_activated_rolled_back_from_and_listed(nursery: Nursery, tmp_path: Path, names: list[str]) -> None:
    back = lines(nursery.run("training", "rollback", "--out", tmp_path))
    assert back == [f"{names[1]} is current instead of {names[2]}"]
    assert lines(nursery.run("training", "activate", names[0], "--out", tmp_path)) == [f"{names[0]} is current"]
    head, _, *rows = (line.split() for line in lines(nursery.run("training", "list", "--out", tmp_path)))
    assert head == ["version", "published", "preset", "below", "baseline", "size", "note"]
    assert [(row[:-6], row[-6], row[-3:]) for row in rows] == [
        (["*"] if name == names[0] else [], name, ["-", "0.0", "MB"]) for name in names
    ]
    (line,) = lines(nursery.run("training", "list", "--out", tmp_path, "--json"))
    answer = json.loads(line)
    assert (answer["current"], answer["unreadable"]) == (names[0], [])
    assert [(row["version"], row["current"], row["rmse"]) for row in answer["versions"]] == [
        (names[0], True, 1.0),
        (names[1], False, 1.0),
        (names[2], False, 1.0),
    ]


def test_a_version_answers_a_share_of_the_users_until_that_is_ended(
    nursery: Nursery, tmp_path: Path, names: list[str]
) -> None:
    begun = lines(nursery.run("training", "split", names[0], "--share", 0.25, "--out", tmp_path))
    assert begun == [f"{names[0]} answers 25 % of the users"]
    assert current_split(tmp_path) == Split(names[0], 0.25)
    for words, message in (
        ((names[2], "--share", 0.1), "is the current version: a split needs another one"),
        ((names[0], "--share", 1), "is not in the range 0<x<1"),
        ((names[0],), "give VERSION and --share, or --end"),
        ((names[0], "--share", 0.1, "--end"), "give VERSION and --share, or --end"),
        (("20200101T000000Z-none-000000", "--share", 0.1), "no version '20200101T000000Z-none-000000'"),
    ):
        done = nursery.run("training", "split", *words, "--out", tmp_path)
        assert (done.code, done.stdout) == (2, "")
        assert message in done.stderr
    assert lines(nursery.run("training", "split", "--end", "--out", tmp_path)) == [
        "the current version answers all users"
    ]
    assert current_split(tmp_path) is None


def test_a_manifest_that_cannot_be_read_is_listed_as_such(nursery: Nursery, tmp_path: Path, names: list[str]) -> None:
    (tmp_path / names[0] / "manifest.json").write_text("{")
    done = nursery.run("training", "list", "--out", tmp_path)
    assert done.code == 0
    assert done.stderr.startswith(f"{names[0]}: its manifest cannot be read")
    assert len(done.stdout.splitlines()) == 2 + 2
    assert json.loads(nursery.run("training", "list", "--out", tmp_path, "--json").stdout)["unreadable"] == [names[0]]


def test_pruning_says_what_it_removed(nursery: Nursery, tmp_path: Path, names: list[str]) -> None:
    assert lines(nursery.run("training", "prune", "--keep", 1, "--out", tmp_path)) == [*names[:2], "deleted 2 versions"]
    assert lines(nursery.run("training", "prune", "--keep", 1, "--out", tmp_path)) == ["deleted 0 versions"]
    assert [manifest.version for manifest in published(tmp_path)] == names[2:]


@pytest.mark.parametrize("whole", [True, False])
def test_a_version_made_elsewhere_is_published(nursery: Nursery, tmp_path: Path, names: list[str], whole: bool) -> None:
    out = tmp_path.with_name("out")
    source = tmp_path if whole else tmp_path / names[2]
    assert lines(nursery.run("training", "publish", source, "--out", out)) == [
        f"{names[2]} is published in {out} and current"
    ]
    assert lines(nursery.run("training", "publish", tmp_path / names[0], "--out", out, "--no-activate")) == [
        f"{names[0]} is published in {out}"
    ]
    assert current_version(out) == names[2]
    shutil.rmtree(out)


def test_the_same_commands_take_urls(nursery: Nursery, tmp_path: Path, names: list[str]) -> None:
    url, back = f"file://{tmp_path.with_name('store')}", tmp_path.with_name("back")
    for name in names:
        assert lines(nursery.run("training", "publish", tmp_path / name, "--out", url)) == [
            f"{name} is published in {url} and current"
        ]
    assert lines(nursery.run("training", "rollback", "--out", url)) == [f"{names[1]} is current instead of {names[2]}"]
    assert lines(nursery.run("training", "activate", names[2], "--out", url)) == [f"{names[2]} is current"]
    rows = json.loads(lines(nursery.run("training", "list", "--out", url, "--json"))[-1])["versions"]
    assert [(row["version"], row["current"]) for row in rows] == [(name, name == names[2]) for name in names]
    for source in (url, f"{url}/{names[0]}"):
        assert nursery.run("training", "publish", source, "--out", back).code == 0
    assert [manifest.version for manifest in published(back)] == [names[2], names[0]]
    assert lines(nursery.run("training", "prune", "--keep", 1, "--out", url)) == [*names[:2], "deleted 2 versions"]
    shutil.rmtree(back)
    shutil.rmtree(tmp_path.with_name("store"))


def test_a_fit_can_leave_the_current_version(nursery: Nursery, tmp_path: Path, names: list[str]) -> None:
    data = tmp_path.with_name("ratings.csv")
    data.write_text("user,item,rating\n" + "\n".join(f"{n % 5},{n % 7},{1 + n % 3}" for n in range(35)) + "\n")
    options = ("--data", data, "--preset", "bias", "--set", "epochs=1", "--device", "cpu", "--out", tmp_path)
    assert nursery.run("training", "fit", *options, "--no-activate").code == 0
    assert current_version(tmp_path) == names[2]
    assert len(published(tmp_path)) == 4


def test_a_fit_that_measures_nothing_does_not_replace_a_version_that_was_measured(
    nursery: Nursery, tmp_path: Path, names: list[str]
) -> None:
    data = tmp_path.with_name("ratings.csv")
    data.write_text("user,item,rating\n" + "\n".join(f"{n % 5},{n % 7},{1 + n % 3}" for n in range(35)) + "\n")
    options = ("--data", data, "--preset", "bias", "--set", "epochs=1", "--device", "cpu", "--out", tmp_path)
    done = nursery.run("training", "fit", *options)
    assert (done.code, current_version(tmp_path), len(published(tmp_path))) == (2, names[2], 3)
    assert f"the served version {names[2]} was measured" in done.stderr
    assert nursery.run("training", "fit", *options, "--force").code == 0
    fitted = current_version(tmp_path)
    assert fitted not in names
    row = lines(nursery.run("training", "list", "--out", tmp_path))[-1]
    assert row.split()[0] == "*!"
    assert row.endswith("not measured")
    back = lines(nursery.run("training", "rollback", "--out", tmp_path))
    assert back == [f"{names[2]} is current instead of {fitted}"]
    refused = nursery.run("training", "activate", fitted, "--out", tmp_path)
    assert (refused.code, refused.stderr.count("\n")) == (2, 1)
    assert "served only by force" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("activate", "nowhere"),
        ("activate", "../x"),
        ("publish", "nowhere"),
        ("prune", "--keep", "0"),
        ("rollback",),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(
    nursery: Nursery, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    only = publish(tmp_path, small_draft()).version
    done = nursery.run("training", *arguments, "--out", tmp_path)
    assert (done.code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert current_version(tmp_path) == only


@pytest.mark.parametrize("command", ["rollback", "list", ("prune", "--keep", "1")])
@pytest.mark.parametrize("content", [None, b"\xff", b"../x"])
def test_a_directory_without_a_current_version_is_one_line_and_exit_2(
    nursery: Nursery, tmp_path: Path, command: str | tuple[str, ...], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / CURRENT).write_bytes(content)
    words = (command,) if isinstance(command, str) else command
    done = nursery.run("training", *words, "--out", tmp_path)
    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
