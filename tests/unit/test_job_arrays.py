"""Arrays: one document becomes many jobs."""

import pytest

from scheduler.core.errors import InvalidJobError
from scheduler.server.job_arrays import MAX_TASKS, expand, parse_array


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("3", [3]),
        ("0-3", [0, 1, 2, 3]),
        ("0-10:5", [0, 5, 10]),
        ("0-9:4", [0, 4, 8]),
        ("7, 1-2", [1, 2, 7]),
    ],
)
def test_indices_are_those_of_sbatch(text: str, indices: list[int]) -> None:
    assert parse_array(text) == indices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no index"),
        ("a", "'a' is no index"),
        ("1-", "'1-' is no index"),
        ("-1", "'-1' is no index"),
        ("3-1", "must rise"),
        ("1-9:0", "must rise"),
        ("0-3%2", "leave out %"),
        ("1,1-2", "an index is there twice"),
        (f"0-{MAX_TASKS}", f"more than {MAX_TASKS} tasks"),
        ("0-999999999", "must rise"),
    ],
)
def test_what_is_no_array_is_refused_with_its_form(text: str, words: str) -> None:
    with pytest.raises(InvalidJobError, match=words) as refused:
        parse_array(text)
    assert refused.value.fields["field"] == "array"
    assert "0-9" in str(refused.value.fields["valid"])


def test_each_task_is_a_job_with_its_index() -> None:
    document = {
        "name": "sweep",
        "array": "2-4:2",
        "command": ["python", "train.py"],
        "env": {"LR": "0.1"},
        "slurm": {"output": "logs/%x-%3a-%%a.out", "account": "%a"},
    }
    first, second = expand(document)
    assert (first["name"], second["name"]) == ("sweep-2", "sweep-4")
    assert first["env"] == {
        "LR": "0.1",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_ARRAY_TASK_COUNT": "2",
        "SLURM_ARRAY_TASK_MIN": "2",
        "SLURM_ARRAY_TASK_MAX": "4",
    }
    assert second["env"]["SLURM_ARRAY_TASK_ID"] == "4"
    assert first["slurm"] == {"output": "logs/%x-002-%%a.out", "account": "%a"}
    assert "array" not in first
    assert first["command"] == ["python", "train.py"]
    assert document["array"] == "2-4:2"


def test_document_without_array_stays_as_it_is() -> None:
    document = {"name": "one"}
    assert expand(document) == [document]


def test_fields_of_a_wrong_kind_are_left_for_the_service_to_refuse() -> None:
    (task,) = expand({"array": 1, "env": ["A=1"], "slurm": "account=ml", "name": 3})
    assert (task["env"], task["slurm"], task["name"]) == (["A=1"], "account=ml", 3)
