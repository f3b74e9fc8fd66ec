#!/bin/sh
# The whole grid in one command, from the project's root after `npm start`. Stopped, it resumes:
#   sh bench/recall/grid.sh [LENGTHS] [DOCUMENTS]
# Full attention, the contract of contract.config.ts and the quickstart's of before, on the same needles: five
# depths, so eight documents are 40 needles a length.
set -eu
lengths=${1:-1024,2048,4096,8192,16384}
documents=${2:-8}
model=.lockstep/models/smollm2-135m-instruct
runs=.lockstep/runs
[ -d "$runs/recall-0" ] || node dist/cli/main.js attach "$model" \
  --config bench/recall/contract.config.ts --out "$runs/recall-0" --no-probe
[ -d "$runs/recall-old" ] || node dist/cli/main.js attach "$model" \
  --config bench/training/base/lockstep.config.ts --out "$runs/recall-old" --no-probe
name=grid-$(echo "$lengths" | tr , -)-$documents
mkdir -p bench/recall/raw
PYTHONPATH=bench .venv/bin/python -c 'import json, sys, machine; print(json.dumps(machine.header(sys.argv[1])))' \
  "sh bench/recall/grid.sh $lengths $documents" > "$runs/$name.part"
node dist/cli/main.js recall "$runs/recall-0" --compare "$runs/recall-old" \
  --text .lockstep/texts/milton/paradiselost.txt --skip 60000 \
  --lengths "$lengths" --samples "$documents" --threads "${THREADS:-1}" \
  --out "$runs/recall-$name" --html "$runs/recall-$name.html" --json > "$runs/$name.found"
# Paths as from the root, whatever machine it is.
sed "s#$PWD/##g" "$runs/$name.found" >> "$runs/$name.part"
mv "$runs/$name.part" "bench/recall/raw/$name.jsonl"
echo "now: PYTHONPATH=python .venv/bin/python bench/recall/results.py"
