"""Names of what was acted on: sockets and paths. What the core makes of them in events: test_normalise.py."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audito.objects import absolute, peer
from tests.test_differential import examples

NAMES = st.lists(st.sampled_from([b"", b".", b"..", b"a", b"b b", b"...", b"\xff"]), max_size=6).map(b"/".join)
DIRECTORIES = st.lists(st.sampled_from([b"home", b"bob", b"gone (deleted)"]), max_size=3).map(
    lambda parts: b"/" + b"/".join(parts)
)


@pytest.mark.parametrize(
    ("name", "directory", "path"),
    [
        (b"x", b"/home/bob", b"/home/bob/x"),
        (b"./x", b"/home/bob", b"/home/bob/x"),
        (b".//x/./y", b"/home/bob", b"/home/bob/x/y"),
        (b"../x", b"/home/bob", b"/home/x"),
        (b"../../../x", b"/home/bob", b"/x"),
        (b".", b"/home/bob", b"/home/bob"),
        (b"..", b"/home/bob", b"/home"),
        (b"..", b"/", b"/"),
        (b"x", b"/", b"/x"),
        (b"x/", b"/home/bob", b"/home/bob/x"),
        (b"link/../x", b"/home/bob", b"/home/bob/link/../x"),
        (b"../link/../x", b"/home/bob", b"/home/link/../x"),
        (b"x", b"", b"x"),
        (b"x", b"(null)", b"x"),
    ],
)
def test_a_relative_name_is_put_behind_its_directory(name: bytes, directory: bytes, path: bytes) -> None:
    assert absolute(name, directory) == path


@examples(200)
@given(NAMES.filter(lambda name: not name.startswith(b"/")), DIRECTORIES)
def test_where_nothing_is_a_link_the_path_is_what_the_kernel_walks(name: bytes, directory: bytes) -> None:
    path = absolute(name, directory)
    assert path.startswith(b"/")
    assert posixpath.normpath(path) == posixpath.normpath(directory.rstrip(b"/") + b"/" + name)


@examples(300)
@given(st.binary(min_size=2, max_size=40), st.booleans())
def test_no_address_is_too_odd(saddr: bytes, exact: bool) -> None:
    primary, secondary = peer(saddr, exact)
    assert primary or secondary is None
