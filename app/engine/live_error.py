"""How good the served model is on the ratings that come in: each is compared with what was predicted before it.

A rating waits in the store until one of the workers compares it, a second later or, under load, more. What the user
had rated up to then is known there, so the prediction is the one that the service would have given just before.
Shapes: N items.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import NoReturn, TypeVar

import numpy as np

from app.engine.documents import LiveFigures, Quality
from app.engine.errors import DeadlineExceededError
from app.engine.events import Listener, LiveError
from app.engine.folding import fold
from app.engine.model_holder import ModelHolder
from app.engine.predictions import predict_folded, predict_rows
from app.engine.rating_history import RatingHistory
from app.engine.serving_model import ServingModel
from app.engine.threads import Worker
from app.engine.types import FOLDED, SOURCES, LiveSource, Predictions, Source
from app.ratings.errors import NoStoreError, StoreError
from app.ratings.live_error import HOUR, ErrorSums, Incoming, Judged, Replaced, Waiting, total
from app.ratings.records import UNKNOWN_TIME, Rating, StoredUser
from app.ratings.store import RatingsStore
from models.mf import CENTRAL_90

Of = TypeVar("Of", Incoming, Replaced)
LOOK_SECONDS = 1.0
REST = 9.0  # times as long as comparing took: under load it takes a tenth of the time, and what waits is compared later
TELL_SECONDS = 15.0  # between two looks at the sums, for metrics
TOLD_DAYS = 7
NOT_COUNTED = Judged("", "", None)
QUICK = 8  # ratings that are compared without another thread

logger = logging.getLogger(__name__)


class LiveErrors:
    """Compares new ratings with predictions, and tells of the errors."""

    def __init__(self, models: ModelHolder, history: RatingHistory, worker: Worker, tell: Listener) -> None:
        self._models, self._history, self._worker, self._tell = models, history, worker, tell
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._told_at = 0.0

    async def follow(self) -> NoReturn:
        """Compare what comes in, for ever. No failure ends it."""
        spent = 0.0
        while True:
            await asyncio.sleep(max(LOOK_SECONDS, REST * spent))
            began = time.monotonic()
            store = self._history.store
            if store is None or not store.available or self._models.model is None:
                continue
            try:
                await self._compare_some(store)
                if time.monotonic() - self._told_at > TELL_SECONDS:
                    await self._tell_of(store)
            except (StoreError, DeadlineExceededError) as error:  # other work may take all the time
                logger.debug("New ratings cannot be compared with predictions now: %s", error)
            except Exception:
                logger.exception("Comparing new ratings with predictions failed; retrying")
            spent = time.monotonic() - began

    async def quality(self, days: int) -> Quality:
        """The errors of the last days, by version and source. Raises NoStoreError or StoreUnavailableError."""
        store = self._history.store
        if store is None:
            raise NoStoreError("this service keeps no ratings, so there is no live error")
        waiting = await store.waiting()  # first: what does not wait then is in the sums
        sums = await store.error_sums(_since(days))
        figures = []
        for version in sorted({version for version, _ in sums}):
            of_version = {source: found for (name, source), found in sums.items() if name == version}
            of_version[LiveSource.ALL] = total(of_version.values())
            figures += [_figures(version, LiveSource(source), found) for source, found in of_version.items()]
        return Quality(days=days, waiting=waiting, figures=figures, model_version=self._models.current.version)

    async def _compare_some(self, store: RatingsStore) -> None:
        """Compare the ratings that have waited longest."""
        waiting = await store.incoming()
        if not waiting:
            await store.forget_changes()
            return
        if not await store.claim(self._name):
            return
        users = [*dict.fromkeys(rating.user for rating in waiting)]
        # The rows of new items follow from the very ratings that are compared here.
        models = {user: self._models.of_user(user).without_new_items for user in users}
        async for stored in self._history.parts(users):
            some = [rating for rating in waiting if rating.user in stored]
            if not all(user.complete for user in stored.values()):  # what was known before is too much to be read
                await store.settle([(rating, NOT_COUNTED) for rating in some])
                continue
            of_users = await store.waiting_of(list(stored))  # after `stored`: no later change is missed
            judged = await self._worker.run(
                partial(self._judge, models, some, stored, of_users), quick=len(waiting) <= QUICK
            )
            await store.settle(judged)

    def _judge(
        self,
        models: Mapping[str, ServingModel],
        waiting: Sequence[Incoming],
        stored: Mapping[str, StoredUser],
        of_users: Waiting,
    ) -> list[tuple[Incoming, Judged]]:
        new, replaced = _by_user(of_users.ratings), _by_user(of_users.replaced)
        judged: list[tuple[Incoming, Judged]] = []
        for (user, revision), group in groupby(waiting, lambda rating: (rating.user, rating.revision)):
            ratings = [*group]
            unknown = {rating.item for rating in new[user] if rating.revision >= revision}
            changed = [change for change in replaced[user] if change.revision >= revision]
            before = _before(stored[user], ratings[0], unknown, changed)
            found = self._of_user(models[user], ratings, before)
            judged += zip(ratings, found, strict=True)
        return judged

    def _of_user(self, model: ServingModel, ratings: Sequence[Incoming], before: StoredUser) -> list[Judged]:
        """Ratings of one user that came at once, by what was known before them."""
        user, rows_N = ratings[0].user, model.items.rows([rating.item for rating in ratings])
        given_N = np.array([rating.rating for rating in ratings])
        rated = self._history.rated(model, user, before)
        row = model.users.row(user)
        if before.revision > (self._history.fitted_revision(model) or 0):
            found = predict_folded(model, fold(model, rated, lists=False), rows_N, intervals=True)
        else:
            found = predict_rows(model, np.full(len(rows_N), row), rows_N, intervals=True)
        of_biases_N = model.biases.predict(*rated, rows_N).clip(*model.scorer.scale)
        sums = _errors(found, of_biases_N, given_N, model.checkpoint.manifest.metrics.get("bias_rmse"))
        fitted_N = np.isin(rows_N, model.training_ratings(row)[0])
        sources = [live_source(SOURCES[source]) for source in found.sources_B.tolist()]
        return [
            Judged(model.version, source, None if fitted else one)
            for source, fitted, one in zip(sources, fitted_N.tolist(), sums, strict=True)
        ]

    async def _tell_of(self, store: RatingsStore) -> None:
        self._told_at = time.monotonic()
        versions = {model.version for model in self._models.loaded}
        for (version, source), sums in (await store.error_sums(_since(TOLD_DAYS))).items():
            if version in versions:
                self._tell(LiveError(_figures(version, LiveSource(source), sums)))


def live_source(source: Source) -> LiveSource:
    """What a prediction rests on, in the words of live errors."""
    known = {Source.MODEL: LiveSource.MODEL, SOURCES[FOLDED]: LiveSource.FOLD_IN}
    return known.get(source, LiveSource.UNKNOWN)


def _by_user(found: Iterable[Of]) -> Mapping[str, list[Of]]:
    of_user: dict[str, list[Of]] = defaultdict(list)
    for one in found:
        of_user[one.user].append(one)
    return of_user


def _before(stored: StoredUser, first: Incoming, unknown: set[str], changed: Sequence[Replaced]) -> StoredUser:
    """What was known of a user before some ratings: neither these nor later ones, and nothing that changed since.

    A deletion of the user in their transaction came before them.
    """
    ratings, deleted = {one.item: one for one in stored.ratings}, {*stored.deleted}
    for change in sorted(changed, key=lambda change: change.revision, reverse=True):
        ratings.pop(change.item, None)
        deleted.discard(change.item)
        if change.rating is not None:
            ratings[change.item] = Rating(change.item, change.rating, UNKNOWN_TIME)
        elif change.deleted:
            deleted.add(change.item)
    kept = tuple(one for item, one in sorted(ratings.items()) if item not in unknown)
    erased = stored.erased if stored.erased <= first.revision else 0
    return StoredUser(max(first.before, erased), erased, kept, frozenset(deleted))


def _errors(
    found: Predictions, of_biases_N: np.ndarray, given_N: np.ndarray, deviation: float | None
) -> list[ErrorSums]:
    """How far off each prediction was; `deviation` is that of the biases' errors, None where it was not measured."""
    errors_N, bias_errors_N = np.abs(found.ratings_B - given_N), np.abs(of_biases_N - given_N)
    low_N, high_N = np.full((2, len(given_N)), np.nan) if found.intervals_2B is None else found.intervals_2B
    known_N, within_N = ~np.isnan(low_N), (low_N <= given_N) & (given_N <= high_N)
    within_bias_N = bias_errors_N <= CENTRAL_90 * (deviation or 0.0)
    return [
        ErrorSums(
            ratings=1,
            squared=float(errors_N[at]) ** 2,
            absolute=float(errors_N[at]),
            intervals=int(known_N[at]),
            covered=int(within_N[at]),
            bias_squared=float(bias_errors_N[at]) ** 2,
            bias_absolute=float(bias_errors_N[at]),
            bias_intervals=int(deviation is not None),
            bias_covered=int(deviation is not None and within_bias_N[at]),
        )
        for at in range(len(given_N))
    ]


def _since(days: int) -> int:
    return int(time.time()) // HOUR - 24 * days


def _figures(version: str, source: LiveSource, sums: ErrorSums) -> LiveFigures:
    def share(part: float, whole: int) -> float | None:
        return part / whole if whole else None

    return LiveFigures(
        version=version,
        source=source,
        ratings=sums.ratings,
        rmse=(sums.squared / sums.ratings) ** 0.5,
        mae=sums.absolute / sums.ratings,
        coverage90=share(sums.covered, sums.intervals),
        bias_rmse=(sums.bias_squared / sums.ratings) ** 0.5,
        bias_mae=sums.bias_absolute / sums.ratings,
        bias_coverage90=share(sums.bias_covered, sums.bias_intervals),
    )
