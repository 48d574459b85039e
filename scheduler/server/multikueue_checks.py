"""What `gridtide doctor` says of the manager cluster of MultiKueue."""

import contextlib
from typing import Final

from adapters.cluster.kube_errors import KUEUE_ROLE, explained
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError
from adapters.cluster.kueue_checks import is_served, multikueue_lines
from adapters.cluster.kueue_records import API, KUEUE
from scheduler.core.errors import GridtideError
from scheduler.ports import Check
from scheduler.server.kubernetes_clusters import connect
from scheduler.server.multikueue_workers import build_workers
from scheduler.server.settings import Settings

_SUBJECT: Final = "multikueue"
_NEEDED: Final = (
    (KUEUE, "workloads", "get"),
    (KUEUE, "workloads", "list"),
    (KUEUE, "workloads/status", "patch"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "patch"),
    ("", "events", "create"),
)
"""What the dispatcher does in each namespace of the manager cluster."""


def multikueue_checks(settings: Settings) -> list[Check]:
    """Whether the manager cluster can be nominated in; nothing where none is configured."""
    asked = settings.multikueue
    if asked is None:
        return []
    try:
        workers = build_workers(settings)
        client, _ = connect(asked, _SUBJECT)
    except GridtideError as error:
        return [Check(subject=_SUBJECT, is_ok=False, detail=error.message)]
    lines = list[Check]()
    with contextlib.closing(client.link):
        for namespace in asked.namespaces:
            try:
                is_there = is_served(client)
                missing = [
                    f"{verb} {resource}"
                    for group, resource, verb in _NEEDED
                    if not client.may(verb, resource, group=group, namespace=namespace)
                ]
            except (KubeRefusedError, KubeSilentError) as error:
                why = explained(error, namespace)
                return [*lines, Check(subject=_SUBJECT, is_ok=False, detail=why)]
            said = f"workers are nominated in namespace {namespace}: {', '.join(one.name for one in workers)}"
            if not is_there:
                said = f"the manager cluster does not serve {API}: install Kueue there"
            elif missing:
                said = f"in namespace {namespace} it may not {', '.join(missing)}; {KUEUE_ROLE} and role.yaml grant that"
            else:
                try:
                    names = [one.name for one in workers]
                    wrong = multikueue_lines(client, asked.check, names)
                except (KubeRefusedError, KubeSilentError) as error:
                    wrong = [explained(error, namespace)]
                said, missing = (wrong[0], wrong) if wrong else (said, missing)
            is_ok = is_there and not missing
            lines.append(Check(subject=_SUBJECT, is_ok=is_ok, detail=said))
    return lines
