"""What a rank does without the others: refusals, faults of its input, its share, its random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner

from tests.support.data import interactions
from tests.support.reading import rows_of
from training.cli.program import cli
from training.communicator import BLOCK, SINGLE_PROCESS, Communicator, LocalRows, Span, drawn_rows
from training.config import JobConfig, load_preset
from training.data.dataset import Dataset
from training.data.train_test import TrainTest, read
from training.distributed.gibbs import RowStream
from training.distributed.group import Group
from training.distributed.reading import read_share, share
from training.distributed.runtime import DistributedRuntime
from training.errors import ConfigError, DataError
from training.fit.fit_state import FitStateFile
from training.fit.trainers.bayes import Bayes


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    """The ranks of a job that has only one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Group(torch.device("cpu"), 1 << 30)
    dist.destroy_process_group()


class OneOf(Communicator):
    """One of several ranks, whose tests do not need the others."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    sum = least = gathered = agreed = None  # type: ignore[assignment]


def configured(data: object, **changes: object) -> JobConfig:
    return JobConfig(data=[str(data)], preset="als", cache=Path(), **changes)  # type: ignore[arg-type]


GOOD = {"user": ["a", "a", "b"], "item": ["x", "y", "x"], "rating": [1.0, 2.0, 3.0], "timestamp": [1, 2, 3]}


def written(folder: Path, **changes: list[object]) -> Path:
    """A directory with one good file and one whose columns are changed."""
    (folder / "ratings").mkdir()
    for number, columns in enumerate((GOOD, GOOD | changes)):
        pq.write_table(pa.table(columns), folder / "ratings" / f"{number}.parquet")
    return folder / "ratings"


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (lambda folder: folder / "none.parquet", "no such file or folder"),
    "an empty directory": (lambda folder: folder, "no files"),
    "a missing id": (lambda folder: written(folder, user=["a", None, "b"]), "row 2: user is missing"),
    "a rating without a number": (lambda folder: written(folder, rating=[1.0, 2.0, np.inf]), "row 3: rating inf"),
    "times of two units": (
        lambda folder: written(folder, timestamp=[1, None, 1_600_000_000_000]),
        "timestamp 1 is in another unit than 1600000000000",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_parts_that_are_no_ratings_are_refused_by_name(fault: str, group: Group, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        read_share(configured(make(tmp_path)), group)


def test_a_torn_part_is_refused_by_name(group: Group, tmp_path: Path) -> None:
    part = written(tmp_path) / "1.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(DataError, match="not readable Parquet"):
        read_share(configured(tmp_path / "ratings"), group)


def test_a_single_user_is_not_enough(group: Group, tmp_path: Path) -> None:
    pq.write_table(pa.table(GOOD | {"user": ["a", "a", "a"]}), tmp_path / "ratings.parquet")
    with pytest.raises(DataError, match="of a single user"):
        read_share(configured(tmp_path / "ratings.parquet"), group)


@pytest.mark.parametrize("split", ["last-out", "time:0.5"])
def test_a_split_by_time_needs_times(split: str, group: Group, tmp_path: Path) -> None:
    columns = {name: values for name, values in GOOD.items() if name != "timestamp"}
    pq.write_table(pa.table(columns), tmp_path / "ratings.parquet")
    with pytest.raises(ConfigError, match="the ratings have no timestamps"):
        read_share(configured(tmp_path / "ratings.parquet", split=split), group)


def test_a_test_file_does_not_go_with_parts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--test cannot be used with Parquet under torchrun"):
        read_share(configured(written(tmp_path), test="held-out.csv"), OneOf(0, 2))  # type: ignore[arg-type]


def test_parts_are_read_from_an_object_store(group: Group, tmp_path: Path) -> None:
    """fsspec's store in memory stands for any that fsspec has a driver for."""
    store = fsspec.filesystem("memory")
    for part in written(tmp_path, user=["b", "c", "c"], item=["y", "z", "x"]).iterdir():
        store.pipe(f"/ratings/{part.name}", part.read_bytes())
    there, here = (read_share(configured(url), group) for url in ("memory://ratings", tmp_path / "ratings"))
    store.rm("/ratings", recursive=True)
    assert there.train.user_ids.to_pylist() == ["a", "b", "c"]
    assert there.train.ratings_N.tolist() == here.train.ratings_N.tolist()
    assert there.dataset.fingerprint == here.dataset.fingerprint


