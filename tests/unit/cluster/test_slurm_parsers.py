"""What Slurm printed when it was tried (22.05.8), read back."""

from dataclasses import replace

import pytest

from adapters.cluster.slurm_parsers import (
    SACCT_FIELDS,
    SlurmJob,
    SlurmNode,
    parse_exit,
    parse_gres,
    parse_nodes,
    parse_pairs,
    parse_sacct,
    parse_squeue,
    parse_time,
    squeue_format,
)

SQUEUE = """\
4                       |FAILED                  |NonZeroExitCode         |2026-11-25T02:04:11     |2026-11-25T02:04:12     |768                     |east-c1                 |cpu,gpu|gt-c      |(null)
1                       |RUNNING                 |None                    |2026-11-25T02:04:11     |2027-11-25T02:04:11     |0                       |east-c1                 |cpu,gpu|gt-a      |gridtide:key=a;asks=H100:2;ticket=ticket-0f;kill=12.500
9                       |PENDING                 |BeginTime               |2026-11-25T03:05:13     |NONE                    |0                       |                        |cpu,gpu|gt-p      |
10                      |PENDING                 |None                    |N/A                     |N/A                     |0                       |                        |cpu,gpu|gt-r      |gridtide:key=r
6                       |FAILED                  |BadConstraints          |2026-11-25T02:04:10     |2026-11-25T02:04:10     |1                       |                        |cpu,gpu|gt-x      |(null)
CLUSTER: west
"""
T = 1795572251.0  # 2026-11-25T02:04:11Z


def accounted(*lines: str) -> list[SlurmJob]:
    """Lines of `JobIDRaw|State|ExitCode|NodeList|NNodes|Start|End|ElapsedRaw|Energy|Reason|JobName`."""
    assert all(line.count("|") == len(SACCT_FIELDS) - 1 for line in lines)
    return parse_sacct("\n".join(lines))


def test_squeue_lines_are_read() -> None:
    failed, running, begin, waiting, refused = parse_squeue(SQUEUE).values()
    assert (failed.job_id, failed.name, failed.state) == ("4", "gt-c", "FAILED")
    assert (failed.start_s, failed.end_s, failed.code) == (T, T + 1, (3, 0))
    assert (running.ticket, running.kill_at_s, running.asks) == ("ticket-0f", 12.5, ("H100", 2))
    assert (begin.reason, begin.has_run, begin.end_s) == ("BeginTime", False, None)
    assert (waiting.start_s, waiting.ticket, waiting.comment) == (None, None, "gridtide:key=r")
    assert waiting.partitions == "cpu,gpu"
    assert [one.is_refused for one in (failed, running, begin, waiting, refused)] == [False] * 4 + [
        True
    ]


def test_line_that_was_read_before_is_not_read_again() -> None:
    known = parse_squeue(SQUEUE)
    assert all(
        one is other
        for one, other in zip(known.values(), parse_squeue(SQUEUE, known).values(), strict=True)
    )
    changed = parse_squeue(SQUEUE.replace("RUNNING", "SUSPENDED"), known)
    assert [job.state for job in changed.values()][1] == "SUSPENDED"


def test_squeue_format_is_wide_enough_for_the_names() -> None:
    assert "Name:6|" in squeue_format(["gt-ab", "gt"])
    assert "Name:301|" in squeue_format()


def test_exit_code_of_a_killed_job_is_that_of_its_batch_step() -> None:
    (job,) = accounted(
        "2|CANCELLED by 0|0:0|east-c1|1|2026-11-25T02:04:11|2026-11-25T02:04:12|1||None|gt-b",
        "2.batch|CANCELLED|0:9|east-c1|1|2026-11-25T02:04:11|2026-11-25T02:04:17|6|0||batch",
        "2.extern|CANCELLED|0:0|east-c1|1|2026-11-25T02:04:11|2026-11-25T02:04:17|6|0||extern",
    )
    assert (job.state, job.code, job.end_s, job.is_accounted) == ("CANCELLED", (0, 9), T + 1, True)


def test_refused_job_is_known_in_the_accounts_by_never_having_had_a_node() -> None:
    (job,) = accounted(
        "6|FAILED|1:0|None assigned|1|2026-11-25T02:04:10|2026-11-25T02:04:10|0||None|gt-x"
    )
    assert job.is_refused


def test_job_cancelled_while_it_waited_was_not_refused() -> None:
    (job,) = accounted(
        "9|CANCELLED by 0|0:0|None assigned|1|None|2026-11-25T02:05:16|0||BeginTime|gt-p"
    )
    assert (job.is_refused, job.has_run, job.start_s) == (False, False, None)


def test_runs_of_a_requeued_job_become_its_stretches() -> None:
    (job,) = accounted(
        "8|REQUEUED|0:0|c1|1|2026-11-25T02:04:11|2026-11-25T02:05:11|60||None|gt-q",
        "8|REQUEUED|0:0|None assigned|1|None|2026-11-25T02:05:20|0||None|gt-q",
        "8|COMPLETED|0:0|c1|1|2026-11-25T02:06:11|2026-11-25T02:07:11|60||None|gt-q",
        "8.batch|COMPLETED|0:0|c1|1|2026-11-25T02:06:11|2026-11-25T02:07:11|60|0||batch",
    )
    assert (job.state, job.stretches, job.start_s) == ("COMPLETED", ((T, T + 60),), T + 120)


