#!/usr/bin/env bash
# Everything that is to be known from a machine with an NVIDIA GPU, in one go of less than nine minutes:
#
#     bench-gpu.sh [FOLDER FOR RESULTS]        default: ./results
#
# Runs from an unpacked bundle (`cargo xtask bundle --cuda`), beside which it finds its programs. Needs the
# GPU's driver, and a python3 with PyTorch for CUDA; nothing is installed, built or fetched. Stages have time
# limits of their own and do not depend on each other's success; each leaves NAME (what it printed) and
# NAME.err (what it said on the way) in the folder. stages.txt has exit codes and seconds; 124 is a stage
# that ran out of time. The table comes last.
#
# Settings: BENCH_SECONDS, all stages together (525); BENCH_ONLY, names of stages, with spaces between;
# FORERUNNER_CUDA_LIBS, a folder with CUDA's libraries (else those of PyTorch, else of /usr/local/cuda).
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$PWD/results}
total=${BENCH_SECONDS:-525}
python=${PYTHON:-python3}
mkdir -p "$out"
out=$(cd "$out" && pwd)
: > "$out/stages.txt"
note() { printf '%s\n' "$*" | tee -a "$out/stages.txt" >&2; }

# stage NAME SECONDS COMMAND...: what it prints goes to $out/NAME.
stage() {
    local name=$1 limit=$2 code
    shift 2
    [[ -z "${BENCH_ONLY:-}" || " $BENCH_ONLY " == *" $name "* ]] || return 0
    local left=$((total - SECONDS))
    ((limit <= left)) || limit=$left
    if ((limit < 5)); then
        note "$name: left out, $left of $total seconds are left"
        return 0
    fi
    local began=$SECONDS
    timeout --kill-after=5 "$limit" "$@" > "$out/$name" 2> "$out/$name.err"
    code=$?
    note "$name: exit code $code after $((SECONDS - began)) s"
    ((code == 0)) || tail -n 3 "$out/$name.err" | sed 's/^/    /' >&2
    return 0
}

# One folder with all of CUDA's libraries: packages of the Python index have one for each.
libraries() {
    local folder=$out/cuda-libs found=0 file from
    rm -rf "$folder"
    mkdir -p "$folder"
    from=$("$python" - <<'PYTHON' 2> /dev/null
import glob, os, site, sys
roots = site.getsitepackages() + [site.getusersitepackages()] + sys.path
for root in dict.fromkeys(root for root in roots if root):
    for folder in sorted(glob.glob(os.path.join(root, "nvidia", "**", "lib"), recursive=True)):
        print(folder)
PYTHON
)
    while IFS= read -r lib; do
        for file in "$lib"/lib*.so*; do
            # The first one found stays: libraries of two releases do not mix.
            [[ -e "$file" && ! -e "$folder/${file##*/}" ]] || continue
            ln -s "$file" "$folder/" && found=1
        done
    done < <(
        printf '%s\n' "$from"
        for root in "${CUDA_HOME:-/usr/local/cuda}" /usr/local/cuda-13*; do
            printf '%s\n' "$root/lib64" "$root/targets/x86_64-linux/lib"
        done
    )
    ((found)) && printf '%s' "$folder"
}

if [[ -z "${FORERUNNER_CUDA_LIBS:-}" ]]; then
    FORERUNNER_CUDA_LIBS=$(libraries)
    [[ -n "$FORERUNNER_CUDA_LIBS" ]] || note "no CUDA libraries were found; set FORERUNNER_CUDA_LIBS"
