"""The wheel, built and installed elsewhere, has everything it needs."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_runs_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("snnprof-*.whl")
    home = tmp_path / "elsewhere"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    # Its dependencies are large: those installed here are lent to it.
    (site,) = home.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    where = subprocess.run(
        [python, "-c", "import snnprof.models; print(snnprof.models.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    for command in ([home / "bin" / "snnprof"], [python, "-m", "snnprof"]):
        listed = subprocess.run(
            [*command, "models"], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert "vgg11" in listed.stdout


def test_the_wheel_is_built_without_a_compiler(tmp_path: Path) -> None:
    """The C extension is left out then, and torch reads the inputs."""
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path)]
    environment = os.environ | {"CC": "/bin/false"}
    subprocess.run([*build, str(source)], check=True, cwd=tmp_path, env=environment)
    (wheel,) = tmp_path.glob("snnprof-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "_scan." in name and not name.endswith(".c")]
    assert "snnprof/counting/scan_torch.py" in names
