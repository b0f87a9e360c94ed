"""Sweeps: a data set under many conditions. The package can be called: it is ``sweep`` of the Python API as well."""

import inspect
import sys
from types import ModuleType

from featlink.api.sweeping import sweep


class _CallablePackage(ModuleType):
    """``featlink.sweep`` means this package as soon as a module of it is imported, so ``fl.sweep(...)`` calls it."""

    __call__ = staticmethod(sweep)
    __signature__ = inspect.signature(sweep)


sys.modules[__name__].__class__ = _CallablePackage
