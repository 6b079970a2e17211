from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import StoreError
from nas.passwords import hide_passwords
from nas.store_engine import without_password
from nas.store_url import parse_store_url, show_url

SECRET = "hunter2"


@pytest.mark.parametrize("driver", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_way_to_write_postgresql_is_psycopg_3(driver: str) -> None:
    assert show_url(parse_store_url(f"{driver}://me@db:5433/nas")) == "postgresql+psycopg://me@db:5433/nas"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("runs/first/store.db", "has to be sqlite:///PATH or postgresql"),
        (f"postgresql://me@db:{SECRET}/nas", "has to be sqlite:///PATH or postgresql"),
        (f"postgresql://me:{SECRET}:x@y:z@db/nas", "has to be sqlite|more than one '@'"),
        (f"postgresql://me:a@{SECRET}@db/nas", "more than one '@'"),
        (f"postgresql://me:{SECRET}@db", "names no database"),
        (f"mysql://me:{SECRET}@db/nas", "cannot be kept in 'mysql'"),
        (f"postgresql+psycopg2://me:{SECRET}@db/nas", r"cannot be kept in 'postgresql\+psycopg2'"),
        ("postgresql://me@a..b/nas", "has to be sqlite"),
        ("postgresql://me@[::1/nas", "has to be sqlite"),
        ("sqlite://", "has to be a file"),
        ("sqlite:///:memory:", "has to be a file"),
    ],
)
def test_what_is_no_store_is_refused_without_repeating_it(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        parse_store_url(url)

    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1))
def test_no_library_is_given_a_url_with_the_password(password: str) -> None:
    secret = f"<{password}>"
    written = sa.URL.create("postgresql", username="me", password=secret, host="db", database="nas")
    url = parse_store_url(written.render_as_string(hide_password=False))

    bare, arguments = without_password(url)

    assert arguments["connect_args"]["password"] == secret
    assert bare.password is None
    assert bare.render_as_string(hide_password=False) == "postgresql+psycopg://me@db/nas"
    assert show_url(url) == "postgresql+psycopg://me:***@db/nas"


def test_a_password_in_the_query_is_one_too() -> None:
    url = parse_store_url(f"postgresql://me@db/nas?password={SECRET}&sslmode=require")

    bare, arguments = without_password(url)

    assert arguments["connect_args"]["password"] == SECRET
    assert bare.render_as_string(hide_password=False) == "postgresql+psycopg://me@db/nas?sslmode=require"
    assert SECRET not in show_url(url)


def test_what_the_url_says_of_the_connection_counts() -> None:
    _, arguments = without_password(parse_store_url("postgresql://me@db/nas?connect_timeout=3"))

    assert "connect_timeout" not in arguments["connect_args"]
    assert arguments["connect_args"]["keepalives_idle"] == 30


@given(st.text(st.characters(codec="utf-8", exclude_characters=" \t\n\r", exclude_categories=("Z", "Cc", "Cs"))))
def test_no_password_of_a_url_is_left_in_a_text(rest: str) -> None:
    password = f"<{rest}{SECRET}>"

    shown = hide_passwords(f"nas show run --storage postgresql://me:{password}@db:5432/nas --json")

    assert SECRET not in shown
    assert shown.startswith("nas show run --storage postgresql://me:***@")
    assert shown.endswith("db:5432/nas --json")


def test_a_text_without_a_password_stays_as_it_is() -> None:
    for text in ("https://example.org/a@b", "postgresql://me@db:5432/nas", "sqlite:///a:b@c", "a:b@c"):
        assert hide_passwords(text) == text