fi
export FORERUNNER_CUDA_LIBS
# Libraries that these need in turn. PyTorch knows its own.
ours=(env LD_LIBRARY_PATH="$FORERUNNER_CUDA_LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
# Compiled kernels of PyTorch go where there is certainly room, and start from nothing.
export TORCHINDUCTOR_CACHE_DIR="$out/inductor" TRITON_CACHE_DIR="$out/triton"

note "libraries: ${FORERUNNER_CUDA_LIBS:-none} ($(find -L "${FORERUNNER_CUDA_LIBS:-/nowhere}" \
    -name 'libcublas*.so.1*' -printf '%f ' 2> /dev/null))"
stage machine.txt 20 bash -c '
    nvidia-smi || true
    uname -a; nproc; free -g | head -n 2
    '"$python"' -c "import torch, sys; print(sys.version); print(torch.__version__, torch.version.cuda)"
    '"$python"' -c "import os, sysconfig as s; p = s.get_paths()[\"include\"] + \"/Python.h\"; print(p, os.path.exists(p))"
    command -v cc gcc clang || echo "no C compiler: torch.compile may need one"'
stage probe.json 20 "${ours[@]}" "$here/bin/forerunner-gpu" probe --json
stage matmul.json 45 "${ours[@]}" "$here/bin/forerunner-gpu" matmul --json

# Operations on the device, against what they are by definition. One thread a test binary: a device has
# one queue, and memory is what runs out.
tests_end=$((SECONDS + 180))
# What nothing but a device can show comes first.
ordered=()
for name in gemm graph harness device loss head attention; do
    [[ -x "$here/tests/$name" ]] && ordered+=("$here/tests/$name")
done
for test in "$here"/tests/*; do
    [[ " ${ordered[*]} " == *" $test "* ]] || ordered+=("$test")
done
for test in "${ordered[@]}"; do
    [[ -x "$test" ]] || continue
    left=$((tests_end - SECONDS))
    name=$(basename "$test")
    # The harness' other tests have no device in them, and some read the sources.
    only=()
    most=40
    if [[ "$name" == harness ]]; then
        only=(device_conversation captured_conversation)
        # Some thirty trainings, each of which opens the device anew.
        most=90
    fi
    stage "test-$name.txt" $((left < most ? left : most)) \
        "${ours[@]}" "$test" "${only[@]}" --test-threads=1 --nocapture
done
if [[ -x "$here/sandbox/deps/sandbox" ]]; then
    stage test-sandbox-gpu.txt 30 "$here/sandbox/deps/sandbox" gpu --nocapture
fi

data=()
[[ -d "$here/data" ]] && data=(--data "$here/data")
rate=()
value=$(grep -o '"flops_per_second": *[^,}]*' "$out/matmul.json" 2> /dev/null | cut -d: -f2 | tr -d ' ')
[[ -n "$value" ]] && rate=(--matmul-rate "$value")
weights=$out/initial.safetensors
torch=("$python" "$here/bench_torch.py" --program "$here/bench.rs" --weights "$weights")

stage harness.json 75 "${ours[@]}" "$here/bin/gpu_bench" --program "$here/bin/bench" --weights "$weights" \
    "${data[@]}" "${rate[@]}"
# The same losses are expected, to the last bit.
stage captured.json 60 "${ours[@]}" "$here/bin/gpu_bench" --program "$here/bin/bench-captured" \
    --name captured "${data[@]}" "${rate[@]}"
stage eager.json 75 "${torch[@]}" --mode eager "${data[@]}" "${rate[@]}"
stage compile.json 150 "${torch[@]}" --mode compile "${data[@]}" "${rate[@]}"
# The same again with everything collected: a table of kernels, and what collecting costs.
stage harness-all.json 60 "${ours[@]}" "$here/bin/gpu_bench" --program "$here/bin/bench" --collect all \
    --name harness-all "${data[@]}" "${rate[@]}"
# PyTorch waiting for the device after every step, as most scripts do.
stage eager-synchronised.json 45 "${torch[@]}" --mode eager --sync-every 1 --steps 100 \
    --name eager-synchronised "${data[@]}" "${rate[@]}"
# Large, and made again from the seed at any time.
rm -rf "$weights" "$out/inductor" "$out/triton" "$out/cuda-libs"

{
    echo
    echo "=== stages"
    cat "$out/stages.txt"
    echo
    echo "=== tests on the device"
    (
        cd "$out" || exit
        grep -H '^test result:' test-*.txt | sed 's/; 0 measured.*//'
        grep -c 'skipped on a device' test-*.err | grep -v ':0$' | sed 's/.err:/: NOT ON A DEVICE, times: /'
        grep -h -A 3 -E 'panicked at' test-*.err | head -n 60
        grep -H -E '^test .* FAILED' test-*.txt | head -n 40
    ) 2> /dev/null
    echo
    echo "=== kernels of a step, by events, in the run that collects all"
    "$python" "$here/compare.py" --kernels "$out/harness-all.json" 2>&1
    echo
    echo "=== the table"
    "$python" "$here/compare.py" "$out"/{harness,captured,eager,compile,harness-all,eager-synchronised}.json \
        --matmul "$out/matmul.json" --markdown "$out/table.md" 2>&1
    echo "all of it: $SECONDS s"
} | tee "$out/summary.txt"
