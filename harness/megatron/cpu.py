"""Run the unmodified ``megatron.training`` of the pinned wheel on a machine without a GPU.

    install()              before anything of Megatron is imported: "the device of this process" is the CPU
    adapt_megatron()       after ``megatron.training`` is imported: the places where Megatron insists on CUDA

Nothing is emulated. Kernels are the ordinary CPU kernels, the CPU's random generator stands for the device's, streams
and events do nothing because CPU work is synchronous, memory counters read zero. ``torch.cuda.is_available()`` stays
False, for torch's own code asks it. Every name gets a function of its own: torch's compiler refuses one that two share.
What works this way and what does not: docs/architecture.md.
"""

import contextlib
import functools
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

CPU = torch.device("cpu")

_installed = False

_TENSOR_FACTORIES = (
    "arange as_tensor asarray empty empty_like empty_strided eye full full_like linspace logspace normal ones ones_like "
    "rand rand_like randint randint_like randn randn_like randperm scalar_tensor tensor tril_indices triu_indices zeros "
    "zeros_like"
).split()
_TENSOR_METHODS = "new_empty new_full new_ones new_tensor new_zeros".split()


class _Stream:
    """A CUDA stream where there is none: work submitted to it is already done."""

    device = CPU
    cuda_stream = stream_id = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def record_event(self, event: "_Event | None" = None) -> "_Event":
        return event or _Event()

    def query(self) -> bool:
        return True

    def _nothing(self, *_: Any) -> None: ...

    synchronize = wait_event = wait_stream = _nothing


class _Event:
    """A CUDA event where there is none: the wall clock at the moment it was recorded."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.at = 0.0

    def record(self, *_: Any) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: "_Event") -> float:
        return (end.at - self.at) * 1e3

    def query(self) -> bool:
        return True

    def _nothing(self, *_: Any) -> None: ...

    synchronize = wait = _nothing


class _DeviceProperties:
    name = "cpu"
    major = minor = total_memory = 0
    multi_processor_count = 1


def _here(device: Any) -> Any:
    """The device that Megatron means: ``cuda``, ``cuda:n`` and a bare index are this process's device, the CPU."""
    if isinstance(device, bool):
        return device
    if isinstance(device, int) or (isinstance(device, str) and device.startswith("cuda")):
        return CPU
    if isinstance(device, torch.device) and device.type == "cuda":
        return CPU
    return device


