"""The offline job as a recipe: read → split → fit → evaluate → publish. Each step is a module of its own."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)
