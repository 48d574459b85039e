"""A small but real training job: a neural network on two spirals, with checkpoints.

Uses nothing of Gridtide but the variables that every job gets. Trains for a number of seconds that
counts over all its runs, saves its state often and on SIGTERM, and then leaves with exit code 75,
which means "run me again".
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

EX_TEMPFAIL = 75
SAVE_EVERY_S = 0.5
PAUSE_S = 0.02  # leaves the processor to the other jobs of the demo


def spirals(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points of two interleaved spirals, and which of them each belongs to."""
    label = rng.integers(0, 2, n)
    turn = np.sqrt(rng.random(n)) * 3 * np.pi
    points = np.stack([np.cos(turn + np.pi * label), np.sin(turn + np.pi * label)], axis=1)
    return points * turn[:, None] / 10 + rng.normal(0, 0.02, (n, 2)), label.astype(float)


def step(w: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, rate: float) -> float:
    """One step of gradient descent; returns the loss."""
    h1 = np.tanh(x @ w["w1"] + w["b1"])
    h2 = np.tanh(h1 @ w["w2"] + w["b2"])
    p = 1 / (1 + np.exp(-(h2 @ w["w3"] + w["b3"])))
    d3 = (p - y) / len(y)
    d2 = np.outer(d3, w["w3"]) * (1 - h2**2)
    d1 = d2 @ w["w2"].T * (1 - h1**2)
    w["w3"] -= rate * h2.T @ d3
    w["b3"] -= rate * d3.sum()
    w["w2"] -= rate * h1.T @ d2
    w["b2"] -= rate * d2.sum(axis=0)
    w["w1"] -= rate * x.T @ d1
    w["b1"] -= rate * d1.sum(axis=0)
    return float(-np.mean(y * np.log(p + 1e-9) + (1 - y) * np.log(1 - p + 1e-9)))


def load(path: Path, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], float, int]:
    """The last checkpoint, or a fresh start: weights, seconds trained, steps taken."""
    if path.exists():
        with np.load(path) as saved:
            weights = {key: saved[key] for key in saved.files if key not in ("trained_s", "steps")}
            return weights, float(saved["trained_s"]), int(saved["steps"])
    shapes = {"w1": (2, 32), "b1": (32,), "w2": (32, 32), "b2": (32,), "w3": (32,), "b3": ()}
    return {name: rng.normal(0, 0.5, shape) for name, shape in shapes.items()}, 0.0, 0


def save(path: Path, weights: dict[str, np.ndarray], trained_s: float, steps: int) -> None:
    """Writes the checkpoint so that a crash leaves the old one or the new one, never half of it."""
    draft = path.with_suffix(".tmp.npz")
    with draft.open("wb") as file:
        np.savez(file, **weights, trained_s=trained_s, steps=steps)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def main() -> int:
    """Trains until the time is up (0) or the signal comes (75)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True, help="training time over all runs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    folder = Path(os.environ.get("GRIDTIDE_CHECKPOINT_DIR", "."))
    who = [os.environ.get(f"GRIDTIDE_{key}", "-") for key in ("JOB_ID", "ATTEMPT", "SEGMENT")]
    with (folder / "starts.log").open("a") as log:
        log.write(" ".join([*who, str(os.getpid())]) + "\n")
    rng = np.random.default_rng(args.seed)
    x, y = spirals(400, rng)
    weights, before_s, steps = load(folder / "model.npz", rng)
    print(f"segment {who[2]}: begins at step {steps}, {before_s:.1f} s trained", flush=True)
    began = saved = time.monotonic()
    loss = float("nan")
    while not stop and before_s + (time.monotonic() - began) < args.seconds:
        loss = step(weights, x, y, rate=0.3)
        steps += 1
        time.sleep(PAUSE_S)
        if time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            save(folder / "model.npz", weights, before_s + saved - began, steps)
    save(folder / "model.npz", weights, before_s + time.monotonic() - began, steps)
    print(f"segment {who[2]}: ends at step {steps}, loss {loss:.4f}", flush=True)
    return EX_TEMPFAIL if stop else 0


if __name__ == "__main__":
    sys.exit(main())