def test_times_may_be_missing_in_a_part_or_in_some_rows(group: Group, tmp_path: Path) -> None:
    folder = written(tmp_path, user=["c", "c", "d"], timestamp=[5, None, 7])
    pq.write_table(pa.table(GOOD | {"user": ["e", "e", "f"]}).drop_columns("timestamp"), folder / "2.parquet")
    ours, theirs = (part.train for part in (read_share(configured(folder), group), read(configured(folder))))
    by_pair = [{(user, item): time for user, item, _, time in rows_of(ratings)} for ratings in (ours, theirs)]
    assert by_pair[0] == by_pair[1]
    assert list(by_pair[0].values()).count(None) == 4


SECOND, MILLISECOND = 1_600_000_000, 1_600_000_000_000
UNITS: dict[str, tuple[list[object], list[object], list[object] | str]] = {
    "zeros alone in a file": ([0, 0], [MILLISECOND, MILLISECOND], [0, 0, SECOND, SECOND]),
    "milliseconds and times of a type": (
        [MILLISECOND, None],
        [datetime.fromtimestamp(SECOND, UTC), datetime.fromtimestamp(5, UTC)],
        [SECOND, None, SECOND, 5],
    ),
    "milliseconds and ISO 8601": ([MILLISECOND, 0], ["2020-09-13T12:26:40Z", ""], [SECOND, 0, SECOND, None]),
    "seconds and milliseconds": (
        [SECOND, SECOND],
        [MILLISECOND, None],
        r"0.parquet: row 1: timestamp \d+ is in another",
    ),
    "milliseconds and seconds": ([None, MILLISECOND], [None, SECOND], r"1.parquet: row 2: timestamp \d+ is in another"),
    "a far future": ([SECOND, 1], [1, 5_000_000_000], r"1.parquet: row 2: timestamp 5000000000 is later than the year"),
}


@pytest.mark.parametrize("case", UNITS)
def test_the_unit_of_times_is_one_over_all_files_with_and_without_torchrun(
    case: str, group: Group, tmp_path: Path
) -> None:
    first, second, expected = UNITS[case]
    for number, times in enumerate((first, second)):
        columns = {"user": ["a", "b"], "item": [f"{number}", f"{number}"], "rating": [1.0, 2.0], "timestamp": times}
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    for reads in (read, lambda config: read_share(config, group)):
        if isinstance(expected, str):
            with pytest.raises(DataError, match=expected):
                reads(configured(tmp_path))
        else:
            found = {(user, item): time for user, item, _, time in rows_of(reads(configured(tmp_path)).train)}
            assert [found[user, item] for item in "01" for user in "ab"] == expected


