"""What a job may ask of Slurm: texts that are one argument of a command, and nothing else."""

import pytest

from scheduler.core.errors import InvalidJobError
from scheduler.core.slurm_terms import MAX_CHARS, JobSlurm

DANGEROUS = ("a\nb", "a\0b", "a\rb", "\x1b[2J", "\x7f", "\ud800", "x" * (MAX_CHARS + 1))
ODD = ("a b", "'\"", "$(id); `id` && x | y > z", "--wrap=id", "a,b", "大")


@pytest.mark.parametrize("value", [*DANGEROUS, "", " "])
@pytest.mark.parametrize("name", ["account", "partition", "output", "error"])
def test_text_that_cannot_be_an_argument_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        JobSlurm(**{name: value})
    assert caught.value.fields["field"] == f"slurm.{name}"
    assert caught.value.fields["value"] == value
    assert "without line breaks and NUL" in str(caught.value.fields["valid"])


@pytest.mark.parametrize("value", DANGEROUS)
def test_value_of_an_option_likewise_though_it_may_be_empty(value: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        JobSlurm(options=(("mem", value),))
    assert caught.value.fields["field"] == "slurm.options.mem"
    assert JobSlurm(options=(("contiguous", ""),)).options == (("contiguous", ""),)


@pytest.mark.parametrize("value", ODD)
def test_what_only_a_shell_would_mind_is_kept_as_it_is(value: str) -> None:
    assert JobSlurm(account=value).account == value


def test_asked_names_what_is_stated_and_nothing_else() -> None:
    assert JobSlurm().asked() == {}
    terms = JobSlurm(qos="green", time_limit_s=60, options=(("mem", "1G"), ("nice", "5")))
    assert terms.asked() == {"qos": "green", "time_limit": "1m", "options": "mem=1G, nice=5"}


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("logs/%x-%j.out", "logs/train-%j.out"),
        ("%5x", "train"),
        ("100%%x", "100%%x"),
        ("%%%x", "%%train"),
        ("%u/%j.%a", "%u/%j.%a"),
    ],
)
def test_name_in_a_file_pattern_is_the_job_s_own(pattern: str, named: str) -> None:
    made = JobSlurm(output=pattern, error=pattern).named("train")
    assert (made.output, made.error) == (named, named)
    assert JobSlurm().named("train") == JobSlurm()
