from __future__ import annotations

import httpx
import torch

from models.checkpoint import Checkpoint


def test_the_current_model_is_what_its_manifest_says(client: httpx.Client, loaded: Checkpoint) -> None:
    served = client.get("/models/current").json()
    manifest = loaded.manifest.model_dump(mode="json")
    assert 0 <= served.pop("age_seconds") < 3600
    assert served.pop("device") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert served == {
        "version": manifest["version"],
        "created_at": manifest["created_at"],
        "shape": manifest["model"],
        "trainer": manifest["trainer"],
        "data": manifest["data"],
        "metrics": manifest["metrics"],
    }
