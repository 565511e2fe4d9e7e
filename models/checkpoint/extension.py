"""A checkpoint with more items, whose rows were not fitted. It exists in memory only, and shares all other tables.

Shapes: I fitted items, N new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.checkpoint.files import ITEM_SCHEMA
from models.checkpoint.reader import Checkpoint
from models.checkpoint.vocabulary import Vocabulary
from models.new_items import NewItemRows
from models.relevance import RelevanceHead
from models.scoring import Floats


def extended(checkpoint: Checkpoint, ids: Sequence[str], rows: NewItemRows) -> Checkpoint:
    """The checkpoint with N items after the fitted ones: distinct ids that it does not have, and their rows.

    They have no training ratings, and nothing is known of them: a store may say more.
    """
    model, head = checkpoint.model, checkpoint.relevance
    variance = None
    if model.item_variance is not None:
        variance = _inserted(model.item_variance, rows.left_N * float(model.item_variance[-1]))
    unknown = pa.table(
        [pa.array(ids, pa.string()), *[_absent(field, len(ids)) for field in list(ITEM_SCHEMA)[1:]]], ITEM_SCHEMA
    )
    return replace(
        checkpoint,
        model=replace(
            model,
            item_factors=_inserted(model.item_factors, rows.factors_NF),
            item_bias=_inserted(model.item_bias, rows.bias_N),
            item_variance=variance,
        ),
        items=Vocabulary(pa.concat_arrays([checkpoint.items.ids, unknown["id"].combine_chunks()]), proven=True),
        catalogue=pa.concat_tables([checkpoint.catalogue, unknown]).combine_chunks(),
        relevance=None if head is None or rows.head_NG is None else _with_rows(head, rows.head_NG),
    )


def _with_rows(head: RelevanceHead, rows_NG: Floats) -> RelevanceHead:
    """A rating of a new item adds nothing to the summed row of a user: what it would add was not fitted."""
    return replace(
        head,
        item_factors=_inserted(head.item_factors, rows_NG),
        summed_factors=_inserted(head.summed_factors, np.zeros_like(rows_NG)),
    )


def _inserted(table: Tensor, rows: Floats) -> Tensor:
    """Rows before the last one, which stands for unknown ids."""
    return torch.cat([table[:-1], torch.from_numpy(rows).to(table.device, table.dtype), table[-1:]])


def _absent(field: pa.Field, rows: int) -> pa.Array:
    return pa.nulls(rows, field.type) if field.nullable else pa.array(np.zeros(rows), field.type)