def _with_device_keyword(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "device" in kwargs:
            kwargs["device"] = _here(kwargs["device"])
        kwargs.pop("pin_memory", None)
        return function(*args, **kwargs)

    return call


def _with_device_anywhere(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "device" in kwargs:
            kwargs["device"] = _here(kwargs["device"])
        return function(self, *(_here(argument) for argument in args), **kwargs)

    return call


def install() -> None:
    """Make torch's names for the current device mean the CPU; once per process.

    Raises:
        RuntimeError: the machine has a GPU, so nothing of this is wanted.
    """
    global _installed
    if _installed:
        return
    if torch.cuda.is_available():
        raise RuntimeError("harness.megatron.cpu: this machine has a GPU; train on it without this module")
    os.environ["TORCH_COMPILE_DISABLE"] = os.environ["TORCHDYNAMO_DISABLE"] = "1"  # Megatron's jit_fuser compiles
    _one_cpu_device()
    _synchronous_streams()
    _one_random_generator()
    _empty_memory_counters()
    _tensors_stay()
    _installed = True


def _one_cpu_device() -> None:
    cuda = torch.cuda
    cuda.is_initialized = lambda: True
    # asked for each time: a launcher's server does this before it forks the ranks
    cuda.device_count = lambda: int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cuda.current_device = lambda: int(os.environ.get("LOCAL_RANK", "0"))
    cuda.set_device = lambda device: None
    cuda.synchronize = lambda device=None: None
    cuda.device = lambda device=None: contextlib.nullcontext()
    cuda.get_device_name = lambda device=None: "cpu"
    cuda.get_device_capability = lambda device=None: (8, 0)
    cuda.get_device_properties = lambda device=None: _DeviceProperties()
    cuda._lazy_init = lambda: None
    cuda._lazy_call = lambda call, **_: call()
    cuda.empty_cache = lambda: None
    cuda.ipc_collect = lambda: None


def _synchronous_streams() -> None:
    cuda = torch.cuda
    cuda.Stream, cuda.Event = _Stream, _Event
    cuda.stream = lambda stream: contextlib.nullcontext()
    cuda.current_stream = lambda device=None: _Stream()
    cuda.default_stream = lambda device=None: _Stream()
    cuda.set_stream = lambda stream: None
    cuda.is_current_stream_capturing = lambda: False
    torch.Tensor.record_stream = lambda self, stream: None


def _one_random_generator() -> None:
    generator = torch.default_generator
    torch.cuda.default_generators = defaultdict(lambda: generator)
    for module in (torch.cuda, torch.cuda.random):
        module.get_rng_state = lambda device=None: torch.get_rng_state()
        module.set_rng_state = lambda new_state, device=None: torch.set_rng_state(new_state)
        module.manual_seed = lambda seed: (generator.manual_seed(int(seed)), None)[1]
        module.manual_seed_all = lambda seed: (generator.manual_seed(int(seed)), None)[1]
        module.initial_seed = torch.initial_seed
    # with one generator in both roles the state that Megatron compares does change, as it must
    logging.getLogger("megatron.core.tensor_parallel.random").addFilter(
        lambda record: "CPU RNG state changed" not in record.getMessage()
    )


def _empty_memory_counters() -> None:
    for module in (torch.cuda, torch.cuda.memory):
        for name in ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"):
            setattr(module, name, lambda device=None: 0)
        module.memory_stats = lambda device=None: defaultdict(int)
        module.reset_peak_memory_stats = lambda device=None: None
    torch.cuda.mem_get_info = lambda device=None: (0, 0)


def _tensors_stay() -> None:
    tensor, module = torch.Tensor, torch.nn.Module
    for name in _TENSOR_FACTORIES:
        setattr(torch, name, _with_device_keyword(getattr(torch, name)))
    for name in _TENSOR_METHODS:
        setattr(tensor, name, _with_device_keyword(getattr(tensor, name)))
    tensor.to, module.to = _with_device_anywhere(tensor.to), _with_device_anywhere(module.to)
    tensor.cuda = lambda self, *_, **__: self
    tensor.pin_memory = lambda self, *_, **__: self
    module.cuda = lambda self, *_, **__: self
    plain_type = tensor.type

    def type_name(self: torch.Tensor, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is None:  # Megatron's optimizer sorts parameters by names such as torch.cuda.FloatTensor
            return plain_type(self).replace("torch.", "torch.cuda.", 1)
        return plain_type(self, dtype, *args, **kwargs)

    tensor.type = type_name


def adapt_megatron() -> None:
    """Relax the three places of Megatron 0.19 that insist on CUDA.

    ``pretrain`` asserts a GPU unless ``initialize_megatron`` is told otherwise; the warm-up of GPU-fused functions draws
    random numbers, which with one generator would make initial weights depend on the micro-batch size; and expert
    parallelism turns split sizes into numpy only for tensors that are on a GPU.
    """
    import megatron.core.transformer.moe.token_dispatcher as token_dispatcher
    import megatron.training.training as training

    if isinstance(training.initialize_megatron, functools.partial):
        return  # adapted before
    training.initialize_megatron = functools.partial(training.initialize_megatron, allow_no_cuda=True)
    training.set_jit_fusion_options = lambda *_, **__: None

    def split_sizes(tensor: Any, as_numpy: bool = False, **_: Any) -> Any:
        return tensor.numpy() if as_numpy and torch.is_tensor(tensor) else tensor

    token_dispatcher.maybe_move_tensor_to_cpu = split_sizes
