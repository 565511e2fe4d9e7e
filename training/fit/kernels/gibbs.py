"""One chain of the Gibbs sampler for Bayesian matrix factorization with implicit effects on both sides.

r_ui ~ N(b_u + b_i + p̃_u·q̃_i, 1/(α a_u c_i)), p̃_u = p_u + s_u Σ_{j∈N(u)} y_j and likewise q̃_i and the biases: SVD++
(Koren 2008) in both directions, as in Rendle, Zhang and Koren, "On the difficulty of evaluating baselines", 2019. There
s_u = n_u^-½; here n_u counts half, and the mean over users the other half, on a logarithmic scale (`shares`).
Rows [p_u, b_u] have the prior N(m + Bᵀx_u, Λ⁻¹) with attributes x_u (Simm et al., "Macau", 2017), every column of it a
Normal–Gamma of its own. The weights a_u, c_i ~ Gamma(ν/2, ν/2) give the errors heavy tails (Lakshminarayanan, Bouchard
and Archambeau 2011). A sweep draws each of them given all others. Ratings are standardised by the caller.
Shapes: R rows of one side, C of the other, N ratings, K table width: factors, then bias, a multiple of 8; A attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from training.communicator import LocalRows

STRENGTH = 1.0  # of the priors on column means and precisions, in rows; ratings are standardised, so 1 is their scale
START_FACTORS = 0.1  # standard deviation
# Of biases. They must not start at 0: a column's precision is drawn from its entries, so a column of many rows with few
# ratings each would leave 0 by a little in every sweep. After 20 sweeps on 16,000 users who gave 11 ratings each, the
# biases of users had a standard deviation of 0.08, and 0.27 after 40.
START_BIASES = 0.3
START_EFFECTS = 0.05  # likewise; a chain that starts with effects of zero takes long to find them
# Of a row's share in the sum of its effects. With 0.5 and 0.25 the RMSE on tenths held out of training parts is 0.8740
# and 0.8729 on MovieLens-100K, 0.8042 and 0.7970 on MovieLens-latest-small, 1.0142 and 1.0130 on yelp, 1.1130 and
# 1.1113 on anime (with doubled freedoms, which are worth 0.0003 of it on MovieLens-100K).
SHARE_POWER = 0.25
EFFECT_RATE = 0.1  # of the Gamma prior on the precision of implicit effects, which are smaller than factors


class RowState(NamedTuple):
    """What rows are drawn from: N(A⁻¹ (s h + Λ m), A⁻¹) with A = s G + Λ (Salakhutdinov and Mnih 2008, eq. 11-13).

    In order: G, h, s, m and the diagonal of Λ. The draw leaves s G in place of G, and in place of h the gradient
    s h − s G x of the log-likelihood at the drawn rows x.
    """

    gram_RKK: Tensor
    rhs_RK: Tensor
    scale_R: Tensor
    prior_RK: Tensor
    precision_K: Tensor


class EffectState(NamedTuple):
    """What the implicit effects y of the rows are drawn from. Each adds share · y to the columns rated with its row.

    The log-likelihood is quadratic in the columns' table, so that no rating is read. All but the first two and
    `precision_K` are overwritten.

    Attributes:
        gram_CKK: minus the Hessian of the log-likelihood in each column's table row.
        gradient_CK: its gradient there.
        effect_RK: y.
        precision_K: of the effects' prior, whose mean is 0.
        shift_CK: the sum of effects in the table.
    """

    share_C: Tensor
    gram_CKK: Tensor
    gradient_CK: Tensor
    effect_RK: Tensor
    precision_K: Tensor
    table_CK: Tensor
    shift_CK: Tensor

    def move(self, step_CK: Tensor) -> None:
        """Add the change of the effects' sums to the table, and update the gradient."""
        self.table_CK.add_(step_CK)
        self.shift_CK.add_(step_CK)
        self.gradient_CK.sub_((self.gram_CKK @ step_CK[..., None])[..., 0])


