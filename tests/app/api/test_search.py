"""Finding items and users, genres, years, and how sure the model is of a rating."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch

from app.engine.search import find_items, find_users
from app.engine.serving_model import ServingModel
from app.engine.types import ItemFilter
from app.main import create_app
from app.settings import Settings
from models.checkpoint import files
from models.checkpoint.files import ITEM_SCHEMA
from models.checkpoint.reader import Checkpoint
from models.checkpoint.writer import Draft
from models.mf import MatrixFactorization
from models.registry.directory import load, publish
from tests.support.asgi import ask, calling
from tests.support.checkpoints import small_draft

Start = Callable[..., AbstractContextManager[tuple[httpx.Client, object]]]
ANYTHING = ItemFilter()
TITLES = ["Star Wars", "The Star", "Amélie", "Stardust memories", None, "Starstruck wars", "A Wars", "AMELIE 2"]


@pytest.fixture(scope="module")
def titled(tmp_path_factory: pytest.TempPathFactory, make_draft: Callable[..., Draft]) -> Checkpoint:
    """A model whose first items have these titles."""
    directory = tmp_path_factory.mktemp("titled")
    draft = make_draft(0)
    titles = TITLES + [f"Other {row}" for row in range(len(TITLES), draft.items.num_rows)]
    column = draft.items.schema.get_field_index("title")
    items = draft.items.set_column(column, ITEM_SCHEMA.field("title"), pa.array(titles))
    publish(directory, replace(draft, items=items))
    return load(directory)


@pytest.fixture(scope="module")
def model(titled: Checkpoint) -> ServingModel:
    return ServingModel(titled)


def titles_of(model: ServingModel, query: str, n: int = 10, choice: ItemFilter = ANYTHING) -> list[str | None]:
    return [item.title for item in find_items(model, query, n, choice).items]


def test_titles_that_are_the_query_come_first_then_those_that_begin_with_it_then_words_of_it(
    model: ServingModel,
) -> None:
    assert titles_of(model, "star wars") == ["Star Wars", "Starstruck wars"]
    found = titles_of(model, "Star")
    assert set(found[:3]) == {"Star Wars", "Stardust memories", "Starstruck wars"}
    assert found[3] == "The Star"
    assert titles_of(model, "wars")[0] == "A Wars" or titles_of(model, "wars")[0] == "Star Wars"
    assert titles_of(model, "WARS STAR") == ["Star Wars", "Starstruck wars"] or len(titles_of(model, "wars star")) == 2


@pytest.mark.parametrize("query", ["amelie", "AMÉLIE", "Ame\u0301lie"])
def test_case_and_accents_do_not_matter(model: ServingModel, query: str) -> None:
    assert titles_of(model, query) == ["Amélie", "AMELIE 2"]


def test_equal_matches_come_by_their_number_of_ratings(model: ServingModel, titled: Checkpoint) -> None:
    found = [item.ratings for item in find_items(model, "other", 400, ANYTHING).items]
    assert found == sorted(found, reverse=True)
    assert len(found) == len(titled.items) - len(TITLES)
    assert [item.ratings for item in find_items(model, "", 400, ANYTHING).items] == sorted(
        titled.ratings_I.tolist(), reverse=True
    )


def test_an_id_is_found_whatever_its_title(model: ServingModel) -> None:
    found = find_items(model, "5", 10, ANYTHING).items  # the one without a title
    assert (found[0].item, found[0].title) == ("5", None)
    assert len({item.item for item in found}) == len(found)


@pytest.mark.parametrize("query", ["%", "(.*", "\\", "nothing has this", "a" * 256])
def test_no_character_of_a_query_means_more_than_itself(model: ServingModel, query: str) -> None:
    for item in find_items(model, query, 400, ANYTHING).items:
        assert item.item == query or query in (item.title or "")


def test_a_search_can_be_held_to_a_genre_and_to_years(model: ServingModel) -> None:
    everything = find_items(model, "", 400, ANYTHING).items
    choice = ItemFilter(("Drama",), (), 1960, 1970)
    found = find_items(model, "", 400, choice).items
    wanted = [item for item in everything if "Drama" in (item.genres or ()) and 1960 <= (item.year or 0) <= 1970]
    assert [item.item for item in found] == [item.item for item in wanted]
    assert wanted


def test_users_are_found_by_the_beginning_of_their_id_the_one_itself_first(
    model: ServingModel, titled: Checkpoint
) -> None:
    found = find_users(model, "2", 300)
    ids = [id_ for id_ in titled.users.ids.to_pylist() if id_.startswith("2")]
    assert (found[0].user, {user.user for user in found}) == ("2", set(ids))
    counts = [user.ratings for user in found[1:]]
    assert counts == sorted(counts, reverse=True)
    assert len(find_users(model, "2", 3)) == 3
    assert find_users(model, "no such", 3) == []
    assert len(find_users(model, "", 1000)) == len(titled.users)


def test_the_service_answers_searches(client: httpx.Client, loaded: Checkpoint) -> None:
    items = client.get("/items", params={"query": "title 24", "n": 3}).json()
    assert (len(items["items"]), items["model_version"]) == (3, loaded.version)
    assert items["items"][0] == {
        key: value
        for key, value in client.get(f"/items/{items['items'][0]['item']}").json().items()
        if key in items["items"][0]
    }
    users = client.get("/users", params={"query": "19"}).json()
    assert users["users"][0] == {"user": "19", "ratings": len(client.get("/users/19/ratings").json()["ratings"])}
    genres = client.get("/genres").json()["genres"]
    assert {genre["name"] for genre in genres} == {"Drama", "Film-Noir"}
    assert genres[0]["items"] >= genres[1]["items"] > 0


@pytest.mark.parametrize(
    ("path", "parameters", "location"),
    [
        ("/items", {"n": 0}, "query.n"),
        ("/items", {"n": 1001}, "query.n"),
        ("/items", {"query": "q" * 257}, "query.query"),
        ("/items", {"year_min": "x"}, "query.year_min"),
        ("/items", {"year_max": 10_000}, "query.year_max"),
        ("/users", {"query": "q" * 257}, "query.query"),
        ("/users", {"n": 1001}, "query.n"),
        ("/users/1/top", {"year_min": -1}, "query.year_min"),
        ("/users/1/top", {"intervals": "perhaps"}, "query.intervals"),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: httpx.Client, path: str, parameters: dict[str, object], location: str
) -> None:
    answer = client.get(path, params=parameters)
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, location)


def test_somebody_who_was_erased_is_not_found(tmp_path: Path, make_draft: Callable[..., Draft]) -> None:
    publish(tmp_path, make_draft(0))
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        ids = [user["user"] for user in json.loads(call("GET", "/users", query=b"query=7").body)["users"]]
        assert "7" in ids
        assert call("DELETE", "/users/7").status == 200
        found = [user["user"] for user in json.loads(call("GET", "/users", query=b"query=7").body)["users"]]
        assert found == [id_ for id_ in ids if id_ != "7"]


def test_lists_can_be_held_to_years_alone_together_and_among_named_items(client: httpx.Client) -> None:
    whole = client.get("/users/196/top", params={"n": 400, "rank_by": "rating"}).json()["items"]
    for low, high in ((1960, 1965), (None, 1955), (2015, None), (1990, 1980)):
        span = {name: year for name, year in (("year_min", low), ("year_max", high)) if year is not None}
        wanted = [
            item["item"] for item in whole if item["year"] is not None and (low or 0) <= item["year"] <= (high or 9999)
        ]
        alone = client.get("/users/196/top", params={"n": 400, "rank_by": "rating", **span}).json()["items"]
        assert [item["item"] for item in alone] == wanted
        body = {"users": ["196", "22", "nobody"], "n": 300, "rank_by": "rating", **span}
        together = client.post("/recommend", json=body).json()["lists"]
        assert [item["item"] for item in together[0]["items"]] == wanted
        named = {"only": [item["item"] for item in whole[:50]], "n": 400, "rank_by": "rating", **span}
        among = client.get("/users/196/top", params=named).json()["items"]
        assert [item["item"] for item in among] == [item["item"] for item in whole[:50] if item["item"] in wanted]


@pytest.fixture(scope="module")
def uncertain(tmp_path_factory: pytest.TempPathFactory, make_draft: Callable[..., Draft]) -> Path:
    """A model with variances, whose intervals are lopsided."""
    directory, draft = tmp_path_factory.mktemp("uncertain"), make_draft(3)
    tensors = dict(draft.model.tensors()) | {"noise_variance": torch.tensor(0.5)}
    tensors |= {"interval_deviations": torch.tensor([1.5, 0.75])}
    rng = torch.Generator().manual_seed(0)
    tensors |= {
        f"{kind}_variance": torch.rand(len(tensors[f"{kind}_bias"]), generator=rng) / 4 for kind in ("user", "item")
    }
    publish(directory, replace(draft, model=MatrixFactorization(**tensors)))
    return directory


@pytest.fixture(scope="module")
def uncertain_client(start: Start, uncertain: Path) -> Iterator[httpx.Client]:
    with start(uncertain) as (client, _):
        yield client


@pytest.mark.parametrize("order", ["rating", "lower_bound", "relevance"])
def test_intervals_are_where_the_rating_lies_with_ninety_percent(
    uncertain_client: httpx.Client, uncertain: Path, order: str
) -> None:
    loaded, client = load(uncertain), uncertain_client
    wishes = {"n": 50, "rank_by": order, "intervals": True}
    items = client.get("/users/196/top", params=wishes).json()["items"]
    unknown = client.get("/users/nobody/top", params=wishes).json()["items"]
    inline = client.post("/recommend", json=wishes | {"ratings": [{"item": "3", "rating": 5}]}).json()["lists"][0]
    plain = client.get("/users/196/top", params=wishes | {"intervals": False}).json()["items"]
    users = torch.full((50,), loaded.users.row("196"))
    rows = torch.from_numpy(loaded.items.rows([item["item"] for item in items]))
    deviation = loaded.model.variance(users, rows).sqrt()
    for name, deviations in (("low", -1.5), ("high", 0.75)):
        wanted = (loaded.model(users, rows) + deviations * deviation).clamp(1, 5).tolist()
        assert [item[name] for item in items] == pytest.approx(wanted, abs=1e-5)
    assert plain == [{key: item[key] for key in ("item", "rating", "score", "title", "year")} for item in items]
    for item in (*unknown, *inline["items"]):
        assert 1 <= item["low"] <= item["rating"] <= item["high"] <= 5


def test_predictions_have_the_intervals_of_lists(uncertain_client: httpx.Client) -> None:
    """In columns, alone, in msgpack and in Arrow; of users of the model, of ratings in the request, of nobody."""
    client, wishes = uncertain_client, {"n": 5, "intervals": True}
    for user in ("196", "nobody"):
        listed = client.get(f"/users/{user}/top", params=wishes).json()["items"]
        ends = [(item["low"], item["high"]) for item in listed]
        users, items = [user] * 5, [item["item"] for item in listed]
        pairs = {"users": users, "items": items}
        columns = client.post("/predict?intervals=true", json=pairs).json()
        assert [*zip(columns["low"], columns["high"], strict=True)] == ends
        one = client.post("/predict?intervals=true", json={"user": user, "item": items[0]}).json()
        assert (one["low"], one["high"]) == ends[0]
        headers = {"Content-Type": "application/msgpack"}
        packed = client.post("/predict?intervals=true", content=msgspec.msgpack.encode(pairs), headers=headers)
        assert msgspec.msgpack.decode(packed.content) == columns
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.schema({"user": pa.string(), "item": pa.string()})) as stream:
            stream.write_table(pa.table({"user": users, "item": items}))
        headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
        content = client.post("/predict?intervals=true", content=sink.getvalue().to_pybytes(), headers=headers).content
        table = pa.ipc.open_stream(content).read_all()
        assert np.array_equal([table["low"].to_numpy(), table["high"].to_numpy()], np.array(ends, np.float32).T)
        assert client.post("/predict", json=pairs).json().keys() == {"ratings", "sources", "model_version"}
    ratings = [{"item": "3", "rating": 5}]
    (inline,) = client.post("/recommend", json=wishes | {"ratings": ratings, "n": 1}).json()["lists"]
    asked = {"item": inline["items"][0]["item"], "ratings": ratings}
    found = client.post("/predict?intervals=true", json=asked).json()
    assert [found[name] for name in ("low", "high")] == [inline["items"][0][name] for name in ("low", "high")]


def test_predictions_without_variances_have_no_intervals(client: httpx.Client) -> None:
    one = client.post("/predict?intervals=true", json={"user": "1", "item": "2"}).json()
    many = client.post("/predict?intervals=true", json={"users": ["1", "2"], "items": ["2", "3"]}).json()
    assert (one["low"], one["high"], many["low"], many["high"]) == (None, None, [None, None], [None, None])


def test_a_model_without_variances_says_that_it_does_not_know(client: httpx.Client) -> None:
    items = client.get("/users/196/top", params={"intervals": True}).json()["items"]
    assert {(item["low"], item["high"]) for item in items} == {(None, None)}


def write_report(path: Path) -> None:
    (path / "index.html").write_text("<!doctype html><title>R</title>")
    passes = [{"number": 1, "epochs": 1, "figures": {"loss": 0.5}, "test_rmse": None, "fit_seconds": 1.0}]
    (path / "history.json").write_text(json.dumps(passes))


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    return tmp_path / publish(tmp_path, small_draft(write_report=write_report)).version


def test_the_report_and_the_learning_curve_of_a_version_are_served(reported: Path) -> None:
    with calling(create_app(Settings(checkpoints=reported.parent))) as call:
        page = call("GET", f"/models/{reported.name}/report")
        history = json.loads(call("GET", f"/models/{reported.name}/history").body)
        assert json.loads(call("GET", "/models/current").body)["report"] is True
        assert json.loads(call("GET", "/models").body)["models"][0]["report"] is True
    assert (page.status, page.body) == (200, b"<!doctype html><title>R</title>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "script" not in policy
    assert (history["version"], history["passes"][0]["figures"]) == (reported.name, {"loss": 0.5})


@pytest.mark.parametrize("kind", ["report", "history"])
@pytest.mark.parametrize(
    ("version", "status", "problem"),
    [("nowhere", 404, "unknown-version"), ("..", 422, "invalid-request"), (".staging", 422, "invalid-request")],
)
def test_what_is_no_version_has_no_report(reported: Path, kind: str, version: str, status: int, problem: str) -> None:
    with calling(create_app(Settings(checkpoints=reported.parent))) as call:
        answer = call("GET", f"/models/{version}/{kind}")
    assert (answer.status, json.loads(answer.body)["type"]) == (status, f"urn:ratecast:problem:{problem}")


@pytest.mark.parametrize("kind", ["report", "history"])
def test_a_version_without_a_report_says_so(tmp_path: Path, kind: str) -> None:
    version = publish(tmp_path, small_draft()).version
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        answer = call("GET", f"/models/{version}/{kind}")
    assert (answer.status, json.loads(answer.body)["type"]) == (404, "urn:ratecast:problem:no-report")


def test_a_report_that_was_changed_or_replaced_by_a_link_is_not_served(reported: Path, tmp_path: Path) -> None:
    page = reported / "report/index.html"
    content = page.read_text()
    with calling(create_app(Settings(checkpoints=reported.parent))) as call:
        page.write_text(content.replace("R", "X"))
        assert call("GET", f"/models/{reported.name}/report").status == 503
        secret = tmp_path / "secret"
        secret.write_text(content)
        page.unlink()
        page.symlink_to(secret)
        answer = call("GET", f"/models/{reported.name}/report")
    assert (answer.status, json.loads(answer.body)["type"]) == (503, "urn:ratecast:problem:checkpoint-corrupt")


def test_a_learning_curve_that_is_none_is_not_served(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        (path / "history.json").write_text('[{"number": "one"}]')

    version = publish(tmp_path, small_draft(write_report=write)).version
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        answer = call("GET", f"/models/{version}/history")
    assert (answer.status, json.loads(answer.body)["type"]) == (503, "urn:ratecast:problem:checkpoint-corrupt")


def test_a_report_larger_than_may_be_is_not_read(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_REPORT_BYTES", 10)
    with calling(create_app(Settings(checkpoints=reported.parent))) as call:
        assert call("GET", f"/models/{reported.name}/report").status == 404


def test_users_who_joined_after_the_fit_are_found(checkpoints: Path, tmp_path: Path) -> None:
    settings = Settings(checkpoints=checkpoints, store=f"sqlite:///{tmp_path}/ratings.sqlite")
    with calling(create_app(settings)) as call:
        for user, number in (("2-new", 3), ("2-NEW", 1), ("gone", 1), ("2", 1)):
            for item in range(1, number + 1):
                ask(call, "PUT", f"/users/{user}/ratings/{item}", {"rating": 4})
        ask(call, "DELETE", "/users/gone")

        def found(query: str, n: int = 400) -> list[tuple[str, int]]:
            return [
                (user["user"], user["ratings"]) for user in ask(call, "GET", f"/users?query={query}&n={n}")["users"]
            ]

        assert found("2-") == [("2-new", 3), ("2-NEW", 1)]
        assert found("2-new", 1) == [("2-new", 3)]
        assert found("2-N") == [("2-NEW", 1)]
        assert found("gone") == []
        twos = found("2")
        assert twos[0][0] == "2"
        assert {("2-new", 3), ("2-NEW", 1)} <= {*twos}
        assert len({user for user, _ in twos}) == len(twos)
        assert found("") == sorted(found(""), key=lambda user: -user[1])
