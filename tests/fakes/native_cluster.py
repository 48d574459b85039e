"""A cluster in memory with a queue of its own, in which users put jobs themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from scheduler.core.errors import ClusterUnavailableError, DispatchRejectedError
from scheduler.ports import NATIVE, Dispatch, NativeJob, News, RunState, RunStatus, native_name
from tests.fakes.cluster import FakeCluster, FakeRun


@dataclass
class FakeNativeCluster(FakeCluster):
    """Starts a native job at its begin time by itself, as Slurm does; a pause sends it back to the queue."""

    queue: dict[str, NativeJob] = field(default_factory=dict)
    hours: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)

    def sbatch(
        self, ref: str, words: Mapping[str, str], *, hours: float = 4, **fields: object
    ) -> None:
        is_held = bool(fields.pop("is_held", True))
        base = NativeJob(
            ref=ref,
            submitted_at=self.clock.now(),
            name=f"Native {ref}",
            user="ada",
            words=words,
            accelerator="H100",
            gpus=1,
            num_nodes=1,
            is_held=is_held,
            starts_at=None if is_held else self.clock.now(),
        )
        self.queue[ref] = replace(base, **fields)  # type: ignore[arg-type]
        self.hours[ref] = hours

    # what users do by hand

    def scontrol_start(self, ref: str, at: datetime) -> None:
        self.queue[ref] = replace(self.queue[ref], starts_at=at, is_held=False)

    def scontrol_hold(self, ref: str) -> None:
        self.queue[ref] = replace(self.queue[ref], is_held=True, starts_at=None)

    def scontrol_release(self, ref: str) -> None:
        at = self.queue[ref].guard_at or self.clock.now()
        self.queue[ref] = replace(self.queue[ref], is_held=False, starts_at=at)

    def reword(self, ref: str, words: Mapping[str, str]) -> None:
        self.queue[ref] = replace(self.queue[ref], words=words, is_reworded=True)

    def scancel(self, ref: str) -> None:
        self.queue.pop(ref, None)
        self._stop(native_name(ref), -15)

    # the port

    def native_jobs(self) -> list[NativeJob]:
        if self.fault == "silent":
            raise ClusterUnavailableError("cluster does not answer")
        self._start_due()
        return [
            one
            for ref, one in self.queue.items()
            if ref not in self.released and ref not in self.refused
        ]

    def adopt(self, ref: str, *, job_id: str, guard_at: datetime) -> None:
        if self.fault == "no-rights":
            raise ClusterUnavailableError("access denied")
        self.calls.append(f"adopt {ref}")
        if ref in self.queue:
            self.queue[ref] = replace(
                self.queue[ref],
                job_id=job_id,
                guard_at=guard_at,
                starts_at=guard_at,
                is_held=False,
                is_reworded=False,
            )

    def refuse(self, ref: str, why: str) -> None:
        self.refused[ref] = why

    def submit(self, dispatch: Dispatch) -> str:
        if not dispatch.name.startswith(NATIVE):
            return super().submit(dispatch)
        ref = dispatch.name.removeprefix(NATIVE)
        self.calls.append(f"release {ref}")
        if self.fault == "reworded":
            raise DispatchRejectedError(f"{ref} does not say any more that it is ours")
        if ref in self.queue:
            self.released.add(ref)
            self._begin_native(ref)
        elif dispatch.name not in self.runs:
            raise DispatchRejectedError(f"{ref} is not in the queue any more")
        return ref

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        self._start_due()
        found = {
            name: replace(status, ref=name.removeprefix(NATIVE))
            for name, status in super().poll(names).items()
        }
        for ref in self.queue:
            name = native_name(ref)
            if name in names and name not in found:
                found[name] = RunStatus(name=name, ref=ref, state=RunState.PENDING)
        return found

    def pause(self, name: str, *, grace_s: float) -> None:
        if not name.startswith(NATIVE):
            super().pause(name, grace_s=grace_s)
            return
        ref = name.removeprefix(NATIVE)
        self.runs[name].stop(self.clock.now())
        self.released.discard(ref)
        kept = self._begun[ref]
        self.queue[ref] = replace(kept, starts_at=kept.guard_at)

    def resume(self, name: str) -> None:
        ref = name.removeprefix(NATIVE)
        self.queue.pop(ref, None)
        self.runs[name].since = self.clock.now()

    def cancel(self, name: str, *, grace_s: float) -> None:
        self.queue.pop(name.removeprefix(NATIVE), None)
        super().cancel(name, grace_s=grace_s)

    def __post_init__(self) -> None:
        self._begun: dict[str, NativeJob] = {}

    def _start_due(self) -> None:
        for ref, one in list(self.queue.items()):
            if not one.is_held and one.starts_at is not None and one.starts_at <= self.clock.now():
                self._begin_native(ref)

    def _begin_native(self, ref: str) -> None:
        name, native = native_name(ref), self.queue.pop(ref)
        self._begun[ref] = native
        if name in self.runs:
            self.runs[name].since = self.clock.now()
            return
        dispatch = Dispatch(
            name=name,
            job_id=f"native-{ref}",  # type: ignore[arg-type]
            command=("true",),
            env=(),
            workdir=None,
            accelerator=native.accelerator or "H100",
            gpus=native.gpus,
            num_nodes=1,
            checkpoint_key=ref,
        )
        length = timedelta(hours=self.hours[ref])
        self.runs[name] = FakeRun(dispatch, self.clock.now(), length)


@dataclass
class FakeTellingCluster(FakeNativeCluster):
    """One that shows users what is planned for their jobs."""

    told: list[tuple[str, News, str]] = field(default_factory=list)

    def tell(self, ref: str, news: News, words: str) -> None:
        if self.fault == "no-rights":
            raise ClusterUnavailableError("access denied")
        last = next((one for one in reversed(self.told) if one[0] == ref), None)
        if last != (ref, news, words):
            self.told.append((ref, news, words))
