"""What a URL holds beside its place is in no message: users, passwords, signatures."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.urls import explained, without_secrets

PIECES = st.lists(st.sampled_from([*"/?#@:%&=[]", "QZX", "%2F", "%40", "\u212a"]), min_size=1, max_size=6)
PASSWORDS = PIECES.map("".join).map(lambda text: f"QZX{text}QZX")
SCHEMES = st.sampled_from(["http", "https", "s3", "ftp", "gs", "postgresql", "memory"])


@given(SCHEMES, PASSWORDS, st.booleans(), st.sampled_from(["host", "host:8080", "[::1]:80"]))
def test_no_part_of_a_password_is_shown_raw_or_encoded(scheme: str, password: str, encode: bool, host: str) -> None:
    written = quote(password, safe="") if encode else password
    for url in (
        f"{scheme}://ann:{written}@{host}/ratings.csv",
        f"{scheme}://{written}:@{host}/ratings.csv",
        f"{scheme}://{host}/ratings.csv?signature={written}",
    ):
        reasons = [f"cannot connect to {url}", f"no user {password!r}", f"{written} is wrong"]
        shown = [without_secrets(url), *(explained(ValueError(reason), url) for reason in reasons if "@" in url)]
        if encode:
            assert host in shown[0]
            assert "QZX" not in "".join(shown), shown
        else:
            assert "QZX" not in shown[0]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a/b.csv", "https://host/a/b.csv"),
        ("https://host:8080/a@2/b.csv", "https://***@2/b.csv"),
        ("https://host/a@2/b.csv", "https://host/a@2/b.csv"),
        ("https://host/b.csv?token=abc#x", "https://host/b.csv"),
        ("https://token@host/b.csv", "https://***@host/b.csv"),
        ("s3://ann:secret@bucket/b.csv", "s3://***@bucket/b.csv"),
        ("https://ann:se?cret@host/b.csv", "https://***"),
        ("/folder/a@b?c#d.csv", "/folder/a@b?c#d.csv"),
    ],
)
def test_what_is_no_secret_is_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_a_reason_is_kept_where_nothing_in_it_is_secret() -> None:
    assert explained(OSError("no\n such  host"), "https://ann:secret@host/x") == "no such host"
    assert explained(OSError(), "https://host/x") == "OSError"
    assert explained(OSError("ann:pw is wrong"), "https://ann:p/w@host/x").startswith("OSError; in a password, @ : /")
