"""``nas spaces``: what a search may choose from."""

from __future__ import annotations

import json
import random
from typing import Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, stdout
from nas.cli.models import read_architecture
from search_spaces.space import SPACES, Space, make_space


def spaces(
    name: Annotated[str | None, typer.Argument(help="one space in full; all of them in short if left out")] = None,
    *,
    teacher: Annotated[str, typer.Option(help="bert-base, or an architecture's JSON file")] = "bert-base",
    sample: Annotated[int, typer.Option(min=0, help="draw this many architectures, one JSON object a line")] = 0,
    seed: Annotated[int, typer.Option(help="seed of the draw")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """List the search spaces around a dense teacher, or draw architectures from one.

    Example: nas spaces grouped --sample 3
    """
    arch = read_architecture(teacher)
    chosen = [make_space(each, arch) for each in ([name] if name else SPACES)]
    if sample:
        generator = random.Random(seed)
        for _ in range(sample):
            drawn = chosen[0 if name else -1].sample(lambda _name, options: generator.choice(options))
            stdout.print(drawn.to_json(), markup=False)
    elif as_json:
        print_json({space.name: _document(space) for space in chosen})
    else:
        stdout.print(_table(chosen))


def _document(space: Space) -> dict[str, object]:
    return {
        "num_architectures": space.num_architectures,
        "num_parameters": len(space.parameters),
        "parameters": space.parameters,
        "teacher": json.loads(space.teacher.to_json()),
    }


def _table(chosen: list[Space]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("space", "networks", "choices", "layers", "hidden", "heads", "FFN width", "groups"):
        table.add_column(column, overflow="fold")
    for space in chosen:
        table.add_row(
            space.name,
            f"{space.num_architectures:.1e}",
            str(len(space.parameters)),
            *(
                " ".join(map(str, options))
                for options in (
                    space.depths,
                    space.hidden_sizes,
                    space.num_attention_heads,
                    space.intermediate_sizes,
                    space.groups,
                )
            ),
        )
    return table
