"""The state of a fit as rows of users, of items and of probes, which any number of ranks can go on from.

Only the posterior of `bayes` is not made of such rows: its tables have one row more, for unknown ids, which is kept
beside the table, and its probes go to the rank that has their user. Shapes: N probes here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from training.distributed.group import Group
from training.fit.trainer import TrainingSet

TABLES = ("left", "right", "user_bias", "item_bias")
POSTERIOR = "posterior."  # how the names of its tensors begin


def rows_of_state(state: Mapping[str, Tensor], data: TrainingSet) -> dict[str, Tensor]:
    """A trainer's state as rows."""
    posterior, rest = _divided(state)
    rows = _rows_of_posterior(posterior, data) if posterior else {}
    return rest | {f"{POSTERIOR}{name}": table for name, table in rows.items()}


def state_of_rows(rows: Mapping[str, Tensor], data: TrainingSet, group: Group) -> dict[str, Tensor]:
    """The trainer's state on this rank."""
    posterior, rest = _divided(rows)
    state = _posterior_of_rows(posterior, data, group) if posterior else {}
    return rest | {f"{POSTERIOR}{name}": table for name, table in state.items()}


def _divided(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state of the posterior, and the rest."""
    posterior = {name.removeprefix(POSTERIOR): table for name, table in state.items() if name.startswith(POSTERIOR)}
    return posterior, {name: table for name, table in state.items() if not name.startswith(POSTERIOR)}


def _rows_of_posterior(state: Mapping[str, Tensor], data: TrainingSet) -> dict[str, Tensor]:
    """The sums of a `Posterior`, with the numbers that all users have."""
    rows = {name: state[name][:-1] for name in TABLES}
    form = {f"{name}.unknown": data.communicator.from_first(state[name][-1:]) for name in TABLES}
    users_N, items_N = state["probes"]
    everywhere_N = torch.where(users_N == data.users, data.user_span.total, users_N + data.user_span.start)
    probes = {"probes": torch.stack([everywhere_N, items_N], dim=1), "moments": state["moments"].T.contiguous()}
    return rows | form | probes | {"samples": state["samples"]}


def _posterior_of_rows(rows: Mapping[str, Tensor], data: TrainingSet, group: Group) -> dict[str, Tensor]:
    """The sums of the `Posterior` of this rank."""
    tables = {name: torch.cat([rows[name], _unknown(rows, name, data)]) for name in TABLES}
    span = data.user_span
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
    return torch.zeros_like(row) if name in ("left", "right") and not data.communicator.first else row
