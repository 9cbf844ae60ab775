"""Collect the part of a rank's state that torch keeps; nothing if torch is not imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, copy_context
from functools import cache, partial
from typing import Any

# Name in messages -> where torch keeps the value: a function to call, or an attribute. The public
# properties (torch.backends.*) call the same functions of torch._C, but take longer. Some are
# missing in torch 2.6 or in some builds.
_SWITCHES = {
    "default dtype": "get_default_dtype()",
    "default device": "get_default_device()",
    "device of the default tensor type": "_C._get_default_device()",
    "grad mode": "is_grad_enabled()",
    "forward-mode grad": "_C._is_fwd_grad_enabled()",
    "forward-mode level": "autograd.forward_ad._current_level",
    "inference mode": "is_inference_mode_enabled()",
    "anomaly mode": "is_anomaly_enabled()",
    "anomaly mode's check_nan": "is_anomaly_check_nan_enabled()",
    "autocast cache": "is_autocast_cache_enabled()",
    "deterministic algorithms": "are_deterministic_algorithms_enabled()",
    "deterministic warn_only": "is_deterministic_algorithms_warn_only_enabled()",
    "deterministic fill": "_C._get_deterministic_fill_uninitialized_memory()",
    "warn_always": "is_warn_always_enabled()",
    "matmul precision": "get_float32_matmul_precision()",
    "number of threads": "get_num_threads()",
    "number of interop threads": "get_num_interop_threads()",
    "function modes": "_C._len_torch_function_stack()",
    "dispatch modes": "_C._len_torch_dispatch_stack()",
    "__torch_function__": "_C._get_torch_function_state()",
    "multithreaded backward": "_C._is_multithreading_enabled()",
    "view replay": "_C._is_view_replay_enabled()",
    "autograd fallback mode": "_C._get_autograd_fallback_mode()",
    "vmap level": "_C._functorch.maybe_current_level()",
    "tracing state": "_C._get_tracing_state()",
    "profiler": "autograd._profiler_enabled()",
    "saved tensor hooks' ban": "_C._autograd._saved_tensors_hooks_get_disabled_error_message()",
    "cuDNN": "_C._get_cudnn_enabled()",
    "cuDNN benchmark": "_C._get_cudnn_benchmark()",
    "cuDNN benchmark limit": "_C._cuda_get_cudnn_benchmark_limit()",
    "cuDNN deterministic": "_C._get_cudnn_deterministic()",
    "cuDNN TF32": "_C._get_cudnn_allow_tf32()",
    "MIOpen immediate mode": "_C._get_miopen_immediate()",
    "cuBLAS TF32": "_C._get_cublas_allow_tf32()",
    "cuBLAS fp16 reduction": "_C._get_cublas_allow_fp16_reduced_precision_reduction()",
    "cuBLAS bf16 reduction": "_C._get_cublas_allow_bf16_reduced_precision_reduction()",
    "cuBLAS fp16 accumulation": "_C._get_cublas_allow_fp16_accumulation()",
    "CPU fp16 reduction": "_C._get_cpu_allow_fp16_reduced_precision_reduction()",
    "linear algebra library": "_C._get_linalg_preferred_backend()",
    "oneDNN": "_C._get_mkldnn_enabled()",
    "oneDNN deterministic": "_C._get_mkldnn_deterministic()",
    "oneDNN TF32": "_C._get_onednn_allow_tf32()",
    "NNPACK": "_C._get_nnpack_enabled()",
    "flash attention": "_C._get_flash_sdp_enabled()",
    "memory-efficient attention": "_C._get_mem_efficient_sdp_enabled()",
    "math attention": "_C._get_math_sdp_enabled()",
    "math attention's reduction": "_C._get_math_sdp_allow_fp16_bf16_reduction()",
    "cuDNN attention": "_C._get_cudnn_sdp_enabled()",
    "overrideable attention": "_C._get_overrideable_sdp_enabled()",
    "order of attention backends": "_C._get_sdp_priority_order()",
    "fast path of attention": "backends.mha._is_fastpath_enabled",
    "ban on setting backend flags": "backends.flags_frozen()",
    "opt_einsum": "backends.opt_einsum.enabled",
    "opt_einsum strategy": "backends.opt_einsum.strategy",
    "quantized engine": "_C._get_qengine()",
    "TorchScript optimization": "_C._get_graph_executor_optimize()",
    "TorchScript fuser": "_C._jit_texpr_fuser_enabled()",
    "TorchScript fusion on the CPU": "_C._jit_can_fuse_on_cpu()",
    "checks of sparse tensors": "_C._check_sparse_tensor_invariants()",
    "print options": "_tensor_str.PRINT_OPTS.__dict__.copy()",
    "sharing strategy": "multiprocessing.get_sharing_strategy()",
    "validation of distributions": "distributions.Distribution._validate_args",
    "hub folder": "hub._hub_dir",
    "parametrization cache": "nn.utils.parametrize._cache_enabled",
    "overwriting of parameters": "__future__.get_overwrite_module_params_on_conversion()",
    "swapping of parameters": "__future__.get_swap_module_params_on_conversion()",
    # In later versions these three are in torch.utils.serialization.config, see _CONFIGS.
    "endianness of load": "serialization._default_load_endian",
    "mmap options of load": "serialization._default_mmap_options",
    "CRC-32 of save": "serialization._compute_crc32",
}
_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "xla", "privateuseone")
_FP32_OPERATORS = [
    *(("cuda", op) for op in ("all", "matmul", "conv", "rnn")),
    *(("mkldnn", op) for op in ("all", "matmul", "conv", "rnn")),
    ("generic", "all"),
]
_REGISTRIES = {
    "custom operators": "library._defs",
    "classes that load() trusts": "_weights_only_unpickler._marked_safe_globals_set",
    "pytree nodes": "utils._pytree.SUPPORTED_NODES",
    "process group backends": "distributed.distributed_c10d.Backend.backend_list",
}
_HOOKS_OF_MODULES = "nn.modules.module._global_"
_HOOKS = {
    **{
        f"global {kind} hooks": f"{_HOOKS_OF_MODULES}{kind.replace(' ', '_')}_hooks"
        for kind in (
            "forward pre",
            "forward",
            "backward pre",
            "backward",
            "buffer registration",
            "parameter registration",
            "module registration",
        )
    },
    "global optimizer pre-hooks": "optim.optimizer._global_optimizer_pre_hooks",
    "global optimizer post-hooks": "optim.optimizer._global_optimizer_post_hooks",
}
_CONFIGS = (
    "torch._dynamo.config",
    "torch._functorch.config",
    "torch._inductor.config",
    "torch._export.config",
    "torch.compiler.config",
    "torch.distributed.config",
    "torch.fx.experimental._config",
    "torch.utils.serialization.config",
)


def _getters(places: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a getter for each name; without those that this version of torch does not have."""
    for name, place in places.items():
        path, _, last = f"torch.{place.removesuffix('()')}".rpartition(".")
        owner = _find(path)
        if hasattr(owner, last):
            is_called = place.endswith("()")
            yield name, getattr(owner, last) if is_called else partial(getattr, owner, last)


