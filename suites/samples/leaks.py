"""One leak of each kind that a rank which stays must notice; run as a script, it tries them all."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import copyreg
import decimal
import faulthandler
import gc
import json
import locale
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
import tracemalloc
import unittest
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch._dynamo.config as dynamo_config
import torch.distributed as dist
from torch.optim import optimizer

from harness.ranks.child import kept_group, torch_state
from harness.ranks.child.state import RankState

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("sample")
CPU = "cpu"


class Policy(asyncio.DefaultEventLoopPolicy):
    pass


def environ_of_time_zone() -> None:
    with mock.patch.dict(os.environ, TZ="JST-9"):
        time.tzset()


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
    kept_group.bring_up(
        "none",
        "sample",
        lambda: dist.init_process_group("gloo", store=store, rank=0, world_size=1),
    )
    assert not torch_state.groups_and_timeouts()
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=5))


def within() -> None:
    """All of it is as it was at the end."""
    with np.errstate(all="raise"), mock.patch("os.getcwd"), torch.autocast(CPU):
        pass
    with decimal.localcontext() as context, warnings.catch_warnings():
        context.prec = 3
        warnings.simplefilter("ignore")
    with torch.profiler.profile():
        pass
    with mock.patch.dict(sys.modules, {"wave": None}):
        pass
    with torch.device("meta"), torch.inference_mode(), torch.random.fork_rng():
        torch.ones(2)
    torch.func.vmap(torch.sin)(torch.ones(2))
    with torch.autograd.graph.save_on_cpu():
        torch.ones(2, requires_grad=True).sin().sum().backward()


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


KEPT: list[object] = []
#: What is not noticed, since it is none.
NOTHING = ""

#: What is done, and what must be said of it.
LEAKS: dict[str, tuple[Callable[[], object], str]] = {
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
        lambda: torch.serialization.add_safe_globals([Policy]),
        "number of classes that load() trusts is ",
    ),
    "configuration": (
        lambda: setattr(dynamo_config, "recompile_limit", 3),
        "torch setting torch._dynamo.config.recompile_limit: 3 left behind",
    ),
    "list in the configuration": (
        lambda: dynamo_config.traceable_tensor_subclasses.add(Policy),
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
    "nice": (lambda: os.nice(1), "the nice value is "),
    "affinity": (
        lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        "the processors to run on is (" if len(os.sched_getaffinity(0)) > 1 else NOTHING,
    ),
    "policy": (
        lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
        "the scheduling policy is (5, 0)",
    ),
    "limit": (
        lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        ),
        "the limit RLIMIT_NOFILE is (100, ",
    ),
    "session": (os.setsid, "the session of the system is "),
    "timer": (
        lambda: signal.setitimer(signal.ITIMER_PROF, 1000),
        "the profiling timer is True, was False",
    ),
    "wakeup": (
        lambda: KEPT.append(signal.set_wakeup_fd(nonblocking_pipe())),
        "the wakeup descriptor is ",
    ),
    "locale": (lambda: locale.setlocale(locale.LC_CTYPE, "C"), "the locale is "),
    "time zone": (environ_of_time_zone, "the time zone is (('JST', 'JST'), -32400)"),
    "displayhook": (lambda: setattr(sys, "displayhook", print), "hook sys.displayhook is "),
    "meta_path": (lambda: sys.meta_path.insert(0, Policy), "hook sys.meta_path is "),
    "path_hooks": (lambda: sys.path_hooks.append(print), "hook sys.path_hooks is "),
    "module replaced": (
        lambda: sys.modules.update(json=sys),
        "module json is <module 'sys' (built-in)>, was <module 'json'",
    ),
    "module removed": (lambda: sys.modules.pop("json"), "module json gone"),
    "module removed and imported": (
        lambda: (sys.modules.pop("json"), __import__("json")),
        "module json is <module 'json'",
    ),
    "built-in": (lambda: setattr(builtins, "left", 1), "built-in left: 1 left behind"),
    "built-in changed": (lambda: setattr(builtins, "bin", oct), "built-in bin is "),
    "switch interval": (lambda: sys.setswitchinterval(1), "the switch interval is 1.0"),
    "recursion limit": (lambda: sys.setrecursionlimit(9999), "the recursion limit is 9999"),
    "int digits": (lambda: sys.set_int_max_str_digits(0), "the limit on digits of int is 0"),
    "dlopen": (lambda: sys.setdlopenflags(os.RTLD_LAZY), "the flags of dlopen is 1"),
    "socket": (lambda: socket.setdefaulttimeout(1), "the default timeout of sockets is 1.0"),
    "decimal": (lambda: setattr(decimal.getcontext(), "prec", 3), "the decimal context is (3,"),
    "numpy errors": (lambda: np.seterr(all="raise"), "the NumPy error state is "),
    "numpy printing": (lambda: np.set_printoptions(precision=1), "the NumPy print options is "),
    "context variable": (lambda: VARIABLE.set("x"), "context variable 'sample': 'x' left behind"),
    "thread trace": (lambda: threading.settrace(print), "the trace function of threads is "),
    "stack size": (lambda: threading.stack_size(1 << 20), "the stack size of threads is 1048576"),
    "gc threshold": (lambda: gc.set_threshold(1000), "the garbage collection threshold is (1000"),
    "gc callback": (lambda: gc.callbacks.append(print), "hook gc.callbacks is "),
    "gc debug": (
        lambda: gc.set_debug(gc.DEBUG_UNCOLLECTABLE),
        "the garbage collection debugging is 4",
    ),
    "fault handler": (faulthandler.enable, "the fault handler is True, was False"),
    "memory": (tracemalloc.start, "the tracing of memory is True"),
    "loops": (lambda: asyncio.set_event_loop_policy(Policy()), "the event loop policy is <"),
    "copyreg": (lambda: copyreg.pickle(Policy, print), "number of reducers of copyreg is "),
    "showwarning": (
        lambda: setattr(warnings, "showwarning", print),
        "hook warnings.showwarning is ",
    ),
    "logger class": (
        lambda: logging.setLoggerClass(type("L", (logging.Logger,), {})),
        "hook logging.getLoggerClass is ",
    ),
    "unittest": (lambda: setattr(unittest.TestCase, "maxDiff", 1), "unittest.TestCase.maxDiff is"),
    "mock": (lambda: mock.patch("os.getcwd").start(), "mock patch of 'getcwd' left behind"),
    "mock of a dict": (
        lambda: mock.patch.dict({}, a=1).start(),
        "mock patch of 'a dict' left behind",
    ),
    "start method": (
        lambda: multiprocessing.set_start_method("spawn", force=True),
        "the start method is spawn",
    ),
    # What is no leak.
    "nothing": (lambda: None, NOTHING),
    "default start method": (multiprocessing.get_start_method, NOTHING),
    "default event loop": (lambda: asyncio.run(asyncio.sleep(0)), NOTHING),
    "inexact decimal": (lambda: decimal.Decimal(1) / decimal.Decimal(3), NOTHING),
    "put back": (within, NOTHING),
    "imported": (lambda: __import__("wave"), NOTHING),
    "setting that is read": (read_configuration, NOTHING),
}


def nonblocking_pipe() -> int:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    KEPT.append(reading)
    return writing


def tried(leave: Callable[[], object]) -> tuple[bool, list[str]]:
    """What a fork of this process says when it has done this: whether it differs, and how."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        before = RankState()
        leave()
        left = before.differences()
        os.write(writing, json_of([bool(left), left.told()]))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return tuple(json.loads(text)) if text else (False, ["(it died)"])


def json_of(value: object, encoder: json.JSONEncoder = json.JSONEncoder()) -> bytes:  # noqa: B008
    """As JSON, even where the module has been exchanged."""
    return encoder.encode(value).encode()


if __name__ == "__main__":
    found = {name: tried(leave) for name, (leave, _) in LEAKS.items()}
    print(json.dumps(found))
