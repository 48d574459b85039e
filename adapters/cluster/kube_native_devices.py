"""Which of our accelerators a user's job asks for, and how many. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from adapters.cluster.kube_native_record import KubeNative, PodGroup
from adapters.cluster.kube_objects import KubeDevice

_CPU: Final = "cpu"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An accelerator, how many in all, and on how many nodes; or why it is none of ours, and which it might mean."""

    accelerator: str | None
    gpus: int
    nodes: int = 1
    trouble: str | None = None
    candidates: tuple[str, ...] = ()


def find_wanted(
    job: KubeNative, devices: Mapping[str, KubeDevice], capacity: Mapping[str, int]
) -> Wanted:
    """What the job asks for over all its pods, in our terms: one kind of device, or else CPUs."""
    groups = [one for one in job.groups if one.count > 0]
    if not groups:
        return _none("it would run no pods, such as by a parallelism of 0")
    known = {one.resource for one in devices.values()} - {_CPU}
    extended = {
        key for group in groups for key, count in group.asked.items() if "/" in key and count > 0
    }
    ours = sorted(extended & known)
    if len(ours) > 1:
        return _none(f"it asks for {' and '.join(ours)}; jobs with one kind of device are planned")
    if not ours and extended:
        planned = ", ".join(sorted(known)) or "CPUs"
        return _none(f"it asks for {', '.join(sorted(extended))}; here are planned: {planned}")
    resource = ours[0] if ours else _CPU
    # Beside devices, pods without any are not counted: they go where there is a CPU.
    asking = [one for one in groups if resource == _CPU or one.asked.get(resource, 0) > 0]
    found = _total([_named(one, devices, resource) for one in asking])
    if found.accelerator is not None and found.gpus > capacity.get(found.accelerator, 0):
        most = capacity.get(found.accelerator, 0)
        return _none(f"it asks for {found.gpus} {found.accelerator}; here are {most} at most")
    return found


def _total(each: list[Wanted]) -> Wanted:
    """What all groups of pods ask for together."""
    refused = next((one for one in each if one.accelerator is None), None)
    if refused is not None:
        return refused
    names = sorted({str(one.accelerator) for one in each})
    if len(names) > 1:
        return _none(f"it asks for {' and '.join(names)}; jobs with one kind of device are planned")
    gpus, nodes = sum(one.gpus for one in each), sum(one.nodes for one in each)
    # Where nodes do not share them evenly, no number of nodes says how they are spread.
    return Wanted(names[0], gpus, nodes if gpus % nodes == 0 else 1)


def _named(group: PodGroup, devices: Mapping[str, KubeDevice], resource: str) -> Wanted:
    """The accelerator with that resource whose nodes these pods may go to."""
    each = max(1, math.ceil(group.asked.get(resource, 1)))
    of_kind = {name: one for name, one in devices.items() if one.resource == resource}
    fitting = [name for name, one in of_kind.items() if _fits(one, group.node_selector)]
    # With its own labels it says which it means; one that says nothing means the only one there is.
    chosen = [
        name
        for name in fitting
        if of_kind[name].node_selector.items() <= group.node_selector.items()
        and (of_kind[name].node_selector or len(fitting) == 1)
    ]
    names = chosen if chosen else fitting
    if len(names) == 1:
        return Wanted(names[0], each * group.count, group.count)
    if not of_kind:
        return _none("it asks for CPUs only, which are not planned on this cluster")
    labels = "; ".join(
        f"{name}: {', '.join(f'{key}={value}' for key, value in one.node_selector.items()) or 'no labels'}"
        for name, one in sorted(of_kind.items())
    )
    if names:
        why = f"it asks for {resource} without saying which; state a nodeSelector ({labels})"
        return Wanted(None, 0, trouble=why, candidates=tuple(names))
    return _none(
        f"it asks for {resource} on nodes other than those that are planned with ({labels})"
    )


def _fits(device: KubeDevice, selector: Mapping[str, str]) -> bool:
    """Whether no label that both name differs."""
    return all(selector.get(key, value) == value for key, value in device.node_selector.items())


def _none(trouble: str) -> Wanted:
    return Wanted(None, 0, trouble=trouble)
