"""From the options that say what to search or to teach to a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import SettingsError
from nas.runs import SearchRequest
from nas.tasks import find_task_folder, task_name, task_names
from nas.teacher_plans import join_steps, split_steps


def new_request(given: dict[str, Any], defaults: Mapping[str, Any]) -> SearchRequest:
    """Return the request of a new run.

    Args:
        given: The fields that were asked for, and perhaps the teacher's steps.
        defaults: Fields where ``given`` has none; a task of theirs gives way to any task of ``given``.

    Raises:
        SettingsError: If one thing is asked for in two ways.
        TaskError: If the folder of a task is not there.
    """
    if "task" in given or "tasks" in given:
        defaults = {name: value for name, value in defaults.items() if name not in ("task", "tasks")}
    given = with_tasks({**defaults, **given})
    if "task_dir" in given:
        given = {"task": task_name(Path(given["task_dir"]))} | given
    return SearchRequest(**with_teacher_steps(given, SearchRequest()))


def with_tasks(given: dict[str, Any]) -> dict[str, Any]:
    """Take the names of several tasks apart. One alone is what ``--task`` and its own folder say."""
    if "tasks" not in given:
        return given
    if "task" in given:
        raise SettingsError(f"--task {given['task']} and --tasks {given['tasks']} choose twice; leave one out")
    names = task_names(given["tasks"])
    if len(names) > 1:
        return given | {"task": ",".join(names), "tasks": names}
    folder = {"task_dir": str(find_task_folder(Path(given["task_dir"]), names[0]))} if "task_dir" in given else {}
    return given | folder | {"task": names[0], "tasks": ()}


def with_teacher_steps(given: dict[str, Any], request: SearchRequest) -> dict[str, Any]:
    """Say how long to train the teacher in its name, completing what was left out from ``request``."""
    fields = {name: value for name, value in given.items() if name != "teacher_steps"}
    if "teacher" in given or "teacher_steps" in given:
        own_name, own_steps = split_steps(request.teacher)
        name, steps = split_steps(given.get("teacher", own_name))
        fields["teacher"] = join_steps(name, given.get("teacher_steps", own_steps if steps is None else steps))
    return fields
