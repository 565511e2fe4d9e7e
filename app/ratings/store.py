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
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import NoReturn

from sqlalchemy.engine import URL

from app.ratings import schema
from app.ratings.database import ANSWER_SECONDS, BULK_SECONDS, Database
from app.ratings.deleted_users import DeletedUsers
from app.ratings.errors import StoreError, StoreUnavailableError
from app.ratings.items import ItemStore
from app.ratings.live_error import (
    ErrorSums,
    Incoming,
    Judged,
    Waiting,
    claim,
    count_waiting,
    forget_changes,
    has_changes,
    read_incoming,
    read_sums,
    read_waiting_of,
    settle,
)
from app.ratings.records import Change, Committed, Erase, Put, PutMany, StoredUser, storable
from app.ratings.revisions import Revisions
from app.ratings.statements import (
    MAX_CHANGED,
    ChangedUser,
    Written,
    jumped,
    outrun,
    put_by_one_statement,
    read_changed,
    read_id,
    read_newest,
    read_revision,
    write,
)
from app.ratings.summary import StoredRatingsOfItem, Totals, read_item, read_totals
from app.ratings.user_records import read_erased, read_users

LOOK_SECONDS = 0.25  # how often changes by other workers are looked for
RETRY_SECONDS = 0.5  # how often an unreachable database is tried
MAX_TOGETHER = 512  # changes in one transaction; a hundred already make the flush to the disk cheap
MAX_WAITING = 8_192  # changes that may wait for one
USERS_AT_ONCE = 500
FEWER = 2  # times fewer users are read together where their ratings are too many
QUICK_ROWS = 1_000  # more are made into records on another thread

logger = logging.getLogger(__name__)


