from __future__ import annotations

import pytest

from imgindex.errors import UsageError
from imgindex.sources.addresses import is_address, normal_address, web_place


@pytest.mark.parametrize(
    "path", ["s3://b", "GS://b/k", "az://c/k", "file:///home", "http://h/a.jpg", "HTTPS://h/a.jpg"]
)
def test_texts_that_begin_with_a_scheme_are_addresses(path: str) -> None:
    assert is_address(path)


@pytest.mark.parametrize("path", ["/s3://b", "s3:/b", "./s3://b", "ftp://h/a.jpg", "s3", "", "photos/s3://b"])
def test_other_texts_are_paths(path: str) -> None:
    assert not is_address(path)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("S3://Bucket/a/", "s3://Bucket/a"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a b%20ü?#.jpg", "s3://bucket/a b%20ü?#.jpg"),
        ("file:///home//me/../you/", "file:///home/you"),
        ("file://localhost/home", "file:///home"),
        ("HTTP://Example.ORG", "http://example.org/"),
        ("https://example.org:443/a?b=1#part", "https://example.org/a?b=1"),
        ("http://example.org:8080/ä b.jpg", "http://example.org:8080/%C3%A4%20b.jpg"),
        ("https://bücher.example/1.jpg", "https://xn--bcher-kva.example/1.jpg"),
        ("http://[::1]:80/1.jpg", "http://[::1]/1.jpg"),
        ("https://example.org/a%2Fb\r\nX: y", "https://example.org/a%2FbX:%20y"),
    ],
)
def test_each_address_has_one_form_which_is_its_own(given: str, normal: str) -> None:
    assert normal_address(given) == normal
    assert normal_address(normal) == normal


@pytest.mark.parametrize(
    "address",
    [
        "s3://", "s3:///key", "file://other-machine/home", "https://", "http://host:port/a.jpg", "s3://b/a\0",
        "http://[::1/a.jpg", "https:///a.jpg", "file:///", "file://",
    ],
)  # fmt: skip
def test_what_names_nothing_is_refused_with_a_way_out(address: str) -> None:
    with pytest.raises(UsageError):
        normal_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://key:sesame@bucket/a.jpg",
        "https://me:sesame@example.org/a.jpg",
        "https://b.s3.amazonaws.com/a.jpg?X-Amz-Signature=sesame",
        "https://a.blob.core.windows.net/c/a.jpg?sv=1&sig=sesame",
        "https://storage.googleapis.com/b/a.jpg?Signature=sesame&Expires=9",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(UsageError, match="which the index would store") as raised:
        normal_address(address)
    assert "sesame" not in f"{raised.value} {raised.value.hint}"


def test_the_place_of_an_address_has_its_port() -> None:
    assert web_place("http://example.org/a") == ("http", "example.org", 80)
    assert web_place("https://[::1]:8443/a") == ("https", "::1", 8443)
