"""One script for each claim about speed or memory; importing this keeps torch's profiler quiet."""

import os

# read when torch is loaded, so before anything here imports it
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
