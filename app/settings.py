"""Every setting of the service, read once from RATECAST_… variables. Only the wiring imports this module."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.effective import Effective
from app.options import OPTIONS
from models.checkpoint.manifest import VERSION_NAME
from models.errors import CheckpointCorruptError
from models.ids import MAX_LENGTH
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.remote import RemoteRegistry
from models.registry.split import Split
from models.registry.split import parse as parse_split
from models.urls import is_url, without_secrets

PREFIX = "RATECAST_"
MIN_KEY_LENGTH = 16
NO_STORE, DEFAULT_STORE = "none", "ratings.sqlite"

Device = Annotated[str, Field(pattern=r"^(auto|cpu(,cpu)*|cuda(:[0-9]+)?(,cuda(:[0-9]+)?)*)$")]
LogLevel = Literal["critical", "error", "warning", "info", "debug"]


class ConfigurationError(ValueError):
    """A setting that cannot be used."""


def _checked_split(text: str) -> str:
    try:
        parse_split(text, "it")
    except CheckpointCorruptError:
        raise ValueError("give a version, a blank and a share above 0 and below 1, such as VERSION 0.1") from None
    return text


class Settings(BaseSettings):
    """The service's settings; a field `name` is the variable `RATECAST_NAME`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    checkpoints: Annotated[str, BeforeValidator(str)] = Field("checkpoints", description=OPTIONS["checkpoints"])
    checkpoint_cache: Path | None = Field(
        None,
        description="Local copy of the versions behind a URL. Unset: below `RATECAST_CACHE`, or below the "
        "system's directory of temporary files.",
    )
    pinned_version: str | None = Field(
        None, pattern=f"^{VERSION_NAME.pattern}$", description="Version to serve, regardless of `CURRENT`."
    )
    split: Annotated[str, AfterValidator(_checked_split)] | None = Field(
        None,
        description="Version that answers some users beside the current one, and their share, as `VERSION 0.1`, "
        "regardless of `SPLIT`.",
    )
    device: Device = Field("auto", description=OPTIONS["device"])
    host: str = Field("127.0.0.1", min_length=1, description=OPTIONS["host"])
    port: int = Field(8000, ge=0, le=65535, description=OPTIONS["port"])
    workers: int = Field(1, ge=1, le=256, description=OPTIONS["workers"])
    threads: int | None = Field(None, ge=1, le=1024, description=OPTIONS["threads"])
    max_body_bytes: int = Field(16 << 20, ge=1, description="Maximum size of a request body, in bytes.")
    max_pairs: int = Field(100_000, ge=1, description="Maximum number of (user, item) pairs in one request.")
    max_list: int = Field(1_000, ge=1, description="Maximum number of items in one list.")
    max_offset: int = Field(10_000, ge=0, description="Maximum number of a list's best items that a page leaves out.")
    max_inline_ratings: int = Field(10_000, ge=1, description="Maximum number of ratings in a request without a user.")
    max_id_length: int = Field(MAX_LENGTH, ge=1, description="Maximum length of a user or item id, in characters.")
    max_seconds: float = Field(10.0, gt=0, allow_inf_nan=False, description="Time limit of a request, in seconds.")
    max_connections: int = Field(16_384, ge=1, description="Maximum number of open connections, in each worker.")
    idle_seconds: int = Field(75, ge=1, description="Seconds after which an idle connection is closed.")
    max_queued_pairs: int = Field(
        1_000_000, ge=1, description="Maximum number of predictions in the queue for the device."
    )
    max_queued_lists: int = Field(1_024, ge=1, description="Maximum number of lists in the queue for the device.")
    recent_lists: int = Field(
        4_096, ge=0, description="Number of lists that each worker keeps in memory; 0 keeps none."
    )
    recent_users: int = Field(16_384, ge=0, description="Number of folded-in users that each worker keeps in memory.")
    new_items: int = Field(
        10_000,
        ge=0,
        description="Number of stored items that the model was not fitted to and that each worker answers for, the "
        "most rated first; 0 answers for none.",
    )
    store: SecretStr | None = Field(
        None,
        description="URL of the ratings store: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`, with `@ : /`"
        " in a password as `%40 %3A %2F`; `none` stores no ratings. Unset: `ratings.sqlite` in the checkpoint "
        "directory, if that is a local directory and writable.",
    )
    api_keys_may_rate: bool = Field(
        False, description="Whether an API key is enough to store and delete ratings; otherwise an admin key is needed."
    )
    api_keys: SecretStr = Field(
        SecretStr(""), description="API keys that are accepted, separated by commas. Empty: no key is needed."
    )
    api_keys_file: Path | None = Field(None, description="File with more API keys, one per line.")
    shutdown_pause: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="Seconds between SIGTERM, when `/health/ready` turns 503, and the moment when the port is closed.",
    )
    admin_keys: SecretStr = Field(
        SecretStr(""), description="Admin keys, which may also change state, separated by commas."
    )
    admin_keys_file: Path | None = Field(None, description="File with more admin keys, one per line.")
    allow_anonymous: bool = Field(
        False, description="Whether to listen on an address that other machines reach although no API key is set."
    )
    rate_limit: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Maximum number of requests per second with one API key. Unset: no limit.",
    )
    max_concurrent: int = Field(1_024, ge=1, description="Maximum number of requests in progress, in each worker.")
    cors_origins: str = Field(
        "", description="Origins, separated by commas, whose pages may send requests from a browser. Empty: none."
    )
    opentelemetry: bool = Field(
        False, description="Whether FastAPI reports to OpenTelemetry, as the `OTEL_…` variables configure."
    )
    log_level: LogLevel = Field("info", description="Lowest level that is logged.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json`: one JSON object per line; `text`; `auto`: text if stderr is a terminal, else JSON."
    )
    log_sample: float = Field(0.01, ge=0, le=1, description="Share of the requests that are logged.")

    def effective(self) -> list[Effective]:
        """Every setting with the value that the service uses. No key, password or token is in it."""
        url = self.store_url()
        used: dict[str, object] = {name: getattr(self, name) for name in type(self).model_fields} | {
            "checkpoints": without_secrets(self.checkpoints),
            "checkpoint_cache": self.directory() if is_url(self.checkpoints) else None,
            "threads": self.threads_per_worker(),
            "store": NO_STORE if url is None else without_secrets(url),
            "api_keys": _counted(_read_keys("API_KEYS", self.api_keys, None)),
            "admin_keys": _counted(_read_keys("ADMIN_KEYS", self.admin_keys, None)),
        }
        return [
            Effective(PREFIX + name.upper(), _shown(used[name]), name in self.model_fields_set, field.description or "")
            for name, field in type(self).model_fields.items()
        ]

    def accepted_keys(self) -> list[str]:
        """The API keys of both settings. Raises ConfigurationError or OSError; no message repeats a key."""
        return _read_keys("API_KEYS", self.api_keys, self.api_keys_file)

    def accepted_admin_keys(self) -> list[str]:
        """The admin keys of both settings. Raises ConfigurationError or OSError; no message repeats a key."""
        return _read_keys("ADMIN_KEYS", self.admin_keys, self.admin_keys_file)

    def check_exposure(self) -> None:
        """Raise ConfigurationError for bad keys, and for an address that others reach if no key is set."""
        if self.accepted_keys() or self.allow_anonymous or is_loopback(self.host):
            return
        raise ConfigurationError(
            f"others can reach {self.host}: set {PREFIX}API_KEYS, or {PREFIX}ALLOW_ANONYMOUS=true to answer everybody"
        )

    def store_url(self) -> str | None:
        """The URL of the ratings store; None if the settings name none."""
        if self.store is not None:
            url = self.store.get_secret_value()
            return None if url == NO_STORE else url
        if is_url(self.checkpoints) or not os.access(self.checkpoints, os.W_OK):
            return None
        return f"sqlite:///{quote(str(self.directory() / DEFAULT_STORE))}"

    def directory(self) -> Path:
        """The directory that checkpoints are read from: the one that was set, or the local copy of a URL."""
        if not is_url(self.checkpoints):
            return Path(self.checkpoints)
        if self.checkpoint_cache is not None:
            return self.checkpoint_cache
        name = sha256(self.checkpoints.encode()).hexdigest()[:16]
        if cache := os.environ.get(f"{PREFIX}CACHE"):
            return Path(cache, "checkpoints", name)
        return Path(gettempdir(), f"ratecast-{os.getuid()}-{name}")  # no other user can rename it there

    def fixed_split(self) -> Split | None:
        """The split that the settings name. Raises ConfigurationError for one of the pinned version."""
        found = None if self.split is None else parse_split(self.split, f"{PREFIX}SPLIT")
        if found is not None and found.version == self.pinned_version:
            raise ConfigurationError(f"{PREFIX}SPLIT names the pinned version: a split needs another one beside it")
        return found

    def checkpoint_sync(self) -> CheckpointSync | None:
        """The object that updates the local copy; None for a directory."""
        if not is_url(self.checkpoints):
            return None
        return CheckpointSync(RemoteRegistry(self.checkpoints), self.directory(), self.pinned_version)

    def origins(self) -> list[str]:
        """Origins whose pages may send requests."""
        return [origin for origin in map(str.strip, self.cors_origins.split(",")) if origin]

    def threads_per_worker(self) -> int:
        """CPU threads of each worker's model."""
        return self.threads or max(1, available_cores() // self.workers)


def _counted(keys: list[str]) -> str | None:
    return f"{len(keys)} key{'s' * (len(keys) > 1)}" if keys else None


def _shown(value: object) -> str | None:
    """A value as its variable would have it; None for nothing."""
    return str(value).lower() if isinstance(value, bool) else None if value in (None, "") else str(value)


def _read_keys(name: str, given: SecretStr, file: Path | None) -> list[str]:
    """Refuse a setting that is present but has no key: it is a mistake, and would let everybody in."""
    text = given.get_secret_value()
    keys = _keys(text.split(","), PREFIX + name) if text else []
    if file:
        try:
            lines = file.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise ConfigurationError(f"{file} is not text in UTF-8") from None
        keys += _keys(lines, str(file))
    return keys


def _keys(parts: Iterable[str], source: str) -> list[str]:
    keys = [key for key in map(str.strip, parts) if key]
    if not keys:
        raise ConfigurationError(f"{source} has no key")
    if min(map(len, keys)) < MIN_KEY_LENGTH:
        raise ConfigurationError(f"a key of {source} has fewer than {MIN_KEY_LENGTH} characters")
    return keys


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or a name. So does a name that means nothing."""
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)
    return True


def available_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def explain(error: ValidationError) -> str:
    """One line that names each invalid setting."""
    return "; ".join(
        f"{PREFIX}{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )
