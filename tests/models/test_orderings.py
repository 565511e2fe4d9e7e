"""What puts items in order, against scores computed by hand."""

from __future__ import annotations

import torch

from models.mf import MatrixFactorization
from models.orderings import by_lower_bound, default_order, orderings
from models.search import top_items
from tests.support.checkpoints import small_head, small_model
from tests.support.orderings import USERS, make_ordering


def test_the_order_by_rating_is_that_of_predictions() -> None:
    ordering = make_ordering("rating", 300, 8, 0, 1e-3)
    users, items = ordering.users, ordering.items
    model = MatrixFactorization(ordering.mean, users.factors, items.factors, users.bias, items.bias)
    items_I = torch.arange(300)
    users_I = items_I % (USERS + 1)
    assert torch.equal(ordering.exact(users_I, items_I), model(users_I, items_I))


def test_the_lower_bound_is_that_of_the_central_90_percent() -> None:
    model = MatrixFactorization(
        mean=torch.tensor(3.0),
        user_factors=torch.zeros(2, 0),
        item_factors=torch.zeros(3, 0),
        user_bias=torch.zeros(2),
        item_bias=torch.tensor([0.5, 0.0, 0.0]),
        noise_variance=torch.tensor(1.0),
        user_variance=torch.tensor([0.05, 0.0]),
        item_variance=torch.tensor([0.20, 0.04, 0.0]),
    )
    ordering, rows = by_lower_bound(model), torch.tensor([0, 1])
    expected = torch.tensor([3.5 - 1.645 * 0.5, 3.0 - 1.645 * 0.3])
    torch.testing.assert_close(ordering.exact(torch.zeros(2, dtype=torch.int64), rows), expected)
    assert top_items(ordering, torch.tensor([0]), 2).tolist() == [[0, 1]]
    assert top_items(ordering, torch.tensor([1]), 2).tolist() == [[0, 1]]


def test_lists_are_ordered_by_relevance_where_there_is_a_head_else_by_rating() -> None:
    model, head = small_model(), small_head()
    assert [default_order(orderings(model, some)) for some in (None, head)] == ["rating", "relevance"]
