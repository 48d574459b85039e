"""Which store on a Redis server this machine has worked with: a server that came back empty has another."""

import json
import os
from pathlib import Path

import structlog

from adapters.store.database_file import put_in_place
from scheduler.core.errors import StoreError


class KnownStores:
    """Names of stores by address, in a small file beside what else the service keeps on its machine.

    Args:
        path: of the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, address: str) -> str | None:
        """The name of the store that was at that address; None where none is known.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._read().get(address)

    def keep(self, address: str, name: str) -> None:
        """Keeps the name; where the file cannot be written, the log says so and nothing is kept."""
        known = self._read()
        if known.get(address) == name:
            return
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(known | {address: name}, indent=2), encoding="utf-8")
            put_in_place(fresh, self._path)
        except OSError as error:
            structlog.get_logger(__name__).warning(
                "store_name_not_kept", path=str(self._path), error=str(error)
            )

    def emptied(self, address: str) -> StoreError:
        """What to say where that store is not there any more."""
        return StoreError(
            f"{address} does not hold the store that this machine has worked with: it was emptied, started without its "
            f"data, or moved; nothing was written: restore a backup, or remove its line from {self._path} to go on with "
            "what is there",
            server=address,
        )

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(address): str(name) for address, name in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise StoreError(
                f"{self._path} cannot be read ({error}); it holds the names of stores: mend it, or remove it",
                path=str(self._path),
            ) from error