def test_running_job_has_no_end() -> None:
    (job,) = accounted("3|RUNNING|0:0|c1|1|2026-11-25T02:04:11|Unknown|22||None|gt-b2")
    assert (job.state, job.end_s) == ("RUNNING", None)


@pytest.mark.parametrize(
    ("own", "step", "joules"),
    [
        ("", "0", None),
        ("", "36000", 36000.0),
        ("72000", "36000", 72000.0),
        ("18446744073709551614", "0", None),
        ("6000001", "0", None),  # over 100 kW for a minute
        ("n/a", "", None),
    ],
)
def test_energy_counts_where_it_was_measured_and_can_be_true(
    own: str, step: str, joules: float | None
) -> None:
    (job,) = accounted(
        f"8|COMPLETED|0:0|c1|1|2026-11-25T02:04:11|2026-11-25T02:05:11|60|{own}|None|gt-q",
        f"8.batch|COMPLETED|0:0|c1|1|2026-11-25T02:04:11|2026-11-25T02:05:11|60|{step}||batch",
    )
    assert job.energy_j == joules


def test_lines_that_are_no_jobs_are_left_out() -> None:
    assert parse_sacct("\nsacct: something\n|||\n3.batch|||||||||||\n") == []
    assert parse_sacct("3.batch|COMPLETED|0:0|c1|1|N|N|1|0||batch") == []
    assert parse_squeue("CLUSTER: west\n\n") == {}


NODE = (
    "NodeName=east-g1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=1 CPUEfctv=8 CPUTot=8 CPULoad=3.12 "
    "AvailableFeatures=(null) Gres=gpu:h100:2 GresDrain=N/A GresUsed=gpu:h100:1(IDX:0) "
    "NodeAddr=127.0.0.1 Port=17013 Version=22.05.8 OS=Linux 6.18.44-fc-v669 #1 SMP @0  State=MIXED "
    "ThreadsPerCore=1 Partitions=gpu,all  CfgTRES=cpu=8,gres/gpu=2 AllocTRES=cpu=1"
)


def one_node(line: str = NODE) -> SlurmNode:
    (node,) = parse_nodes(f"\n{line}\n")
    return node


def test_node_is_read() -> None:
    node = one_node()
    assert (node.name, node.partitions) == ("east-g1", {"gpu", "all"})
    assert (node.total(None), node.free(None)) == (8, 7)
    assert (node.total("gpu:h100"), node.free("gpu:h100")) == (2, 1)
    assert (node.total("gpu"), node.free("gpu:a100")) == (2, 0)


@pytest.mark.parametrize(
    ("state", "is_usable"),
    [
        ("IDLE", True),
        ("ALLOCATED", True),
        ("IDLE+CLOUD+POWERED_DOWN", True),
        ("MIXED+COMPLETING", True),
        ("IDLE+DRAIN", False),
        ("DOWN*", False),
        ("IDLE*", False),
        ("IDLE+PLANNED", False),
        ("MIXED+MAINTENANCE+RESERVED", False),
        ("UNKNOWN", False),
    ],
)
def test_node_out_of_service_is_not_usable(state: str, is_usable: bool) -> None:
    assert one_node(NODE.replace("State=MIXED", f"State={state}")).is_usable(None) == is_usable


def test_reserved_node_is_usable_inside_its_reservation_only() -> None:
    node = one_node(
        NODE.replace("State=MIXED", "State=IDLE+RESERVED")
        + " ReservationName=ours Reason=State=DOWN"
    )
    assert not node.is_usable(None)
    assert not node.is_usable("theirs")
    assert node.is_usable("ours")
    assert not replace(node, flags=node.flags | {"DRAIN"}).is_usable("ours")


def test_gres_of_several_kinds() -> None:
    text = "gpu:a100:4(S:0-1),gpu:h100:2(IDX:0,2),shard:8,gpu:0"
    assert parse_gres(text) == (("gpu:a100", 4), ("gpu:h100", 2), ("shard", 8), ("gpu", 0))
    assert parse_gres("(null)") == ()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0:0", (0, 0)),
        ("75:0", (75, 0)),
        ("0:9", (0, 9)),
        ("768", (3, 0)),
        ("19200", (75, 0)),
        ("11", (0, 11)),
        ("139", (0, 11)),  # with a core dump
        ("", (0, 0)),
        ("x:y", (0, 0)),
    ],
)
def test_exit_is_read_in_both_forms(text: str, code: tuple[int, int]) -> None:
    assert parse_exit(text) == code


@pytest.mark.parametrize("text", ["Unknown", "N/A", "NONE", "None", ""])
def test_time_that_is_none(text: str) -> None:
    assert parse_time(text) is None


def test_settings_are_read() -> None:
    text = "Configuration data as of X\nMinJobAge               = 300 sec\n"
    assert dict(parse_pairs(text)) == {"MinJobAge": "300 sec"}
