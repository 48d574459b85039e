"""`gridtide sbatch` before a fake sbatch, and before the real one."""

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.clocks import SystemClock
from adapters.cluster.slurm_adopting import AdoptingSlurmCluster
from adapters.cluster.slurm_commands import HereRunner
from adapters.cluster.slurm_request import SlurmDevice
from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.server import cli
from tests.fakes.slurm.setting_up import set_up
from tests.integration.cli_world import Ran
from tests.unit.cluster.native_user import User
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.runs import wait_until
from tests.unit.cluster.slurm_world import H100

pytestmark = pytest.mark.timeout(120)
SMALL = ("--mem=1", "--output=out")
PLANNED = ("--deadline=2031-01-01T00:00:00Z", "--duration=4h")
GUARD = datetime(2030, 12, 31, 20, 0, tzinfo=UTC) - timedelta(seconds=GUARD_BEFORE_S)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.external)])
def user(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:  # fmt: skip
    folder = tmp_path / "home"
    folder.mkdir()
    if request.param == "real":
        user = User(require_slurm("east"), folder)
    else:
        slurm = set_up(tmp_path / "slurm")
        monkeypatch.setenv("PATH", str(slurm.programs), prepend=":")
        user = User(slurm.conf, folder, slurm.programs)
    monkeypatch.setenv("SLURM_CONF", str(user.conf))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(folder)
    (folder / "job.sh").write_text('#!/bin/sh\necho ran "$@"\n')
    yield user
    user.finish()


@dataclass
class Front:
    """Runs the command in this process, with its children's output."""

    user: User
    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: str, stdin: str = "") -> Ran:
        self.monkeypatch.setattr(sys, "argv", ["gridtide", "sbatch", *words])
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = self.capture.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    def submit(self, *words: str, stdin: str = "") -> str:
        """The id of the new job."""
        ran = self(*SMALL, "--parsable", *words, stdin=stdin)
        assert ran.code == 0, ran.err
        self.user.refs.append(ran.out.strip())
        return ran.out.strip()

    def field(self, ref: str, name: str) -> str:
        wanted = ("--noheader", "--states=all", f"--jobs={ref}", f"--Format={name}:0")
        return self.user.run("squeue", *wanted)

    def ran(self, ref: str) -> str:
        """What the job has printed, once it has."""
        path = self.user.folder / "out"

        def is_there() -> bool:
            is_waiting = self.field(ref, "State") == "PENDING"
            return not is_waiting and path.exists() and bool(path.read_text())

        wait_until(is_there, "it has run")
        return path.read_text()

    def queued(self) -> str:
        return self.user.run("squeue", "--noheader", "--me", "--states=all", "--Format=JobID:0")