def _find(path: str) -> Any:
    """Return a module or an attribute of one; None if there is none."""
    if path in sys.modules:  # `torch.optim` has no attribute for its module `optimizer`
        return sys.modules[path]
    owner, _, last = path.rpartition(".")
    return getattr(_find(owner), last, None) if owner else None


@cache
def _switches() -> list[tuple[str, Callable[[], Any]]]:
    torch = sys.modules["torch"]
    found = [*_getters(_SWITCHES), ("saved tensor hooks", _saved_tensor_hooks)]
    for device in _AUTOCAST_DEVICES:
        found.append((f"autocast on {device}", partial(torch.is_autocast_enabled, device)))
        found.append((f"autocast dtype on {device}", partial(torch.get_autocast_dtype, device)))
    if hasattr(torch._C, "_get_fp32_precision_getter"):  # since torch 2.9
        precision = torch._C._get_fp32_precision_getter
        for backend, op in _FP32_OPERATORS:
            found.append((f"fp32 precision of {backend} {op}", partial(precision, backend, op)))
    return found


def _saved_tensor_hooks() -> Any:
    return sys.modules["torch"]._C._autograd._top_saved_tensors_default_hooks(False)


def switches() -> Mapping[str, Any]:
    """Return the values of torch's switches, of this thread and of this process."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    try:
        found = {name: get() for name, get in _switches()}
    except RuntimeError:
        found = {name: _value_of(get) for name, get in _switches()}
    if "torch.cuda" in sys.modules and torch.cuda.is_initialized():
        device = torch.cuda.current_device()
        found["current CUDA device"] = device
        found["current CUDA stream"] = torch._C._cuda_getCurrentStream(device)
        found["BLAS library"] = torch._C._get_blas_preferred_backend()
    return found


def _value_of(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except RuntimeError:
        # torch 2.9 and later have no overall precision once operators have different ones.
        return "(mixed)"


@cache
def _hooks() -> list[tuple[str, Callable[[], Any]]]:
    return list(_getters(_HOOKS))


def hooks() -> Mapping[str, Any]:
    """Return the hooks that run for all modules and optimizers."""
    if "torch" not in sys.modules:
        return {}
    return {name: tuple(get().values()) for name, get in _hooks()}


@cache
def _registries() -> list[tuple[str, Callable[[], Any]]]:
    return list(_getters(_REGISTRIES))


def registries() -> Mapping[str, int]:
    """Return how many entries torch's registries have."""
    return {name: len(get()) for name, get in _registries()} if "torch" in sys.modules else {}