def test_each_source_has_a_unit_of_its_own(group: Group, tmp_path: Path) -> None:
    for name, time in (("seconds", SECOND), ("milliseconds", MILLISECOND)):
        columns = {"user": ["a", "b"], "item": [name, name], "rating": [1.0, 2.0], "timestamp": [time, time]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    data = [str(tmp_path / f"{name}.parquet") for name in ("seconds", "milliseconds")]
    config = JobConfig(data=data, preset="als", cache=Path())
    for train in (read(config).train, read_share(config, group).train):
        assert {row[3] for row in rows_of(train)} == {SECOND}


def test_whole_numbers_that_became_floats_are_ids_without_a_fraction(group: Group, tmp_path: Path) -> None:
    columns = GOOD | {"user": ["1.0", "2.0", "1.0"], "item": [3.0, 4.0, 4.0]}
    pq.write_table(pa.table(columns), tmp_path / "ratings.parquet")
    config = configured(tmp_path / "ratings.parquet")
    ours, theirs = read_share(config, group).train, read(config).train
    assert ours.user_ids.to_pylist() == theirs.user_ids.to_pylist() == ["1", "2"]
    assert ours.item_ids.to_pylist() == theirs.item_ids.to_pylist()


def test_what_cannot_be_spread_is_refused() -> None:
    with pytest.raises(ConfigError, match="the preset textbook cannot be fitted under torchrun"):
        DistributedRuntime(OneOf(0, 2)).read(configured("ratings"), load_preset("textbook"), lambda _: None)  # type: ignore[arg-type]
    attributes = configured("ratings", item_attributes="items.csv")
    with pytest.raises(ConfigError, match="--item-attributes cannot be used under torchrun"):
        DistributedRuntime(OneOf(0, 2)).read(attributes, load_preset("bayes"), lambda _: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["refit", "warm_start"])
def test_options_that_several_ranks_do_not_have_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used under torchrun"):
        DistributedRuntime(OneOf(0, 2)).read(  # type: ignore[arg-type]
            configured("ratings", **{option: True}), load_preset("als"), lambda _: None
        )


def test_a_job_that_is_done_again_and_again_is_not_one_for_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a job")
    done = CliRunner().invoke(cli, ["fit", "--data", "x", "--preset", "als", "--out", "y", "--every", "1h"])
    assert "--every cannot be used under torchrun" in done.output


def test_what_ranks_have_saved_is_not_taken_up_by_a_single_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only torchrun can resume it"):
        FitStateFile(tmp_path, "a fit").restore(None)  # type: ignore[arg-type]


def test_shares_are_whole_users_and_together_everything() -> None:
    ratings = interactions([(user, user % 7, 1.0) for user in range(500) for _ in range(1 + user % 3)], 500, 7)
    test = interactions([(3, 1, 2.0), (500, 2, 3.0), (499, 7, 1.0)], 500, 7)
    dataset = Dataset(name="planted", ratings=ratings, rows=len(ratings), scale=ratings.scale, fingerprint="")
    whole = TrainTest(dataset=dataset, train=ratings, test=test, scale=ratings.scale)
    shares = [share(whole, OneOf(rank, 3)) for rank in range(3)]
    bounds = shares[0].users_here.bounds  # type: ignore[union-attr]
    assert all(bound % BLOCK == 0 for bound in bounds[:-1])
    assert bounds[-1] == 500
    orders = [part.order_N for part in shares if part.order_N is not None]
    assert sorted(np.concatenate(orders).tolist()) == list(range(len(ratings)))
    users = [part.train.users_N + start for part, (start, _) in zip(shares, pairwise(bounds), strict=True)]
    assert np.concatenate(users).tolist() == ratings.users_N.tolist()
    assert [len(part.test) for part in shares] == [1, 0, 2]
    assert shares[2].test.users_N.tolist() == [len(shares[2].train.user_ids), 499 - bounds[2]]


def test_a_row_has_the_same_random_numbers_on_whichever_rank_it_is() -> None:
    bounds = (0, 64, 192, 200)

    def drawn(span: Span) -> tuple[torch.Tensor, torch.Tensor]:
        stream, local = RowStream(1, 0, 5, torch.device("cpu")), LocalRows(OneOf(span.rank, 3), span)
        shapes_R = torch.arange(1, 201, dtype=torch.float64)[span.rows]
        return stream.row_normal(local, 8), stream.row_gamma(local, shapes_R)

    whole = drawn(Span((0, 200), 0))
    parts = [drawn(Span(bounds, rank)) for rank in range(3)]
    for number, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[number] for part in parts]), expected)
    assert not torch.equal(whole[0][:64], whole[0][64:128])


def test_the_start_of_a_span_is_that_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.communicator.DRAW_ROWS", 7)
    expected = np.random.default_rng(0).standard_normal((50, 3), dtype=np.float32)
    for rank in range(4):
        span = Span((0, 10, 10, 31, 50), rank)
        assert np.array_equal(drawn_rows(np.random.default_rng(0), span, 3), expected[span.rows])


def test_every_tensor_of_the_state_of_bayes_has_a_side_or_is_everybodys() -> None:
    names = ("chain0.user.table_RK", "chain1.item.effect_RK", "chain0.precision")
    assert list(map(Bayes.side_of, names)) == ["user", "item", None]
    of_posterior = ("mean.left", "mean.right", "spread.probes", "mean.left.unknown", "learned.weights_V")
    assert list(map(Bayes.side_of, of_posterior)) == ["user", "item", "other", None, None]


def test_a_single_process_has_nothing_to_add_or_to_gather() -> None:
    values = torch.arange(3.0)
    assert SINGLE_PROCESS.sum(values) is values
    assert SINGLE_PROCESS.gathered(values, Span.whole(3)) is values
    assert (SINGLE_PROCESS.first, SINGLE_PROCESS.pooled(0.5, 0), SINGLE_PROCESS.total(7)) == (True, 0.5, 7)
    assert SINGLE_PROCESS.all_objects("a state") == ["a state"]
    assert SINGLE_PROCESS.span(7) == Span.whole(7)
