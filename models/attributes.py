"""What an item's genres, labels and year tell of its row: the ridge regression of the fitted rows on them.

It knows columns of a catalogue and rows of numbers, not which model they belong to. Shapes: I fitted items, S of them
that are learned from, N items, D attributes, K columns of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from models.stored_items import LISTS

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

MOST_ATTRIBUTES = 256  # the most frequent ones: their number squared times that of items is what learning takes
MOST_ITEMS = 100_000  # the most rated ones are learned from
LEAST_ITEMS = 3  # that have an attribute, for it to be learned from
FEW_RATINGS = 10.0  # with which a row counts half: it lies near the average whatever its attributes are
RIDGE = 5.0  # rows without effect that each attribute is taken to have; `benchmarks/new_items.py` compares others
YEARS = 10  # that are one attribute


@dataclass(frozen=True, slots=True)
class AttributePrior:
    """The row that is expected of an item by its attributes: `average_K` + the effects of those that it has.

    `covariance_KK` is that of the fitted rows around what is expected of them.
    """

    names: dict[tuple[str, Any], int]  # the column and the value of each attribute, and its place
    average_K: Float64s
    effects_DK: Float64s
    covariance_KK: Float64s

    @classmethod
    def learn(
        cls,
        catalogue: pa.Table,
        counts_I: npt.NDArray[np.integer[Any]],
        table_IK: Tensor,
        average_K: Float64s,
    ) -> Self:
        """Learn it from the fitted items: their catalogue, their numbers of ratings, and their rows.

        `average_K` is the row of an item without attributes. The table may have more rows than there are items.
        """
        rated_I = np.flatnonzero(counts_I)
        chosen_S = np.sort(rated_I[np.argsort(-counts_I[rated_I], kind="stable")[:MOST_ITEMS]])
        described = catalogue.take(pa.array(chosen_S))
        names = _frequent(described)
        features_SD = _features(described, names)
        away_SK = float64(table_IK[torch.from_numpy(chosen_S).to(table_IK.device)]) - average_K
        counts_S = counts_I[chosen_S]
        weighted_DS = (features_SD * (counts_S / (counts_S + FEW_RATINGS))[:, None]).T
        gram_DD = weighted_DS @ features_SD + RIDGE * np.eye(len(names))
        effects_DK = np.asarray(np.linalg.solve(gram_DD, weighted_DS @ away_SK), np.float64)
        away_SK -= features_SD @ effects_DK
        return cls(names, average_K, effects_DK, away_SK.T @ away_SK / max(len(chosen_S), 1))

    def features(self, described: pa.Table) -> Float64s:
        """Which attributes some items have, 0 or 1, (N, D)."""
        return _features(described, self.names)

    def known(self, described: pa.Table) -> npt.NDArray[np.bool_]:
        """Which items have any of them, (N,)."""
        known_N = np.zeros(len(described), np.bool_)
        for items_M, _ in _places(described, self.names):
            known_N[items_M] = True
        return known_N

    def expected(self, features_ND: Float64s) -> Float64s:
        """The rows that are expected of items, (N, K)."""
        return self.average_K + features_ND @ self.effects_DK


def float64(table: Tensor) -> Float64s:
    """The numbers of a table on any device."""
    found: Float64s = table.cpu().numpy().astype(np.float64)
    return found


def _frequent(described: pa.Table) -> dict[tuple[str, Any], int]:
    counts: dict[tuple[str, Any], int] = {}
    for column, values, _ in _attributes(described):
        for each in pc.value_counts(values).to_pylist():
            counts[column, each["values"]] = each["counts"]
    often = sorted(
        (name for name in counts if counts[name] >= LEAST_ITEMS), key=lambda name: (-counts[name], str(name))
    )
    return {name: place for place, name in enumerate(often[:MOST_ATTRIBUTES])}


def _features(described: pa.Table, names: dict[tuple[str, Any], int]) -> Float64s:
    features_ND = np.zeros((len(described), len(names)))
    for items_M, places_M in _places(described, names):
        features_ND[items_M, places_M] = 1.0
    return features_ND


def _places(described: pa.Table, names: dict[tuple[str, Any], int]) -> Iterator[tuple[Int64s, Int64s]]:
    """The items that have an attribute with a name, and its place, for each column."""
    for column, values, items_M in _attributes(described):
        encoded = values.dictionary_encode()
        places = [names.get((column, value), -1) for value in encoded.dictionary.to_pylist()]
        places_M = np.array(places, np.int64)[encoded.indices.to_numpy()]
        yield items_M[places_M >= 0], places_M[places_M >= 0]


def _attributes(described: pa.Table) -> Iterator[tuple[str, pa.Array, Int64s]]:
    """The values of each column, and the item that has each."""
    for column in LISTS:
        lists = described[column].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        yield column, pc.list_flatten(lists), np.repeat(np.arange(len(lists)), lengths)
    years = described["year"].combine_chunks()
    known_N = np.flatnonzero(years.is_valid().to_numpy(zero_copy_only=False))
    yield "year", pc.divide(years.take(pa.array(known_N)), YEARS), known_N
