"""core.labelstudio.tokens: what is sent with each request, and when a new access token is asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import jwt
import pytest

from services.core.labelstudio.access import RefreshRefused, TokenAuth, jwt_claims, token_problem

URL = "https://host/label-studio"
PERSONAL = jwt.encode({"exp": 4_000_000_000, "token_type": "refresh"}, "k" * 32)


class _Studio:
    """Counts exchanges; the access tokens that it takes are those of `valid`."""

    def __init__(self, life: int = 300) -> None:
        self.life, self.exchanges, self.asked = life, 0, list[str]()
        self.valid: Callable[[str], bool] = lambda _: True
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/label-studio/api/token/refresh/":
            assert json.loads(request.content) == {"refresh": PERSONAL}
            assert "Authorization" not in request.headers
            with self._lock:
                self.exchanges += 1
                claims = {"iat": 50, "exp": 50 + self.life, "jti": str(self.exchanges)}
            return httpx.Response(200, json={"access": jwt.encode(claims, "k" * 32)})
        sent = request.headers["Authorization"]
        self.asked.append(sent)
        return httpx.Response(200 if self.valid(sent) else 401)

    def client(self, key: str, clock: Callable[[], float] = lambda: 0.0) -> httpx.Client:
        return httpx.Client(auth=TokenAuth(key, URL, clock), transport=httpx.MockTransport(self))


def test_a_legacy_token_is_sent_as_it_is() -> None:
    studio = _Studio()
    studio.client("0123abc").get(f"{URL}/api/x")
    assert studio.asked == ["Token 0123abc"]


def test_an_access_token_is_used_by_our_own_clock() -> None:
    studio, now = _Studio(life=300), [1000.0]
    client = studio.client(PERSONAL, lambda: now[0])
    for at in (1000.0, 1239.0):
        now[0] = at
        assert client.get(f"{URL}/api/x").is_success
    assert studio.exchanges == 1
    now[0] = 1241.0
    client.get(f"{URL}/api/x")
    assert studio.exchanges == 2
    assert studio.asked[0].startswith("Bearer ")


def test_an_expired_access_token_is_replaced_once() -> None:
    studio = _Studio()
    client = studio.client(PERSONAL)
    client.get(f"{URL}/api/x")
    early = studio.asked[0]
    studio.valid = lambda sent: sent != early
    assert client.get(f"{URL}/api/x").is_success
    assert studio.exchanges == 2
    studio.valid = lambda _: False
    assert client.get(f"{URL}/api/x").status_code == 401
    assert studio.exchanges == 3


def test_many_threads_ask_for_one() -> None:
    studio = _Studio()
    client = studio.client(PERSONAL)
    with ThreadPoolExecutor(8) as pool:
        assert all(answer.is_success for answer in pool.map(lambda _: client.get(f"{URL}/api/x"), range(40)))
    assert studio.exchanges == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"detail": "blacklisted"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"access": 3}),
        httpx.Response(200, json={"access": "a\nb"}),
        httpx.Response(302, headers={"Location": "/login"}),
    ],
)
def test_a_failed_refresh_is_an_error_and_frees_the_lock(answer: httpx.Response) -> None:
    client = httpx.Client(auth=TokenAuth(PERSONAL, URL), transport=httpx.MockTransport(lambda _: answer))
    for _ in range(2):
        with pytest.raises(RefreshRefused):
            client.get(f"{URL}/api/x")


def test_problems_of_a_token() -> None:
    def key(**claims: object) -> str:
        return jwt.encode(claims, "k" * 32)

    assert jwt_claims("0123abc") == {}
    assert jwt_claims("a.b.c") == {}
    assert token_problem("0123abc", 9.0) == ""
    assert token_problem(key(exp=10, token_type="refresh"), 9.0) == ""
    assert "is not set" in token_problem("", 9.0)
    assert "has expired" in token_problem(key(exp=8, token_type="refresh"), 9.0)
    assert "is an access token" in token_problem(key(exp=10, token_type="access"), 9.0)
