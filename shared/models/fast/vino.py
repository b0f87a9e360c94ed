"""OpenVINO, without the package that reports its every import to its makers and leaves an id in the home folder.

OpenVINO takes a stub of its own where ``openvino_telemetry`` cannot be imported. One that is imported already is the
caller's, and left alone.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: its import fails

import openvino  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: E402

__all__ = ["FrontEndManager", "TorchScriptPythonDecoder", "openvino"]
