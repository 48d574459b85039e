"""The routes to a Slurm cluster: settings that can and cannot be, and what is built of them."""

from pathlib import Path

import pytest

from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_rest_client import SlurmRestClient
from scheduler.core.errors import InvalidConfigError
from scheduler.server.cluster_settings import SlurmSettings
from scheduler.server.settings import load_settings
from scheduler.server.slurm_routes import build_access, build_other, build_rest
from scheduler.server.wiring import doctor
from tests.fakes.slurm.setting_up_rest import TOKEN, USER, running_rest

REST = {"url": "https://slurm.example.org", "user": "ml", "token_env": "MY_SLURM_TOKEN"}


def written(folder: Path, slurm: str, more: str = "") -> Path:
    path = folder / "gridtide.yaml"
    path.write_text(
        f"""
intensity: {{sources: [{{kind: typical_week}}]}}
store: {{path: {folder}/data/jobs.sqlite}}
clusters:
  - id: hpc
    kind: slurm
    region: eu
    zone: DE
    capacity: {{CPU: 8}}
    root: shared
    slurm: {slurm}
    {more}
""",
        encoding="utf-8",
    )
    return path


def test_token_file_is_beside_the_settings(tmp_path: Path) -> None:
    rest = "{url: 'https://slurm.example.org', user: ml, token_file: token}"
    slurm = f"{{route: rest, partition: cpu, rest: {rest}}}"
    (cluster,) = load_settings(written(tmp_path, slurm)).clusters
    assert cluster.slurm is not None
    assert cluster.slurm.rest is not None
    assert cluster.slurm.rest.token_file == tmp_path / "token"


WHO = "url: 'https://slurm.example.org', user: ml"


@pytest.mark.parametrize(
    ("slurm", "more", "says"),
    [
        ("{route: rest}", "", "route: rest needs rest"),
        ("{route: http}", "", "route"),
        (f"{{route: rest, rest: {{{WHO}}}}}", "", "token_env and token_file: give one of them"),
        (f"{{rest: {{{WHO}, token_env: A, token_file: b}}}}", "", "give one of them"),
        (
            f"{{rest: {{{WHO}, token_env: A, version: v0.0.39}}}}",
            "",
            r"'v0\.0\.39' is none of v0\.0\.38",
        ),
        ("{rest: {url: 'https://x.org', user: 'two words', token_env: A}}", "", "user"),
        (
            f"{{route: rest, partition: cpu, rest: {{{WHO}, token_env: A}}}}",
            "pause: freeze",
            "pause: freeze cannot be done with slurm.route: rest",
        ),
        (f"{{route: rest, rest: {{{WHO}, token_env: A}}}}", "", r"slurm\.partition is needed"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, slurm: str, more: str, says: str
) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        load_settings(written(tmp_path, slurm, more))


def test_partition_may_be_that_of_each_device(tmp_path: Path) -> None:
    devices = "devices: {CPU: {partition: cpu}}"
    slurm = f"{{route: rest, rest: {{{WHO}, token_env: A}}, {devices}}}"
    assert load_settings(written(tmp_path, slurm)).clusters


def test_route_that_is_not_used_may_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SLURM_TOKEN", "SLURM_JWT=abc")
    by_rest = SlurmSettings.model_validate({"route": "rest", "rest": REST})
    by_commands = SlurmSettings.model_validate({"rest": REST})
    plain = SlurmSettings()
    assert isinstance(build_access("hpc", by_rest), SlurmRestClient)
    assert build_access("hpc", by_commands) is None
    assert build_other("hpc", plain) is None
    name, other = build_other("hpc", by_commands) or ("", None)
    assert (name, type(other)) == ("rest", SlurmRestClient)
    name, other = build_other("hpc", by_rest) or ("", None)
    assert (name, type(other)) == ("cli", SlurmClient)


@pytest.mark.parametrize("token", [None, "", "two words"])
def test_variable_without_a_token_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    monkeypatch.delenv("MY_SLURM_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("MY_SLURM_TOKEN", token)
    with pytest.raises(InvalidConfigError, match="MY_SLURM_TOKEN") as caught:
        build_rest("hpc", SlurmSettings.model_validate({"route": "rest", "rest": REST}))
    assert caught.value.fields["field"] == "clusters.hpc.slurm.rest.token_env"


def test_token_without_tls_needs_a_word_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SLURM_TOKEN", "abc")
    rest = REST | {"url": "http://slurm.example.org:6820"}
    with pytest.raises(InvalidConfigError, match=r"clusters\.hpc\.slurm\.rest\.url: must be https"):
        build_rest("hpc", SlurmSettings.model_validate({"rest": rest}))
    build_rest("hpc", SlurmSettings.model_validate({"rest": rest | {"plain_http": True}}))


def test_doctor_looks_at_both_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SLURM_TOKEN", TOKEN)
    with running_rest(tmp_path / "slurm", "old") as fake:
        monkeypatch.setenv("PATH", str(fake.slurm.programs))
        rest = f"{{url: '{fake.url}', user: {USER}, token_env: MY_SLURM_TOKEN}}"
        shared = f"partition: cpu, cluster: fake, conf: {fake.slurm.conf}, rest: {rest}"
        said = {
            route: [
                (one.is_ok, one.detail)
                for one in doctor(written(tmp_path, f"{{route: {route}, {shared}}}"))
                if one.subject == "cluster hpc"
            ]
            for route in ("cli", "rest")
        }
    assert all(is_ok for lines in said.values() for is_ok, _ in lines)
    assert said["cli"][0][1] == "slurm 22.05.8, controller up"
    assert said["cli"][-1][1].startswith(
        "route rest, which is not used, would work too: slurmrestd"
    )
    assert said["rest"][0][1].startswith(f"slurmrestd 22.05.8 at {fake.url}, v0.0.38 of v0.0.36")
    assert said["rest"][-1][1].startswith(
        "route cli, which is not used, would work too: slurm 22.05"
    )
