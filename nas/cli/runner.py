"""``nas runner``: the programs that execute models on phones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import print_json, stdout
from nas.cli.options import AsJson
from nas.errors import SettingsError

if TYPE_CHECKING:
    from device_lab.runner.bundle import Bundle

runner = typer.Typer(help="Build the programs that execute models on phones.", no_args_is_help=True)


@runner.callback()
def _group() -> None:
    # With a callback a single command keeps its name: `nas runner build`.
    pass


@runner.command()
def build(
    *,
    runtime: Annotated[str, typer.Option(help="onnxruntime or executorch")] = "onnxruntime",
    abi: Annotated[str, typer.Option(help="arm64-v8a or x86_64")] = "arm64-v8a",
    toolchain: Annotated[
        str, typer.Option(help="glibc: the engine's Linux wheel with its C library; ndk: Android's own (untested)")
    ] = "glibc",
    ndk: Annotated[Path | None, typer.Option(help="folder of an Android NDK [default: ANDROID_NDK_HOME]")] = None,
    aar: Annotated[Path | None, typer.Option(help="for ndk: the official onnxruntime-android-VERSION.aar")] = None,
    cache_folder: Annotated[
        Path | None, typer.Option(help="where bundles are kept [default: the user's cache]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the bundle of a runtime for a phone, or say where the one built before lies.

    Timing on a phone builds what it needs by itself; this does it ahead of time.
    What --toolchain ndk builds is for --runner of the verbs that time; no NDK and
    no phone has tried it yet.

    Example: nas runner build --runtime onnxruntime --abi arm64-v8a
    """
    bundle = _build(runtime, abi=abi, toolchain=toolchain, ndk=ndk, aar=aar, cache_folder=cache_folder)
    size_bytes = bundle.archive.stat().st_size
    if as_json:
        print_json(
            {
                "runtime": bundle.runtime,
                "runtime_version": bundle.runtime_version,
                "abi": bundle.abi,
                "archive": str(bundle.archive),
                "size_bytes": size_bytes,
                "sha256": bundle.sha256,
            }
        )
    else:
        stdout.print(f"{bundle.runtime} {bundle.runtime_version} for {bundle.abi}: {bundle.archive}", markup=False)
        stdout.print(f"{size_bytes / 1e6:.1f} MB, sha256 {bundle.sha256}", markup=False)


def _build(
    runtime: str, *, abi: str, toolchain: str, ndk: Path | None, aar: Path | None, cache_folder: Path | None
) -> Bundle:
    from device_lab.runner.bundle import build_bundle, default_cache_folder
    from device_lab.runner.ndk import build_ndk_bundle

    cache_folder = cache_folder or default_cache_folder()
    if toolchain == "glibc":
        if ndk is not None or aar is not None:
            raise SettingsError("--ndk and --aar are for --toolchain ndk; add it or leave them out")
        return build_bundle(runtime, abi=abi, cache_folder=cache_folder)
    if toolchain != "ndk":
        raise SettingsError(f"unknown toolchain {toolchain!r} (known: glibc, ndk)")
    if aar is None:
        raise SettingsError(
            "--toolchain ndk needs --aar: download onnxruntime-android-VERSION.aar from "
            "https://repo1.maven.org/maven2/com/microsoft/onnxruntime/onnxruntime-android/"
        )
    return build_ndk_bundle(runtime, abi=abi, ndk=ndk, aar=aar, cache_folder=cache_folder)
