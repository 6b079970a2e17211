"""What a compiled runner is made of, for each runtime and each kind of processor.

Plain facts: which official wheel holds the engine's libraries, which of them a
runner needs, and which compiler and system libraries go with them.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from dataclasses import dataclass

from device_lab.errors import RunnerBuildError, RuntimeMissingError, UnknownRuntimeError

EXECUTORCH_VERSION = "1.5.1"
ONNXRUNTIME_SOURCES = ("harness.cpp", "generated_weights.cpp", "onnxruntime_runner.cpp")
"""Of the runner for ONNX Runtime's C API, whatever the library comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One runtime as its wheel brings it, and how to compile a runner against it.

    ``libraries`` are paths in the wheel with the name each has in a bundle, the
    one its dependents ask for. ``sources`` lie beside this file.
    """

    runtime: str
    package: str
    version: str
    libraries: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    include_folders: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of processor, under Android's name for it."""

    abi: str
    machine: str
    loader: str

    @property
    def compilers(self) -> tuple[str, ...]:
        """Names of the compilers that make programs for it, the first found serves."""
        cross = f"{self.machine}-linux-gnu-g++"
        return (cross, "g++") if self.is_this_machine else (cross,)

    @property
    def compiler_package(self) -> str:
        """Debian package that brings the compiler and the system libraries."""
        return "g++" if self.is_this_machine else f"g++-{self.machine.replace('_', '-')}-linux-gnu"

    @property
    def is_this_machine(self) -> bool:
        """Whether programs for it run here as they are."""
        return sys.platform == "linux" and platform.machine() == self.machine

    @property
    def system_libraries(self) -> tuple[str, ...]:
        """The glibc and compiler libraries every bundle carries, since Android has others."""
        return (
            self.loader,
            "libc.so.6",
            "libm.so.6",
            "libdl.so.2",
            "libpthread.so.0",
            "librt.so.1",
            "libstdc++.so.6",
            "libgcc_s.so.1",
        )


_TARGETS = (
    Target(abi="arm64-v8a", machine="aarch64", loader="ld-linux-aarch64.so.1"),
    Target(abi="x86_64", machine="x86_64", loader="ld-linux-x86-64.so.2"),
)


def loader_names() -> frozenset[str]:
    """Return the names of glibc's loaders, one for each kind of processor."""
    return frozenset(target.loader for target in _TARGETS)


def host_target() -> Target:
    """Return the target whose programs run on this machine.

    Raises:
        RunnerBuildError: If there is none.
    """
    for target in _TARGETS:
        if target.is_this_machine:
            return target
    raise RunnerBuildError(
        f"no runner can be built for {sys.platform} on {platform.machine()}; use runtime onnxruntime"
    )


def find_target(abi: str) -> Target:
    """Return the target called ``abi``.

    Raises:
        RunnerBuildError: If there is none.
    """
    for target in _TARGETS:
        if target.abi == abi:
            return target
    known = ", ".join(target.abi for target in _TARGETS)
    raise RunnerBuildError(f"no bundle can be built for abi={abi!r} (known: {known}); give a program by --runner")


def find_engine(runtime: str) -> Engine:
    """Return the engine of ``runtime``, in the release that is installed here where it is.

    Raises:
        UnknownRuntimeError: If no runner is written for it.
        RuntimeMissingError: If the release on this machine decides and there is none.
    """
    makers = {"executorch": _executorch, "onnxruntime": _onnxruntime}
    if runtime not in makers:
        raise UnknownRuntimeError(name=runtime, known=makers)
    return makers[runtime]()


def _onnxruntime() -> Engine:
    # The release on the phone is the one that times on this machine.
    try:
        version = importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeMissingError("runtime onnxruntime is not installed; run `pip install onnxruntime`") from error
    return Engine(
        runtime="onnxruntime",
        package="onnxruntime",
        version=version,
        libraries=((f"onnxruntime/capi/libonnxruntime.so.{version}", "libonnxruntime.so.1"),),
        sources=ONNXRUNTIME_SOURCES,
    )


def _executorch() -> Engine:
    names = ("libexecutorch", "libexecutorch_kernels_optimized", "libexecutorch_backend_xnnpack")
    libraries = (*names, "libexecutorch_threadpool")
    return Engine(
        runtime="executorch",
        package="executorch",
        version=EXECUTORCH_VERSION,
        libraries=tuple((f"executorch/lib/{name}.so", f"{name}.so") for name in libraries),
        sources=("harness.cpp", "executorch_runner.cpp"),
        include_folders=("executorch/include", "executorch/include/executorch/runtime/core/portable_type/c10"),
        # As the wheel's own CMake file sets them: they decide how its classes are laid out.
        definitions=("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED"),
    )
