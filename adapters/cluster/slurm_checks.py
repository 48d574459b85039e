"""What `gridtide doctor` says about a Slurm cluster."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_parsers import parse_pairs
from adapters.cluster.slurm_refusals import is_without_accounting
from scheduler.core.errors import ClusterUnavailableError
from scheduler.ports import Check


def build_checks(
    cluster_id: str,
    client: SlurmClient,
    *,
    partitions: Iterable[str | None],
    root: Path,
    free_devices: Callable[[], Mapping[str, int]],
) -> list[Check]:
    """One line for the controller, the partitions, the accounts, the disk and the devices."""
    subject = f"cluster {cluster_id}"

    def line(is_ok: bool, detail: str) -> Check:
        return Check(subject=subject, is_ok=is_ok, detail=detail)

    try:
        ping = client.ask("scontrol", "ping")
        version = client.ask("sbatch", "--version").out.strip()
        if ping.code != 0:
            said = ping.out.strip() or ping.words
            return [line(False, f"{version}: the controller does not answer scontrol ping: {said}")]
        return [
            line(True, f"{version}, controller up"),
            line(*_partitions(client, partitions)),
            line(*_accounts(client)),
            line(*_disk(root)),
            line(*_devices(free_devices())),
        ]
    except ClusterUnavailableError as error:
        return [line(False, error.message)]


def _partitions(client: SlurmClient, wanted: Iterable[str | None]) -> tuple[bool, str]:
    words = client.partitions()
    known = [name.rstrip("*") for name in words]
    missing = sorted({name for name in wanted if name is not None} - set(known))
    if missing:
        return False, f"no partition {', '.join(missing)}; there are: {', '.join(known)}"
    if None in set(wanted) and not client.default_partition():
        return False, f"there is no default partition; name one of: {', '.join(known)}"
    return True, f"partitions: {', '.join(words)}"


def _accounts(client: SlurmClient) -> tuple[bool, str]:
    done = client.ask("sacct", "--noheader", "--allocations", "--starttime=now-1minute")
    if done.code == 0:
        return True, "accounts (sacct) answer"
    if is_without_accounting(done.err):
        return True, (
            f"no accounts are kept: an end is known for {_memory(client)} only; "
            "a run that ends while Gridtide is away for longer counts as lost"
        )
    return False, (
        f"accounts (sacct) do not answer: {done.words}; ends are known for {_memory(client)} only"
    )


def _memory(client: SlurmClient) -> str:
    """How long the controller remembers ended jobs."""
    config = dict(parse_pairs(client.ask("scontrol", "show", "config").out))
    match = re.match(r"\d+", config.get("MinJobAge", ""))
    return f"{match[0]} s" if match else "as long as the controller remembers"


def _disk(root: Path) -> tuple[bool, str]:
    try:
        free_mib = shutil.disk_usage(root).free // 2**20
    except OSError as error:
        return False, f"{root} cannot be used: {error.strerror}"
    if not os.access(root, os.W_OK):
        return False, f"{root} is not writable"
    return True, f"{free_mib} MiB free in {root}, which must be the same folder on every node"


def _devices(free: Mapping[str, int]) -> tuple[bool, str]:
    return True, "free devices: " + ", ".join(f"{name} {count}" for name, count in free.items())
