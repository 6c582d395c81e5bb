"""Roots with known truth, written from the file contracts alone (DESIGN: a sweep's CSV, status.json, result.json)."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

M_EXPONENT, M_COEFFICIENT = 0.55, 0.7  # of the classical truth: M_opt = 0.7 C^0.55
EXCESS_EXPONENT = -0.15  # of the M/N_a truth: (M/N_a)_opt - 6 = 4 (C / 1e11)^-0.15


def m_opt(compute: float) -> float:
    return M_COEFFICIENT * compute**M_EXPONENT


def m_over_na_opt(compute: float) -> float:
    return 6 + 4 * (compute / 1e11) ** EXCESS_EXPONENT


@dataclass
class Root:
    """A runs_root in the making: add points, then write a sweep."""

    path: Path
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        *,
        study: str,
        compute: float,
        m: float,
        loss: float,
        m_over_na: float = 9.0,
        n_over_na: float = 12.0,
        seed: int = 0,
        simulated: bool = False,
        curve: bool = False,
    ) -> str:
        tokens = round(compute / m / 512) * 512
        name = f"{study} {compute} {m} {m_over_na} {n_over_na} {seed}"
        run_id = hashlib.sha256(name.encode()).hexdigest()[:12]
        active = m / m_over_na
        self.rows.append(
            {
                "run_id": run_id,
                "study": study,
                "compute": compute,
                "flops_per_token": m,
                "tokens": tokens,
                "active_params": round(active),
                "total_params": round(active * n_over_na),
                "m_over_na": m_over_na,
                "n_over_na": n_over_na,
                "hidden_size": 64,
                "num_layers": 4,
                "learning_rate": 6e-3,
                "global_batch_size": 4,
                "train_iters": tokens // 512,
                "target_m_over_na": m_over_na,
                "target_n_over_na": n_over_na,
                "realised_compute": m * tokens,
                "seed": seed,
                "trunk": "",
                "marks": "simulated" if simulated else "",
            }
        )
        directory = self.path / "runs" / run_id
        directory.mkdir(parents=True, exist_ok=True)
        result = {
            "final_validation_loss": loss,
            "final_training_loss": loss - 0.05,
            "tokens": tokens,
            "realised_compute": m * tokens,
            "megatron_flops": 1.3 * m * tokens,
            "wall_seconds": 12.5,
            "tokens_per_second": tokens / 12.5,
            "mfu": None,
            "versions": {"megatron-core": "0.19.0", "torch": "2.6.0"},
            "simulated": simulated,
        }
        (directory / "result.json").write_text(json.dumps(result))
        self.status(run_id, "done")
        if curve:
            steps = np.unique(np.geomspace(1, tokens // 512, 40).astype(int))
            lines = [
                {"step": int(s), "tokens": int(s) * 512, "lm_loss": loss + 4 * math.exp(-3 * s * 512 / tokens) ** 2}
                for s in steps
            ]
            (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run_id

    def status(self, run_id: str, state: str, message: str | None = None) -> None:
        attempts = [{"number": 1, "host": "h", "pid": 1, "command": "c", "started": "t", "message": message}]
        value = {"run_id": run_id, "state": state, "attempts": attempts, "schema": 1}
        (self.path / "runs" / run_id / "status.json").write_text(json.dumps(value))

    def result(self, run_id: str, **changes: Any) -> None:
        path = self.path / "runs" / run_id / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def classical(
        self,
        budgets: tuple[float, ...] = (5e10, 1e11, 2e11, 4e11),
        *,
        sd: float = 0.004,
        span: float = 16.0,
        off: float = 1.0,
        points: int = 5,
        seeds: int = 1,
        curvature: float = 0.06,
        simulated: bool = False,
        curve: bool = False,
    ) -> "Root":
        """IsoFLOP points around `off` times the true optimum; the middle one is repeated over `seeds` seeds."""
        for compute in budgets:
            sizes = off * m_opt(compute) * np.geomspace(span**-0.5, span**0.5, points)
            for index, m in enumerate(sizes):
                for seed in range(seeds if index == points // 2 else 1):
                    least = 2.2 + 30 * compute**-0.15
                    loss = least + curvature * math.log(m / m_opt(compute)) ** 2 + sd * self.rng.standard_normal()
                    self.add(
                        study="classical",
                        compute=compute,
                        m=float(m),
                        loss=loss,
                        seed=seed,
                        simulated=simulated,
                        curve=curve,
                    )
        return self

    def grid(
        self,
        budgets: tuple[float, ...] = (5e10, 1e11, 2e11),
        *,
        densities: tuple[float, ...] = (7.0, 8.0, 9.0, 11.0, 14.0, 17.0),
        slices: tuple[float, ...] = (12.0, 16.0),
        sd: float = 0.001,
        a: float = 0.2,
        simulated: bool = False,
    ) -> "Root":
        """Points of loss = a / (x - 6) + b x + c_s whose optimum is `m_over_na_opt`."""
        for compute in budgets:
            b = a / (m_over_na_opt(compute) - 6) ** 2
            for expansion in slices:
                for density in densities:
                    # Realised values miss their targets a little, as rounded architectures do.
                    x = density * (1 + 0.01 * math.sin(density * expansion))
                    loss = 2.5 + 30 * compute**-0.15 - 0.004 * expansion + a / (x - 6) + b * x
                    self.add(
                        study="grid",
                        compute=compute,
                        m=m_opt(compute),
                        loss=loss + sd * self.rng.standard_normal(),
                        m_over_na=x,
                        n_over_na=expansion * (1 + 0.003 * math.cos(density)),
                        simulated=simulated,
                    )
                    self.rows[-1] |= {"target_m_over_na": density, "target_n_over_na": expansion}
        return self

    def write(self, name: str, rows: list[dict[str, Any]] | None = None) -> "Root":
        directory = self.path / "sweeps"
        directory.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(self.rows if rows is None else rows).to_csv(directory / f"{name}.csv", index=False)
        return self
