"""Which of our accelerators a user's Job asks for, and how many. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from adapters.cluster.kube_native_record import KubeNative
from adapters.cluster.kube_objects import KubeDevice

_CPU: Final = "cpu"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An accelerator, and how many in all; or why it is none of ours, and which it might mean where that is open."""

    accelerator: str | None
    gpus: int
    trouble: str | None = None
    candidates: tuple[str, ...] = ()


def find_wanted(
    job: KubeNative, devices: Mapping[str, KubeDevice], capacity: Mapping[str, int]
) -> Wanted:
    """What the Job asks for, in our terms: one kind of device, or else CPUs."""
    if job.n_pods_wanted < 1:
        return Wanted(None, 0, "its parallelism is 0; it would run no pods")
    known = {one.resource for one in devices.values()} - {_CPU}
    extended = {key for key, count in job.asked.items() if "/" in key and count > 0}
    ours = sorted(extended & known)
    if len(ours) > 1:
        return _none(f"it asks for {' and '.join(ours)}; jobs with one kind of device are planned")
    if not ours and extended:
        planned = ", ".join(sorted(known)) or "CPUs"
        return _none(f"it asks for {', '.join(sorted(extended))}; here are planned: {planned}")
    found = _named(job, devices, ours[0] if ours else _CPU)
    if found.accelerator is not None and found.gpus > capacity.get(found.accelerator, 0):
        most = capacity.get(found.accelerator, 0)
        return _none(f"it asks for {found.gpus} {found.accelerator}; here are {most} at most")
    return found


def _named(job: KubeNative, devices: Mapping[str, KubeDevice], resource: str) -> Wanted:
    """The accelerator with that resource whose nodes the Job may go to."""
    each = max(1, math.ceil(job.asked.get(resource, 1)))
    of_kind = {name: one for name, one in devices.items() if one.resource == resource}
    fitting = [name for name, one in of_kind.items() if _fits(one, job.node_selector)]
    # With its own labels it says which it means; one that says nothing means the only one there is.
    chosen = [
        name
        for name in fitting
        if of_kind[name].node_selector.items() <= job.node_selector.items()
        and (of_kind[name].node_selector or len(fitting) == 1)
    ]
    names = chosen if chosen else fitting
    if len(names) == 1:
        return Wanted(names[0], each * job.n_pods_wanted)
    if not of_kind:
        return _none("it asks for CPUs only, which are not planned on this cluster")
    labels = "; ".join(
        f"{name}: {', '.join(f'{key}={value}' for key, value in one.node_selector.items()) or 'no labels'}"
        for name, one in sorted(of_kind.items())
    )
    if names:
        why = f"it asks for {resource} without saying which; state a nodeSelector ({labels})"
        return Wanted(None, 0, why, tuple(names))
    return _none(
        f"it asks for {resource} on nodes other than those that are planned with ({labels})"
    )


def _fits(device: KubeDevice, selector: Mapping[str, str]) -> bool:
    """Whether no label that both name differs."""
    return all(selector.get(key, value) == value for key, value in device.node_selector.items())


def _none(trouble: str) -> Wanted:
    return Wanted(None, 0, trouble)
