"""Libraries that predict ratings, as models for `accuracy.py`: one function each, with the settings it is measured at.

It knows nothing of Ratecast: `peers.txt` and `worker.py` beside it are all it needs. Each model is read out as factors
and biases, which is what it predicts from; `benchmarks/results/` says how that was checked.
"""

# ruff: noqa: PLC0415 - a library is imported where it is used, because any of them may be missing or broken

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import numpy as np
from worker import Array, Bilinear, Model, Task, Watch, serve


def popularity(task: Task, watch: Watch) -> Bilinear:
    """Orders by the number of training ratings: has no random part, so it checks the ranking figures."""
    with watch:
        counts_I = np.bincount(task.items_N, minlength=task.items)
    return _biased(task, 0.0, np.zeros(task.users), counts_I)


def surprise(algorithm: str, settings: dict[str, Any], task: Task, watch: Watch) -> Bilinear:
    import pandas as pd
    import surprise as library

    frame = pd.DataFrame({"user": task.users_N, "item": task.items_N, "rating": task.ratings_N})
    scale = float(task.ratings_N.min()), float(task.ratings_N.max())
    trainset = library.Dataset.load_from_df(frame, library.Reader(rating_scale=scale)).build_full_trainset()
    random = {} if algorithm == "BaselineOnly" else {"random_state": task.seed}
    with watch:
        model = getattr(library, algorithm)(**settings, **random)
        model.fit(trainset)
    users_U = [trainset.to_inner_uid(user) for user in range(task.users)]
    items_I = [trainset.to_inner_iid(item) for item in range(task.items)]
    biases = trainset.global_mean, np.asarray(model.bu)[users_U], np.asarray(model.bi)[items_I]
    if algorithm == "BaselineOnly":
        return _biased(task, *biases)
    user_factors = np.asarray(model.pu)
    if algorithm == "SVDpp":
        implicit = (model.yj[[item for item, _ in trainset.ur[user]]] for user in range(task.users))
        user_factors = user_factors + np.array([rows_NF.sum(0) / np.sqrt(len(rows_NF)) for rows_NF in implicit])
    return Bilinear.of_rated(task, *biases, user_factors[users_U], np.asarray(model.qi)[items_I])


def cmfrec(settings: dict[str, Any], task: Task, watch: Watch) -> Bilinear:
    from cmfrec import CMF
    from scipy.sparse import coo_matrix

    ratings = coo_matrix((task.ratings_N, (task.users_N, task.items_N)), shape=(task.users, task.items))
    with watch:
        model = CMF(**settings, random_state=task.seed + 1, nthreads=task.threads, verbose=False).fit(ratings)
    biases = model.user_bias_, model.item_bias_
    return Bilinear.of_rated(task, model.glob_mean_, *biases, model.A_, model.B_)


def lenskit(settings: dict[str, Any], task: Task, watch: Watch) -> Bilinear:
    """The rows of users are solved once more from the final items, as the library does for a user with a history."""
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.data import ItemList, from_interactions_df
    from lenskit.training import TrainingOptions

    frame = pd.DataFrame({"user_id": task.users_N, "item_id": task.items_N, "rating": task.ratings_N})
    data = from_interactions_df(frame)
    model = BiasedMFScorer(**settings)
    with watch:
        model.train(data, TrainingOptions(rng=task.seed))
    items_I = data.items.numbers(np.arange(task.items))
    solved = []
    for user, rows in sorted(frame.groupby("user_id").indices.items()):
        rated = ItemList(item_ids=task.items_N[rows], rating=task.ratings_N[rows], vocabulary=data.items)
        solved.append(model.new_user_embedding(data.users.number(user), rated))
    user_factors, user_bias = np.array([row for row, _ in solved]), np.array([bias for _, bias in solved])
    item_bias, item_factors = model.bias.item_biases[items_I], model.item_embeddings[items_I]
    return Bilinear.of_rated(task, model.bias.global_bias, user_bias, item_bias, user_factors, item_factors)


