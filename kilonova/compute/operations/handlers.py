"""The table of an agent's operations and what each of them is given."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.registry import Registry
from kilonova.config.settings import Settings
from kilonova.domain.operations import Operation
from kilonova.virt.driver import VirtDriver

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")


class At(msgspec.Struct, frozen=True):
    """The place an operation is done at. ``builds`` bounds how many guests are made at once."""

    host: str
    driver: VirtDriver
    settings: Settings
    clock: Clock
    builds: contextlib.AbstractAsyncContextManager[Any]


class Handler(msgspec.Struct, frozen=True):
    """An operation and the function that does it.

    ``changes``: it is remembered in the journal, and waits for others on the same guest.
    ``clears``: it ends others under way on the same guest instead of waiting.
    """

    operation: Operation[Any, Any]
    work: Callable[[At, Any], Awaitable[Any]]
    changes: bool = True
    clears: bool = False


HANDLERS: Registry[Handler] = Registry("operation handler")


def handles(
    operation: Operation[A, R], *, changes: bool = True, clears: bool = False
) -> Callable[[Callable[[At, A], Awaitable[R]]], Callable[[At, A], Awaitable[R]]]:
    """Register the function that does an operation."""

    def register(work: Callable[[At, A], Awaitable[R]]) -> Callable[[At, A], Awaitable[R]]:
        HANDLERS.add(operation.name, Handler(operation, work, changes, clears))
        return work

    return register


def builds_gate(most: int) -> contextlib.AbstractAsyncContextManager[Any]:
    """A gate that lets ``most`` builds pass at once; 0 means any number."""
    return asyncio.Semaphore(most) if most else contextlib.nullcontext()
