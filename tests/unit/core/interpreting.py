"""Compiled loops as plain Python: slow, but their lines can be followed."""

from types import ModuleType

import pytest


def interpret(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Has these modules call the plain form of every compiled function of any of them."""
    compiled = {
        name: value.py_func
        for module in modules
        for name, value in vars(module).items()
        if hasattr(value, "py_func")
    }
    for module in modules:
        for name, plain in compiled.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, plain)
