#!/usr/bin/env python3
"""Trains two of the reference models for ten steps with PyTorch and writes what their losses were.

    python3 make-loss-curves.py [FOLDER]      FOLDER has llama-gqa-tied.h5 and cola-both.h5, by default those of
                                              Tests/TransformerTests/Fixtures; writes loss-curves.json beside this script

Needs PyTorch, NumPy and h5py. The model is written down here from the papers' formulas (LLaMA: RMSNorm, rotation in
halves, grouped attention, SwiGLU; CoLA, arXiv 2502.10940: y = B σ(A x), σ = SiLU), the optimiser is torch.optim.AdamW,
the clipping torch.nn.utils.clip_grad_norm_. Before it trains, it compares the loss and all gradients of the file's own
reference, and afterwards single with double precision: a curve that rounding moves would test nothing.
"""
import json
import math
import pathlib
import re
import sys

import h5py
import numpy
import torch
from torch.nn import functional

HERE = pathlib.Path(__file__).resolve().parent
MODELS = {"dense": "llama-gqa-tied", "CoLA": "cola-both"}
SETTINGS = dict(
    steps=10, warmup_steps=3, learning_rate=0.003, floor=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.1,
    clip=0.5, sequence_length=24, sequences=8)


class Model:
    """Parameters by their names in the file; a low-rank projection has cola_a [in, R] and cola_b [R, out]."""

    def __init__(self, path, type):
        with h5py.File(path) as file:
            self.config = json.loads(file.attrs["config"])
            self.weights = {
                name: torch.tensor(file["model"][name][()], dtype=type, requires_grad=True) for name in file["model"]}
            self.reference = {name: file["reference"][name][()] for name in ("input_ids", "loss")}
            self.gradients = {name: file["reference/grad"][name][()] for name in file["reference/grad"]}

    def norm(self, x, name):
        mean = x.square().mean(-1, keepdim=True)
        return x / torch.sqrt(mean + self.config["rms_norm_eps"]) * self.weights[name + ".weight"]

    def project(self, x, name):
        if name + ".weight" in self.weights:
            return x @ self.weights[name + ".weight"].T
        return functional.silu(x @ self.weights[name + ".cola_a"]) @ self.weights[name + ".cola_b"]

    def rotate(self, x):
        """x [B, heads, T, D]: the pair (i, i + D/2) turns by position / base^(2i/D)."""
        half = x.shape[-1] // 2
        base = self.config.get("rope_theta") or self.config["rope_parameters"]["rope_theta"]
        frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(x.shape[2], dtype=torch.float64), frequencies)
        cos, sin = torch.cos(angles).to(x.dtype), torch.sin(angles).to(x.dtype)
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def attend(self, x, path):
        batch, length, _ = x.shape
        heads, groups = self.config["num_attention_heads"], self.config["num_key_value_heads"]

        def split(name, heads):
            return self.project(x, f"{path}.{name}").view(batch, length, heads, -1).transpose(1, 2)

        query, key, value = (
            self.rotate(split("q_proj", heads)), self.rotate(split("k_proj", groups)), split("v_proj", groups))
        key, value = (part.repeat_interleave(heads // groups, 1) for part in (key, value))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        future = torch.ones(length, length).triu(1).bool()
        weights = torch.softmax(scores.masked_fill(future, -math.inf), -1)
        return self.project((weights @ value).transpose(1, 2).reshape(batch, length, -1), path + ".o_proj")

    def feed_forward(self, x, path):
        gate = self.project(x, path + ".gate_proj")
        # only_lr_act: σ stands in the bottlenecks alone.
        gate = gate if self.config.get("only_lr_act", self.config.get("cola_activation") == "inner") else functional.silu(gate)
        return self.project(gate * self.project(x, path + ".up_proj"), path + ".down_proj")

    def loss(self, ids, targets):
        x = self.weights["model.embed_tokens.weight"][ids]
        for layer in range(self.config["num_hidden_layers"]):
            path = f"model.layers.{layer}"
            x = x + self.attend(self.norm(x, path + ".input_layernorm"), path + ".self_attn")
            x = x + self.feed_forward(self.norm(x, path + ".post_attention_layernorm"), path + ".mlp")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        logits = self.norm(x, "model.norm") @ head.T
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def check(path):
    """Loss and gradients of the reference that is in the file."""
    model = Model(path, torch.float64)
    ids = torch.tensor(model.reference["input_ids"])
    loss = model.loss(ids[:, :-1], ids[:, 1:])
    loss.backward()
    assert abs(loss.item() - float(model.reference["loss"])) < 1e-7, (path, loss.item(), model.reference["loss"])
    for name, expected in model.gradients.items():
        error = numpy.abs(model.weights[name].grad.numpy() - expected).max()
        assert error < 2e-6 * numpy.abs(expected).max(), (path, name, error)


def rate(step):
    """Learning rate of step 1, 2, …: up to the peak, then half a cosine down to a part of it."""
    warmup, steps, floor = SETTINGS["warmup_steps"], SETTINGS["steps"], SETTINGS["floor"]
    if step <= warmup:
        return SETTINGS["learning_rate"] * step / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    return SETTINGS["learning_rate"] * (floor + (1 - floor) * cosine)


def train(path, ids, type):
    """Every step sees all sequences: the order in which they come does not matter."""
    model = Model(path, type)
    length, count = SETTINGS["sequence_length"], SETTINGS["sequences"]
    inputs, targets = (torch.tensor(ids[start:start + count * length]).view(count, length) for start in (0, 1))
    parameters = list(model.weights.values())
    optimizer = torch.optim.AdamW(
        parameters, betas=(SETTINGS["beta1"], SETTINGS["beta2"]), eps=SETTINGS["epsilon"],
        weight_decay=SETTINGS["weight_decay"])
    losses, norms = [], []
    for step in range(1, SETTINGS["steps"] + 1):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        loss = model.loss(inputs, targets)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, SETTINGS["clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "TransformerTests" / "Fixtures"
    curves = {}
    for kind, name in MODELS.items():
        path = folder / (name + ".h5")
        check(path)
        vocabulary = Model(path, torch.float32).config["vocab_size"]
        # Each id leaves two for the next one.
        ids, state = [1], 12345
        while len(ids) <= SETTINGS["sequences"] * SETTINGS["sequence_length"]:
            state = (1103515245 * state + 12345) % 2**31
            ids.append((7 * ids[-1] + (state >> 16) % 2) % vocabulary)
        losses, norms = train(path, ids, torch.float32)
        exact, _ = train(path, ids, torch.float64)
        difference = max(abs(a - b) for a, b in zip(losses, exact))
        print(f"{kind}: {losses[0]:.6f} to {losses[-1]:.6f}; single and double precision differ by {difference:.1e}")
        assert difference < 1e-5
        curves[kind] = dict(model=name, ids=ids, losses=losses, gradient_norms=norms)
    result = dict(generator=f"make-loss-curves.py with torch {torch.__version__}", settings=SETTINGS, curves=curves)
    text = json.dumps(result, indent=1)
    # Lists of numbers on one line each.
    text = re.sub(r"\[[^][{}]*\]", lambda match: re.sub(r"\s+", " ", match.group()), text)
    (HERE / "loss-curves.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
