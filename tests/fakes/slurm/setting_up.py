"""Sets up a cluster for the fake commands."""

from pathlib import Path

PROGRAMS = Path(__file__).parent / "bin"


def set_up(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "slurm.conf"
