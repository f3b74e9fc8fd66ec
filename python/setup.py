"""The version stands in one place, package.json; a source distribution carries it in PKG-INFO."""

import json
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    package = HERE.parent / "package.json"
    if package.is_file():
        return json.loads(package.read_text())["version"]
    for line in (HERE / "PKG-INFO").read_text().splitlines():
        if line.startswith("Version: "):
            return line.removeprefix("Version: ")
    raise RuntimeError("expected package.json beside python/, or PKG-INFO")


setup(version=version())
