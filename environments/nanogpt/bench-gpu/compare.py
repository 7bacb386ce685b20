"""One table of what `gpu_bench` and `bench_torch.py` measured, and whether their losses agree.

    compare.py harness.json eager.json compile.json [--matmul matmul.json] [--markdown FILE]
    compare.py --kernels harness-all.json

Files that are missing or hold no JSON object are named and left out. The first is what is compared with
the others.
"""

import argparse
import json
import sys

# Ours may differ from PyTorch by so many times as much as PyTorch differs from itself, compiled and not:
# both come from rounding to bf16 in another order. Somewhat arbitrary.
NOISES = 3.0


def read(path):
    """The last line of a file that is a JSON object, or why there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if line.lstrip().startswith("{")]
        return json.loads(lines[-1]) if lines else f"{path}: no figures in it"
    except (OSError, ValueError) as error:
        return f"{path}: {error}"


def cell(value, form):
    return "-" if value is None else format(value, form)


def table(runs, first):
    """Rows of text, heads first."""
    rows = [
        ["", "tokens/s", "ratio", "step ms", "median", "min", "forward", "backward", "optimizer"]
        + ["peak GB", "MFU %", "host ms"]
    ]
    for run in runs:
        split = run.get("split_ms") or {}
        mfu = run.get("mfu")
        peak = run.get("peak_bytes")
        rows.append(
            [
                run["name"],
                cell(run["tokens_per_second"], ",.0f"),
                cell(first["tokens_per_second"] / run["tokens_per_second"], ".2f"),
                cell(run["step_ms"]["mean"], ".2f"),
                cell(run["step_ms"]["median"], ".2f"),
                cell(run["step_ms"]["min"], ".2f"),
                cell(split.get("forward"), ".2f"),
                cell(split.get("backward"), ".2f"),
                cell(split.get("optimizer"), ".2f"),
                cell(peak and peak / 1e9, ".2f"),
                cell(mfu and 100 * mfu, ".1f"),
                cell(run.get("host_cpu_ms"), ".2f"),
            ]
        )
    return rows


def text(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    line = lambda row: "  ".join(
        value.ljust(width) if i == 0 else value.rjust(width)
        for i, (value, width) in enumerate(zip(row, widths))
    )
    return "\n".join(line(row).rstrip() for row in rows)


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- |" + " ---: |" * (len(rows[0]) - 1))
    return "\n".join(lines)


def difference(a, b):
    """Mean and largest absolute difference of two curves, and the step of the latter."""
    pairs = [abs(x - y) for x, y in zip(a, b)]
    most = max(range(len(pairs)), key=pairs.__getitem__)
    return sum(pairs) / len(pairs), pairs[most], most


def losses(runs):
    """How far the curves are apart, line by line."""
    begun_alike = [run for run in runs if run.get("weights") != "its own"]
    curves = [(run["name"], run["losses"]) for run in begun_alike if run.get("losses")]
    if len(curves) < 2:
        return ["loss curves: fewer than two, nothing to compare"]
    lines, found = [], {}
    for i, (name, curve) in enumerate(curves):
        for other, second in curves[i + 1 :]:
            mean, most, step = difference(curve, second)
            both = min(len(curve), len(second))
            found[name, other] = mean
            lines.append(
                f"loss, {name} and {other}: mean difference {mean:.2e}, largest {most:.2e} at step "
                f"{step}, at the first step {abs(curve[0] - second[0]):.2e}, "
                f"at the last {curve[both - 1]:.4f} and {second[both - 1]:.4f}"
            )
    ours = curves[0][0]
    noise = found.get(("eager", "compile"))
    with_eager = found.get((ours, "eager"))
    if noise is not None and with_eager is not None:
        verdict = "agree" if with_eager <= NOISES * noise else "DO NOT AGREE"
        lines.append(
            f"loss curves {verdict} within {NOISES:.0f} times the noise of bf16, which is taken to be "
            f"what compiling changes ({noise:.2e}): {with_eager / max(noise, 1e-30):.2f} times"
        )
    else:
        lines.append("noise of bf16 is unknown: it takes both eager and compile")
    return lines


def kernels(run, most=40):
    """The dearest kernels: milliseconds in all timed steps, share, calls, microseconds a call."""
    found = sorted(run.get("kernels") or [], key=lambda kernel: -kernel["seconds"])
    total = sum(kernel["seconds"] for kernel in found)
    if not total:
        return "no kernels were timed"
    rows = [["kernel", "ms", "%", "calls", "us a call"]]
    for kernel in found[:most]:
        seconds, calls = kernel["seconds"], kernel["calls"]
        rows.append(
            [kernel["name"], f"{1e3 * seconds:.2f}", f"{100 * seconds / total:.1f}"]
            + [str(calls), f"{1e6 * seconds / max(calls, 1):.1f}"]
        )
    rows.append(["all", f"{1e3 * total:.2f}", "100.0", "", ""])
    return text(rows) + f"\n{run.get('kernels_timed_by', '')}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("files", nargs="*")
    p.add_argument("--matmul", help="what `forerunner-gpu matmul --json` said")
    p.add_argument("--markdown", help="write the table there too")
    p.add_argument("--kernels", help="print the kernels of this run, and nothing else")
    a = p.parse_args()
    if a.kernels:
        run = read(a.kernels)
        print(kernels(run) if isinstance(run, dict) else f"MISSING: {run}")
        return
    answers = [read(path) for path in a.files]
    for answer in answers:
        if isinstance(answer, str):
            print(f"MISSING: {answer}")
    runs = [answer for answer in answers if isinstance(answer, dict)]
    if not runs:
        sys.exit("nothing was measured")
    first = runs[0]
    shapes = {(r["batch"], r["length"], r["parameters"], r["data"]) for r in runs}
    if len(shapes) > 1:
        print(f"NOT COMPARABLE: {sorted(shapes)}")
    what = (
        f"{first['device']}: {first['parameters']:,} parameters, {first['batch']} x {first['length']} "
        f"tokens a step, {first['steps']} steps, {first['warm_up']} of them warm-up, {first['data']}"
    )
    print(what)
    matmul = read(a.matmul) if a.matmul else None
    if isinstance(matmul, dict):
        rate = matmul["flops_per_second"]
        for run in runs:
            run["mfu"] = run["tokens_per_second"] * run["flops_per_token"] / rate
        print(f"100 % MFU: {rate / 1e12:.0f} TFLOP/s, measured; {first['flops_per_token'] / 1e6:.1f} "
              "MFLOP a token (6 N + 12 L C T)")
    elif matmul:
        print(f"MISSING: {matmul}")
    rows = table(runs, first)
    print("\n" + text(rows) + "\n")
    print(f"ratio: speed of {first['name']} over that of the row; host ms: CPU time of the first thread")
    lines = losses(runs)
    lines += [f"graphs, {run['name']}: {run['graphs']}" for run in runs if run.get("graphs")]
    print("\n".join(lines))
    if a.markdown:
        with open(a.markdown, "w", encoding="utf-8") as file:
            file.write(what + ".\n\n" + markdown(rows) + "\n\n" + "\n".join(f"- {line}" for line in lines) + "\n")


if __name__ == "__main__":
    main()
