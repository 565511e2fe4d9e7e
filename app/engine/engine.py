"""The facade of the engine: ids in, answers out. It knows neither HTTP nor settings.

Every question is one await. Work that takes less time than handing it to another thread is done at once, on the
caller's thread; all other work goes to a thread of its own, so the event loop stays free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from app.engine.events import Event, Listener
from app.engine.fresh_users import FreshUsers
from app.engine.model_watcher import ModelWatcher
from app.engine.predictor import Predictor
from app.engine.rating_history import RatingHistory
from app.engine.ratings_service import RatingsService
from app.engine.recommender import Recommender
from app.engine.search import CatalogueSearch
from app.engine.serving_model import ModelHolder
from app.engine.threads import Worker
from app.engine.versions import Versions
from app.ratings.store import RatingsStore
from models.registry.checkpoint_sync import CheckpointSync
from models.sharding import DevicePlacement


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much work may wait and for how long, and what is kept of it.

    Attributes:
        queued_pairs: predictions that may wait.
        queued_lists: lists that may wait.
        seconds: time of one request.
        recent_lists: how many lists are kept to be answered again.
        recent_users: how many users with fresh ratings are kept.
    """

    queued_pairs: int = 1_000_000
    queued_lists: int = 1_024
    seconds: float = 10.0
    recent_lists: int = 4_096
    recent_users: int = 16_384


class Engine:
    """Answers from the current checkpoint of a directory.

    Args:
        directory: of the published checkpoints.
        placement: the devices of the model.
        threads: CPU threads of the model's arithmetic.
        bounds: of what waits.
        listeners: told of each answer, each batch and each load.
        pinned: a version to serve whatever CURRENT names.
        remembered: a file in which workers keep which version they serve.
        ratings: the ratings store; None where the service keeps no ratings.
        sync: copies versions into the directory; None where they are published in the directory itself.

    Attributes:
        predictions: ratings of pairs.
        lists: lists of items.
        catalogue: what is known about items and users.
        ratings: what users have rated.
        versions: the published versions, and the current one.
    """

    def __init__(
        self,
        directory: Path,
        placement: DevicePlacement,
        threads: int,
        bounds: Bounds = Bounds(),
        listeners: Sequence[Listener] = (),
        pinned: str | None = None,
        remembered: Path | None = None,
        ratings: RatingsStore | None = None,
        sync: CheckpointSync | None = None,
    ) -> None:
        self._listeners = listeners
        models = ModelHolder(placement)
        revisions = None if ratings is None else ratings.revisions
        self._watcher = ModelWatcher(models, directory, pinned, remembered, self._tell, revisions, sync)
        self._worker = Worker("engine", bounds.seconds, threads)
        self._searcher = Worker("search", bounds.seconds)  # of its own: predictions do not wait for searches
        history = RatingHistory(ratings)
        fresh_users = FreshUsers(ratings, history, bounds.recent_users)
        self.predictions = Predictor(models, fresh_users, history, self._worker, bounds.queued_pairs, self._tell)
        self.lists = Recommender(
            models, fresh_users, self._worker, bounds.queued_lists, bounds.recent_lists, self._tell
        )
        self.catalogue = CatalogueSearch(models, history, self._searcher)
        self.ratings = RatingsService(models, history, ratings)
        self.versions = Versions(directory, sync, models, self._watcher)

    async def load(self) -> None:
        """Load the first model. Raises CheckpointError or OSError."""
        await self._watcher.start()

    async def follow(self) -> NoReturn:
        """Serve whatever becomes current, for ever; a version that cannot be model changes nothing."""
        await self._watcher.follow()

    def close(self) -> None:
        """Finish what is under way and end the threads."""
        self._watcher.close()
        self._worker.close()
        self._searcher.close()

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
