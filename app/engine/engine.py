"""The parts of the engine, wired: ids in, answers out. It knows neither HTTP nor settings.

Every call is one await. Work that takes less time than handing it to another thread is done immediately, on the
caller's thread; all other work goes to a thread of its own, so the event loop stays free.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.engine.events import Listener
from app.engine.fresh_users import FreshUsers
from app.engine.item_users import ItemUsers
from app.engine.live_error import LiveErrors
from app.engine.model_holder import ModelHolder
from app.engine.model_watcher import ModelWatcher
from app.engine.new_items import NewItems
from app.engine.predictions import Predictor
from app.engine.rating_history import RatingHistory
from app.engine.recommender import Recommender
from app.engine.search import CatalogueSearch
from app.engine.split_watcher import SplitWatcher
from app.engine.stored_items import StoredItems
from app.engine.threads import Worker
from app.ratings.store import RatingsStore
from models.devices import DevicePlacement
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.split import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much work may wait, for how long, and how many results are kept."""

    queued_pairs: int = 1_000_000  # predictions that may wait
    queued_lists: int = 1_024  # lists that may wait
    seconds: float = 10.0  # time of one request
    recent_lists: int = 4_096  # lists that are kept to be answered again
    recent_users: int = 16_384  # users with fresh ratings who are kept
    new_items: int = 10_000  # items that were not fitted


class Engine:
    """Answers from the current checkpoint of a directory.

    Args:
        directory: of the published checkpoints.
        placement: the devices of the model.
        threads: CPU threads of the model's arithmetic.
        bounds: of what waits.
        tell: called with the event of each answer, each batch and each load.
        pinned: a version to serve, regardless of CURRENT.
        remembered: a file with the version that the workers serve.
        ratings: the ratings store; None where the service keeps no ratings.
        sync: copies versions into the directory; None if they are published in the directory itself.
        split: one to keep, regardless of SPLIT.

    Attributes:
        models: those that answer.
        predictions: ratings of pairs.
        lists: lists of items.
        catalogue: what is known about items and users.
        item_users: who has rated an item, and who would like it.
        new_items: those that were not fitted; `follow` answers for them.
        items: what the store says of items: `start` reads it, `follow` what is changed later.
        ratings: what users have rated.
        live_errors: how far off predictions are for the ratings that come in; `follow` compares them.
        split: the version that answers a share of the users: `start` loads it, `follow` those after it.
        versions: the published versions, and the current one: `start` loads the first, `follow` those after it.
    """

    def __init__(
        self,
        directory: Path,
        placement: DevicePlacement,
        threads: int,
        bounds: Bounds = Bounds(),
        tell: Listener = lambda _: None,
        pinned: str | None = None,
        remembered: Path | None = None,
        ratings: RatingsStore | None = None,
        sync: CheckpointSync | None = None,
        split: Split | None = None,
    ) -> None:
        self.models = models = ModelHolder(placement)
        self._worker = Worker("engine", bounds.seconds, threads)
        self._searcher = Worker("search", bounds.seconds)  # of its own: predictions do not wait for searches
        self.ratings = RatingHistory(models, ratings)
        fresh = FreshUsers(self.ratings, bounds.recent_users)
        self.predictions = Predictor(models, fresh, self.ratings, self._worker, bounds.queued_pairs, tell)
        self.lists = Recommender(models, fresh, self._worker, bounds.queued_lists, bounds.recent_lists, tell)
        self._judge = Worker("live-error", bounds.seconds)
        self.live_errors = LiveErrors(models, self.ratings, self._judge, tell)
        self.items = StoredItems(models, None if ratings is None else ratings.items, self._searcher)
        self._newcomers = Worker("new-items", bounds.seconds)
        self.new_items = NewItems(models, self.ratings, self._newcomers, bounds.new_items)
        self.catalogue = CatalogueSearch(models, self.ratings, self.items, self._searcher)
        self.item_users = ItemUsers(models, self.ratings, self.predictions, self._searcher)
        self.versions = ModelWatcher(models, directory, pinned, remembered, tell, ratings, sync)
        self.split = SplitWatcher(models, self.versions, directory, sync, tell, split)

    def close(self) -> None:
        """Finish the work in progress and end the threads."""
        self.versions.close()
        self._worker.close()
        self._searcher.close()
        self._judge.close()
        self._newcomers.close()
