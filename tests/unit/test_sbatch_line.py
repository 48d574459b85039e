"""The command line of `gridtide sbatch`: what is ours, what is sbatch's, and where the script begins."""

from collections.abc import Mapping

import pytest

from scheduler.core.errors import InvalidInputError
from scheduler.server.sbatch_line import SbatchLine, directives, split_line
from scheduler.server.sbatch_options import LETTERS, OPTIONS, Takes, parse_help


def nobody() -> Mapping[str, Takes]:
    raise AssertionError("the site's sbatch is asked about unknown options only")


def split(text: str) -> SbatchLine:
    return split_line(text.split(), ask_site=nobody)


def refusal(*words: str, site: Mapping[str, Takes] | None = None) -> str:
    with pytest.raises(InvalidInputError) as caught:
        split_line(words, ask_site=lambda: site or {})
    return caught.value.message


def test_words_are_taken_and_all_else_is_passed_on_as_it_was_written() -> None:
    line = split(
        "--deadline 2026-12-04T09:00 --gres=gpu:h100:2 --duration=4h -n 4 --interruptible -N2 train.sh --deadline x"
    )
    assert line.words == {
        "deadline": "2026-12-04T09:00",
        "duration": "4h",
        "interruptible": "yes",
    }
    assert line.passed == ("--gres=gpu:h100:2", "-n", "4", "-N2")
    assert line.script == ("train.sh", "--deadline", "x")
    assert line.script_name == "train.sh"
    assert not line.is_dry_run


@pytest.mark.parametrize(
    ("text", "options", "script"),
    [
        ("-n4 a.sh", {"ntasks": "4"}, ("a.sh",)),
        ("-n 4 a.sh", {"ntasks": "4"}, ("a.sh",)),
        ("--ntasks 4 a.sh", {"ntasks": "4"}, ("a.sh",)),
        ("--ntasks=4 a.sh", {"ntasks": "4"}, ("a.sh",)),
        ("--nta-per 4", None, ()),
        ("--part gpu a.sh", {"partition": "gpu"}, ("a.sh",)),
        ("-vvQ -sJ name a.sh", {"verbose": None, "quiet": None, "oversubscribe": None, "job-name": "name"}, ("a.sh",)),
        ("-vJname a.sh", {"verbose": None, "job-name": "name"}, ("a.sh",)),
        ("-k a.sh", {"no-kill": None}, ("a.sh",)),
        ("-koff a.sh", {"no-kill": "off"}, ("a.sh",)),
        ("--exclusive a.sh", {"exclusive": None}, ("a.sh",)),
        ("--exclusive=user a.sh", {"exclusive": "user"}, ("a.sh",)),
        ("--nice -t 5 a.sh -t 9", {"nice": None, "time": "5"}, ("a.sh", "-t", "9")),
        ("-t 5 --time=6", {"time": "6"}, ()),
        ("-o -x a.sh", {"output": "-x"}, ("a.sh",)),
        ("--wrap=a -v", {"wrap": "a", "verbose": None}, ()),
        ("-v - a", {"verbose": None}, ("-", "a")),
        ("-v -- -odd.sh -v", {"verbose": None}, ("--", "-odd.sh", "-v")),
        ("--new-one=3 a.sh", {"new-one": "3"}, ("a.sh",)),
        ("--mem= a.sh", {"mem": ""}, ("a.sh",)),
    ],
)  # fmt: skip
def test_script_is_found_behind_options_and_their_values(
    text: str, options: dict[str, str | None] | None, script: tuple[str, ...]
) -> None:
    if options is None:
        assert "--nta-per: " in refusal(*text.split())
        return
    line = split(text)
    assert (line.options, line.script) == (options, script)
    assert (*line.passed, *line.script) == tuple(text.split())


def test_script_name_behind_two_dashes() -> None:
    assert split("-- -odd.sh").script_name == "-odd.sh"
    assert split("--").script_name is None


