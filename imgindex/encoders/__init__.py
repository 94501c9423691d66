"""From pixels to vectors: recipes and their weights, devices, and the networks that encode images."""

import sys

# OpenVINO reports each import to its makers if it finds this module, in a process that it starts for that. Without it,
# an import takes 0.08 s less. A program that has imported it before keeps it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
