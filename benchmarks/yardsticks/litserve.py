"""The same model behind LitServe, with its batching on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import litserve
import torch

from models.registry.directory import load


class Predict(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.loaded = load(Path(os.environ["RATECAST_CHECKPOINTS"]))
        tables = (self.loaded.users, self.loaded.items)
        self.rows = [{id_: row for row, id_ in enumerate(table.ids.to_pylist())} for table in tables]

    def decode_request(self, request):  # LitServe reads the annotation, and would take a dict for a query parameter
        users, items = self.rows
        return users.get(request["user"], len(users)), items.get(request["item"], len(items))

    def batch(self, inputs: list[tuple[int, int]]) -> torch.Tensor:
        return torch.tensor(inputs)

    def predict(self, pairs: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.loaded.model(*pairs.T)

    def unbatch(self, ratings: torch.Tensor) -> list[float]:
        return ratings.tolist()

    def encode_response(self, rating: float) -> dict[str, float]:
        return {"rating": rating}


if __name__ == "__main__":
    api = Predict(max_batch_size=64, batch_timeout=0.0, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
