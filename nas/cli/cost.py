"""``nas cost``: price one architecture without training or running it."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.console import print_json, stdout
from nas.cli.models import read_architecture
from nas.cost import model_cost
from search_spaces.reference import SQUEEZEBERT


def cost(
    model: Annotated[str, typer.Argument(help="squeezebert, bert-base, or an architecture's JSON file")],
    *,
    sequence_length: Annotated[int, typer.Option(min=1, max=512, help="tokens per sequence")] = 128,
    num_labels: Annotated[int, typer.Option(min=1, help="outputs of the head")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Print the MACs and parameters of an architecture, and its ratio to SqueezeBERT.

    Example: nas cost squeezebert --json
    """
    arch = read_architecture(model)
    price = model_cost(arch, sequence_length=sequence_length, num_labels=num_labels)
    squeezebert = model_cost(SQUEEZEBERT, sequence_length=sequence_length, num_labels=num_labels)
    ratio = price.macs / squeezebert.macs
    if as_json:
        print_json(
            {
                "arch_id": arch.arch_id,
                "macs": price.macs,
                "encoder_macs": price.encoder_macs,
                "flops": price.flops,
                "parameters": price.parameters,
                "ratio_to_squeezebert": ratio,
                "sequence_length": sequence_length,
            }
        )
    else:
        stdout.print(
            f"{arch.arch_id}: {price.macs / 1e9:.3f} GMACs at {sequence_length} tokens, "
            f"{price.parameters / 1e6:.2f} M parameters, {ratio:.3f}x SqueezeBERT's MACs"
        )
