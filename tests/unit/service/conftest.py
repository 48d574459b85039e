"""What the tests of the service share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.service.world import Make, World, make_world


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[World] = []

    def build(**kwargs: object) -> World:
        made.append(make_world(tmp_path, **kwargs))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for world in made:
        world.store.close()
