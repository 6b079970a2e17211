"""``nas runner``: the programs that execute models on phones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import print_json, stdout
from nas.cli.options import AsJson

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
    cache_folder: Annotated[
        Path | None, typer.Option(help="where bundles are kept [default: the user's cache]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the bundle of a runtime for a phone, or say where the one built before lies.

    Timing on a phone builds what it needs by itself; this does it ahead of time.

    Example: nas runner build --runtime onnxruntime --abi arm64-v8a
    """
    from device_lab.runner.bundle import build_bundle, default_cache_folder

    bundle = build_bundle(runtime, abi=abi, cache_folder=cache_folder or default_cache_folder())
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
