#!/usr/bin/env bash
# Run what is owed on a GPU, in at most 8 minutes, and skip what an earlier run into the same folder has finished:
#
#     benchmarks/on_gpu.sh out/gpu            # in the project's environment; DEVICE=cpu rehearses it without a GPU
#
# Each step writes NAME.log and, at its end, NAME.done; training writes a checkpoint and goes on from it.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?the folder to write}
device=${DEVICE:-cuda}
mkdir -p "$out"
failed=0

owed() { # owed NAME SECONDS COMMAND...: a step that may take so long
    local name=$1 seconds=$2
    shift 2
    if [ -e "$out/$name.done" ]; then
        echo "$name: done before"
    elif timeout --signal INT --kill-after 10 "$seconds" "$@" >"$out/$name.log" 2>&1; then
        touch "$out/$name.done"
        echo "$name: $(tail -n 1 "$out/$name.log")"
    else
        echo "$name: not finished (exit $?); see $out/$name.log"
        failed=1
    fi
}

# The GPU's results are stock torchvision's, and fidelity there is the CPU's.
owed exact 90 python -m pytest -q -p no:cacheprovider tests/shared/models/test_device.py tests/shared/metrics/test_on_device.py
# A sweep against the obvious script, one picture and several together.
owed sweep 150 python -m benchmarks.sweep_vs_stock --weights starter --scenes starter --device "$device" --threads 16 --together 15
# Several workers that share the GPU.
owed workers 90 featlink bench --engine ray --workers 4 --threads 4 --device "$device" --conditions paper.table4 --limit 16 --seeds 0 \
    --out "$out/workers"
# Training of the learned reduction, on scenes that nothing is judged by: as far as it gets, from its checkpoint.
owed scenes 30 featlink scenes --n 200 --seed 900 --out "$out/scenes"
owed bottleneck 100 featlink fit bottleneck --dataset "$out/scenes" --scenes 200 --rounds "${ROUNDS:-2000}" --device "$device" \
    --out "$out/bottleneck.safetensors"
exit $failed
