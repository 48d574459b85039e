"""What `gridtide doctor` says about a Slurm cluster."""

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from adapters.cluster.slurm_access import Line, SlurmAccess
from adapters.cluster.slurm_capacity import SlurmCapacity
from adapters.cluster.slurm_folder import require_writable
from adapters.cluster.slurm_request import SlurmDevice
from scheduler.core.errors import ClusterUnavailableError
from scheduler.ports import Check

MAX_NAMED: Final = 10
MAX_SKEW_S: Final = 30.0


def build_checks(  # noqa: PLR0913 - what there is to check
    cluster_id: str,
    access: SlurmAccess,
    *,
    partitions: Iterable[str | None],
    folders: Iterable[Path],
    devices: Mapping[str, SlurmDevice],
    capacity: SlurmCapacity,
    other_route: tuple[str, SlurmAccess] | None = None,
) -> list[Check]:
    """One line each for the controller, its clock, the partitions, the accounts, the disk and the devices.

    And one for the route that is not used, well in any case.
    """
    subject = f"cluster {cluster_id}"

    def line(is_ok: bool, detail: str) -> Check:
        return Check(subject=subject, is_ok=is_ok, detail=detail)

    others = [] if other_route is None else [line(True, _other(*other_route))]
    try:
        is_up, word = access.controller_check()
        if not is_up:
            return [line(False, word), *others]
        return [
            line(True, word),
            line(*_clock(access)),
            line(*_partitions(access, partitions)),
            line(*access.accounts_check()),
            *(line(*_disk(folder)) for folder in folders),
            line(*_devices(devices, capacity)),
            *others,
        ]
    except ClusterUnavailableError as error:
        return [line(False, error.message), *others]


def _other(route: str, access: SlurmAccess) -> str:
    try:
        works, word = access.controller_check()
    except ClusterUnavailableError as error:
        works, word = False, error.message
    verb = "would work too" if works else "would not work from here"
    return f"route {route}, which is not used, {verb}: {word}"


def _clock(access: SlurmAccess) -> Line:
    """Compares the clocks by the word that the answer to one question carries."""
    before_s = time.time()  # noqa: TID251 - the machine's own clock is what is checked
    theirs_s = access.controller_time_s()
    after_s = time.time()  # noqa: TID251 - likewise
    if theirs_s is None:
        return True, "its clock is not known"
    ahead_s = max(theirs_s - after_s, 0.0) + min(theirs_s + 1 - before_s, 0.0)
    if abs(ahead_s) <= MAX_SKEW_S:
        return True, "its clock agrees with ours"
    side = "ahead of" if ahead_s > 0 else "behind"
    return False, (
        f"its clock is {abs(ahead_s):.0f} s {side} ours: times of runs are wrong by so much, and from "
        "5 minutes on munge refuses all that we ask; synchronise both"
    )


def _partitions(access: SlurmAccess, wanted: Iterable[str | None]) -> Line:
    words = access.partitions()
    known = [name.rstrip("*") for name in words]
    missing = sorted({name for name in wanted if name is not None} - set(known))
    if missing:
        return False, f"no partition {', '.join(missing)}; there are: {', '.join(known)}"
    if None in set(wanted) and not access.default_partition():
        return False, f"there is no default partition; name one of: {', '.join(known)}"
    return True, f"partitions: {', '.join(words)}"


def _disk(folder: Path) -> Line:
    try:
        free_mib = shutil.disk_usage(folder).free // 2**20
        require_writable(folder)
    except OSError as error:
        return (
            False,
            f"{folder} cannot be written to: {error.strerror}; no job can start until it can",
        )
    return True, f"{free_mib} MiB free in {folder}, which must be the same folder on every node"


def _devices(wanted: Mapping[str, SlurmDevice], capacity: SlurmCapacity) -> Line:
    free, out = capacity.free_devices(), capacity.out_of_service()
    missing = [
        f"{name} as {device.gres or 'CPUs'}"
        + (f" in {device.partition}" if device.partition else "")
        for name, device in wanted.items()
        if name not in free
    ]
    counted = "free devices: " + (", ".join(f"{name} {n}" for name, n in free.items()) or "none")
    if out:
        counted += f"; out of service: {', '.join(out[:MAX_NAMED])}"
        counted += f" and {len(out) - MAX_NAMED} more" if len(out) > MAX_NAMED else ""
    if missing:
        return False, f"no node has {', or '.join(missing)}; see slurm.devices; {counted}"
    unserved = capacity.unserved()
    if unserved:
        return False, f"every node with {', '.join(unserved)} is out of service; {counted}"
    return True, counted
