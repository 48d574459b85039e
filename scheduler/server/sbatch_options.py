"""Which options sbatch has, and which of them take a value: without that its script cannot be told from a value."""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Takes(StrEnum):
    """Whether an option takes a value."""

    VALUE = "value"
    MAYBE = "maybe"  # only behind `=`, or in the same word as the letter
    NOTHING = "nothing"


_WITH_VALUE: Final = """
    account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container core-spec
    cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error exclude export
    export-file extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags
    hint input job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu
    mincpus network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket
    open-mode output partition power prefer priority profile qos reservation signal sockets-per-node switches thread-spec
    threads-per-core time time-min tmp uid wait-all-nodes wckey wrap
"""
_MAYBE: Final = "exclusive get-user-env nice no-kill propagate"
_WITHOUT: Final = """
    contiguous help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet reboot requeue spread-job test-only
    usage use-min-nodes verbose version wait
"""
OPTIONS: Final[Mapping[str, Takes]] = MappingProxyType(
    dict.fromkeys(_WITH_VALUE.split(), Takes.VALUE)
    | dict.fromkeys(_MAYBE.split(), Takes.MAYBE)
    | dict.fromkeys(_WITHOUT.split(), Takes.NOTHING)
)
"""By long name. Source: sbatch of Slurm 22.05, which was asked about each."""

LETTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{"a": "array", "A": "account", "b": "begin", "B": "extra-node-info"},
        **{"c": "cpus-per-task", "C": "constraint", "d": "dependency", "D": "chdir"},
        **{"e": "error", "F": "nodefile", "G": "gpus", "h": "help", "H": "hold", "i": "input"},
        **{"J": "job-name", "k": "no-kill", "L": "licenses", "m": "distribution", "M": "clusters"},
        **{"n": "ntasks", "N": "nodes", "o": "output", "O": "overcommit", "p": "partition"},
        **{"q": "qos", "Q": "quiet", "s": "oversubscribe", "S": "core-spec", "t": "time"},
        **{"v": "verbose", "V": "version", "w": "nodelist", "W": "wait", "x": "exclude"},
    }
)
"""Long names by letter. Source: likewise."""

_HELP_LINE: Final = re.compile(
    r"^ {1,8}(?:-\w,? +)?--(?P<name>[a-z][a-z0-9-]*)(?P<value>\[?=)?", re.MULTILINE
)


def parse_help(text: str) -> dict[str, Takes]:
    """Options that `sbatch --help` lists, by long name; plugins of a site list theirs there, too."""
    kinds = {"=": Takes.VALUE, "[=": Takes.MAYBE, None: Takes.NOTHING}
    return {match["name"]: kinds[match["value"]] for match in _HELP_LINE.finditer(text)}
