"""The reference program of the NanoGPT speedrun in PyTorch, on the CPU.

Started by `cargo xtask bench training` with one argument, a JSON object of settings. Prints a line
of JSON when PyTorch is loaded, waits for a line, trains, prints what it measured, and waits until
its input is closed, so that its memory can be read from outside at both points.
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

s = json.loads(sys.argv[1])
torch.set_num_threads(s["threads"])
seconds = time.process_time if s["threads"] == 1 else time.perf_counter
V, C, T = s["vocabulary"], s["width"], s["length"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm = nn.LayerNorm(C)
        self.qkv = nn.Linear(C, 3 * C)
        self.attention_out = nn.Linear(C, C)
        self.mlp_norm = nn.LayerNorm(C)
        self.mlp_in = nn.Linear(C, 4 * C)
        self.mlp_out = nn.Linear(4 * C, C)

    def forward(self, x):
        batch, length, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).split(C, dim=2)
        q, k, v = (part.view(batch, length, s["heads"], -1).transpose(1, 2) for part in qkv)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(seen.transpose(1, 2).reshape(batch, length, C))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh")
        return x + self.mlp_out(hidden)


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(V, C)
        self.positions = nn.Embedding(T, C)
        self.blocks = nn.ModuleList(Block() for _ in range(s["layers"]))
        self.final_norm = nn.LayerNorm(C)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                out = name.endswith("_out.weight")
                std = s["init_std"] / math.sqrt(2 * s["layers"]) if out else s["init_std"]
                nn.init.normal_(parameter, std=std)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def forward(self, inputs, targets):
        x = self.tokens(inputs) + self.positions(torch.arange(inputs.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.final_norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, V), targets.reshape(-1))


def learning_rate(step):
    progress = (step + 1) / s["steps"]
    if progress < s["warmup"]:
        return s["learning_rate"] * progress / s["warmup"]
    decayed = (progress - s["warmup"]) / (1 - s["warmup"])
    cosine = 0.5 * (1 + math.cos(math.pi * decayed))
    return s["learning_rate"] * (s["final_rate"] + (1 - s["final_rate"]) * cosine)


def train():
    torch.manual_seed(1)
    with open(s["tokens"], "rb") as file:
        tokens = torch.frombuffer(bytearray(file.read()), dtype=torch.uint16).long()
    batches = tokens.view(s["steps"], s["batch"], T + 1)
    model = Gpt()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": s["weight_decay"]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (s["beta1"], s["beta2"])
    optimizer = torch.optim.AdamW(groups, betas=betas, eps=s["epsilon"], fused=True)
    stamps, losses = [], []
    for step, batch in enumerate(batches):
        stamps.append(seconds())
        loss = model(batch[:, :-1], batch[:, 1:])
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, s["clip"])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {"stamps": stamps, "losses": losses}


capability = torch.backends.cpu.get_cpu_capability()
print(json.dumps({"version": torch.__version__, "instructions": capability}), flush=True)
sys.stdin.readline()
print(json.dumps(train()), flush=True)
sys.stdin.read()
