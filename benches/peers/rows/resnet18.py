"""Inference by ResNet-18 on one image of 224x224."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from harness.row import Arrays, Row, State, Step
from networks.residual import Residual, torch_logits

NET = Residual(channels=3, stem=(7, 2), pool=True, widths=(64, 128, 256, 512), blocks=2, projected=True, classes=1000)


class Resnet18(Row):
    """Shapes: x f32[1, 3, 224, 224], standard normal; batch normalization by given statistics.

    ONNX Runtime gets the network that PyTorch exports, with its batch normalization folded into the convolutions.
    """

    name = "resnet18"
    title = "inference by ResNet-18, one image of 224x224, f32"
    module = "resnet18"
    on_demand = True
    exports = True
    function = "predict"
    output = "logits"
    repeats = 2
    tolerance = 1e-5

    def feeds(self) -> Arrays:
        return {"x": np.random.default_rng(1).standard_normal((1, 3, 224, 224), dtype=np.float32)}

    def state(self) -> Arrays:
        parameters, statistics = NET.state(2)
        return parameters | statistics

    def reference(self) -> tuple[Step, State]:
        import torch

        return self._torch(torch.float64), lambda: {}

    def peers(self) -> Mapping[str, Callable[[], Step]]:
        return {"onnxruntime": self._onnxruntime, "torch": self._torch}

    def _module(self, dtype: object) -> object:
        import torch

        class Twin(torch.nn.Module):
            """The network with its tensors as buffers, so that an export finds them."""

            def __init__(self, state: Arrays) -> None:
                super().__init__()
                for name, array in state.items():
                    self.register_buffer(name.replace(".", "_"), torch.from_numpy(array.copy()).to(dtype))
                self.names = list(state)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                state = {name: getattr(self, name.replace(".", "_")) for name in self.names}
                return torch_logits(NET, state, x, training=False)

        return Twin(self.state()).eval()

    def _torch(self, dtype: object = None) -> Step:
        import torch

        dtype = dtype or torch.float32
        twin = self._module(dtype).to(memory_format=torch.channels_last)
        x = torch.from_numpy(self.feeds()["x"]).to(dtype).contiguous(memory_format=torch.channels_last)

        def step() -> np.ndarray:
            with torch.inference_mode():
                return twin(x).numpy()

        return step

    def export(self, file: Path | io.BytesIO) -> None:
        import torch

        x = torch.from_numpy(self.feeds()["x"])
        names = {"input_names": ["x"], "output_names": ["logits"]}
        torch.onnx.export(self._module(torch.float32), (x,), file, dynamo=False, **names)

    def _onnxruntime(self) -> Step:
        import onnxruntime

        x = self.feeds()["x"]
        file = io.BytesIO()
        self.export(file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

        def step() -> np.ndarray:
            return session.run(["logits"], {"x": x})[0]

        return step


ROW = Resnet18()
