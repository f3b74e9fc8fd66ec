#!/usr/bin/env bash
# Ten minutes on a GPU, or a dry run on a CPU: parity, bench/llama, does training in segments pay.
#
#   bench/gpu/run.sh [--dry] [--out DIR] [--parts parity,llama,train] [--checkpoint DIR] [--tokens DIR]
#
# Every part has a time limit of its own and writes as it goes; one that fails stops no other.
# PYTHON names the interpreter (default: the repository's .venv, else python3). README.md beside this
# says what must travel.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || python=python3
out=${OUT:-} parts=parity,llama,train dry=''
checkpoint="$root/.lockstep/models/smollm2-135m-instruct" tokens="$root/.lockstep/gpu"
while [ $# -gt 0 ]; do
  case $1 in
    --dry) dry=--dry; shift ;;
    --out | --parts | --checkpoint | --tokens)
      [ $# -ge 2 ] || { echo "expected a value after $1, got none" >&2; exit 2; }
      declare "${1#--}=$2"; shift 2 ;;
    *) echo "expected --dry, --out, --parts, --checkpoint or --tokens, got $1" >&2; exit 2 ;;
  esac
done
[ -n "$out" ] || { echo 'expected --out DIR or $OUT, got neither' >&2; exit 2; }
for part in ${parts//,/ }; do
  case $part in
    parity | llama | train) ;;
    *) echo "expected parts out of parity, llama, train, got $part" >&2; exit 2 ;;
  esac
done
mkdir -p "$out" && out=$(cd "$out" && pwd)
export PYTHONPATH="$root/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}

# part NAME SECONDS COMMAND...: the end of a part, good or bad, is a line of parts.jsonl.
part() {
  local name=$1 limit=$2 began=$SECONDS rc; shift 2
  case ",$parts," in *",$name,"*) ;; *) return 0 ;; esac
  timeout -k 5 "$limit" "$@" > >(tee "$out/$name.log") 2>&1; rc=$?
  printf '{"part":"%s","rc":%d,"seconds":%d,"limit":%d}\n' \
    "$name" "$rc" $((SECONDS - began)) "$limit" | tee -a "$out/parts.jsonl"
}

timeout 60 "$python" "$here/machine_facts.py" --out "$out/machine.json" $dry ||
  echo 'machine_facts.py failed; the parts go on' >&2
if [ -n "$dry" ]; then
  part parity 60 "$python" "$here/parity.py" --out "$out/parity.jsonl" --dry
  part llama 60 "$python" "$root/bench/llama/run.py" --device cpu --shape small --dtype float32 \
    --tokens 512 --repeat 1 --modes segmented,full --segment 128 --carry 32 --retrieval 32 \
    --out "$out/llama.json"
  part train 120 "$python" "$here/train.py" --out "$out/train.jsonl" --dry --seconds 100
else
  part parity 45 "$python" "$here/parity.py" --out "$out/parity.jsonl"
  part llama 110 "$python" "$root/bench/llama/run.py" --dtype bfloat16 --repeat 1 \
    --modes segmented,full --out "$out/llama.json"
  part train "${TRAIN_SECONDS:-420}" "$python" "$here/train.py" --out "$out/train.jsonl" \
    --checkpoint "$checkpoint" --tokens "$tokens" --seconds "$((${TRAIN_SECONDS:-420} - 15))"
fi
timeout 30 "$python" "$here/verdict.py" "$out/train.jsonl" | tee "$out/verdict.md"
exit 0
