"""The workflows of the template and of rendered projects: what zizmor finds in them."""

import subprocess
import sys
from pathlib import Path

import pytest
from combinations import COMBINATIONS, ROOT

OTHERS = ["workflows/evals.yml", "workflows/update.yml"]
ZIZMOR = Path(sys.executable).with_name("zizmor")


@pytest.mark.parametrize("where", ["template", "render"])
def test_zizmor_finds_nothing(renders: dict[str, Path], where: str) -> None:
    """Look for actions that are not pinned, too many rights, kept credentials and injections."""
    folder = ROOT if where == "template" else renders[COMBINATIONS[0].name]
    names = ["workflows/ci.yml", "dependabot.yml"]
    names += ["workflows/release.yml"] if where == "template" else OTHERS
    run = subprocess.run(
        [
            ZIZMOR,
            "--offline",
            "--strict-collection",
            *(folder / ".github" / name for name in names),
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
