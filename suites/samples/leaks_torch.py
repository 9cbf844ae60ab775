"""One leak of each setting of torch that a rank which stays must notice; `leaks.py` tries them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch._dynamo.config as dynamo_config
import torch.distributed as dist
from torch.optim import optimizer

from harness.ranks.child.kept_group import RankGroups
from harness.ranks.rank_store import RankStore

CPU = "cpu"
KEPT: list[object] = []
GROUPS = RankGroups(RankStore())


class Trusted:
    pass


def rounding_up() -> None:
    import ctypes
    import ctypes.util
    import platform

    up = {"x86_64": 0x800, "aarch64": 0x400000}[platform.machine()]
    ctypes.CDLL(ctypes.util.find_library("m")).fesetround(up)


def saved_tensor_hooks() -> None:
    torch._C._autograd._push_saved_tensors_default_hooks(abs, abs)


def timeout_of_the_kept_group() -> None:
    store = dist.HashStore()
    GROUPS.bring_up(
        "none",
        "sample",
        lambda: dist.init_process_group("gloo", store=store, rank=0, world_size=1),
    )
    assert not GROUPS.left_or_changed()
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=5))


def read_configuration() -> None:
    """Torch makes a copy of a list that is read, which is no leak."""
    for name, entry in dynamo_config._config.items():
        if isinstance(entry.default, list | set | dict):
            getattr(dynamo_config, name)


def enter(context: Any) -> None:
    """Never to leave it."""
    KEPT.append(context)
    context.__enter__()


def library() -> torch.library.Library:
    made = torch.library.Library("sample_of_leaks", "DEF")
    made.define("f(Tensor x) -> Tensor")
    return made


#: What is done, and what must be said of it.
TORCH_LEAKS: dict[str, tuple[Callable[[], object], str]] = {
    "autocast": (lambda: torch.set_autocast_enabled(CPU, True), "torch's autocast on cpu is True"),
    "autocast dtype": (
        lambda: torch.set_autocast_dtype(CPU, torch.float16),
        "torch's autocast dtype on cpu is torch.float16, was torch.bfloat16",
    ),
    "autocast cuda": (
        lambda: torch.set_autocast_dtype("cuda", torch.bfloat16),
        "torch's autocast dtype on cuda is torch.bfloat16, was torch.float16",
    ),
    "autocast cache": (
        lambda: torch.set_autocast_cache_enabled(False),
        "torch's autocast cache is False, was True",
    ),
    "denormal": (
        lambda: torch.set_flush_denormal(True),
        "the denormal numbers is flushed to zero, was kept",
    ),
    "rounding": (rounding_up, "the rounding is up, was to nearest"),
    "warn_always": (lambda: torch.set_warn_always(True), "torch's warn_always is True"),
    "check_nan": (
        lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
        "torch's anomaly mode's check_nan is False",
    ),
    "forward grad": (lambda: torch._C._set_fwd_grad_enabled(False), "torch's forward-mode grad is"),
    "multithreading": (
        lambda: torch._C._set_multithreading_enabled(False),
        "torch's multithreaded backward is False",
    ),
    "view replay": (
        lambda: torch._C._set_view_replay_enabled(True),
        "torch's view replay is True",
    ),
    "saved tensor hooks": (saved_tensor_hooks, "torch's saved tensor hooks is (<built-in"),
    "saved tensor hooks banned": (
        lambda: torch._C._autograd._saved_tensors_hooks_disable("not here"),
        "torch's saved tensor hooks' ban is not here",
    ),
    "vmap": (
        lambda: torch._C._functorch._vmap_increment_nesting(2, "error"),
        "torch's vmap level is 1, was None",
    ),
    "torch function": (
        lambda: enter(torch._C.DisableTorchFunctionSubclass()),
        "torch's __torch_function__ is",
    ),
    "profiler": (
        lambda: enter(torch.autograd.profiler.profile()),
        "torch's profiler is True, was False",
    ),
    "interop threads": (
        lambda: torch.set_num_interop_threads(7),
        "torch's number of interop threads is 7",
    ),
    "cudnn": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        "torch's cuDNN benchmark is True",
    ),
    "cudnn tf32": (
        lambda: torch._C._set_cudnn_allow_tf32(False),
        "torch's cuDNN TF32 is False",
    ),
    "matmul": (
        lambda: torch.set_float32_matmul_precision("medium"),
        "torch's matmul precision is medium, was highest",
    ),
    "precision of an operator": (
        lambda: torch._C._set_fp32_precision_setter("mkldnn", "matmul", "bf16"),
        "torch's fp32 precision of mkldnn matmul is bf16, was none",
    ),
    "cublas": (
        lambda: setattr(
            torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False
        ),
        "torch's cuBLAS bf16 reduction is",
    ),
    "onednn": (lambda: torch._C._set_mkldnn_enabled(False), "torch's oneDNN is False, was True"),
    "onednn deterministic": (
        lambda: setattr(torch.backends.mkldnn, "deterministic", True),
        "torch's oneDNN deterministic is True",
    ),
    "nnpack": (
        lambda: torch.backends.nnpack.set_flags(False),
        "torch's NNPACK is False, was True",
    ),
    "flash": (
        lambda: torch.backends.cuda.enable_flash_sdp(False),
        "torch's flash attention is False",
    ),
    "efficient": (
        lambda: torch.backends.cuda.enable_mem_efficient_sdp(False),
        "torch's memory-efficient attention is False",
    ),
    "math": (
        lambda: torch.backends.cuda.enable_math_sdp(False),
        "torch's math attention is False",
    ),
    "cudnn sdp": (
        lambda: torch.backends.cuda.enable_cudnn_sdp(False),
        "torch's cuDNN attention is False",
    ),
    "math reduction": (
        lambda: torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True),
        "torch's math attention's reduction is True",
    ),
    "fast path": (
        lambda: torch.backends.mha.set_fastpath_enabled(False),
        "torch's fast path of attention is False",
    ),
    "flags": (
        torch.backends.disable_global_flags,
        "torch's ban on setting backend flags is True, was False",
    ),
    "engine": (
        lambda: setattr(torch.backends.quantized, "engine", "onednn"),
        "torch's quantized engine is ",
    ),
    "TorchScript": (
        lambda: torch._C._set_graph_executor_optimize(False),
        "torch's TorchScript optimization is False",
    ),
    "sparse": (
        torch.sparse.check_sparse_tensor_invariants.enable,
        "torch's checks of sparse tensors is True",
    ),
    "default tensor type": (
        lambda: torch.set_default_tensor_type(torch.DoubleTensor),
        "torch's default dtype is torch.float64",
    ),
    "printing": (
        lambda: torch.set_printoptions(precision=9),
        "torch's print options is {'precision': 9",
    ),
    "sharing": (
        lambda: torch.multiprocessing.set_sharing_strategy("file_system"),
        "torch's sharing strategy is file_system",
    ),
    "validation": (
        lambda: torch.distributions.Distribution.set_default_validate_args(False),
        "torch's validation of distributions is False",
    ),
    "hub": (lambda: torch.hub.set_dir("/nowhere"), "torch's hub folder is /nowhere"),
    "overwriting": (
        lambda: torch.__future__.set_overwrite_module_params_on_conversion(True),
        "torch's overwriting of parameters is True",
    ),
    "parametrization": (
        lambda: enter(torch.nn.utils.parametrize.cached()),
        "torch's parametrization cache is 1",
    ),
    "global hook": (
        lambda: torch.nn.modules.module.register_module_forward_hook(print),
        "torch's global forward hooks is (<built-in function print>,), was ()",
    ),
    "global backward hook": (
        lambda: torch.nn.modules.module.register_module_full_backward_hook(print),
        "torch's global backward hooks is ",
    ),
    "registration hook": (
        lambda: torch.nn.modules.module.register_module_parameter_registration_hook(print),
        "torch's global parameter registration hooks is ",
    ),
    "optimizer hook": (
        lambda: optimizer.register_optimizer_step_pre_hook(print),
        "torch's global optimizer pre-hooks is ",
    ),
    "operator": (lambda: KEPT.append(library()), "number of custom operators is "),
    "safe globals": (
        lambda: torch.serialization.add_safe_globals([Trusted]),
        "number of classes that load() trusts is ",
    ),
    "configuration": (
        lambda: setattr(dynamo_config, "recompile_limit", 3),
        "torch setting torch._dynamo.config.recompile_limit: 3 left behind",
    ),
    "list in the configuration": (
        lambda: dynamo_config.traceable_tensor_subclasses.add(Trusted),
        "torch setting torch._dynamo.config.traceable_tensor_subclasses: {<class",
    ),
    "stance": (
        lambda: torch.compiler.set_stance("force_eager"),
        "torch setting torch.compiler.set_stance: force_eager left behind",
    ),
    "kept group": (timeout_of_the_kept_group, "(cpu): timeout 0:00:05, made with "),
    "backend": (
        lambda: dist.Backend.register_backend("sample", print, devices=["cpu"]),
        "number of process group backends is ",
    ),
}
