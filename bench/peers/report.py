"""The tables and the verdict on what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.machine import cores
from bench.peers.servers import FITLOOP, INFINITY, INFINITY_INT8, PIPELINE, PREDICTOR
from bench.result import Result, median_and_range, percentile

if TYPE_CHECKING:
    from bench.peers.compare import Measured
    from bench.peers.workload import Requests

INT8 = frozenset({FITLOOP, PREDICTOR, INFINITY_INT8})
FULL, WITHOUT_AMX = "", "AVX512_CORE_VNNI"
"""oneDNN's names of instruction sets."""
_PERCENTILES = (0.5, 0.95, 0.99)
Rows = list[list[str]]


def result(
    found: Mapping[str, Measured],
    requests: Requests,
    ceilings: Mapping[str, Mapping[str, Any]],
    memory: Sequence[tuple[int, float]],
) -> Result:
    shares = {name: share_of_ceiling(one, name, requests, ceilings[FULL]) for name, one in found.items()}
    checks = verdicts(found, shares, memory)
    missed = [text for text, met in checks if not met]
    return Result(
        name="peers",
        rows=tuple(tuple(row) for row in _throughput(found, shares, requests)),
        sentence=_sentence(found, shares) + (f" Missed: {'; '.join(missed)}." if missed else ""),
        met=not missed,
        goal="; ".join(text for text, _ in checks),
        how=_how(requests, ceilings),
        more={
            "Arrivals that do not wait for answers, at shares of each server's requests per second with 32 clients; "
            "p50 / p95 / p99 ms from arrival to answer:": _open_loop(found),
            "What the processor's libraries reach for this model's matrix products on all cores:": _ceilings(
                ceilings, requests
            ),
            "Memory of `fitloop local` while short and long texts pass:": _memory(memory),
        },
    )


def share_of_ceiling(
    one: Measured, name: str, requests: Requests, ceiling: Mapping[str, Any]
) -> tuple[float, float]:
    """Return the share that the short and the long texts reach of what their type of number could."""
    if not one.texts:
        return 0.0, 0.0
    peak = of_type(ceiling, int8=name in INT8) / ceiling["operations"]
    return (
        statistics.median(one.texts) * requests.short_tokens / peak,
        statistics.median(one.long) * requests.long_tokens / peak,
    )


def of_type(ceiling: Mapping[str, Any], *, int8: bool) -> float:
    """Return operations per second."""
    if int8:
        return float(ceiling.get("int8", float("nan")))
    return float(max(ceiling.get("mkl", 0.0), ceiling.get("onednn", 0.0)))


