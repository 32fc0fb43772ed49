"""The scriptable driver: guests that exist only in memory, on as many hosts as wanted."""

from kilonova.virt.fake.driver import FakeDriver
from kilonova.virt.fake.world import MEDIUM, PLENTY, SMALL, Capacity, FakeWorld

__all__ = ["MEDIUM", "PLENTY", "SMALL", "Capacity", "FakeDriver", "FakeWorld"]
