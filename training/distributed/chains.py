"""The state of spread chains as rows of users, of items and of probes: what any number of ranks can go on from.

A posterior's tables have a row more than a rank has users (items), for unknown ids; it is kept beside the table. Probes
go to the rank that has their user. Shapes: N probes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from training.distributed.group import as_group
from training.fit.trainer import TrainingSet

TABLES = ("left", "right", "user_bias", "item_bias")
BY_ROW = ("table_RK", "effect_RK", "shift_RK", "weight_R")  # of `gibbs.Side`


def row_side(name: str) -> Literal["user", "item", "other"] | None:
    """Of which side a tensor of the state of `bayes` has a row each; `other` for rows of neither."""
    owner, _, field = name.partition(".")
    if owner == "posterior":
        sides: dict[str, Literal["user", "item", "other"]] = {"left": "user", "user_bias": "user"}
        return (sides | {"right": "item", "item_bias": "item", "probes": "other", "moments": "other"}).get(field)
    side, _, field = field.partition(".")
    if field not in BY_ROW:
        return None
    return "user" if side == "user" else "item"


def posterior_rows(state: Mapping[str, Tensor], data: TrainingSet) -> dict[str, Tensor]:
    """The sums of a `Posterior`, with the numbers that all users have."""
    rows = {name: state[name][:-1] for name in TABLES}
    form = {f"{name}.unknown": data.ranks.from_first(state[name][-1:]) for name in TABLES}
    users_N, items_N = state["probes"]
    everywhere_N = torch.where(users_N == data.users, data.user_span.total, users_N + data.user_span.start)
    probes = {"probes": torch.stack([everywhere_N, items_N], dim=1), "moments": state["moments"].T.contiguous()}
    return rows | form | probes | {"samples": state["samples"]}


def posterior_of_rows(rows: Mapping[str, Tensor], data: TrainingSet) -> dict[str, Tensor]:
    """The sums of the `Posterior` of this rank."""
    tables = {name: torch.cat([rows[name], _unknown(rows, name, data)]) for name in TABLES}
    group, span = as_group(data.ranks), data.user_span
    bounds = torch.tensor(span.bounds[1:-1], device=rows["probes"].device)
    owner_N = torch.bucketize(rows["probes"][:, 0], bounds, right=True)
    order_N = owner_N.argsort(stable=True)
    sizes = torch.bincount(owner_N, minlength=group.size).tolist()
    probes, moments = (
        torch.cat(group.exchanged(list(rows[name][order_N].split(sizes)))) for name in ("probes", "moments")
    )
    users_N = torch.where(probes[:, 0] == span.total, data.users, probes[:, 0] - span.start)
    pairs = {"probes": torch.stack([users_N, probes[:, 1]]), "moments": moments.T.contiguous()}
    return tables | pairs | {"samples": rows["samples"]}


def _unknown(rows: Mapping[str, Tensor], name: str, data: TrainingSet) -> Tensor:
    """The row for unknown ids, which in the form counts on the first rank alone."""
    row = rows[f"{name}.unknown"]
    return torch.zeros_like(row) if name in ("left", "right") and not data.ranks.first else row
