#!/bin/sh
# RULER's needles and variables, in segments and with full attention, from the project's root after grid.sh, which
# makes the checkpoints. Stopped, it resumes:
#   sh bench/recall/ruler.sh LENGTH [SAMPLES]
# The contract of contract.config.ts and the quickstart's of before answer the same samples, SAMPLES of each task.
set -eu
length=$1
samples=${2:-8}
tasks=niah_single_1,niah_single_2,niah_multikey_1,niah_multivalue,vt
runs=.lockstep/runs
ask() { # NAME CHECKPOINT OPTION...
  name=$1 checkpoint=$2
  shift 2
  node dist/cli/main.js eval "$runs/$checkpoint" --suite ruler --tasks "$tasks" \
    --lengths "$length" --samples "$samples" --chat --haystack .lockstep/texts/milton/paradiselost.txt \
    --threads "${THREADS:-1}" --out "$runs/ruler-$name-$length-$samples" --json "$@" > "$runs/ruler-$name-$length.part"
}
ask new recall-0
ask old recall-old --attention segmented
PYTHONPATH=bench .venv/bin/python - "sh bench/recall/ruler.sh $length $samples" \
  "$runs/ruler-new-$length.part" "$runs/ruler-old-$length.part" > "$runs/ruler-$length.part" <<'PYTHON'
import json, pathlib, sys
import machine

print(json.dumps(machine.header(sys.argv[1])))
for name, path in zip(("new", "old"), sys.argv[2:]):
    found = json.loads(pathlib.Path(path).read_text("utf-8"))
    kept = ("digest", "tasks", "lengths", "samples", "seed", "rows", "differences")
    print(json.dumps({"contract": name} | {field: found[field] for field in kept}))
PYTHON
mv "$runs/ruler-$length.part" "bench/recall/raw/ruler-$length.jsonl"
echo "now: PYTHONPATH=python .venv/bin/python bench/recall/results.py"
