#!/usr/bin/env bash
# Everything that is asked of a GPU about speed, in one call of under 8 minutes: the step beside the plain one, the whole
# training beside the plain one, a ViT-L with and without stochastic depth, one part of the fast step switched at a time.
# Each part has a time limit of its own; one that fails leaves the others. Numbers go to the folder $OUT, and what fell
# back to slower code to words.log there. Without a GPU, `SMALL=1 DEVICE=cpu` tries the commands in miniature.
#
#     OUT=outputs/speed bash scripts/benchmarks/speed_on_gpu.sh
set -u
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
OUT=${OUT:-outputs/speed}
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
SECONDS_IN_ALL=${SECONDS_IN_ALL:-470}
mkdir -p "$OUT"

if [ "${SMALL:-}" ]; then
    base="--model tiny --captions 2 --images-per-caption 2 --prototypes 64 --warm-up 1"
    large="$base" step="--steps 2" whole="--steps 2 --workers 1"
else
    base="--model vit-b16 --captions 64 --images-per-caption 4 --prototypes 65536"
    large="--model vit-l14 --captions 32 --images-per-caption 4 --prototypes 65536"
    step="--steps 20" whole="--workers 14"
fi

# part NAME LIMIT COMMAND...: run it for at most LIMIT seconds, and never beyond the time of all.
part() {
    local name=$1 limit=$2 left=$((SECONDS_IN_ALL - SECONDS)) began=$SECONDS status=0
    shift 2
    if [ "$left" -lt 15 ]; then
        echo "== $name: left out, the time is over"
        return
    fi
    [ "$limit" -gt "$left" ] && limit=$left
    echo "== $name: at most $limit s"
    timeout -k 5 "$limit" "$PYTHON" "$@" --device "$DEVICE" --json "$OUT/$name.json" 2> >(tee -a "$OUT/words.log" | tail -n 40 >&2) || status=$?
    [ "$status" -ne 0 ] && echo "== $name: ended with exit status $status (124: its time was over)"
    echo "== $name: $((SECONDS - began)) s"
}

[ "$DEVICE" = cuda ] && nvidia-smi --query-gpu=name,driver_version,memory.total,utilization.gpu --format=csv,noheader
df -h /dev/shm | tail -n 1

# The first compiles; the others find the compiled code.
part step_vit_b16 130 scripts/benchmarks/train_step.py $base $step --compare plain --rounds 1
part whole_vit_b16 120 scripts/benchmarks/end_to_end.py $base $whole --compare plain --rounds 1
part step_vit_l14 60 scripts/benchmarks/train_step.py $large $step --drop-path 0
part step_vit_l14_drop_path 60 scripts/benchmarks/train_step.py $large $step --drop-path 0.4
part ablation_vit_b16 240 scripts/benchmarks/train_step.py $base $step --ablate --time-limit 75
echo "== all: $SECONDS s"
