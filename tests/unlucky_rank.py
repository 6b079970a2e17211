"""The program ``nas`` whose second process has bad luck at its fourth step: ``torchrun unlucky_rank.py HOW ...``."""

from __future__ import annotations

import os
import signal
import sys
from unittest.mock import patch

import torch
from torch import Tensor, nn

import nas.losses
from nas.cli.main import main
from nas.tasks import TaskKind
from nas.tokens import Batch
from nas.training import Loss

LUCKY_STEPS = 3


def unlucky_loss(kind: TaskKind) -> Loss:
    lucky_loss, steps = nas.losses.supervised_loss(kind), []

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        steps.append(batch)
        if len(steps) <= LUCKY_STEPS:
            return lucky_loss(network, batch)
        match how:
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "error":
                raise OSError("the disk is gone")
        return lucky_loss(network, batch) * torch.nan

    return loss


if __name__ == "__main__":
    how = sys.argv.pop(1)
    sys.argv[0] = "nas"
    loss_of_rank = {"0": nas.losses.supervised_loss, "1": unlucky_loss}[os.environ["RANK"]]
    with patch("nas.teacher.CHECKPOINT_EVERY_STEPS", 2), patch("nas.teacher.supervised_loss", loss_of_rank):
        main()
