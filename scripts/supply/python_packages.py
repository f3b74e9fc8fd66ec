"""Prints, as JSON, the installed packages that the pin files name: name, version, license.

A license is the SPDX expression of the package, or the SPDX id of what its metadata says.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path

PINS = ("constraints.txt", "requirements.txt", "requirements-tools.txt")

#: What packages write, in lower case, and the SPDX id of it. Classifiers come last.
SPDX = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}


def pinned(folder: Path) -> set[str]:
    """Normalised names in the pin files of `folder`."""
    lines = "\n".join((folder / name).read_text() for name in PINS)
    return {normalised(name) for name in re.findall(r"^([\w.-]+)==", lines, re.MULTILINE)}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def license(package: metadata.PackageMetadata) -> str | None:
    expression = package.get("License-Expression")
    if expression is not None:
        return expression
    written = package.get("License") or ""
    classified = [
        line.split(" :: ")[-1]
        for line in package.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    for text in (written, *classified):
        short = text.strip()
        if short.lower() in SPDX:
            return SPDX[short.lower()]
        if re.fullmatch(r"[A-Za-z0-9.+-]+( (OR|AND) [A-Za-z0-9.+-]+)*", short):
            return short
        if short.startswith(("MIT License", "The MIT License")):
            return "MIT"
    return None


def packages(folder: Path) -> list[dict[str, str | None]]:
    wanted = pinned(folder)
    found = {
        normalised(one.metadata["Name"]): {
            "name": normalised(one.metadata["Name"]),
            "version": one.version.split("+")[0],
            "license": license(one.metadata),
        }
        for one in metadata.distributions()
    }
    return [found[name] for name in sorted(wanted & found.keys())]


if __name__ == "__main__":
    json.dump(packages(Path(sys.argv[1])), sys.stdout)
