"""Trials before a job is accepted: who is asked, how often, and what becomes of the answers."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.job import Job, Native
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.core.terms import ResourceOption
from scheduler.ports import Dispatch, Trial
from scheduler.service import trials as module
from scheduler.service.trials import REFUSED_S, SILENT_S, TAKEN_S, WITHIN_S, Trials, Tried
from tests.unit.core.builders import job, option

NO = Trial(refused="no such field: spec.x", field="spec.x")
YES = Trial()
SILENCE = Trial(is_answered=False)


@dataclass
class Asked:
    """A cluster that says to runs on each accelerator what it is told to say."""

    says: Trial = YES
    by_accelerator: dict[str, Trial] = field(default_factory=dict)
    asked: list[Dispatch] = field(default_factory=list)
    takes_s: float = 0.0
    time: "Time | None" = None

    def try_out(self, dispatch: Dispatch) -> Trial:
        self.asked.append(dispatch)
        if self.time is not None:
            self.time.now_s += self.takes_s
        return self.by_accelerator.get(dispatch.accelerator, self.says)


@dataclass
class Time:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


class Plain:
    """A cluster that cannot be asked."""


CAPACITY = (("H100", 8), ("A100", 8))


def fleet(*names: str) -> Fleet:
    return Fleet(
        tuple(
            Cluster(
                cluster_id=name, region_id=f"r-{name}", zone_id="DE", pue=1.0, capacity=CAPACITY
            )
            for name in names
        )
    )


def trials(time: Time | None = None, **clusters: Any) -> Trials:
    return Trials(clusters=clusters, fleet=fleet(*clusters), steady=time or Time())


def ask(made: Trials, *jobs: Job) -> Any:
    """The only outcome of one job, or those of several."""
    outcomes = made.ask(list(jobs) or [job()])
    return outcomes[0] if len(outcomes) == 1 else outcomes


def options(*accelerators: str, gpus: int = 1) -> Sequence[ResourceOption]:
    return tuple(option(accelerator=one, gpus=gpus) for one in accelerators)


def test_job_that_is_taken_stays_as_it_is() -> None:
    east, one = Asked(), job()
    made = trials(east=east, here=Plain())
    assert ask(made, one) == Tried(job=one)
    (dispatch,) = east.asked
    assert dispatch.name == f"{one.job_id}.1.0"
    assert (dispatch.command, dispatch.env) == (("true",), ()), (
        "what is not of the shape is not tried"
    )


def test_one_trial_serves_all_jobs_of_a_shape() -> None:
    east = Asked()
    made = trials(east=east)
    ask(made, *(job(name=f"j{index}") for index in range(5)))
    ask(made, job(name="later"))
    assert len(east.asked) == 1
    ask(made, job(kubernetes=JobKubernetes(image="other:1")), job(options=options("A100")))
    assert len(east.asked) == 3


def test_job_that_one_cluster_refuses_goes_to_the_others_and_says_so() -> None:
    found = ask(trials(east=Asked(NO), west=Asked(), here=Plain()))
    assert found.job.cluster_ids == ("west", "here")
    assert found.note == "it goes elsewhere: refused by east: no such field: spec.x"


def test_job_that_every_cluster_refuses_is_refused_in_their_words() -> None:
    found = ask(trials(east=Asked(NO), west=Asked(NO)))
    assert isinstance(found, InvalidJobError)
    assert found.fields["field"] == "kubernetes"
    assert "refused by east and west: no such field: spec.x" in found.message
    own = job(kubernetes=JobKubernetes(manifest="{}"))
    assert ask(trials(east=Asked(NO)), own).fields["field"] == "kubernetes.manifest.spec.x"


def test_cluster_that_takes_one_of_the_options_does_not_refuse() -> None:
    both = job(options=options("H100", "A100"))
    for refused in ("H100", "A100"):
        assert ask(trials(east=Asked(by_accelerator={refused: NO})), both).note is None
    assert isinstance(ask(trials(east=Asked(NO)), both), InvalidJobError)


def test_silence_is_no_refusal_and_is_not_asked_for_again_at_once() -> None:
    time, east = Time(), Asked(SILENCE)
    made = trials(time, east=east, west=Asked(NO))
    assert ask(made).job.cluster_ids == ("east",)
    assert ask(made, job(options=options("A100"))).job.cluster_ids == ("east",)
    assert len(east.asked) == 1, "it rests, whatever the shape"
    time.now_s += SILENT_S
    ask(made)
    assert len(east.asked) == 2


def test_only_clusters_that_the_job_may_use_are_asked() -> None:
    east, west = Asked(NO), Asked()
    made = trials(east=east, west=west)
    assert ask(made, job(regions=("r-west",))).note is None
    assert ask(made, job(options=options("H100", gpus=9))).note is None
    assert ask(made, job(native=Native(ref="1", user="u"))).note is None
    assert (len(east.asked), len(west.asked)) == (0, 1)


@pytest.mark.parametrize(("says", "kept_s"), [(YES, TAKEN_S), (NO, REFUSED_S)])
def test_answers_are_believed_for_a_while(says: Trial, kept_s: float) -> None:
    time, east = Time(), Asked(says)
    made = trials(time, east=east)
    for passed_s, times in ((0.0, 1), (kept_s - 1, 1), (1.0, 2)):
        time.now_s += passed_s
        ask(made)
        assert len(east.asked) == times


def test_what_is_known_is_found_without_asking() -> None:
    east = Asked()
    made = trials(east=east)
    assert made.find(job()) is None
    assert east.asked == []
    ask(made)
    assert isinstance(made.find(job()), Tried)
    assert isinstance(trials(here=Plain()).find(job()), Tried), "nobody can be asked"
    silent = trials(east=Asked(SILENCE))
    ask(silent)
    assert isinstance(silent.find(job()), Tried), "there is no use in asking"


def test_trials_of_one_submission_end_in_time_and_the_rest_is_accepted() -> None:
    time = Time()
    east = Asked(NO, takes_s=WITHIN_S / 2, time=time)
    many = [job(kubernetes=JobKubernetes(image=f"i:{index}")) for index in range(4)]
    outcomes = ask(trials(time, east=east), *many)
    assert len(east.asked) == 2
    assert [isinstance(one, InvalidJobError) for one in outcomes] == [True, True, False, False]


def test_who_comes_while_too_many_wait_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Asked):
        def try_out(self, dispatch: Dispatch) -> Trial:
            begun.set()
            go_on.wait(10)
            return super().try_out(dispatch)

    east = Slow(NO)
    made = trials(east=east)
    first = threading.Thread(target=lambda: made.ask([job()]))
    first.start()
    begun.wait(10)
    assert isinstance(ask(made, job(name="second")), Tried)
    go_on.set()
    first.join()
    assert len(east.asked) == 1


def test_memory_of_shapes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHAPES", 2)
    east = Asked()
    made = trials(east=east)
    first, *_ = many = [job(kubernetes=JobKubernetes(image=f"i:{index}")) for index in range(3)]
    made.ask(many)
    assert made.find(many[2]) is not None
    assert made.find(first) is None


def test_long_words_are_cut() -> None:
    found = ask(trials(east=Asked(Trial(refused="x" * 5000)), west=Asked()))
    assert len(found.note) < 1100


def test_warning_of_a_cluster_that_takes_it_is_passed_on() -> None:
    warned = Asked(Trial(warned="would violate PodSecurity"))
    found = ask(trials(east=warned, west=Asked()))
    assert found.job.cluster_ids == ()
    assert found.note == "with a warning from east: would violate PodSecurity"
    found = ask(trials(east=warned, west=Asked(NO)))
    assert found.note.startswith("it goes elsewhere: refused by west: ")
    assert found.note.endswith("with a warning from east: would violate PodSecurity")