def verdicts(
    found: Mapping[str, Measured],
    shares: Mapping[str, tuple[float, float]],
    memory: Sequence[tuple[int, float]],
) -> list[tuple[str, bool]]:
    """Return each goal with what was reached, and whether that is enough."""
    ours, own = found[FITLOOP], found[PREDICTOR]
    if not ours.texts or not own.texts:
        return [("Fitloop answers", False)]
    checks = [_at_most("one text at `fitloop local` p50", statistics.median(ours.one_ms), 1.8, "ms")]
    checks.append(_at_most("one text at the predictor p50", statistics.median(own.one_ms), 3.0, "ms"))
    checks.append(_at_most("memory", ours.megabytes, 260, "MB"))
    checks.append(_at_least("share of the int8 ceiling", 100 * shares[FITLOOP][0], 45, "%"))
    for peer, texts, clients in ((INFINITY, 9.0, 7.0), (INFINITY_INT8, 4.0, 0.0)):
        if not found[peer].texts:
            continue
        times = statistics.median(ours.texts) / statistics.median(found[peer].texts)
        checks.append(_at_least(f"1,000 texts beside {peer}", times, texts, "times"))
        if clients:
            times = statistics.median(ours.clients) / statistics.median(found[peer].clients)
            checks.append(_at_least(f"32 clients beside {peer}", times, clients, "times"))
    if memory:
        half = [size for _, size in memory[len(memory) // 2 :]]
        checks.append(
            _at_most("growth over the second half of the mixed texts", half[-1] - half[0], 10, "MB")
        )
    return checks


def _at_most(what: str, value: float, most: float, unit: str) -> tuple[str, bool]:
    return f"{what} at most {most:g} {unit} ({value:.3g})", value <= most


def _at_least(what: str, value: float, least: float, unit: str) -> tuple[str, bool]:
    return f"{what} at least {least:g} {unit} ({value:.3g})", value >= least


def _throughput(
    found: Mapping[str, Measured], shares: Mapping[str, tuple[float, float]], requests: Requests
) -> Rows:
    short, long = f"{requests.short_tokens:.0f}", f"{requests.long_tokens:.0f}"
    header = [
        "server",
        f"1,000 texts of {short} tokens in one request, texts/s",
        f"texts of {long} tokens, texts/s",
        "of its ceiling, short and long",
        "32 clients, requests/s; p50 / p95 ms",
        "one client, p50 / p95 ms",
        "MB",
        "first answer, s",
        "labels as `pipeline`",
    ]
    same = found[PIPELINE].labels if PIPELINE in found else []
    return [header, *(_row(name, one, shares[name], same) for name, one in found.items())]


def _row(name: str, one: Measured, share: tuple[float, float], pipeline: Sequence[str]) -> list[str]:
    if not one.texts:
        return [name, one.status, *[""] * 7]
    equal = [a == b for a, b in zip(one.labels, pipeline, strict=False)]
    kind = "int8" if name in INT8 else "fp32"
    return [
        name,
        median_and_range(one.texts, 0),
        median_and_range(one.long, 0),
        f"{100 * share[0]:.0f} %, {100 * share[1]:.0f} % of {kind}",
        f"{statistics.median(one.clients):,.0f}; {_milliseconds(one.clients_ms, _PERCENTILES[:2])}",
        _milliseconds(one.one_ms, _PERCENTILES[:2]),
        f"{one.megabytes:,.0f}",
        f"{one.first_seconds:.1f}",
        f"{100 * statistics.mean(equal):.1f} %" if equal else "",
    ]


def _milliseconds(values: Sequence[float], shares: Sequence[float]) -> str:
    if not values:
        return "no answer"
    return " / ".join(f"{percentile(values, share):,.1f}" for share in shares)


def _open_loop(found: Mapping[str, Measured]) -> Rows:
    shares = next((list(one.open_ms) for one in found.values() if one.open_ms), [])
    rows = [["server", *(f"{100 * share:.0f} %" for share in shares)]]
    for name, one in found.items():
        if one.open_ms:
            cells = (
                f"{one.rates[share]:,.0f}/s: {_milliseconds(one.open_ms[share], _PERCENTILES)}"
                for share in shares
            )
            rows.append([name, *cells])
    return rows


def _ceilings(ceilings: Mapping[str, Mapping[str, Any]], requests: Requests) -> Rows:
    rows = [["type of number", "Gop/s", "texts/s, short", "texts/s, long"]]
    names = {FULL: "", WITHOUT_AMX: " without AMX"}
    for isa, one in ceilings.items():
        for key, library in (("int8", "int8, oneDNN"), ("mkl", "fp32, MKL"), ("onednn", "fp32, oneDNN")):
            if key in one and (isa == FULL or key == "int8"):
                texts = [
                    one[key] / one["operations"] / each
                    for each in (requests.short_tokens, requests.long_tokens)
                ]
                rows.append(
                    [f"{library}{names[isa]}", f"{one[key] / 1e9:,.0f}", *(f"{each:,.0f}" for each in texts)]
                )
            elif isa == FULL:
                rows.append([library, one.get(f"{key}_error", "not measured")[:60], "", ""])
    return rows


def _memory(memory: Sequence[tuple[int, float]]) -> Rows:
    shown = memory[:: max(1, len(memory) // 5)]
    return [["texts", "MB"], *([f"{texts:,}", f"{size:,.0f}"] for texts, size in [*shown, *memory[-1:]])]


def _sentence(found: Mapping[str, Measured], shares: Mapping[str, tuple[float, float]]) -> str:
    ours = found[FITLOOP]
    if not ours.texts:
        return f"Fitloop was not measured: {ours.status}."
    return (
        f"`fitloop local` answers {statistics.median(ours.texts):,.0f} texts/s in one request ({100 * shares[FITLOOP][0]:.0f} % of "
        f"the int8 ceiling), {statistics.median(ours.clients):,.0f} requests/s of 32 clients, and one text in "
        f"{statistics.median(ours.one_ms):.2f} ms, in {ours.megabytes:.0f} MB."
    )


def _how(requests: Requests, ceilings: Mapping[str, Mapping[str, Any]]) -> str:
    del ceilings
    return (
        f"{cores()} cores for the servers in turn and for the client, which is a process of its own; all servers stay in memory. MiniLM with a "
        f"classifier of 77 intents on [CLS]; texts of banking77 and nlupp, mean {requests.short_tokens:.0f} tokens, and longer ones made of "
        f"several, mean {requests.long_tokens:.0f}. Words are shuffled anew for each measurement, the same for all servers, so that no cache "
        "of answers is measured. infinity has an environment of its own with the same release of torch; KServe's server is "
        "ours, and pads a request to its longest text as KServe's own server for encoders does. A share of the ceiling counts real tokens "
        "only, and every matrix product of the layers."
    )
