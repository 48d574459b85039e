"""Texts of Slurm 22.05.8 about what jobs hold and what is reserved, as they were seen."""

import pytest

from adapters.cluster.slurm_holdings import (
    HOLDING_FIELDS,
    parse_holding,
    parse_reservations,
    parse_tres,
)
from adapters.cluster.slurm_hostlist import expand_nodes
from adapters.cluster.slurm_native_lines import queue_format, split_queue

SEAL = "5ea1"
OF_MAINTENANCE = (
    "ReservationName=maint StartTime=2026-11-30T20:31:08 EndTime=2026-11-30T21:31:08 Duration=01:00:00 "
    "Nodes=east-c1,east-g1 NodeCnt=2 CoreCnt=16 Features=(null) PartitionName=(null) "
    "Flags=MAINT,IGNORE_JOBS,SPEC_NODES,ALL_NODES TRES=cpu=16 Users=root Groups=(null) Accounts=(null) Licenses=(null) "
    "State=INACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)"
)
OF_CORES = (
    "ReservationName=now1 StartTime=2026-11-30T18:28:41 EndTime=2026-11-30T19:28:41 Duration=01:00:00 Nodes=east-c1 "
    "NodeCnt=1 CoreCnt=2 Features=(null) PartitionName=cpu Flags=IGNORE_JOBS,SPEC_NODES   NodeName=east-c1 "
    "CoreIDs=0-1 TRES=cpu=2 Users=root Groups=(null) Accounts=(null) Licenses=(null) State=ACTIVE BurstBuffer=(null) "
    "Watts=n/a MaxStartDelay=(null)"
)
OF_LICENCES = OF_CORES.replace("Nodes=east-c1", "Nodes=(null)")
MAINT_S = 1796070668


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("east-g1", ["east-g1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-11,20],login", ["n08", "n09", "n10", "n11", "n20", "login"]),
        ("r[0-1]n[1-2]-ib", ["r0n1-ib", "r0n2-ib", "r1n1-ib", "r1n2-ib"]),
        ("a,b", ["a", "b"]),
        ("", []),
        ("(null)", []),
        ("None assigned", []),
    ],
)
def test_list_of_nodes_is_spelled_out(text: str, names: list[str]) -> None:
    assert list(expand_nodes(text)) == names


def test_reservation_of_whole_nodes() -> None:
    (kept,) = parse_reservations(OF_MAINTENANCE + "\n")
    assert (kept.name, kept.start_s, kept.end_s) == ("maint", MAINT_S, MAINT_S + 3600)
    assert (kept.nodes, kept.is_whole) == (("east-c1", "east-g1"), True)


def test_reservation_of_some_cores() -> None:
    (kept,) = parse_reservations(OF_CORES)
    assert (kept.nodes, kept.is_whole, kept.cpus) == (("east-c1",), False, 2)


@pytest.mark.parametrize("text", ["No reservations in the system\n", "", OF_LICENCES])
def test_reservation_without_nodes_keeps_none(text: str) -> None:
    assert parse_reservations(text) == []


def test_lines_of_reservations_are_told_apart() -> None:
    kept = parse_reservations(f"{OF_CORES}\n{OF_LICENCES}\n{OF_MAINTENANCE}\n")
    assert [one.name for one in kept] == ["now1", "maint"]


@pytest.mark.parametrize(
    ("text", "cpus", "gres"),
    [
        ("cpu=1,node=1,billing=1,gres/gpu=1", 1, (("gpu", 1),)),
        (
            "cpu=8,mem=64G,node=2,gres/gpu=4,gres/gpu:h100=4",
            8,
            (("gpu", 4), ("gpu:h100", 4)),
        ),
        ("N/A", 0, ()),
        ("", 0, ()),
    ],
)
def test_tres_are_counted(text: str, cpus: int, gres: tuple[tuple[str, int], ...]) -> None:
    assert parse_tres(text) == (cpus, gres)


def test_holding_is_read_whatever_its_user_calls_it() -> None:
    forged = "x|5ea\n9|root|RUNNING|"
    running = "1|nobody|RUNNING|2026-11-30T19:58:37|east-g[1-2]|1|(null)|cpu=1,node=1,billing=1,gres/gpu=1"
    suspended = "2|root|SUSPENDED|N/A|east-c1|3|mine|"
    text = f"{running}|we|ird {forged}|{SEAL}|(null)|{SEAL}\n{suspended}|gt-a|{SEAL}|a|b|{SEAL}\n"
    fields = list(split_queue(text, SEAL, HOLDING_FIELDS))
    first, second = (parse_holding(one, user="root") for one in fields)
    assert (first.name, first.is_mine, first.comment) == (f"we|ird {forged}", False, "")
    assert (first.end_s, first.nodes) == (MAINT_S - 1951, ("east-g1", "east-g2"))
    assert (first.cpus, first.gres, first.reservation) == (1, (("gpu", 1),), None)
    assert (second.is_mine, second.end_s, second.cpus) == (True, None, 3)
    assert (second.reservation, second.comment) == ("mine", "a|b")


def test_every_field_is_asked_in_full() -> None:
    asked = queue_format(SEAL, HOLDING_FIELDS).split(",")
    assert asked[: len(HOLDING_FIELDS)] == [f"{name}:0|" for name in HOLDING_FIELDS]