def configs() -> Mapping[str, str]:
    """Return the settings of the compiler and other parts of torch that differ from the default."""
    found = {}
    for name, entry, value in _overrides(_loaded_configs()):
        # An unset value is a plain object(). Reading a list or dict makes a copy of the default an
        # override, which is equal to it (torch 2.13).
        if type(value) is not object and value != entry.default:
            found[name] = repr(value)
    stance = getattr(sys.modules.get("torch._dynamo.eval_frame"), "_stance", None)
    if stance is not None and stance.stance != "default":
        found["torch.compiler.set_stance"] = stance.stance
    return found


def _loaded_configs() -> tuple[str, ...]:
    return tuple(name for name in _CONFIGS if name in sys.modules)


def _overrides(loaded: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that are set.

    torch 2.13 keeps each in a context variable, earlier versions in a plain attribute.
    """
    entries, variables = _entries(loaded)
    for name, entry in entries:
        yield name, entry, entry.user_override
    for variable, value in copy_context().items():
        if variable in variables:
            yield *variables[variable], value


@cache
def _entries(
    loaded: tuple[str, ...],
) -> tuple[list[tuple[str, Any]], dict[ContextVar[Any], tuple[str, Any]]]:
    """Return the settings in plain attributes, and those in context variables."""
    found = [
        (f"{module}.{name}", entry)
        for module in loaded
        for name, entry in getattr(sys.modules[module], "_config", {}).items()
    ]
    plain = [(n, entry) for n, entry in found if not isinstance(entry.user_override, ContextVar)]
    variables = {
        entry.user_override: (name, entry)
        for name, entry in found
        if isinstance(entry.user_override, ContextVar)
    }
    return plain, variables


def is_config(variable: ContextVar[Any]) -> bool:
    """Whether a context variable holds a setting of torch's configuration."""
    return variable in _entries(_loaded_configs())[1]


def is_own_hook(hook: object) -> bool:
    """Whether torch has installed this sys.excepthook, as it does for each new process group."""
    return getattr(hook, "__module__", "") == "torch.distributed.distributed_c10d"
