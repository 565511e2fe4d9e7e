"""The ratings store, durable: SQLite or PostgreSQL through SQLAlchemy's asynchronous Core.

Changes that arrive during a transaction form the next transaction, so that many clients share one flush to
the disk. A change is acknowledged when it has been committed and marked for all workers (`app.ratings.revisions`).
While the database is unreachable, reads and changes fail at once; `follow` reconnects.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from sqlalchemy.engine import URL

from app.ratings import schema
from app.ratings.database import ANSWER_SECONDS, BULK_SECONDS, Database
from app.ratings.errors import StoreError, StoreUnavailableError
from app.ratings.items import ItemStore
from app.ratings.live_error import (
    ErrorSums,
    Incoming,
    Judged,
    claim,
    count_waiting,
    read_incoming,
    read_sums,
    read_waiting_of,
    settle,
)
from app.ratings.records import Change, Committed, Put, PutMany, StoredUser, storable
from app.ratings.revisions import Revisions
from app.ratings.statements import (
    JUMP,
    MAX_CHANGED,
    Written,
    outrun,
    put_by_one_statement,
    read_changed,
    read_id,
    read_revision,
    read_users,
    write,
)
from app.ratings.summary import Totals, read_totals

LOOK_SECONDS = 0.25  # how often changes by other workers are looked for
RETRY_SECONDS = 0.5  # how often an unreachable database is tried
MAX_TOGETHER = 512  # changes in one transaction; a hundred already make the flush to the disk cheap
MAX_WAITING = 8_192  # changes that may wait for one
USERS_AT_ONCE = 500

logger = logging.getLogger(__name__)


class RatingsStore:
    """The ratings store at a URL from `schema.address`. It marks changes, and calls `tell` with each transaction.

    Attributes:
        items: what is known of items.
        id: identifies the store in the manifests of models that are fitted on it; None until it is first reached.
    """

    def __init__(self, url: URL, revisions: Revisions, tell: Callable[[Committed], None] = lambda _: None) -> None:
        self.revisions = revisions
        self.id: str | None = None
        self._database = Database(url)
        self.items = ItemStore(self._database)
        self._one_statement = not schema.is_sqlite(url)
        self._tell = tell
        self._marked = 0, ""  # the revision and the id of the user who was read and marked last
        self._known = 0  # the highest revision that this process knows of
        self._fitted: dict[str, int] = {}  # by store, the highest revision that a model was fitted on
        self._waiting: deque[tuple[Change, asyncio.Future[int]]] = deque()
        self._committing: asyncio.Task[None] | None = None

    @property
    def available(self) -> bool:
        """Whether the database answered the last request."""
        return self._database.available

    async def start(self) -> None:
        """Create the tables and read which users have changed. If the database is unreachable, `follow` does so later.

        Raises StoreUnusableError if the database cannot be used at all.
        """
        try:
            await self._connect()
        except StoreUnavailableError as error:
            logger.warning("The ratings store is unreachable; retrying: %s", error)

    async def follow(self) -> NoReturn:
        """For ever: mark the changes of other workers, and reconnect to an unreachable database. No error ends this."""
        while True:
            await asyncio.sleep(LOOK_SECONDS if self.available else RETRY_SECONDS)
            try:
                if self.available:
                    await self._mark_changes()
                else:
                    await self._connect()
                    logger.info("Reconnected to the ratings store")
            except StoreError as error:
                logger.debug("The changes in the ratings store cannot be read; retrying: %s", error)
            except Exception:
                logger.exception("The changes in the ratings store cannot be read, because of a bug; retrying")

    async def of(self, ids: Sequence[str]) -> dict[str, StoredUser]:
        """The records of some users. Raises StoreUnavailableError."""
        found = dict.fromkeys(ids, StoredUser())
        for at in range(0, len(ids), USERS_AT_ONCE):
            part = [id_ for id_ in ids[at : at + USERS_AT_ONCE] if storable(id_)]
            if part:
                found |= await self._database.read(partial(read_users, ids=part))
        return found

    async def change(self, change: Change) -> int:
        """Make a change durable, and return its revision.

        Raises StoreUnavailableError, after which it may or may not have been made, and RequestKeyError.
        """
        if not self.available:
            raise StoreUnavailableError("the ratings store is unreachable")
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailableError(f"{MAX_WAITING} changes are already waiting to be stored")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting())
        return await asyncio.shield(done)

    async def incoming(self) -> list[Incoming]:
        """The oldest new ratings that wait to be compared with predictions. Raises StoreUnavailableError, as below."""
        return await self._database.read(read_incoming)

    async def waiting_of(self, users: Sequence[str]) -> list[Incoming]:
        """All new ratings of some users that wait."""
        found: list[Incoming] = []
        for at in range(0, len(users), USERS_AT_ONCE):
            found += await self._database.read(partial(read_waiting_of, ids=users[at : at + USERS_AT_ONCE]))
        return found

    async def waiting(self) -> int:
        """How many new ratings wait."""
        return await self._database.read(count_waiting)

    async def claim(self, holder: str) -> bool:
        """Become the one who compares, unless somebody else is."""
        return await self._database.transact(partial(claim, holder=holder), ANSWER_SECONDS)

    async def settle(self, judged: Sequence[tuple[Incoming, Judged]]) -> None:
        """Count what was compared, each rating once."""
        await self._database.transact(partial(settle, judged=judged), BULK_SECONDS)

    async def error_sums(self, since: int) -> dict[tuple[str, str], ErrorSums]:
        """The errors from an hour on, by version and source."""
        return await self._database.read(partial(read_sums, since=since))

    async def totals(self, revision: int, later: int, since_day: int) -> Totals:
        """Counts of the whole store, as `read_totals` describes them. It reads all ratings, which takes a while."""
        work = partial(read_totals, revision=revision, later=later, since_day=since_day)
        return await self._database.read(work, BULK_SECONDS)

    def note_fit(self, store: str, revision: int) -> None:
        """Note that a model was fitted on a store as it was at a revision: it may have been restored since."""
        self._fitted[store] = max(self._fitted.get(store, 0), revision)

    async def close(self) -> None:
        """Finish the changes in progress, and close the connections."""
        if self._committing is not None:
            await self._committing
        await self._database.close()

    async def _connect(self) -> None:
        await self._database.prepare()
        id_ = await self._database.read(read_id)
        self._database.available = True
        if self._known:  # what happened meanwhile nobody has seen: a database may have been put in place of another
            await self._begin_anew(another=id_ != self.id)
        self.id = id_
        await self._mark_changes()

    async def _mark_changes(self) -> None:
        """Mark the changes of all workers since the last time."""
        revision = await self._database.read(read_revision)
        if revision < max(self._known, self._fitted.get(self.id or "", 0)):
            logger.warning("The ratings store is at an earlier state: it was restored from a copy")
            revision = await self._begin_anew(another=True)
        while True:
            changed = await self._database.read(partial(read_changed, after=self._marked))
            self.revisions.mark(changed)
            if changed:
                user, last = changed[-1]
                self._marked = last, user
            if len(changed) < MAX_CHANGED:
                break
        if revision - self._marked[0] >= JUMP:  # somebody saw that the database is at an earlier state
            self.revisions.touch(revision)
            self._marked = revision, ""
        self._known = max(self._known, revision, self._marked[0])

    async def _begin_anew(self, *, another: bool) -> int:
        """Read everybody's changes anew, and of `another` database let no revision come again. Gives its revision."""
        if another:
            known = max(self._known, await self._database.read(read_revision), self._fitted.get(self.id or "", 0))
            await self._database.transact(partial(outrun, revision=known), ANSWER_SECONDS)
        revision = await self._database.read(read_revision)
        self.revisions.touch(revision)
        self._marked = 0, ""
        return revision

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            while self._waiting and len(batch) < MAX_TOGETHER and _may_share(batch[-1][0], self._waiting[0][0]):
                batch.append(self._waiting.popleft())
            await self._commit([(change, done) for change, done in batch if not done.done()])
        self._committing = None

    async def _commit(self, batch: list[tuple[Change, asyncio.Future[int]]]) -> None:
        began = time.perf_counter()
        try:
            written = await self._write([change for change, _ in batch])
        except Exception as error:
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        self.revisions.mark((user, written.revision) for user in written.users)
        for (_, done), outcome in zip(batch, written.outcomes, strict=True):
            if done.done():
                continue
            if isinstance(outcome, StoreError):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)
        self._tell(Committed(len(batch), time.perf_counter() - began))

    async def _write(self, changes: Sequence[Change]) -> Written:
        puts = [change for change in changes if isinstance(change, Put)]
        if self._one_statement and len(puts) == len(changes):
            return await self._database.execute(partial(put_by_one_statement, puts=puts), ANSWER_SECONDS)
        large = any(isinstance(change, PutMany) for change in changes)
        return await self._database.transact(partial(write, changes=changes), BULK_SECONDS if large else ANSWER_SECONDS)


def _may_share(last: Change, following: Change) -> bool:
    """Whether two changes may share a transaction; a large one has its own."""
    return not isinstance(last, PutMany) and not isinstance(following, PutMany)
