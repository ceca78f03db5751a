"""Base URLs: which are taken and which are refused."""

from __future__ import annotations

import pytest

from backends import BackendError
from backends.addresses import check_url, is_loopback
from backends.openai import create


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434/v1/",
        "http://localhost:8000/v1",
        "http://[::1]:80",
        "https://api.openai.com/v1",
        "http://10.0.0.8",
    ],
)
def test_base_urls_taken(url: str) -> None:
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "host:8000/v1",
        "",
        "http://",
        "http://[::1/v1",
        "http://host:99999/v1",
        "http://user:secret@host/v1",
        "http://host/v1?to=x",
        "http://169.254.169.254/latest",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://[fe80::1]/v1",
        "http://[::ffff:169.254.1.1]/",
        "http://224.0.0.1/",
        "http://[ff02::1]/",
        "http://0.0.0.0:8000/v1",
        "http://0/",
        "http://[::]/",
    ],
)
def test_base_urls_refused(url: str) -> None:
    with pytest.raises(BackendError) as caught:
        create("m", url)
    assert "secret" not in str(caught.value)


def test_loopback() -> None:
    near = [
        "http://localhost:1/v1",
        "http://127.8.9.1/",
        "http://[::1]:8/",
        "http://0x7f000001/",
        "http://[::ffff:127.0.0.1]/",
    ]
    assert all(map(is_loopback, near))
    assert not any(map(is_loopback, ["http://10.0.0.8/", "https://api.openai.com/v1", "http://localhost.example.com/"]))