def test_comment_is_not_passed_on_for_ours_is_written_behind_it() -> None:
    line = split("--comment mine -v --comment=more a.sh")
    assert line.options == {"comment": "more", "verbose": None}
    assert line.passed == ("-v",)


def test_words_take_dashes_or_underscores() -> None:
    assert split("--max-cost 3 --max_carbon_g=4").words == {"max_cost": "3", "max_carbon_g": "4"}


def test_dry_run_is_no_word() -> None:
    line = split("--patience 4h --dry-run a.sh")
    assert (line.words, line.is_dry_run) == ({"patience": "4h"}, True)


@pytest.mark.parametrize("flag", ["--interruptible=no", "--interruptible"])
def test_interruptible_takes_its_value_behind_a_sign_only(flag: str) -> None:
    line = split(f"{flag} a.sh")
    assert line.script == ("a.sh",)
    assert line.words == {"interruptible": flag.partition("=")[2] or "yes"}


@pytest.mark.parametrize(
    ("given", "is_ours"),
    [("USR1", True), ("B:USR1", True), ("B:USR1@60", False), ("USR1@60", False), ("R:USR1", False)],
)
def test_signal_goes_by_the_time_limit_where_it_says_so(given: str, is_ours: bool) -> None:
    for text in (f"--signal {given} a.sh", f"--signal={given} a.sh"):
        line = split(text)
        assert line.words == ({"signal": given} if is_ours else {})
        assert line.passed == (() if is_ours else (f"--signal={given}",))
        assert line.script == ("a.sh",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--deadline",), "--deadline: needs a value"),
        (("-n",), "-n: needs a value"),
        (("--ntasks",), "--ntasks: needs a value"),
        (("--deadline", "a", "--deadline=b"), "deadline: stated twice: 'a' and 'b'"),
        (("--durration", "4h"), "--durration: is an option neither here nor of sbatch; did you mean duration"),
        (("--dead=x",), "--dead: may mean two things: write --deadline in full"),
        (("--gpus-per=1",), "--gpus-per: may mean --gpus-per-node or --gpus-per-socket or --gpus-per-task"),
        (("-Z", "a.sh"), "-Z: is no option of sbatch that is known here"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(words: tuple[str, ...], said: str) -> None:
    assert said in refusal(*words)


def test_site_is_asked_about_options_of_its_plugins() -> None:
    site = {"container-image": Takes.VALUE, "container-mount-home": Takes.NOTHING}
    line = split_line(
        ["--container-image", "a.sqsh", "--container-mount-home", "a.sh"], ask_site=lambda: site
    )
    assert line.options == {"container-image": "a.sqsh", "container-mount-home": None}
    assert line.script == ("a.sh",)


def test_in_a_script_our_words_are_sbatchs_own() -> None:
    line = split_line(
        ["--deadline=now+1hour", "--priority", "4"], ask_site=nobody, takes_words=False
    )
    assert line.words == {}
    assert line.options == {"deadline": "now+1hour", "priority": "4"}


def test_directives_end_at_the_first_command() -> None:
    script = "#!/bin/bash\n#SBATCH -n 4\n# a note\n\n   \n #SBATCH -a 1\n#SBATCH --time=5 # five\necho\n#SBATCH -H\n"
    assert list(directives(script)) == ["-n 4", "--time=5 # five"]


def test_help_tells_names_and_values() -> None:
    text = (
        "Parallel run options:\n"
        "  -a, --array=indexes         job array index values\n"
        "      --bb=<spec>             burst --not=this\n"
        "      --nice[=value]          decrease\n"
        "      --reboot                reboot\n"
        "  -B  --extra-node-info=S[:C[:T]]  combine\n"
        "                              --mem >= --mem-per-cpu if --mem is specified.\n"
    )
    assert parse_help(text) == {
        "array": Takes.VALUE,
        "bb": Takes.VALUE,
        "nice": Takes.MAYBE,
        "reboot": Takes.NOTHING,
        "extra-node-info": Takes.VALUE,
    }


def test_letters_stand_for_options() -> None:
    assert set(LETTERS.values()) <= set(OPTIONS)
