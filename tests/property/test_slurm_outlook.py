"""Whatever a Slurm cluster says, no device is taken twice, none that the plan counts, and none too few."""

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from adapters.cluster.slurm_holdings import SlurmHolding, SlurmReservation
from adapters.cluster.slurm_outlook import OUT_S, Place, SlurmLook, build_outlook
from adapters.cluster.slurm_parsers import SlurmNode

NOW_S = 1_796_000_000.0
TOTAL = 8
NAMES = ("n1", "n2")
HOURS = range(1, 12)
ends = st.sampled_from(HOURS).map(lambda hour: NOW_S + hour * 3600.0)
reserved = st.sampled_from([None, "kept", "gone"])
holdings = st.builds(
    SlurmHolding,
    name=st.just("job"),
    is_mine=st.booleans(),
    state=st.just("RUNNING"),
    end_s=ends,
    nodes=st.sampled_from([("n1",), ("n2",), ("n1", "n2"), ("n1", "elsewhere")]),
    cpus=st.integers(0, 8),
    reservation=reserved,
)
reservations = st.builds(
    SlurmReservation,
    name=st.sampled_from(["kept", "other"]),
    start_s=st.integers(-3, 9).map(lambda hour: NOW_S + hour * 3600.0),
    end_s=ends,
    nodes=st.sampled_from([("n1",), NAMES]),
    is_whole=st.booleans(),
    cpus=st.integers(0, 10),
)
flags = st.sampled_from([frozenset({"MIXED"}), frozenset({"MIXED", "DRAIN"})])


def share(holding: SlurmHolding, name: str) -> int:
    """As Slurm's sum is spread over the nodes: the first ones have the rest."""
    each, rest = divmod(holding.cpus, len(holding.nodes))
    return each + (holding.nodes.index(name) < rest) if name in holding.nodes else 0


def holding(hours: int, cpus: int, reservation: str | None = None) -> SlurmHolding:
    return SlurmHolding(
        name="job",
        is_mine=False,
        state="RUNNING",
        end_s=NOW_S + hours * 3600.0,
        nodes=("n1",),
        cpus=cpus,
        reservation=reservation,
    )


# An overbooked node, all of which is reserved.
@example(
    [holding(1, 7)],
    [holding(2, 2, "kept")],
    [
        SlurmReservation(
            name="kept",
            start_s=NOW_S,
            end_s=NOW_S + 7200.0,
            nodes=("n1",),
            is_whole=True,
            cpus=0,
        )
    ],
    (frozenset({"MIXED"}), frozenset({"MIXED"})),
)
@given(
    st.lists(holdings, max_size=3),
    st.lists(holdings, max_size=5),
    st.lists(reservations, max_size=3, unique_by=lambda one: one.name),
    st.tuples(flags, flags),
)
def test_taken_is_what_is_neither_free_nor_ours(
    ours: list[SlurmHolding],
    others: list[SlurmHolding],
    kept: list[SlurmReservation],
    states: tuple[frozenset[str], frozenset[str]],
) -> None:
    used = {name: sum(share(one, name) for one in (*ours, *others)) for name in NAMES}
    nodes = [
        SlurmNode(
            name=name,
            flags=state,
            partitions=frozenset({"cpu"}),
            reservation=None,
            cpus=TOTAL,
            cpus_taken=used[name],
            gres=(),
            gres_taken=(),
        )
        for name, state in zip(NAMES, states, strict=True)
    ]
    look = SlurmLook(now_s=NOW_S, ours=ours, others=others, reservations=kept)
    made = build_outlook(
        "hpc", look, {"CPU": Place(None, nodes)}, at=lambda s: datetime.fromtimestamp(s, UTC)
    )
    for half_hours in range(1, 2 * HOURS[-1] + 2, 2):  # between the hours, where nothing changes
        at_s = NOW_S + half_hours * 1800.0
        least = most = 0
        for node in nodes:
            mine = sum(share(one, node.name) for one in ours if at_s < one.end_s)
            theirs = sum(share(one, node.name) for one in others if at_s < one.end_s)
            keeping = [one for one in kept if one.start_s <= at_s < one.end_s]
            is_out = "DRAIN" in node.flags and at_s < NOW_S + OUT_S
            is_kept = any(one.is_whole and node.name in one.nodes for one in keeping)
            room = max(TOTAL - mine, 0)
            held = min(theirs, max(min(used[node.name], TOTAL) - _now(ours, node.name), 0))
            is_whole = is_out or is_kept
            least += room if is_whole else min(held, room)
            some = sum(-(-one.cpus // len(one.nodes)) for one in keeping if node.name in one.nodes)
            most += room if is_whole else min(held + some, room)
        taken = sum(
            one.gpus
            for one in made.taken
            if one.window.start_at.timestamp() <= at_s < one.window.end_at.timestamp()
        )
        assert least <= taken <= most


def _now(ours: list[SlurmHolding], name: str) -> int:
    return sum(share(one, name) for one in ours)
