"""Settings of the store. The password is named here, never written here."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from scheduler.core.errors import InvalidConfigError
from scheduler.server.fields import Strict, seconds_between


class WaitSettings(Strict):
    """What a write to Redis waits for before it is acknowledged, beyond the server's own answer.

    Args:
        replicas: so many replicas have it.
        aof: `local`: it is on the server's disk, and on that of so many replicas (from Redis 7.2 on).
        timeout: longest wait; a write that is not confirmed by then is reported as an error.
    """

    replicas: int = Field(default=0, ge=0, le=100)
    aof: Literal["local", "none"] = "none"
    timeout: Annotated[float, seconds_between(0.01, 60)] = Field(
        default=1.0, description="seconds, from 0.01 to 60"
    )


class SentinelSettings(Strict):
    """How sentinels want to be asked, where they have users of their own.

    Args:
        user: the name; None for the default one.
        password_env: variable that holds the password.
        password_file: file that holds it instead.
    """

    user: str | None = Field(default=None, min_length=1)
    password_env: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _has_one_password(self) -> Self:
        if (self.password_env is None) == (self.password_file is None):
            raise ValueError("password_env and password_file: give one of them")
        return self


class StoreSettings(Strict):
    """What remembers the jobs: an SQLite file, or a Redis server where there is a `url`.

    Args:
        path: the SQLite file; what else is kept on this machine is kept beside it, also with a `url`.
        password_env: variable that holds the password of the server.
        password_file: file that holds it instead.
        sentinel: user and password of the sentinels, with `redis+sentinel://`; else they are asked without.
        ca_file: certificates that the server's is checked against, with `rediss://`; else the system's.
        timeout: longest time to connect, and to wait for an answer.
        lease: so long a process that plans may be silent before another on the same server takes over.
    """

    path: Path = Path("gridtide-data/gridtide.db")
    url: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    sentinel: SentinelSettings | None = None
    ca_file: Path | None = None
    timeout: Annotated[float, seconds_between(0.1, 300)] = Field(
        default=5.0, description="seconds, from 0.1 to 300"
    )
    wait: WaitSettings = Field(default_factory=WaitSettings)
    lease: Annotated[float, seconds_between(1, 600)] = Field(
        default=15.0, description="seconds, from 1 s to 10 min"
    )

    @property
    def intensity_path(self) -> Path:
        """Where the archive of intensity is kept: beside the store."""
        return self.path.with_name("intensity.db")

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_url(cls, value: object) -> object:
        if isinstance(value, str) and _names_a_file(value):
            raise ValueError(_as_a_file(value))
        return {"url": value} if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        from adapters.store.redis_address import parse_address  # noqa: PLC0415 - only with a url

        if _names_a_file(url):
            raise ValueError(_as_a_file(url))
        try:
            address = parse_address(url)
        except InvalidConfigError as error:
            raise ValueError(error.message.removeprefix("store: ")) from None
        return f"{address.scheme}://{url.partition('://')[2]}"

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> Self:
        if self.password_env and self.password_file:
            raise ValueError("password_env and password_file: give one of them")
        given = self.model_fields_set & {
            "password_env",
            "password_file",
            "sentinel",
            "ca_file",
            "timeout",
            "wait",
            "lease",
        }
        if self.url is None and given:
            raise ValueError(
                f"{', '.join(sorted(given))}: only with a url; an SQLite file takes none"
            )
        if self.sentinel is not None and "+sentinel:" not in str(self.url):
            raise ValueError("sentinel: only with a url that begins with redis+sentinel")
        if self.ca_file is not None and not str(self.url).startswith("rediss"):
            raise ValueError("ca_file: only with a url that begins with rediss")
        return self

    def anchored(self, folder: Path) -> None:
        """Takes relative paths from that folder."""
        self.path = folder / self.path
        if self.password_file is not None:
            self.password_file = folder / self.password_file
        if self.sentinel is not None and self.sentinel.password_file is not None:
            self.sentinel.password_file = folder / self.sentinel.password_file
        if self.ca_file is not None:
            self.ca_file = folder / self.ca_file


def _names_a_file(text: str) -> bool:
    """Whether it is meant as the place of an SQLite file; what may hold a password is not."""
    return text.startswith("sqlite:") or not ("://" in text or "@" in text)


def _as_a_file(text: str) -> str:
    path = text.removeprefix("sqlite:")
    path = f"/{path.lstrip('/')}" if path.startswith("//") else path
    return (
        f"{text!r:.200} is no URL of a Redis server, such as redis://host:6379/0; an SQLite file is named by "
        f"store.path: `store: {{path: {path:.200}}}`"
    )