class Rows(Protocol):
    """The ratings of one side, grouped by row, and the heavy steps of a sweep."""

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        """For each row Σ w v vᵀ, (R, K, K), and Σ w v (r − b), (R, K); v = [factors, 1] and b are the other side's."""

    def draw(self, state: RowState, noise_RK: Tensor) -> Tensor:
        """Draw the rows, (R, K). Standard normal noise z enters as L⁻ᵀ z with A = L Lᵀ."""

    def draw_effects(self, state: EffectState, noise: Iterator[Tensor]) -> None:
        """Draw the effects of the rows, as those of SVD++ (Koren 2008, eq. 15).

        `noise` yields standard normal numbers for the rows, (R, K), then, if needed, for the columns, (C, K).
        """

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        """The sums of each row's squared errors, weighted by the other side and plain, float64, (R, 2)."""

    def sums(self, table_CK: Tensor) -> Tensor:
        """For each row the sum of the columns that it was rated with, (R, K)."""


class RandomStream:
    """The random numbers of one sweep of one chain, which depend only on the key and the order of calls.

    They come from a counter-based generator (Salmon et al. 2011) on the host; a CUDA chain draws on the device.
    """

    def __init__(self, key: int, chain: int, sweep: int, device: torch.device) -> None:
        self._host = np.random.Generator(np.random.Philox(key=[key, chain], counter=[0, 0, 0, sweep]))
        self._key, self._sweep, self._calls = [key, chain], sweep, 0
        self._device = device
        self._cuda = torch.Generator(device) if device.type == "cuda" else None
        if self._cuda is not None:
            self._cuda.manual_seed(int(self._host.integers(2**63)))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32."""
        if self._cuda is not None:
            return torch.randn(shape, generator=self._cuda, device=self._device)
        return torch.from_numpy(self._host.standard_normal(shape, dtype=np.float32)).to(self._device)

    def row_normal(self, local: LocalRows, width: int) -> Tensor:
        """Standard normal numbers for the rows of this rank."""
        return self.normal(len(local.span), width)

    def row_gamma(self, local: LocalRows, shape_R: Tensor) -> Tensor:  # noqa: ARG002
        """`gamma` for the rows of this rank."""
        return self.gamma(shape_R)

    def gamma(self, shape_R: Tensor) -> Tensor:
        """Gamma numbers of the given shapes and rate 1, float64, on the device of the shapes."""
        if self._cuda is not None:
            return torch._standard_gamma(shape_R, generator=self._cuda)  # noqa: SLF001 - torch.distributions has no seed
        return torch.as_tensor(self._host.standard_gamma(shape_R.numpy()))


@dataclass(slots=True)
class Side:
    """The users or the items of this rank: what is fixed, then what a sweep changes (`STATE`).

    Attributes:
        counts_R: the number of their ratings, float64.
        weights_R: the sum of the weights of their ratings, float64; the number where all count 1.
        share_R: see `shares`.
        attributes_RA: side information, or (R, 0).
        table_RK: [p̃, b].
        effect_RK: y, which a row adds to the rows of the other side that it was rated with.
        shift_RK: the sum of the other side's effects in `table_RK`.
        weight_R: a, relative precision of the row's ratings.
        coefficients_AK: B.
        unknown_K, spread_K: mean and variances of the row of an unknown id, which are those of the rows' priors.
    """

    rows: Rows
    local: LocalRows
    counts_R: Tensor
    weights_R: Tensor
    share_R: Tensor
    attributes_RA: Tensor
    table_RK: Tensor
    effect_RK: Tensor
    shift_RK: Tensor
    weight_R: Tensor
    coefficients_AK: Tensor
    unknown_K: Tensor
    spread_K: Tensor


SIDES, STATE = ("user", "item"), tuple(field.name for field in fields(Side))[6:]


@dataclass(slots=True)
class Chain:
    """A sampler's state. `freedom` is ν of users and of items, 0 for Gaussian errors."""

    user: Side
    item: Side
    precision: Tensor
    implicit: bool
    freedom: tuple[float, float]

    def sweep(self, stream: RandomStream) -> Tensor:
        """Draw everything once; the mean squared error of the training ratings after it."""
        _update_rows(self.user, self.item, self.precision, stream, implicit=self.implicit)
        if self.freedom[0]:
            errors_R2 = self.user.rows.errors(self.user.table_RK, self.item.table_RK, self.item.weight_R)
            _update_weights(self.user, errors_R2, self.precision, self.freedom[0], stream)
        _update_rows(self.item, self.user, self.precision, stream, implicit=self.implicit)
        errors_R2 = self.item.rows.errors(self.item.table_RK, self.user.table_RK, self.user.weight_R)
        if self.freedom[1]:
            _update_weights(self.item, errors_R2, self.precision, self.freedom[1], stream)
        communicator = self.item.local.communicator
        ratings = communicator.sum(self.item.counts_R.sum())
        weighted = communicator.sum((errors_R2[:, 0] * self.item.weight_R).sum())
        counted = communicator.sum(self.item.weights_R.sum())
        self.precision = stream.gamma(1 + counted / 2) / (1 + weighted / 2)
        return communicator.sum(errors_R2[:, 1].sum()) / ratings

    def state(self) -> dict[str, Tensor]:
        """Everything a sweep changes."""
        tables = {f"{name}.{field}": getattr(getattr(self, name), field).clone() for name in SIDES for field in STATE}
        return tables | {"precision": self.precision.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        for name in SIDES:
            for field in STATE:
                setattr(getattr(self, name), field, state[f"{name}.{field}"].clone())
        self.precision = state["precision"].clone()

    def go_on_from(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the `state` of a chain with the same rows and other ratings."""
        self.restore(state)
        if self.implicit:
            _add_effects(self.user, self.item)
            _add_effects(self.item, self.user)


def start_side(
    rows: Rows,
    counts_R: Tensor,
    attributes_RA: Tensor | None,
    width: int,
    stream: RandomStream,
    local: LocalRows,
    weights_R: Tensor | None = None,
) -> Side:
    """A side with small random factors and biases, which nothing has had an effect on yet.

    `weights_R` are the sums of the ratings' weights, by default their numbers.
    """
    count, device = len(counts_R), counts_R.device
    attributes_RA = torch.zeros(count, 0, device=device) if attributes_RA is None else attributes_RA
    zeros_RK = torch.zeros(count, width, device=device)
    table_RK = START_FACTORS * stream.row_normal(local, width)
    table_RK[:, -1] *= START_BIASES / START_FACTORS
    return Side(
        rows=rows,
        local=local,
        counts_R=counts_R.double(),
        weights_R=counts_R.double() if weights_R is None else weights_R,
        share_R=shares(counts_R, counts_R, local),
        attributes_RA=attributes_RA,
        table_RK=table_RK,
        effect_RK=zeros_RK.clone(),
        shift_RK=zeros_RK,
        weight_R=torch.ones(count, device=device),
        coefficients_AK=torch.zeros(attributes_RA.shape[1], width, device=device),
        unknown_K=torch.zeros(width, device=device),
        spread_K=torch.ones(width, device=device),
    )


def shares(numbers_R: Tensor, counts_R: Tensor, local: LocalRows) -> Tensor:
    """What the sum of the effects in a row of so many ratings is multiplied with, float32, (R,).

    It is (number · mean)^-¼, where `counts_R` tells the mean number of ratings of a row.
    """
    mean = local.communicator.sum(counts_R.sum()).double() / max(1, local.span.total)
    shares_R: Tensor = (numbers_R.clamp(min=1) * mean.clamp(min=1)) ** -SHARE_POWER
    return shares_R.float()


def start_effects(users: Side, items: Side, stream: RandomStream) -> None:
    """Give both sides small random effects, and their sums to the other side's rows."""
    for side, other in ((users, items), (items, users)):
        other.effect_RK = START_EFFECTS * stream.row_normal(other.local, other.effect_RK.shape[1])
        _add_effects(side, other)


def _add_effects(side: Side, other: Side) -> None:
    """Put the sums of the other side's effects into the rows, in place of those that are there."""
    shift_RK = side.rows.sums(other.effect_RK) * side.share_R[:, None]
    side.table_RK = side.table_RK + shift_RK - side.shift_RK
    side.shift_RK = shift_RK


def _update_rows(side: Side, other: Side, precision: Tensor, stream: RandomStream, *, implicit: bool) -> None:
    """Draw the rows of one side, after their hyper-parameters, then the effects of the other side on them."""
    explained_RK = side.attributes_RA @ side.coefficients_AK
    mean_K, precision_K = normal_gamma(side.table_RK - side.shift_RK - explained_RK, stream, side.local)
    prior_RK = mean_K + side.shift_RK + explained_RK
    side.unknown_K, side.spread_K = side.local.mean(prior_RK), side.local.variance(prior_RK) + 1 / precision_K
    gram_RKK, rhs_RK = side.rows.gram(other.table_RK, other.weight_R)
    scale_R = (precision * side.weight_R).float()
    noise_RK = stream.row_normal(side.local, prior_RK.shape[1])
    side.table_RK = side.rows.draw(RowState(gram_RKK, rhs_RK, scale_R, prior_RK, precision_K), noise_RK)
    if implicit:
        squares_K = other.local.communicator.sum(other.effect_RK.double().square().sum(0))
        effect_precision_K = _gammas(stream, other.local.span.total, squares_K, EFFECT_RATE)
        noise = (stream.row_normal(local, side.table_RK.shape[1]) for local in (other.local, side.local))
        effects = (other.effect_RK, effect_precision_K, side.table_RK, side.shift_RK)
        other.rows.draw_effects(EffectState(side.share_R, gram_RKK, rhs_RK, *effects), noise)
    if side.attributes_RA.shape[1]:
        side.coefficients_AK = _coefficients(side, side.table_RK - side.shift_RK - mean_K, precision_K, stream)


def _update_weights(side: Side, errors_R2: Tensor, precision: Tensor, freedom: float, stream: RandomStream) -> None:
    rate_R = (freedom + precision * errors_R2[:, 0]) / 2
    side.weight_R = (stream.row_gamma(side.local, (freedom + side.weights_R) / 2) / rate_R).float()


def normal_gamma(base_RK: Tensor, stream: RandomStream, local: LocalRows) -> tuple[Tensor, Tensor]:
    """Draw mean and precision of each column given its entries (Murphy 2007, "Conjugate Bayesian analysis", sec. 3)."""
    rows, width = local.span.total, base_RK.shape[1]
    mean_K = local.communicator.sum(base_RK.sum(0, dtype=torch.float64)) / rows
    squares_K = (
        local.communicator.sum((base_RK - mean_K).square().sum(0))
        + STRENGTH * rows / (STRENGTH + rows) * mean_K.square()
    )
    precision_K = _gammas(stream, rows, squares_K, STRENGTH)
    deviation_K = ((rows + STRENGTH) * precision_K).rsqrt()
    return (rows * mean_K / (rows + STRENGTH) + stream.normal(width) * deviation_K).float(), precision_K


def _gammas(stream: RandomStream, rows: int, squares_K: Tensor, rate: float) -> Tensor:
    shape_K = torch.full_like(squares_K, 1 + rows / 2, dtype=torch.float64)
    return (stream.gamma(shape_K) / (rate + squares_K / 2)).float()


def _coefficients(side: Side, target_RK: Tensor, precision_K: Tensor, stream: RandomStream) -> Tensor:
    """Draw B given rows ~ N(Bᵀx, Λ⁻¹): a ridge regression for each column, whose ridge is drawn as well."""
    attributes_RA, attributes = side.attributes_RA.double(), side.attributes_RA.shape[1]
    ridge_K = _gammas(stream, attributes, side.coefficients_AK.double().square().sum(0), EFFECT_RATE).double()
    precision_KAA = precision_K.double()[:, None, None] * (attributes_RA.T @ attributes_RA) + torch.diag_embed(
        ridge_K[:, None].expand(-1, attributes)
    )
    side_KA = precision_K.double()[:, None] * (target_RK.double().T @ attributes_RA)
    lower_KAA = torch.linalg.cholesky_ex(precision_KAA).L
    half_KA1 = torch.linalg.solve_triangular(lower_KAA, side_KA[..., None], upper=False)
    noise_KA1 = stream.normal(len(precision_K), attributes)[..., None]
    drawn_KA1: Tensor = torch.linalg.solve_triangular(lower_KAA.mT, half_KA1 + noise_KA1, upper=True)
    return drawn_KA1[..., 0].T.float().contiguous()
