"""Makes what travels to a GPU in calls of limited size: a file in pieces, and texts as token ids.

usage: python bench/gpu/pack.py split FILE DIR [--mib N]
       python bench/gpu/pack.py join DIR FILE
       python bench/gpu/pack.py tokens CHECKPOINT TEXTS DIR

``split`` writes DIR/FILE.part-00 and so on, and DIR/parts.json with the SHA-256 of the whole;
``join`` refuses pieces that do not add up to it. ``tokens`` reads every TEXTS/*/*.txt into
train.npy and Paradise Lost into held.npy, uint16.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

HELD = "paradiselost.txt"
AROUND = ("paradiseregained.txt",)  # the same author's sequel: in neither


def split(file: Path, folder: Path, mib: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    whole, names = hashlib.sha256(), []
    with file.open("rb") as source:
        while piece := source.read(mib << 20):
            names.append(f"{file.name}.part-{len(names):02d}")
            (folder / names[-1]).write_bytes(piece)
            whole.update(piece)
    parts = {"name": file.name, "sha256": whole.hexdigest(), "parts": names}
    (folder / "parts.json").write_text(json.dumps(parts) + "\n")
    print(f"{len(names)} pieces of {file.name}, sha256 {whole.hexdigest()}")


def join(folder: Path, file: Path) -> None:
    stated = json.loads((folder / "parts.json").read_text())
    missing = [name for name in stated["parts"] if not (folder / name).is_file()]
    if missing:
        sys.exit(f"expected {len(stated['parts'])} pieces, got none named {missing[0]}")
    whole = hashlib.sha256()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        for name in stated["parts"]:
            piece = (folder / name).read_bytes()
            whole.update(piece)
            out.write(piece)
    if whole.hexdigest() != stated["sha256"]:
        file.unlink()
        sys.exit(f"expected SHA-256 {stated['sha256']} of the whole, got {whole.hexdigest()}")


def tokens(checkpoint: Path, texts: Path, folder: Path) -> None:
    import numpy as np
    from lockstep.tokenizer.file import load_tokenizer

    tokenizer = load_tokenizer(checkpoint)
    if tokenizer.get_vocab_size() > 1 << 16:
        sys.exit(f"expected ids below 65536, got {tokenizer.get_vocab_size()} of them")
    files = sorted(texts.glob("*/*.txt"))
    held = [f for f in files if f.name == HELD]
    if len(held) != 1:
        sys.exit(f"expected one {HELD} in folders of {texts}, got {len(held)}")
    folder.mkdir(parents=True, exist_ok=True)
    ids: dict[str, list[int]] = {"train": [], "held": []}
    for file in files:
        if file.name not in AROUND:
            text = file.read_text("utf-8", errors="replace")
            found = tokenizer.encode(text, add_special_tokens=False).ids
            ids["held" if file.name == HELD else "train"] += found
    for name, values in ids.items():
        np.save(folder / f"{name}.npy", np.array(values, dtype=np.uint16))
        print(f"{name}.npy: {len(values)} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("split")
    one.add_argument("file", type=Path)
    one.add_argument("folder", type=Path)
    one.add_argument("--mib", type=int, default=40)
    one = commands.add_parser("join")
    one.add_argument("folder", type=Path)
    one.add_argument("file", type=Path)
    one = commands.add_parser("tokens")
    one.add_argument("checkpoint", type=Path)
    one.add_argument("texts", type=Path)
    one.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.command == "split":
        split(args.file, args.folder, args.mib)
    elif args.command == "join":
        join(args.folder, args.file)
    else:
        tokens(args.checkpoint, args.texts, args.folder)


if __name__ == "__main__":
    main()
