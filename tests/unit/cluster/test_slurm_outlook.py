"""What a cluster will have free, built from what Slurm says: all by hand, in hours from a look at it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.cluster.slurm_holdings import SlurmHolding, SlurmReservation
from adapters.cluster.slurm_outlook import (
    EVER_S,
    LEAVING_S,
    OUT_S,
    SOON_S,
    UNLIMITED_S,
    Place,
    SlurmLook,
    build_outlook,
)
from adapters.cluster.slurm_parsers import SlurmNode

NOW_S = 1_796_000_000.0
HOUR_S = 3600.0
OUT_H, SOON_H, LEAVING_H = OUT_S / HOUR_S, SOON_S / HOUR_S, LEAVING_S / HOUR_S
UNLIMITED_H, EVER_H = UNLIMITED_S / HOUR_S, EVER_S / HOUR_S
Taken = list[tuple[int, float, float]]


def node(name: str = "g1", **fields: Any) -> SlurmNode:
    known: dict[str, Any] = {
        "flags": frozenset({"MIXED"}),
        "partitions": frozenset({"gpu"}),
        "reservation": None,
        "cpus": 8,
        "cpus_taken": 0,
        "gres": (("gpu:h100", 4),),
        "gres_taken": (),
    }
    return SlurmNode(name=name, **(known | fields))


def used(count: int, name: str = "g1", **fields: Any) -> SlurmNode:
    return node(name, gres_taken=(("gpu:h100", count),), cpus_taken=count, **fields)


def job(gpus: int, end_h: float | None, *nodes: str, **fields: Any) -> SlurmHolding:
    known: dict[str, Any] = {
        "name": "theirs",
        "is_mine": False,
        "state": "RUNNING",
        "end_s": None if end_h is None else NOW_S + end_h * HOUR_S,
        "nodes": nodes or ("g1",),
        "cpus": gpus,
        "gres": (("gpu", gpus),),
    }
    return SlurmHolding(**(known | fields))


def kept(start_h: float, end_h: float, *nodes: str, **fields: Any) -> SlurmReservation:
    known: dict[str, Any] = {"name": "kept", "nodes": nodes or ("g1",)}
    times = {"start_s": NOW_S + start_h * HOUR_S, "end_s": NOW_S + end_h * HOUR_S}
    return SlurmReservation(**(known | times | fields))


def taken(
    nodes: Sequence[SlurmNode],
    *others: SlurmHolding,
    ours: Sequence[SlurmHolding] = (),
    reservations: Sequence[SlurmReservation] = (),
    gres: str | None = "gpu:h100",
    own: str | None = None,
) -> Taken:
    """Devices that are taken, from hour to hour."""
    look = SlurmLook(
        now_s=NOW_S, ours=ours, others=others, reservations=reservations, own_reservation=own
    )
    made = build_outlook(
        "hpc", look, {"X": Place(gres, nodes)}, at=lambda s: datetime.fromtimestamp(s, UTC)
    )
    assert made.totals == {"X": sum(one.total(gres) for one in nodes)}
    assert {(one.cluster_id, one.accelerator) for one in made.taken} <= {("hpc", "X")}
    return [
        (
            one.gpus,
            round((one.window.start_at.timestamp() - NOW_S) / HOUR_S, 6),
            round((one.window.end_at.timestamp() - NOW_S) / HOUR_S, 6),
        )
        for one in made.taken
    ]


def about(hours: float) -> float:
    return round(hours, 6)


# ------------------------------------------------------------------------------ jobs of others


def test_idle_cluster_has_nothing_taken() -> None:
    assert taken([node()]) == []


def test_jobs_hold_their_devices_until_their_time_is_up() -> None:
    assert taken([used(3)], job(1, 2), job(2, 5)) == [(3, 0, 2), (2, 2, 5)]


@pytest.mark.parametrize("end_h", [None, 365 * 24, 62 * 24])
def test_job_without_a_limit_is_taken_to_last_a_day_more(end_h: float | None) -> None:
    assert taken([used(1)], job(1, end_h)) == [(1, 0, UNLIMITED_H)]


def test_long_limit_is_believed() -> None:
    assert taken([used(1)], job(1, 30 * 24)) == [(1, 0, 30 * 24)]


def test_job_whose_time_is_up_has_still_to_leave() -> None:
    assert taken([used(1)], job(1, -1, state="COMPLETING")) == [(1, 0, about(LEAVING_H))]


def test_jobs_on_other_nodes_take_nothing() -> None:
    assert taken([node()], job(4, 2, "elsewhere")) == []


def test_job_on_several_nodes_takes_its_share_of_those_that_count() -> None:
    nodes = [used(2), used(1, "g2")]
    assert taken(nodes, job(4, 2, "g1", "g2", "g3")) == [(3, 0, 2)]


def test_devices_of_another_kind_are_not_taken() -> None:
    typed = job(2, 3, gres=(("gpu", 2), ("gpu:a100", 2)))
    mixed = node(gres=(("gpu:h100", 4), ("gpu:a100", 4)), gres_taken=(("gpu:a100", 2),))
    assert taken([mixed], typed) == []
    assert taken([mixed], typed, gres="gpu:a100") == [(2, 0, 3)]
    assert taken([mixed], typed, gres="gpu") == [(2, 0, 3)]


def test_untyped_devices_are_those_that_are_in_use() -> None:
    mixed = node(gres=(("gpu:h100", 4), ("gpu:a100", 4)), gres_taken=(("gpu:a100", 2),))
    assert taken([mixed], job(2, 3)) == []
    assert taken([mixed], job(2, 3), gres="gpu:a100") == [(2, 0, 3)]


def test_typed_devices_count_where_no_type_is_asked_for() -> None:
    plain = node(gres=(("gpu:h100", 4),), gres_taken=(("gpu:h100", 2),))
    assert taken([plain], job(2, 3, gres=(("gpu:h100", 2),)), gres="gpu") == [(2, 0, 3)]


def test_cpus_are_counted_where_there_is_no_gres() -> None:
    assert taken([used(3)], job(3, 2), gres=None) == [(3, 0, 2)]


def test_suspended_job_keeps_its_gres_and_leaves_its_cpus() -> None:
    nodes = [node(gres_taken=(("gpu:h100", 2),))]
    off = job(2, 1, state="SUSPENDED")
    assert taken(nodes, off) == [(2, 0, OUT_H)], "who suspends does not say for how long"
    assert taken(nodes, replace(off, end_s=NOW_S + 9 * HOUR_S)) == [(2, 0, 9)]
    assert taken(nodes, off, gres=None) == []


def test_devices_in_use_by_jobs_that_are_not_shown_are_taken() -> None:
    assert taken([used(2)]) == [(2, 0, OUT_H)]


def test_devices_that_slurm_does_not_track_are_taken_as_long_as_their_jobs_last() -> None:
    assert taken([used(2)], job(0, 3, cpus=4, gres=())) == [(2, 0, 3)]


def test_job_that_has_ended_since_it_was_listed_takes_nothing() -> None:
    assert taken([used(1)], job(2, 5), job(1, 3)) == [(1, 0, 5)]
    assert taken([node()], job(2, 5)) == []


# --------------------------------------------------------------------------------- our own jobs


def test_runs_that_the_plan_knows_are_not_taken() -> None:
    assert taken([used(3)], job(1, 2), ours=[job(2, 4)]) == [(1, 0, 2)]
    assert taken([used(2)], ours=[job(2, 4)]) == []


def test_runs_on_a_node_that_is_drained_are_counted_once() -> None:
    drained = used(2, flags=frozenset({"MIXED", "DRAIN"}))
    assert taken([drained], ours=[job(2, 1)]) == [(2, 0, 1), (4, 1, OUT_H)]


# -------------------------------------------------------------------------------- reservations


def test_reserved_nodes_are_taken_from_start_to_end() -> None:
    assert taken([node(), node("g2")], reservations=[kept(2, 3)]) == [(4, 2, 3)]
    assert taken([node()], reservations=[kept(-1, 3)]) == [(4, 0, 3)]
    assert taken([node()], reservations=[kept(-2, -1)]) == []


def test_job_in_a_reservation_is_counted_once() -> None:
    inside = job(2, 5, reservation="kept")
    assert taken([used(2)], inside, reservations=[kept(-1, 3)]) == [(4, 0, 3), (2, 3, 5)]


def test_job_outside_a_reservation_of_some_cores_is_counted_beside_it() -> None:
    some = kept(-1, 3, is_whole=False, cpus=4)
    nodes = [used(3)]
    outside, inside = job(2, 5), job(1, 5, reservation="kept")
    assert taken(nodes, outside, inside, reservations=[some], gres=None) == [(6, 0, 3), (3, 3, 5)]


def test_reserved_cores_keep_no_gres_unless_they_say_so() -> None:
    some = kept(0, 3, "g1", "g2", is_whole=False, cpus=4)
    assert taken([node()], reservations=[some]) == []
    assert taken([node()], reservations=[some], gres=None) == [(2, 0, 3)]
    assert taken([node()], reservations=[replace(some, gres=(("gpu", 2),))]) == [(1, 0, 3)]


def test_reservations_that_overlap_take_a_node_once() -> None:
    both = [kept(1, 4), kept(2, 6, name="maint")]
    assert taken([used(1)], job(1, 9), reservations=both) == [(1, 0, 1), (4, 1, 6), (1, 6, 9)]


def test_own_reservation_is_ours_and_nothing_else_is() -> None:
    nodes = [node(flags=frozenset({"IDLE", "RESERVED"})), node("g2")]
    ours = kept(-1, 3, name="ours")
    assert taken(nodes, reservations=[ours], own="ours") == [(4, 0, 3), (8, 3, EVER_H)]
    later = kept(1, 3, "g1", "g2", name="ours")
    held = [(8, 0, 1), (8, 3, EVER_H)]
    assert taken([node(), node("g2")], reservations=[later], own="ours") == held


def test_own_reservation_that_does_not_exist_is_left_to_slurm_to_refuse() -> None:
    assert taken([node()], reservations=[kept(1, 2)], own="ours") == [(4, 1, 2)]


# ------------------------------------------------------------------------- nodes out of service


@pytest.mark.parametrize(
    ("flags", "hours"),
    [
        ({"IDLE", "DRAIN"}, OUT_H),
        ({"DOWN", "NOT_RESPONDING"}, OUT_H),
        ({"IDLE", "FAIL"}, OUT_H),
        ({"IDLE", "MAINT"}, OUT_H),
        ({"IDLE", "RESERVED"}, OUT_H),
        ({"IDLE", "POWERING_DOWN"}, SOON_H),
        ({"IDLE", "REBOOT_REQUESTED"}, SOON_H),
        ({"IDLE", "DRAIN", "REBOOT_ISSUED"}, OUT_H),
    ],
)
def test_node_out_of_service_has_nothing_for_a_while(flags: set[str], hours: float) -> None:
    out = node(flags=frozenset(flags))
    assert taken([out, node("g2")]) == [(4, 0, hours)]


def test_node_that_is_kept_for_a_job_that_waits_is_free_until_that_has_begun() -> None:
    assert taken([node(flags=frozenset({"IDLE", "PLANNED"}))]) == []


def test_node_under_maintenance_is_back_when_its_reservation_ends() -> None:
    out = node(flags=frozenset({"IDLE", "MAINTENANCE", "RESERVED"}))
    assert taken([out], reservations=[kept(-1, 1)]) == [(4, 0, 1)]
    assert taken([replace(out, flags=out.flags | {"DRAIN"})], reservations=[kept(-1, 1)]) == [
        (4, 0, OUT_H)
    ]


def test_drained_node_with_a_job_on_it_is_taken_once() -> None:
    draining = used(2, flags=frozenset({"MIXED", "DRAIN"}))
    assert taken([draining], job(2, 9)) == [(4, 0, OUT_H), (2, OUT_H, 9)]


def test_accelerator_that_no_node_has_is_not_spoken_of() -> None:
    look = SlurmLook(now_s=NOW_S, ours=(), others=(), reservations=())
    places = {"A100": Place("gpu:a100", [node()]), "H100": Place("gpu:h100", [])}
    made = build_outlook("hpc", look, places, at=lambda s: datetime.fromtimestamp(s, UTC))
    assert (dict(made.totals), made.taken) == ({}, ())