@pytest.fixture
def front(user: User, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Front:
    return Front(user, monkeypatch, capfd)


def test_job_waits_for_its_guard_with_its_words_in_its_comment(front: Front) -> None:
    ref = front.submit(*PLANNED, "--comment=mine", "job.sh")
    assert front.field(ref, "State") == "PENDING"
    assert front.field(ref, "EligibleTime") == GUARD.isoformat().removesuffix("+00:00")
    assert front.field(ref, "Comment") == (
        "mine;gridtide:deadline=2031-01-01T00:00:00Z,duration=4h"
    )


def test_it_prints_what_sbatch_prints_and_by_when_it_starts(front: Front) -> None:
    ran = front(*SMALL, "--parsable", *PLANNED, "job.sh")
    front.user.refs.append(ran.out.strip())
    assert ran.out.strip().isdigit()
    assert ran.err == (
        "starts at Tue 31 Dec 19:58 at the latest; its plan, once it is adopted: gridtide list\n"
    )


def test_service_finds_the_job_and_what_it_asks_for(front: Front, tmp_path: Path) -> None:
    ref = front.submit(*PLANNED, "--interruptible", "--signal", "USR1", "job.sh")
    cluster = AdoptingSlurmCluster(
        "east",
        adopts="own",
        accelerators={"CPU": SlurmDevice(), "H100": H100},
        root=tmp_path / "shared",
        clock=SystemClock(),
        runner=HereRunner(conf=front.user.conf, programs=front.user.programs),
        prefix="gt-test-",
    )
    (native,) = [one for one in cluster.native_jobs() if one.ref == ref]
    assert native.trouble is None
    assert native.words == {
        "deadline": "2031-01-01T00:00:00Z",
        "duration": "4h",
        "interruptible": "yes",
        "signal": "USR1",
    }
    assert (native.starts_at, native.is_held) == (GUARD, False)


def test_without_any_service_the_job_starts_at_its_guard(front: Front) -> None:
    ref = front.submit(f"--patience={GUARD_BEFORE_S + 3}s", "--duration=1m", "job.sh")
    assert front.field(ref, "State") == "PENDING"
    assert front.ran(ref) == "ran\n"


def test_script_on_the_input_reaches_sbatch(front: Front) -> None:
    script = "#!/bin/sh\n#SBATCH --time=2\necho from the input\n"
    ref = front.submit("--patience=30s", stdin=script)
    assert front.ran(ref) == "from the input\n"


def test_wrapped_command_reaches_sbatch(front: Front) -> None:
    ref = front.submit("--patience=30s", "--duration=1m", "--wrap=echo wrapped")
    assert front.ran(ref) == "wrapped\n"


def test_exit_code_and_words_of_sbatch_pass_through(front: Front) -> None:
    ran = front(*SMALL, *PLANNED, "--partition=none", "job.sh")
    assert ran.code == 1
    assert "invalid partition specified: none" in ran.err
    assert "at the latest" not in ran.err


def test_wrong_words_submit_nothing(front: Front) -> None:
    before = front.queued()
    for words, code, said in (
        (("--deadline=soon", "--duration=4h"), 2, "deadline: 'soon' is not a time; write"),
        (("--deadline=+1h", "--duration=4h"), 3, "is too soon for 4h"),
        (("--deadline=+9h", "--power-w=much", "--duration=4h"), 2, "power_w: 'much' is not a number"),
        (("--duration=4h",), 2, "deadline: not stated; write --deadline"),
        (("--deadline=+9h", "--no-such-thing", "x"), 2, "--no-such-thing: is an option neither"),
    ):  # fmt: skip
        ran = front(*SMALL, *words, "job.sh")
        assert (ran.code, ran.out) == (code, "")
        assert said in ran.err
    assert front.queued() == before


def test_dry_run_prints_the_command_and_submits_nothing(front: Front) -> None:
    before = front.queued()
    ran = front(
        *PLANNED, "--dry-run", "--comment=it's mine", "job.sh", "a b", "--deadline", "$HOME"
    )
    begin = int(GUARD.timestamp())
    assert ran.out == (
        "sbatch '--comment=it'\"'\"'s mine;gridtide:deadline=2031-01-01T00:00:00Z,duration=4h' "
        f"--begin=uts{begin} job.sh 'a b' --deadline '$HOME'\n"
    )
    assert front.queued() == before


@pytest.mark.parametrize("user", ["fake"], indirect=True)
def test_options_of_a_sites_plugins_are_known_by_its_help(front: Front) -> None:
    ran = front(*PLANNED, "--dry-run", "--container-image", "a.sqsh", "job.sh", "x")
    assert ran.code == 0
    assert ran.out.endswith(" --container-image a.sqsh job.sh x\n")


def test_without_sbatch_it_says_so(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ran = front(*PLANNED, "job.sh")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: sbatch is not on PATH")


def test_help_tells_the_words(front: Front) -> None:
    ran = front("--help")
    assert ran.code == 0
    for word in ("--deadline", "--duration-p95", "--interruptible", "--dry-run"):
        assert word in ran.out


@pytest.mark.external
@pytest.mark.parametrize("user", ["real"], indirect=True)
def test_arguments_of_the_script_stay_its_own(front: Front) -> None:
    (front.user.folder / "job.sh").write_text(
        '#!/bin/sh\n#SBATCH --time=1 --begin=now+1hour\nprintf "<%s>" "$@"\n'
    )
    words = ("-n", "1", "-N1", "-J", "x y", "--", "job.sh", "--deadline", "a b", "-n", "", ";")
    ref = front.submit("--patience=30s", *words)
    assert front.ran(ref) == "<--deadline><a b><-n><><;>"


@pytest.mark.external
@pytest.mark.parametrize("user", ["real"], indirect=True)
def test_script_is_read_where_sbatch_reads_it(front: Front) -> None:
    there = front.user.folder / "there"
    there.mkdir()
    (there / "job.sh").write_text("#!/bin/sh\n#SBATCH --time=5\necho there\n")
    ref = front.submit("--deadline=2031-01-01T00:05:00Z", f"--chdir={there}", "job.sh")
    midnight = datetime(2031, 1, 1, tzinfo=UTC) - timedelta(seconds=GUARD_BEFORE_S)
    assert front.field(ref, "EligibleTime") == midnight.isoformat().removesuffix("+00:00")


def test_nothing_heavy_is_imported_for_its_sake() -> None:
    script = (
        "import sys; import scheduler.server.cli_sbatch\n"
        "print([n for n in ('numpy', 'pydantic', 'httpx', 'yaml') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
