"""GPT-2 in PyTorch: the same model, settings, initial weights and data order as a NanoGPT program.

Reads the settings out of the program's text, the initial weights from the file that `gpu_bench --weights`
wrote, trains as many steps, and prints one JSON object with the keys of `gpu_bench`. Written to be as
fast as PyTorch is without special pains: bf16 autocast, scaled_dot_product_attention, fused AdamW, and,
with `--mode compile`, torch.compile. It waits for the device only every `--sync-every` steps, as
often as the harness reads its losses.

On the CPU (`--device cpu --precision f32`) it serves to check at toy sizes that both are one model.
"""

import argparse
import contextlib
import json
import math
import os
import re
import resource
import struct
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


def settings(path):
    """The constants of the program."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = {}
    for name, value in re.findall(r"^const (\w+): \w+ = ([^;]+);", text, re.MULTILINE):
        value = value.replace("_", "")
        if re.fullmatch(r"[0-9.eE+\-*/ ()]+", value):
            found[name] = eval(value, {"__builtins__": {}})  # Digits and operators only.
    return found


def read_weights(path):
    """Names and tensors of a safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=begin)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def read_tokens(path, needed, vocab):
    """The first `needed` tokens of the text that `gpu_bench` reads, and its name."""
    if path is None:
        at = torch.arange(1, needed + 1, dtype=torch.int64)
        # As random_token() of gpu_bench: the product wraps, the shift is made a logical one.
        mixed = (at * (0x9E3779B97F4A7C15 - 2**64)) >> 33 & 0x7FFFFFFF
        return (mixed % vocab).to(torch.int32), "random"
    if os.path.isdir(path):
        names = sorted(n for n in os.listdir(path) if "train" in n and n.endswith(".bin"))
        path = os.path.join(path, names[0])
    with open(path, "rb") as file:
        header = struct.unpack("<256i", file.read(1024))
        assert header[:2] == (20240520, 1), f"{path} is no token file"
        assert header[2] >= needed, f"{path} has {header[2]} tokens, {needed} are needed"
        tokens = torch.frombuffer(bytearray(file.read(2 * needed)), dtype=torch.uint16)
    return tokens.to(torch.int32), os.path.basename(path)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, hidden, self.heads = c["WIDTH"], c["MLP_RATIO"] * c["WIDTH"], c["HEADS"]
        self.attention_norm = nn.LayerNorm(width, eps=c["NORM_EPSILON"])
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=c["NORM_EPSILON"])
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).split(width, dim=2)
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in qkv)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(seen.transpose(1, 2).reshape(batch, length, width))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh")
        return x + self.mlp_out(hidden)


class Gpt(nn.Module):
    def __init__(self, c, rows, context):
        super().__init__()
        self.token_embedding = nn.Embedding(rows, c["WIDTH"])
        self.position_embedding = nn.Embedding(context, c["WIDTH"])
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["LAYERS"]))
        self.final_norm = nn.LayerNorm(c["WIDTH"], eps=c["NORM_EPSILON"])

    def forward(self, inputs, targets):
        places = torch.arange(inputs.shape[1], device=inputs.device)
        x = self.token_embedding(inputs) + self.position_embedding(places)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.final_norm(x), self.token_embedding.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    @torch.no_grad()
    def load(self, weights):
        """Takes the program's parameters, all of them, by its names."""
        for name, parameter in self.named_parameters():
            theirs = name
            if "norm.weight" in name:
                theirs = name.replace("norm.weight", "norm.gain")
            elif name.endswith("embedding.weight"):
                theirs = name.removesuffix(".weight")
            theirs = re.sub(r"^blocks\.(\d+)\.", r"block\1.", theirs)
            parameter.copy_(weights.pop(theirs))
        assert not weights, f"parameters that are not in the model: {sorted(weights)}"


def learning_rate(c, step):
    progress = (step + 1) / c["STEPS"]
    if progress < c["WARMUP"]:
        return c["LEARNING_RATE"] * progress / c["WARMUP"]
    decayed = (progress - c["WARMUP"]) / (1 - c["WARMUP"])
    cosine = 0.5 * (1 + math.cos(math.pi * decayed))
    return c["LEARNING_RATE"] * (c["FINAL_RATE"] + (1 - c["FINAL_RATE"]) * cosine)


class Marks:
    """Points of time: events in the device's queue, or the process's own clock."""

    def __init__(self, device):
        self.on_gpu = device.type == "cuda"

    def mark(self):
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms(self, before, after):
        return before.elapsed_time(after) if self.on_gpu else 1e3 * (after - before)

    def wait(self):
        if self.on_gpu:
            torch.cuda.synchronize()


def quantile(values, share):
    values = sorted(values)
    return values[round(share * (len(values) - 1))]


