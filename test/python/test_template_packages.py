"""What Node carries to render chat templates: Jinja2 and MarkupSafe as they are installed here."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import jinja2
import markupsafe

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "src" / "template" / "packages"
(WHEEL,) = PACKAGES.glob("*.whl")
(ARCHIVE,) = PACKAGES.glob("*.tar.gz")


def test_jinja2_is_what_is_installed() -> None:
    folder = Path(jinja2.__file__).parent
    with zipfile.ZipFile(WHEEL) as wheel:
        names = [name for name in wheel.namelist() if name.startswith("jinja2/")]
        assert len(names) == len(list(folder.glob("*.py"))) + 1  # and py.typed
        for name in names:
            assert wheel.read(name) == (folder.parent / name).read_bytes(), name


def test_markupsafe_is_what_is_installed() -> None:
    folder = Path(markupsafe.__file__).parent
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE.read_bytes())) as archive:
        for name in ("__init__.py", "_native.py"):
            member = archive.extractfile(
                f"{ARCHIVE.name.removesuffix('.tar.gz')}/src/markupsafe/{name}"
            )
            assert member is not None
            assert member.read() == (folder / name).read_bytes()


def test_versions_and_sums_are_those_that_are_written_down() -> None:
    pinned = (ROOT / "python" / "constraints.txt").read_text("utf-8").lower()
    sums = (PACKAGES / "README.md").read_text("utf-8")
    for file in (WHEEL, ARCHIVE):
        found = re.match(r"(\w+)-(\d+\.\d+\.\d+)", file.name)
        assert found is not None
        assert f"{found[1]}=={found[2]}" in pinned
        assert f"| `{file.name}` | `{hashlib.sha256(file.read_bytes()).hexdigest()}` |" in sums
