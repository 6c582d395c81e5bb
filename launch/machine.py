"""What this machine has, asked without importing torch: GPUs, kernels that Megatron can use, a login to W&B."""

import netrc
import os
import shutil
import subprocess
import sys

from harness.errors import ConfigError
from harness.megatron.options import Kernels


def check_wandb(mode: str) -> None:
    """Refuse to send metrics to W&B without a key, before any run has started.

    Raises:
        ConfigError: there is neither WANDB_API_KEY nor a login in ~/.netrc.
    """
    if mode != "online" or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_BASE_URL"):
        return
    try:
        login = netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        login = None
    if login is None:
        raise ConfigError(
            "logging.wandb.mode=online, and there is no API key: run `wandb login`, set WANDB_API_KEY, or leave it offline and "
            "upload later (wandb sync)"
        )


def visible_gpus() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
    return [str(index) for index in range(count)]


def installed_kernels() -> Kernels:
    """Whether Transformer Engine and Apex' fused weight gradients import here; asked in processes of their own."""

    def imports(module: str) -> bool:
        done = subprocess.run([sys.executable, "-c", f"import torch, {module}"], capture_output=True, check=False)
        return done.returncode == 0

    return Kernels(
        transformer_engine=imports("transformer_engine.pytorch"), apex=imports("fused_weight_gradient_mlp_cuda")
    )
