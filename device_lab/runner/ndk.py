"""Bundles for Android's own C library: our runner compiled by an installed NDK, ONNX Runtime from its official AAR.

It is how an app would ship the engine. Such a bundle brings no loader and no C
library: the phone's own start it.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from pathlib import Path

from device_lab.errors import RunnerBuildError
from device_lab.runner.building import Recipe, build_once
from device_lab.runner.bundle import Bundle, bundle_at
from device_lab.runner.engines import ONNXRUNTIME_SOURCES, Engine, Target, find_target

API_LEVEL = 24
"""The oldest release of Android the runner starts on: 7.0, as for the AAR."""
NDK_VARIABLE = "ANDROID_NDK_HOME"

_RUNTIME = "onnxruntime"
_LIBRARY = "libonnxruntime.so"
# libc++ goes into the program, for a phone has none to share; newer phones map nothing aligned to less than 16 KB.
_LINK_FLAGS = ("-static-libstdc++", "-Wl,-z,max-page-size=16384")
# The library's symbols bear its release.
_VERSION = re.compile(rb"\0VERS_([0-9]+\.[0-9]+\.[0-9]+)\0")


def build_ndk_bundle(runtime: str, *, abi: str, ndk: Path | None, aar: Path, cache_folder: Path) -> Bundle:
    """Build the bundle of a runtime with the NDK, or return the one built before from the same.

    Args:
        runtime: ``onnxruntime``; no other is offered.
        abi: ``arm64-v8a`` or ``x86_64``.
        ndk: Folder of the NDK; None for the one in the variable ``ANDROID_NDK_HOME``.
        aar: The official ``onnxruntime-android-VERSION.aar``.
        cache_folder: Where bundles are kept; made if missing.

    Raises:
        RunnerBuildError: If ``runtime`` or ``abi`` is not offered, there is no
            NDK, the AAR has no library for ``abi``, or the runner does not compile.
    """
    if runtime != _RUNTIME:
        raise RunnerBuildError(
            f"runtime={runtime!r} is not offered with toolchain ndk, {_RUNTIME} alone is; leave out --toolchain"
        )
    target = find_target(abi)
    compiler = find_compiler(ndk, target)
    cache_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder, prefix=".aar-") as temporary:
        recipe = ndk_recipe(aar, Path(temporary), target=target, compiler=compiler)
        home = build_once(recipe, cache_folder=cache_folder)
    return bundle_at(home, runtime=runtime, runtime_version=recipe.engine.version, abi=abi, loader="")


def find_compiler(ndk: Path | None, target: Target) -> Path:
    """Return the NDK's C++ compiler for ``target``.

    Raises:
        RunnerBuildError: If no NDK is named, or there is no such compiler in it.
    """
    named = f"--ndk {ndk}"
    if ndk is None:
        if not os.environ.get(NDK_VARIABLE):
            raise RunnerBuildError(f"no Android NDK is named; give its folder by --ndk or {NDK_VARIABLE}")
        ndk = Path(os.environ[NDK_VARIABLE])
        named = f"{NDK_VARIABLE}={ndk}"
    pattern = f"toolchains/llvm/prebuilt/*/bin/{target.machine}-linux-android{API_LEVEL}-clang++"
    found = sorted(ndk.glob(pattern))
    if not found:
        raise RunnerBuildError(f"{named} has no {pattern}; give the folder of an Android NDK, r19 or newer")
    return found[0]


def ndk_recipe(aar: Path, folder: Path, *, target: Target, compiler: Path) -> Recipe:
    """Unpack what a bundle needs of ``aar`` into ``folder`` and return how the bundle is made.

    Raises:
        RunnerBuildError: If the file cannot be read, or has no library for ``target``.
    """
    path = f"jni/{target.abi}/{_LIBRARY}"
    try:
        with zipfile.ZipFile(aar) as archive:
            names = archive.namelist()
            if path not in names:
                abis = sorted({name.split("/")[1] for name in names if re.fullmatch(rf"jni/[^/]+/{_LIBRARY}", name)})
                raise RunnerBuildError(
                    f"--aar {aar} has no {path} (it brings {_LIBRARY} for: {', '.join(abis) or '-'})"
                )
            library = Path(archive.extract(path, folder))
    except (OSError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no zip file"
        raise RunnerBuildError(f"--aar {aar} cannot be read: {reason}") from error
    version = _VERSION.search(library.read_bytes())
    engine = Engine(
        runtime=_RUNTIME,
        package="onnxruntime-android",
        version=version[1].decode() if version else "?",
        libraries=((path, _LIBRARY),),
        sources=ONNXRUNTIME_SOURCES,
    )
    return Recipe(
        engine=engine,
        engine_root=folder,
        target=target,
        compiler=str(compiler),
        libraries={_LIBRARY: library},
        link_flags=_LINK_FLAGS,
    )
