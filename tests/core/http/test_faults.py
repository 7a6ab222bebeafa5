"""core.faults: each way in which a server is not reached has a sentence that names the setting, whichever client met it."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest
import urllib3

from services.core.http.faults import Fault, Server, describe_fault, describe_fault_briefly, find_fault

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
    (_certificate(62), Fault.HOST_MISMATCH),
    (_certificate(64), Fault.HOST_MISMATCH),
    (_certificate(10), Fault.EXPIRED),
    (_certificate(9), Fault.NOT_YET_VALID),
    (_certificate(26), Fault.UNTRUSTED),
    (_tls("WRONG_VERSION_NUMBER"), Fault.SPEAKS_HTTP),
    (_tls("RECORD_LAYER_FAILURE"), Fault.SPEAKS_HTTP),
    (_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Fault.CLIENT_CERTIFICATE),
    (_tls("SSLV3_ALERT_HANDSHAKE_FAILURE"), Fault.HANDSHAKE),
    (_tls("UNSUPPORTED_PROTOCOL"), Fault.HANDSHAKE),
    (socket.gaierror(-2, "Name or service not known"), Fault.UNKNOWN_HOST),
    (ConnectionRefusedError(111, "Connection refused"), Fault.CONNECTION_REFUSED),
    (ConnectionResetError(104, "reset"), Fault.CONNECTION_LOST),
    (TimeoutError("timed out"), Fault.CONNECT_TIMEOUT),
    (OSError(113, "No route to host"), Fault.NO_ROUTE),
]


@pytest.mark.parametrize(("cause", "fault"), CASES)
def test_the_cause_is_found_below_either_client(cause: Exception, fault: Fault) -> None:
    ours = httpx.ConnectError("said")
    ours.__cause__ = RuntimeError("between")
    ours.__cause__.__context__ = cause
    pool = urllib3.HTTPConnectionPool("host")
    assert find_fault(ours) is fault
    assert (
        find_fault(urllib3.exceptions.MaxRetryError(pool, "/", urllib3.exceptions.SSLError(cause))) is fault
    )
    assert find_fault(cause) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (httpx.ReadTimeout("slow"), Fault.READ_TIMEOUT),
        (httpx.ConnectTimeout("slow"), Fault.CONNECT_TIMEOUT),
        (httpx.TooManyRedirects("round"), Fault.TOO_MANY_REDIRECTS),
        (httpx.ProxyError("407"), Fault.PROXY),
        (httpx.RemoteProtocolError("illegal"), Fault.CONNECTION_LOST),
        (httpx.ReadError(""), Fault.CONNECTION_LOST),
        (httpx.ConnectError("no"), Fault.UNKNOWN),
    ],
)
def test_without_a_cause_the_class_decides(error: Exception, fault: Fault) -> None:
    assert find_fault(error) is fault


@pytest.mark.parametrize("fault", Fault)
def test_each_message_names_the_setting(fault: Fault) -> None:
    actual = fault.value.format(at=SERVER.at, url=SERVER.url, ca=SERVER.ca)
    assert "a server at https://host" in actual
    assert actual.endswith(".")


def test_a_plain_address_that_breaks_off_may_be_one_of_tls() -> None:
    error = httpx.RemoteProtocolError("illegal status line: bytearray(b'\\x15\\x03')")
    assert "use https:// in THE_URL if it speaks TLS" in describe_fault(error, SERVER, plain=True)
    assert describe_fault(error, SERVER, plain=False).startswith(
        "A server at https://host closes connections"
    )


def test_a_brief_description_fits_brackets() -> None:
    assert describe_fault_briefly(ConnectionRefusedError()) == "connection refused"
    assert describe_fault_briefly(ValueError("hush")) == "no connection"
