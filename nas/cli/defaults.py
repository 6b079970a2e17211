"""Defaults from ``nas.toml`` in the folder a command runs in; what the command line says comes first.

A key on top of the file is for every verb that has such an option, one in a
table named after a verb is for that verb.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from nas.errors import SettingsError

FILE_NAME = "nas.toml"


def read_defaults(path: Path, command: TyperGroup) -> dict[str, Any]:
    """Return the defaults in a file by verb and parameter; nothing if there is no such file.

    Raises:
        SettingsError: If it is not TOML, or names a verb or an option that does not exist.
        OSError: If it cannot be read.
    """
    if not path.exists():
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    shared = {key: value for key, value in document.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    options = {verb: _options(each) for verb, each in command.commands.items()}
    for key in shared:
        if not any(key in known for known in options.values()):
            raise SettingsError(f"{path}: no verb has the option --{key}; see `nas --help`")
    for verb, table in tables.items():
        if verb not in options:
            raise SettingsError(f"{path}: [{verb}] is no verb (known: {', '.join(options)})")
        for key in table:
            if key not in options[verb]:
                raise SettingsError(f"{path}: `nas {verb}` has no option --{key}; see `nas {verb} --help`")
    return {
        verb: {known[key]: value for key, value in (shared | tables.get(verb, {})).items() if key in known}
        for verb, known in options.items()
    }


def from_file(context: typer.Context) -> set[str]:
    """Return which parameters of a command took their value from ``nas.toml``."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "DEFAULT_MAP"}


def _options(command: Any) -> dict[str, str]:
    """Return a verb's options as they are written, without dashes, with the names of their parameters."""
    return {
        option.removeprefix("--"): parameter.name or ""
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }
