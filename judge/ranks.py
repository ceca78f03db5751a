"""The processes of one training (``torchrun``): what the first one decides holds for all. Alone, it is as if there were none of this."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch

from judge.rubric import JudgeError

T = TypeVar("T")


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def beside() -> int:
    """How many of them share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def join() -> None:
    """Wait for the other processes; on a GPU each takes its own. They must all call what follows, in the same order."""
    if world() > 1:
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())


def least(value: float) -> float:
    """The smallest of the values that the processes have."""
    if world() == 1:
        return value
    from accelerate.utils import gather_object

    return float(min(gather_object([value])))


def first_decides(decide: Callable[[], T]) -> T:
    """What ``decide`` returns in the first process; the others wait for it and do not call it.

    Raises:
        JudgeError: the first one did. All of them do then, so that none waits for the others.
    """
    if world() == 1:
        return decide()
    from accelerate.utils import broadcast_object_list

    told: list[T | JudgeError | None] = [None]
    if int(os.environ.get("RANK", "0")) == 0:
        try:
            told = [decide()]
        except JudgeError as error:
            told = [error]
    (answer,) = broadcast_object_list(told)
    if isinstance(answer, JudgeError):
        raise answer
    decision: T = answer
    return decision
