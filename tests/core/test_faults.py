"""core.faults: each way in which a server is not reached has a sentence that names the setting, whichever client met it."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest
import urllib3

from services.core.faults import Fault, Server, brief_of, fault_of, sentence_of

SERVER = Server("a server at https://host", "THE_URL", "THE_CA_FILE")


def _certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] said")
    error.reason = reason
    return error


CASES = [
    (_certificate(18), Fault.UNKNOWN_AUTHORITY),
    (_certificate(20), Fault.UNKNOWN_AUTHORITY),
    (_certificate(62), Fault.OTHER_HOST),
    (_certificate(64), Fault.OTHER_HOST),
    (_certificate(10), Fault.EXPIRED),
    (_certificate(9), Fault.NOT_YET),
    (_certificate(26), Fault.UNTRUSTED),
    (_tls("WRONG_VERSION_NUMBER"), Fault.SPEAKS_HTTP),
    (_tls("RECORD_LAYER_FAILURE"), Fault.SPEAKS_HTTP),
    (_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Fault.WANTS_CERTIFICATE),
    (_tls("SSLV3_ALERT_HANDSHAKE_FAILURE"), Fault.HANDSHAKE),
    (_tls("UNSUPPORTED_PROTOCOL"), Fault.HANDSHAKE),
    (socket.gaierror(-2, "Name or service not known"), Fault.NO_HOST),
    (ConnectionRefusedError(111, "Connection refused"), Fault.REFUSED),
    (ConnectionResetError(104, "reset"), Fault.BROKE_OFF),
    (TimeoutError("timed out"), Fault.CONNECT_TIME),
    (OSError(113, "No route to host"), Fault.NO_ROUTE),
]


@pytest.mark.parametrize(("cause", "fault"), CASES)
def test_the_cause_is_found_below_either_client(cause: Exception, fault: Fault) -> None:
    ours = httpx.ConnectError("said")
    ours.__cause__ = RuntimeError("between")
    ours.__cause__.__context__ = cause
    pool = urllib3.HTTPConnectionPool("host")
    assert fault_of(ours) is fault
    assert fault_of(urllib3.exceptions.MaxRetryError(pool, "/", urllib3.exceptions.SSLError(cause))) is fault
    assert fault_of(cause) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (httpx.ReadTimeout("slow"), Fault.READ_TIME),
        (httpx.ConnectTimeout("slow"), Fault.CONNECT_TIME),
        (httpx.TooManyRedirects("round"), Fault.REDIRECTS),
        (httpx.ProxyError("407"), Fault.PROXY),
        (httpx.RemoteProtocolError("illegal"), Fault.BROKE_OFF),
        (httpx.ReadError(""), Fault.BROKE_OFF),
        (httpx.ConnectError("no"), Fault.UNKNOWN),
    ],
)
def test_what_has_no_cause_below_it_is_told_by_its_kind(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault


@pytest.mark.parametrize("fault", Fault)
def test_each_sentence_names_what_to_change(fault: Fault) -> None:
    said = fault.value.format(at=SERVER.at, url=SERVER.url, ca=SERVER.ca)
    assert "a server at https://host" in said
    assert said.endswith(".")


def test_a_plain_address_that_breaks_off_may_be_one_of_tls() -> None:
    error = httpx.RemoteProtocolError("illegal status line: bytearray(b'\\x15\\x03')")
    assert "write https:// in THE_URL if it speaks TLS" in sentence_of(error, SERVER, plain=True)
    assert sentence_of(error, SERVER, plain=False).startswith("A server at https://host closes connections")


def test_a_few_words_for_brackets() -> None:
    assert brief_of(ConnectionRefusedError()) == "connection refused"
    assert brief_of(ValueError("hush")) == "no connection"