def libmf(settings: dict[str, Any], task: Task, watch: Watch) -> Bilinear:
    """Its Python `predict` is wrong, so the factors are read out; it has no biases. It compiles nothing and goes
    without the warm-up fit: on so few ratings its threads were seen to wait for one another for ever."""
    from libmf.mf import MF

    triples = np.column_stack([task.users_N, task.items_N, task.ratings_N]).astype(np.float32)
    with watch:
        model = MF(**settings, nr_threads=task.threads, quiet=True)
        model.fit(triples)
    zeros = np.zeros(task.users), np.zeros(task.items)
    return Bilinear.of_rated(task, 0.0, *zeros, model.p_factors(), model.q_factors())


def cornac(settings: dict[str, Any], task: Task, watch: Watch) -> Bilinear:
    """With more threads than one its updates race; the figures are for one."""
    from cornac.data import Dataset
    from cornac.models import SVD

    users, items = (OrderedDict((index, index) for index in range(size)) for size in (task.users, task.items))
    columns = task.users_N.astype(int), task.items_N.astype(int), task.ratings_N.astype(float)
    data = Dataset(task.users, task.items, users, items, columns, seed=task.seed)
    with watch:
        model = SVD(**settings, num_threads=1, verbose=False, seed=task.seed).fit(data)
    factors = model.u_factors, model.i_factors
    return Bilinear.of_rated(task, model.global_mean, model.u_biases, model.i_biases, *factors)