def train(a, c):
    device = torch.device(a.device)
    torch.set_float32_matmul_precision("high" if a.precision == "bf16" else "highest")
    batch, length, steps = c["BATCH"], c["LENGTH"], a.steps or c["STEPS"]
    assert batch == c["PART"], "gradients are not added up over parts of a batch here"
    rows = -(-a.vocab // c["VOCAB_MULTIPLE"]) * c["VOCAB_MULTIPLE"]
    tokens, data = read_tokens(a.data, steps * batch * length + 1, a.vocab)
    if device.type == "cuda":
        tokens = tokens.pin_memory()
    model = Gpt(c, rows, a.context)
    if os.path.exists(a.weights):
        model.load(read_weights(a.weights))
    else:
        print(f"NOTE: no {a.weights}: OTHER WEIGHTS, losses are not to be compared", file=sys.stderr)
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=c["INIT_STD"])
    model.to(device)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": c["WEIGHT_DECAY"]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=0.0, betas=(c["BETA1"], c["BETA2"]), eps=c["EPSILON"], fused=True
    )
    run = torch.compile(model) if a.mode == "compile" else model
    precise = a.precision == "f32"
    autocast = (
        contextlib.nullcontext if precise else lambda: torch.autocast(device.type, torch.bfloat16)
    )
    marks, spans, losses = Marks(device), [], []
    began, window, host = time.perf_counter(), None, None
    for step in range(steps):
        if step == a.warm_up:
            marks.wait()
            window, host = time.perf_counter(), time.thread_time()
        # Sequence i of the step starts at (step * batch + i) * length; the last token of each is the
        # first of the next.
        start = step * batch * length
        served = tokens[start : start + batch * length + 1].to(device, non_blocking=True).long()
        inputs, targets = served[:-1].view(batch, length), served[1:].view(batch, length)
        at = [marks.mark()]
        with autocast():
            loss = run(inputs, targets)
        at.append(marks.mark())
        loss.backward()
        at.append(marks.mark())
        nn.utils.clip_grad_norm_(parameters, c["CLIP"])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(c, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        at.append(marks.mark())
        spans.append(at)
        losses.append(loss.detach())
        if (step + 1) % a.sync_every == 0:
            marks.wait()
        if step == 0:
            marks.wait()
            print(f"first step after {time.perf_counter() - began:.1f} s", file=sys.stderr)
    host = time.thread_time() - host
    marks.wait()
    counted = steps - a.warm_up
    seconds = (time.perf_counter() - window) / counted
    late = spans[a.warm_up :]
    mean_of = lambda i: sum(marks.ms(at[i], at[i + 1]) for at in late) / counted
    step_ms = [marks.ms(a_[0], b_[0]) for a_, b_ in zip(late, late[1:])]
    count = sum(p.numel() for p in parameters)
    # As flops_per_token() of gpu_bench.
    in_products = count - model.position_embedding.weight.numel()
    flops = 6 * in_products + 12 * c["LAYERS"] * c["WIDTH"] * length
    rate = batch * length / seconds
    on_gpu = device.type == "cuda"
    return {
        "name": a.name or a.mode,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "precision": a.precision,
        "data": data,
        "weights": "given" if os.path.exists(a.weights) else "its own",
        "batch": batch,
        "length": length,
        "steps": steps,
        "warm_up": a.warm_up,
        "sync_every": a.sync_every,
        "parameters": count,
        "flops_per_token": flops,
        "tokens_per_second": rate,
        "step_ms": {
            "mean": 1e3 * seconds,
            "median": quantile(step_ms, 0.5),
            "p10": quantile(step_ms, 0.1),
            "p90": quantile(step_ms, 0.9),
            "min": quantile(step_ms, 0.0),
            "of": "the device's events, from step to step; the mean is wall time",
        },
        "split_ms": {
            "forward": mean_of(0),
            "backward": mean_of(1),
            "optimizer": mean_of(2),
            "by": "the device's events" if on_gpu else "wall time",
        },
        "host_cpu_ms": 1e3 * host / counted,
        "peak_bytes": (
            torch.cuda.max_memory_allocated()
            if on_gpu
            else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ),
        "reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
        "matmul_flops_per_second": a.matmul_rate,
        "mfu": rate * flops / a.matmul_rate if a.matmul_rate else None,
        "losses": [value.item() for value in losses],
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--program", required=True, help="the program's text")
    p.add_argument("--weights", required=True, help="initial weights, as gpu_bench wrote them")
    p.add_argument("--data", help="token file, or a folder with a *train*.bin [random tokens]")
    p.add_argument("--mode", choices=["eager", "compile"], default="eager")
    p.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    p.add_argument("--precision", choices=["bf16", "f32"], default="bf16")
    p.add_argument("--vocab", type=int, default=50257)
    p.add_argument("--context", type=int, default=1024)
    p.add_argument("--steps", type=int, help="instead of the program's; the schedule stays its own")
    p.add_argument("--warm-up", type=int, default=20)
    p.add_argument("--sync-every", type=int, default=32)
    p.add_argument("--matmul-rate", type=float)
    p.add_argument("--name")
    a = p.parse_args()
    print(json.dumps(train(a, settings(a.program))))


if __name__ == "__main__":
    main()