class RatingsStore:
    """The ratings store at a URL from `schema.address`. It marks changes, and calls `tell` with each transaction.

    Attributes:
        deleted: the users who were deleted, for the time in which the store cannot be asked.
        items: what is known of items.
        reading: a number that changes when what was read may be of another state, so that all must be read anew.
        id: identifies the store in the manifests of models that are fitted on it; None until it is first reached.
    """

    def __init__(
        self,
        url: URL,
        revisions: Revisions,
        tell: Callable[[Committed], None] = lambda _: None,
        deleted: DeletedUsers | None = None,
    ) -> None:
        self.revisions = revisions
        self.deleted = deleted or DeletedUsers()
        self.id: str | None = None
        self.reading = 0
        self.database = Database(url)
        self.items = ItemStore(self.database)
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
        return self.database.available

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
        found: dict[str, StoredUser] = {}
        async for part in self.parts(ids):
            found |= part
        return found

    async def parts(self, ids: Sequence[str]) -> AsyncIterator[dict[str, StoredUser]]:
        """The same in parts of at most `USERS_AT_ONCE` users and `MOST_RATINGS` ratings."""
        at, most = 0, USERS_AT_ONCE
        while at < len(ids):
            part = ids[at : at + most]
            rows = await self.database.read(partial(read_users, ids=[id_ for id_ in part if storable(id_)]))
            if not rows.complete and len(part) > 1:
                most = len(part) // FEWER
                continue
            quick = len(rows.ratings) + len(rows.deletions) <= QUICK_ROWS
            found = rows.records() if quick else await asyncio.to_thread(rows.records)
            yield dict.fromkeys(part, StoredUser()) | found
            at, most = at + len(part), min(FEWER * most, USERS_AT_ONCE)

    async def erased(self, ids: Sequence[str]) -> dict[str, int]:
        """The revision of the last deletion of those of some users who were ever deleted."""
        found: dict[str, int] = {}
        for at in range(0, len(ids), USERS_AT_ONCE):
            part = [id_ for id_ in ids[at : at + USERS_AT_ONCE] if storable(id_)]
            found |= await self.database.read(partial(read_erased, ids=part))
        return found

    async def newest(self, after: int, prefix: str, most: int) -> list[str]:
        """Users who were changed after a revision, of ids with a prefix, the newest first. Raises as `of` does."""
        if not storable(prefix):
            return []
        return await self.database.read(partial(read_newest, after=after, prefix=prefix, most=most))

    async def changed_after(self, read_to: tuple[int, str]) -> list[ChangedUser]:
        """The next users who were changed, as `read_changed` gives them. Raises as `of` does."""
        return await self.database.read(partial(read_changed, after=read_to))

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
        return await self.database.read(read_incoming)

    async def waiting_of(self, users: Sequence[str]) -> Waiting:
        """All new ratings of some users that wait, and what was changed of these users meanwhile."""
        found = Waiting([], [])
        for at in range(0, len(users), USERS_AT_ONCE):
            part = await self.database.read(partial(read_waiting_of, ids=users[at : at + USERS_AT_ONCE]))
            found = Waiting([*found.ratings, *part.ratings], [*found.replaced, *part.replaced])
        return found

    async def forget_changes(self) -> None:
        """Delete what is known of changes before all new ratings that wait."""
        if await self.database.read(has_changes):
            await self.database.transact(forget_changes, BULK_SECONDS)

    async def waiting(self) -> int:
        """How many new ratings wait."""
        return await self.database.read(count_waiting)

    async def claim(self, holder: str) -> bool:
        """Become the one who compares, unless somebody else is."""
        return await self.database.transact(partial(claim, holder=holder), ANSWER_SECONDS)

    async def settle(self, judged: Sequence[tuple[Incoming, Judged]]) -> None:
        """Count what was compared, each rating once."""
        await self.database.transact(partial(settle, judged=judged), BULK_SECONDS)

    async def error_sums(self, since: int) -> dict[tuple[str, str], ErrorSums]:
        """The errors from an hour on, by version and source."""
        return await self.database.read(partial(read_sums, since=since))

    async def totals(self, revision: int, later: int, days: range) -> Totals:
        """Counts of the whole store, as `read_totals` describes them. It reads all ratings, which takes a while."""
        work = partial(read_totals, revision=revision, later=later, days=days)
        return await self.database.read(work, BULK_SECONDS)

    async def of_item(self, item: str) -> StoredRatingsOfItem:
        """What is stored of the ratings of an item. It reads all ratings, which takes a while."""
        if not storable(item):
            return StoredRatingsOfItem([], frozenset())
        return await self.database.read(partial(read_item, item=item), BULK_SECONDS)

    def note_fit(self, store: str, revision: int) -> None:
        """Note that a model was fitted on a store as it was at a revision: it may have been restored since."""
        self._fitted[store] = max(self._fitted.get(store, 0), revision)

    async def close(self) -> None:
        """Finish the changes in progress, and close the connections."""
        if self._committing is not None:
            await self._committing
        await self.database.close()

    async def _connect(self) -> None:
        await self.database.prepare()
        id_ = await self.database.read(read_id)
        self.database.available = True
        self.items.begin_anew()
        if self._known:  # what happened meanwhile nobody has seen: a database may have been put in place of another
            await self._begin_anew(another=id_ != self.id)
        self.id = id_
        await self._mark_changes()

    async def _mark_changes(self) -> None:
        """Mark the changes of all workers since the last time."""
        revision = await self.database.read(read_revision)
        if revision < max(self._known, self._fitted.get(self.id or "", 0)):
            logger.warning("The ratings store is at an earlier state: it was restored from a copy")
            revision = await self._begin_anew(another=True)
        while True:
            changed = await self.database.read(partial(read_changed, after=self._marked))
            self.revisions.mark([(one.user, one.revision) for one in changed])
            await self._note_deleted([(one.user, one.erased) for one in changed if one.erased is not None])
            if changed:
                self._marked = changed[-1].revision, changed[-1].user
            if len(changed) < MAX_CHANGED:
                break
        if jumped(revision, self._marked[0]):  # somebody saw that the database is at an earlier state
            self.revisions.touch(revision)
            self._marked = revision, ""
        self._known = max(self._known, revision, self._marked[0])

    async def _note_deleted(self, deleted: Sequence[tuple[str, int]]) -> None:
        if deleted and self.id is not None:
            await asyncio.to_thread(self.deleted.add, self.id, deleted)

    async def _begin_anew(self, *, another: bool) -> int:
        """Read everybody's changes anew, and of `another` database let no revision come again. Gives its revision."""
        self.items.begin_anew()
        self.reading += 1
        if another:
            known = max(self._known, await self.database.read(read_revision), self._fitted.get(self.id or "", 0))
            await self.database.transact(partial(outrun, revision=known), ANSWER_SECONDS)
        revision = await self.database.read(read_revision)
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
        self.revisions.mark([(user, written.revision) for user in written.users])
        await self._note_deleted([(change.user, written.revision) for change, _ in batch if isinstance(change, Erase)])
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
            return await self.database.execute(partial(put_by_one_statement, puts=puts), ANSWER_SECONDS)
        large = any(isinstance(change, PutMany) for change in changes)
        return await self.database.transact(partial(write, changes=changes), BULK_SECONDS if large else ANSWER_SECONDS)


def _may_share(last: Change, following: Change) -> bool:
    """Whether two changes may share a transaction; a large one has its own."""
    return not isinstance(last, PutMany) and not isinstance(following, PutMany)