def implicit(settings: dict[str, Any], power: int, task: Task, watch: Watch) -> Bilinear:
    """Powers of ratings count as confidence that a user wants an item; what it predicts is no rating."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    ratings = csr_matrix((task.ratings_N**power, (task.users_N, task.items_N)), shape=(task.users, task.items))
    with watch:
        model = AlternatingLeastSquares(**settings, num_threads=task.threads, random_state=task.seed)
        model.fit(ratings, show_progress=False)
    zeros = np.zeros(task.users), np.zeros(task.items)
    return Bilinear.of_rated(task, 0.0, *zeros, model.user_factors, model.item_factors)


def myfm(flipped: bool, rank: int, task: Task, watch: Watch) -> Bilinear:
    """Users and items one-hot; flipped also who rated what, each row of it scaled by 1/√count (SVD++ on both sides)."""
    from myfm import MyFMRegressor, RelationBlock
    from scipy.sparse import csr_matrix, hstack, identity

    sizes = [task.users, task.items]
    blocks = [identity(size, format="csr") for size in sizes]
    if flipped:
        ones_N = np.ones(len(task.users_N))
        rated = csr_matrix((ones_N, (task.users_N, task.items_N)), shape=(task.users, task.items))
        blocks = [hstack([block, _scaled(m)]).tocsr() for block, m in zip(blocks, (rated, rated.T), strict=True)]
        sizes = [task.users, task.items, task.items, task.users]
    columns = task.users_N, task.items_N
    with watch:
        relations = [RelationBlock(rows.tolist(), block) for rows, block in zip(columns, blocks, strict=True)]
        model = MyFMRegressor(rank=rank, random_seed=task.seed)
        empty = csr_matrix((len(task.users_N), 0))
        model.fit(empty, task.ratings_N.astype(float), X_rel=relations, n_iter=300, group_shapes=sizes)
    return _collapsed(task, model.predictor_.samples, *blocks)


def _collapsed(task: Task, samples: list[Any], user_block: Any, item_block: Any) -> Bilinear:
    """The mean of factorization machines whose features split into a user's x and an item's y is bilinear:
    w·x + ½(‖Vᵀx‖² − Σ x²v²) is the user's bias, likewise the item's, and Vᵀx·Vᵀy is left, one term a sample."""
    sides = []
    for block, columns in ((user_block, slice(user_block.shape[1])), (item_block, slice(user_block.shape[1], None))):
        bias, factors = np.zeros(block.shape[0]), []
        for sample in samples:
            weights, V = np.asarray(sample.w)[columns], np.asarray(sample.V)[columns]
            rows_F = block @ V
            bias += block @ weights + (rows_F**2 - block.power(2) @ V**2).sum(1) / 2
            factors.append((rows_F / np.sqrt(len(samples))).astype(np.float32))
        sides.append((bias / len(samples), np.hstack(factors)))
    mean = float(np.mean([sample.w0 for sample in samples]))
    (user_bias, user_factors), (item_bias, item_factors) = sides
    return Bilinear.of_rated(task, mean, user_bias, item_bias, user_factors, item_factors)


def _scaled(rated: Any) -> Any:
    """Each row divided by the root of the number of its entries."""
    from scipy.sparse import diags

    return diags(1 / np.sqrt(np.maximum(rated.getnnz(axis=1), 1))) @ rated.tocsr()


def _biased(task: Task, mean: float, user_bias: Array, item_bias: Array) -> Bilinear:
    no_factors = np.zeros((task.users, 0)), np.zeros((task.items, 0))
    return Bilinear.of_rated(task, mean, user_bias, item_bias, *no_factors)


LIBMF_L2 = {"p1": 0, "q1": 0, "p2": 0.1, "q2": 0.1}  # its Python defaults penalise |p| by 0.04 and p² not at all
SURPRISE_TUNED = {"n_factors": 100, "reg_all": 0.1, "n_epochs": 60}
CMFREC_TUNED = {"k": 40, "lambda_": 0.12, "scale_lam": True}
LIBMF_TUNED = {"k": 32, "nr_iters": 40, "eta": 0.05} | {f"lambda_{name}": value for name, value in LIBMF_L2.items()}

PEERS = {
    "popularity": Model("number of ratings", None, popularity, rates=False),
    "surprise-baseline": Model("Surprise BaselineOnly", "scikit-surprise", partial(surprise, "BaselineOnly", {})),
    "surprise-svd": Model("Surprise SVD", "scikit-surprise", partial(surprise, "SVD", {})),
    "surprise-svd-tuned": Model(
        "Surprise SVD, 100 factors, reg 0.1, 60 epochs", "scikit-surprise", partial(surprise, "SVD", SURPRISE_TUNED)
    ),
    "surprise-svdpp": Model(
        "Surprise SVD++",
        "scikit-surprise",
        partial(surprise, "SVDpp", {}),
        most_ratings=500_000,  # 18 s for 90,000, and its time grows with ratings × ratings of a user
    ),
    "lenskit-als": Model("LensKit biased ALS", "lenskit", partial(lenskit, {})),
    "libmf": Model("LIBMF", "libmf", partial(libmf, {}), warm_up=False),
    "libmf-tuned": Model(
        "LIBMF, k=32, λ 0.1, 40 iterations, η 0.05", "libmf", partial(libmf, LIBMF_TUNED), warm_up=False
    ),
    "cornac-svd": Model(
        "cornac SVD, k=50, λ 0.05, 40 iterations",
        "cornac",
        partial(cornac, {"k": 50, "max_iter": 40, "lambda_reg": 0.05}),
    ),
    "cmfrec": Model("cmfrec", "cmfrec", partial(cmfrec, {})),
    "cmfrec-tuned": Model("cmfrec, k=40, scaled λ 0.12", "cmfrec", partial(cmfrec, CMFREC_TUNED)),
    "cmfrec-implicit": Model(
        "cmfrec, the same with implicit features",
        "cmfrec",
        partial(cmfrec, CMFREC_TUNED | {"add_implicit_features": True}),
    ),
    "myfm": Model("myFM, rank 10, 300 sweeps", "myfm", partial(myfm, False, 10)),
    "myfm-flipped": Model("myFM SVD++ flipped, rank 10, 300 sweeps", "myfm", partial(myfm, True, 10)),
    "myfm-flipped-32": Model("myFM SVD++ flipped, rank 32, 300 sweeps", "myfm", partial(myfm, True, 32)),
    "implicit-als": Model("implicit ALS", "implicit", partial(implicit, {}, 1), rates=False),
    "implicit-als-tuned": Model(
        "implicit ALS, 64 factors, confidence 0.196 · rating², regularization 27.4",
        "implicit",
        partial(implicit, {"factors": 64, "regularization": 27.4, "alpha": 0.196}, 2),
        rates=False,
    ),
    "implicit-als-tuned-1m": Model(
        "implicit ALS, 128 factors, confidence 0.217 · rating², regularization 53.9",
        "implicit",
        partial(implicit, {"factors": 128, "regularization": 53.9, "alpha": 0.217}, 2),
        rates=False,
    ),
}

if __name__ == "__main__":
    serve(PEERS)
