"""What a native job's comment says: its user's words, and our marks after them. Pure: text in, record out.

note;gridtide:deadline=2026-11-27T09:00:00Z,duration=4h;adopted=train-1f3a;guard=1795770000
user's own  |  user's words                            |  our marks
"""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

COMMENT_BYTES: Final = 1024
"""Slurm refuses a longer comment."""
MARK_BYTES: Final = 240
"""What our marks need of it at most, job ids being 63 characters."""
_ASKS: Final = re.compile(r"(?:^|[\s;])gridtide:(?!key=)")
_SIGNAL: Final = re.compile(r"(?P<batch>B:)?(?:SIG)?(?P<name>[A-Z0-9]+)", re.IGNORECASE)
_UNCATCHABLE: Final = frozenset({signal.SIGKILL, signal.SIGSTOP})
_UNCLEAN: Final = re.compile(r"[\x00-\x1f\x7f;|]+")

ADOPTED: Final = "adopted"  # our id of it
SINCE: Final = "since"  # when it was submitted: a requeue makes Slurm forget that
GUARD: Final = "guard"  # when the cluster itself starts it
UNHOLD: Final = "unhold"  # its user's hold is still to be lifted, for it was there before us
RELEASED: Final = "released"  # when it was let start
LEAVE: Final = "leave"  # when it is to be sent back to the queue
PAUSED: Final = "paused"  # how often it had been sent back when we paused it
KILL: Final = "kill"  # when it is to be killed, cancelled as it was
REFUSED: Final = "refused"  # why it is not planned
MARKS: Final = (ADOPTED, SINCE, GUARD, UNHOLD, RELEASED, LEAVE, PAUSED, KILL, REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeComment:
    """A comment that asks for planning.

    Args:
        stem: what the user wrote, without our marks.
        words: what the user states, by names of fields.
        marks: ours, by name; times in epoch seconds.
        wrong: what of the words cannot be read; None where all can.
    """

    stem: str
    words: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    marks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    wrong: str | None = None

    @property
    def text(self) -> str:
        """The comment as it is written."""
        return self.stem + "".join(
            f";{name}={self.marks[name]}" for name in MARKS if name in self.marks
        )

    @property
    def has_room(self) -> bool:
        """Whether all our marks would fit."""
        return len(self.stem.encode()) <= COMMENT_BYTES - MARK_BYTES

    def number(self, mark: str) -> int | None:
        """A mark that is a number; None where it is absent, or is none."""
        text = self.marks.get(mark, "")
        return int(text) if text.isascii() and text.isdecimal() else None

    def marked(self, **marks: str | int | None) -> "NativeComment":
        """The comment with these marks; None takes one away."""
        kept = {name: value for name, value in self.marks.items() if name not in marks}
        new = {name: str(value) for name, value in marks.items() if value is not None}
        return replace(self, marks=kept | new)

    def refused(self, why: str) -> "NativeComment":
        """The comment with that reason, cleaned, and cut to what fits; nothing else of ours stays."""
        bare = replace(self, marks={REFUSED: ""})
        room = COMMENT_BYTES - len(bare.text.encode())
        plain = " ".join(_UNCLEAN.sub(" ", why.replace(";", ",")).split())
        cleaned = plain.encode()[: max(room, 0)].decode(errors="ignore")
        return replace(bare, marks={REFUSED: cleaned})


def find_comment_trouble(comment: NativeComment) -> str | None:
    """Why no job with this comment can be planned; None where one may."""
    said = comment.words.get("signal")
    if comment.wrong is not None:
        return comment.wrong
    if said is not None and parse_signal(said) is None:
        return f"signal: {said!r} is not a signal that a job can catch, such as USR1 or B:USR1"
    if not comment.has_room:
        most = COMMENT_BYTES - MARK_BYTES
        return f"its comment is too long: {most} bytes leave room for what has to be noted there"
    return None


def parse_native(comment: str) -> NativeComment | None:
    """The comment of a job that asks for planning; None for all others, those of our own jobs among them."""
    match = _ASKS.search(comment)
    if match is None:
        return None
    stated, *parts = comment[match.end() :].split(";")
    marks, kept = {}, []
    for part in parts:
        name, sign, value = part.partition("=")
        if sign and name in MARKS:
            marks[name] = value
        else:
            kept.append(part)
    words, wrong = parse_words(stated)
    stem = ";".join([comment[: match.end()] + stated, *kept])
    return NativeComment(stem=stem, words=words, marks=marks, wrong=wrong)


def is_adopted(comment: str) -> bool:
    """Whether the comment is that of a job that we plan."""
    parsed = parse_native(comment)
    return parsed is not None and ADOPTED in parsed.marks


def parse_words(text: str) -> tuple[dict[str, str], str | None]:
    """The pairs of `name=value,name=value`, and what is wrong with the first that is none."""
    words: dict[str, str] = {}
    for pair in text.split(","):
        name, sign, value = (part.strip() for part in pair.partition("="))
        name = name.lower().replace("-", "_")
        if not (name or sign):
            continue
        if not (name and sign and value):
            return words, f"{pair.strip()!r} is not name=value, such as duration=4h"
        if name in words:
            return words, f"{name} is stated twice: {words[name]!r} and {value!r}"
        words[name] = value
    return words, None


def parse_signal(text: str) -> tuple[str, bool] | None:
    """A signal's name, and whether it goes to the batch script alone; None where it is none to be caught.

    As for sbatch: `USR1`, `SIGUSR1`, `10`, and `B:USR1` for the script alone.
    """
    match = _SIGNAL.fullmatch(text.strip())
    if match is None:
        return None
    name = match["name"].upper()
    try:
        number = signal.Signals(int(name)) if name.isdecimal() else signal.Signals[f"SIG{name}"]
    except (ValueError, KeyError):
        return None
    if number in _UNCATCHABLE:
        return None
    return number.name.removeprefix("SIG"), match["batch"] is not None
