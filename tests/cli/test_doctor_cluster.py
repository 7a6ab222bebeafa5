"""Store, clocks, cluster and versions: what the doctor finds; and how checks are run."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import respx
import yaml
from minio import Minio
from minio.commonconfig import ENABLED, Filter, Tag
from minio.error import S3Error
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, Expiration, LifecycleConfig, Rule
from pydantic import SecretStr

from services import __version__
from services.cli.checks import (
    Check,
    Context,
    Finding,
    Location,
    Verdict,
    cluster,
    consistency,
    ok,
    run_check,
    run_checks,
    storage,
)
from services.cli.doctor import checks_of
from services.cluster.client import ClusterError
from services.cluster.job_template import CONTAINER
from services.core.domain import Served, Serving
from services.core.errors import FitloopError, StoreRefused
from services.core.serving_table import ServingTableFile
from services.core.settings import ClusterSettings, S3Settings, Settings, StorageSettings
from services.core.store.files import FileStore
from services.core.store.s3.lifecycle import _expiry, expiration_rules, prefixes_overlap
from tests.support.buckets import (
    ENDPOINT,
    KEY,
    SECRET,
    build_s3_settings,
    build_s3_store,
    needs_s3,
    temporary_bucket,
)
from tests.support.doctor import FakeInspector, FakeKube, build_context
from tests.support.jobs import MANIFEST, build_job, build_pod, timestamp

TABLE = Serving(1, 3, {"5-1": Served(current="v-2", previous="v-1")})


class FakeResponse:
    """A refusal."""

    status = 403


@pytest.fixture
def inspector() -> FakeInspector:
    kube, now = FakeKube(), datetime.now(UTC)
    kube.objects["lease", "fitloop"] = {
        "spec": {"holderIdentity": "fitloop-a_12ab", "renewTime": now.isoformat()}
    }
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    kube.objects["inferenceservice", "fitloop"] = {
        "metadata": {"labels": {"app.kubernetes.io/version": "1.2.3"}},
        **ready,
    }
    kube.listed["app.kubernetes.io/component=adapter,app.kubernetes.io/part-of=fitloop"] = [
        build_component_pod("fitloop-a", "adapter")
    ]
    kube.listed["fitloop.io/predictor=fitloop"] = [build_component_pod("fitloop-predictor-a", "predictor")]
    answers = {("fitloop-a", 9090, "/health"): json.dumps({"version": "1.2.3"}), **build_state(TABLE)}
    maps = {"fitloop-job": {"job.yaml": yaml.safe_dump(MANIFEST)}}
    node = {"metadata": {"labels": {"gpu": "yes"}}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}}
    return FakeInspector(kube, format_datetime(now, usegmt=True), rows=[node], maps=maps, answers=answers)


def build_component_pod(name: str, component: str) -> dict[str, Any]:
    spec = {
        "serviceAccountName": f"fitloop-{component}",
        "containers": [{"name": "kserve-container", "image": "fitloop/predictor:1"}],
    }
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Running"}}


def build_state(table: Serving, **more: Any) -> dict[tuple[str, int, str], str]:
    state = {"table": [table.term, table.generation], "refused": {}, **more}
    return {("fitloop-predictor-a", 8081, "/state"): json.dumps(state)}


@pytest.fixture
def known(tmp_path: Path, inspector: FakeInspector) -> Context:
    found = build_context(tmp_path, where=Location.LAPTOP, inspector=inspector)
    return replace(found, inspector=inspector)  # type: ignore[arg-type]  # a fake


Look = Callable[[Context], Finding]


class TestCluster:
    def test_a_healthy_cluster_passes_every_check(self, known: Context, inspector: FakeInspector) -> None:
        found = {
            one.name: one
            for one in run_checks([list(cluster.CHECKS), [consistency.VERSION_CHECKS[0]]], known)
        }
        assert {name: one.message for name, one in found.items() if one.verdict is not Verdict.OK} == {}
        assert found["releases"].message == "1 adapter runs release 1.2.3, as does the chart."
        assert found["lease"].message == "fitloop-a leads."
        assert inspector.accounts == {"fitloop-adapter"}, "asked about the adapter, not about the caller"
        assert inspector.kube.made[0]["kind"] == "Job"

    def test_a_pod_checks_its_own_rights_and_no_nodes(
        self, known: Context, inspector: FakeInspector, tmp_path: Path
    ) -> None:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(MANIFEST))
        inside = replace(
            known,
            location=Location.POD,
            settings=replace(known.settings, cluster=ClusterSettings(job_template=path)),
        )
        assert cluster.rights(inside).verdict is Verdict.OK
        assert inspector.accounts == {""}
        assert cluster.gpu(inside).verdict is Verdict.SKIPPED

    def test_contradicting_settings_fail(self, known: Context) -> None:
        slow = replace(known, settings=replace(known.settings, s3=S3Settings(timeout_seconds=7)))
        finding = cluster.settings(slow)
        assert finding.verdict is Verdict.FAIL
        assert "FITLOOP_S3_TIMEOUT_SECONDS" in finding.message

    def test_missing_rights_are_named(self, known: Context, inspector: FakeInspector) -> None:
        inspector.lacking = {("delete", "jobs.batch"), ("update", "leases.coordination.k8s.io")}
        assert cluster.rights(known).message == (
            "The adapter's service account lacks rights: delete jobs.batch, update leases.coordination.k8s.io fitloop."
        )

    def test_a_job_that_kubernetes_refuses_fails(self, known: Context, inspector: FakeInspector) -> None:
        inspector.kube.refuses = ClusterError('unknown field "spec.tolerationz"', 422)
        assert 'unknown field "spec.tolerationz"' in run_check(Check("job", cluster.job), known).message
        inspector.maps["fitloop-job"] = {"job.yaml": "kind: Job"}
        assert "apiVersion and kind" in run_check(Check("job", cluster.job), known).message
        inspector.maps["fitloop-job"] = {"job.yaml": "{"}
        assert run_check(Check("job", cluster.job), known).message == (
            "ConfigMap fitloop-job has no valid YAML under job.yaml."
        )

    def test_a_node_must_have_the_requested_gpus(self, known: Context, inspector: FakeInspector) -> None:
        def ask(limits: dict[str, Any], selector: dict[str, str] | None = None) -> Finding:
            made = copy.deepcopy(MANIFEST)
            spec = made["spec"]["template"]["spec"]
            spec["nodeSelector"] = selector or {}
            spec["containers"][0]["resources"] = {"limits": limits}
            assert spec["containers"][0]["name"] == CONTAINER
            inspector.maps["fitloop-job"] = {"job.yaml": yaml.safe_dump(made)}
            return cluster.gpu(known)

        assert ask({"cpu": "2"}).message == "Runs request no GPU."
        assert ask({"nvidia.com/gpu": 1}, {"gpu": "yes"}).verdict is Verdict.OK
        assert ask({"nvidia.com/gpu": "2"}).message == "No node has 2 nvidia.com/gpu: runs will wait forever."
        assert ask({"nvidia.com/gpu": 1}, {"gpu": "no"}).message == (
            "No node has 1 nvidia.com/gpu and the labels of trainer.nodeSelector: runs will wait forever."
        )
        inspector.rows[0]["spec"] = {"unschedulable": True}
        assert ask({"nvidia.com/gpu": 1}).verdict is Verdict.FAIL

    def test_predictors_that_are_not_ready_fail(self, known: Context, inspector: FakeInspector) -> None:
        why = {"type": "Ready", "status": "False", "reason": "Min", "message": "no pods."}
        inspector.kube.objects["inferenceservice", "fitloop"]["status"]["conditions"] = [why]
        assert cluster.predictors(known).message == "The inferenceservice fitloop is not ready: Min no pods."
        del inspector.kube.objects["inferenceservice", "fitloop"]
        assert cluster.predictors(known).message == "The inferenceservice fitloop does not exist."

    def test_a_lease_without_a_holder_or_renewal_fails(
        self, known: Context, inspector: FakeInspector
    ) -> None:
        spec = inspector.kube.objects["lease", "fitloop"]["spec"]
        spec["renewTime"] = datetime.fromtimestamp(time.time() - 60, UTC).isoformat()
        assert re.search(r"last renewed (59|60) s ago", cluster.lease(known).message)
        spec["holderIdentity"] = ""
        assert cluster.lease(known).message == "No adapter holds the Lease fitloop, so no run starts."
        inspector.kube.objects.clear()
        assert cluster.lease(known).verdict is Verdict.FAIL

    def test_waiting_and_failed_runs_are_warnings(self, known: Context, inspector: FakeInspector) -> None:
        waiting = build_job("fitloop-1-2", run="1-2")
        failed = build_job("fitloop-2-1", ("Failed", "DeadlineExceeded"), run="2-1")
        failed["metadata"]["labels"]["fitloop.io/project"] = "2"
        failed["status"]["conditions"][0]["lastTransitionTime"] = timestamp(time.time() - 60)
        inspector.kube.listed["job"] = [waiting, failed]
        inspector.kube.listed["pod"] = [
            build_pod("p", "Pending", unschedulable="0/1: 1 Insufficient nvidia.com/gpu.", run="1-2")
        ]
        finding = cluster.runs(known)
        assert finding.verdict is Verdict.WARN
        assert "fitloop-1-2 is waiting: no node has a free nvidia.com/gpu" in finding.message
        assert "fitloop-2-1 failed: it exceeded its time limit" in finding.message
        inspector.kube.listed["job"] = [waiting]
        inspector.kube.listed["pod"] = [build_pod("p", "Running", run="1-2")]
        assert cluster.runs(known).message == (
            "1 run active; none is waiting, and the latest ones did not fail."
        )

    def test_only_the_latest_job_of_a_project_counts(self) -> None:
        first, last = build_job("a"), build_job("b")
        last["metadata"]["creationTimestamp"] = timestamp(time.time())
        assert cluster.latest_jobs([last, first]) == [last]


class TestVersions:
    def test_different_releases_or_images_are_warnings(
        self, known: Context, inspector: FakeInspector
    ) -> None:
        inspector.answers["fitloop-a", 9090, "/health"] = json.dumps({"version": "1.2.2"})
        assert (
            consistency.releases(known).message
            == "Adapters run release 1.2.2, but the chart is release 1.2.3."
        )
        inspector.answers["fitloop-a", 9090, "/health"] = json.dumps({"version": "1.2.3"})
        second = build_component_pod("fitloop-predictor-b", "predictor")
        second["spec"]["containers"][0]["image"] = "fitloop/predictor:2"
        inspector.kube.listed["fitloop.io/predictor=fitloop"].append(second)
        assert "2 different images" in consistency.releases(known).message
        inside = replace(known, location=Location.POD)
        del inspector.kube.listed["fitloop.io/predictor=fitloop"][1]
        assert f"{__version__}, 1.2.3" in consistency.releases(inside).message, (
            "the doctor's own release counts in a pod"
        )
        inspector.kube.listed.clear()
        assert consistency.releases(known).verdict is Verdict.FAIL
        with pytest.raises(FitloopError, match="No adapter pod of release fitloop is running"):
            known.adapters.counters()
        assert known.adapters.get_object("/api/projects") == {}

    def test_predictors_that_lag_or_refuse_a_version_fail(
        self, monkeypatch: pytest.MonkeyPatch, known: Context, inspector: FakeInspector, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(consistency, "_LAG_SECONDS", 0.0)
        monkeypatch.setattr(storage, "reason_to_skip", lambda _: None)
        ServingTableFile(FileStore(tmp_path)).write(TABLE)
        assert (
            consistency.served_versions(known).message
            == "1 predictor up to date with table 1.3, which serves 1 project."
        )
        inspector.answers |= build_state(replace(TABLE, generation=2))
        assert "has read table 1.2, not 1.3" in consistency.served_versions(known).message
        inspector.answers |= build_state(
            TABLE, refused={"5-1": {"v-2": "a byte differs", "v-1": "old"}, "9-9": {"v": ""}}
        )
        assert (
            consistency.served_versions(known).message
            == "fitloop-predictor-a refuses v-2 of project 5-1: a byte differs."
        )
        inspector.answers |= {("fitloop-predictor-a", 8081, "/state"): "no"}
        assert consistency.served_versions(known).message == "fitloop-predictor-a does not answer."
        inspector.kube.listed.clear()
        assert consistency.served_versions(known).verdict is Verdict.FAIL


class TestStorage:
    def test_checks_of_a_folder_leave_nothing_behind(self, tmp_path: Path) -> None:
        known = build_context(tmp_path)
        verdicts = [check.run(known).verdict for check in storage.CHECKS]
        assert verdicts == [Verdict.OK, Verdict.OK, Verdict.SKIPPED]
        assert list(FileStore(tmp_path).keys()) == []
        assert consistency.storage_clock(known).verdict is Verdict.SKIPPED

    def test_a_full_or_refusing_store_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = build_context(tmp_path)
        monkeypatch.setattr(storage, "_LOW_DISK_BYTES", 1 << 60)
        assert storage.writable(known).verdict is Verdict.WARN
        monkeypatch.setattr(FileStore, "read", lambda *_: b"other")
        assert "returned other bytes than were written." in storage.writable(known).message

        def refused(*_: object) -> None:
            raise StoreRefused("No right to write.")

        monkeypatch.setattr(FileStore, "write", refused)
        assert storage.writable(known).message == "No right to write."

    def test_a_policy_without_encoders_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = FileStore.write

        def without_encoders(store: FileStore, key: str, data: bytes) -> None:
            if key.startswith("encoders/"):
                raise StoreRefused(f"No right to write {key.partition('/')[0]}/.")
            write(store, key, data)

        monkeypatch.setattr(FileStore, "write", without_encoders)
        found = storage.writable(build_context(tmp_path))
        assert (found.verdict, found.message) == (Verdict.FAIL, "No right to write encoders/.")
        assert "below projects/, runs/ and encoders/" in found.advice

    def test_a_laptop_skips_a_store_it_cannot_reach(self, tmp_path: Path) -> None:
        def at(endpoint: str, key: str = "", store: str = "s3://b/x/") -> Finding | None:
            secret = SecretStr(key)
            settings = Settings(
                s3=S3Settings(endpoint=endpoint, access_key=secret, secret_key=secret),
                storage=StorageSettings(store=store),
            )
            return storage.reason_to_skip(
                Context(settings, Location.LAPTOP, "", (), build_context(tmp_path).adapters)
            )

        for found in (
            at("http://minio.minio.svc:9000", "k"),
            at("http://10.0.0.1:9000"),
            at("http://10.0.0.1", "k", ""),
        ):
            assert found is not None
            assert found.verdict is Verdict.SKIPPED
        assert at("http://10.0.0.1:9000", "k") is None

    def test_which_lifecycle_rules_apply_to_versions(self) -> None:
        assert prefixes_overlap("", "loop/")
        assert prefixes_overlap("loop/projects/", "loop/")
        assert not prefixes_overlap("tmp/", "loop/")

        def rule(status: str = ENABLED, tag: Tag | None = None, **action: Any) -> Rule:
            return Rule(
                status=status,
                rule_filter=Filter(tag=tag) if tag else Filter(prefix="x/"),
                rule_id="r",
                **action,
            )

        week = Expiration(days=7)
        assert _expiry(rule(expiration=week)) is not None
        assert _expiry(rule("Disabled", expiration=week)) is None
        assert _expiry(rule(tag=Tag("a", "b"), expiration=week)) is None, "our objects have no tags"
        left = AbortIncompleteMultipartUpload(days_after_initiation=1)
        assert _expiry(rule(abort_incomplete_multipart_upload=left)) is None

    @pytest.mark.parametrize("code", ["AccessDenied", "Forbidden", "NotImplemented"])
    def test_rules_that_the_key_may_not_read_are_skipped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
    ) -> None:
        known = self._bucket(tmp_path, monkeypatch, code)
        found = storage.rules(known)
        assert found.verdict is Verdict.SKIPPED
        assert found.message.startswith("Not checked: ")
        assert "s3:GetLifecycleConfiguration" in found.advice

    def test_rules_of_a_missing_bucket_fail(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = self._bucket(tmp_path, monkeypatch, "NoSuchBucket")
        assert "there is no bucket 'b'" in run_check(Check("store: rules", storage.rules), known).message

    def _bucket(self, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Context:
        """A bucket whose rules are answered with that error."""

        def refuse(*_: object) -> None:
            raise S3Error(FakeResponse(), code, "", "", "", "")  # type: ignore[arg-type]  # its status alone is read

        monkeypatch.setattr(Minio, "get_bucket_lifecycle", refuse)
        settings = Settings(
            s3=build_s3_settings("http://127.0.0.1:9", "k", "s"),
            storage=StorageSettings(store="s3://b/x/", cache_dir=folder),
        )
        return Context(settings, Location.MACHINE, "", (), build_context(folder).adapters)

    @needs_s3
    def test_a_bucket_with_a_rule(self, tmp_path: Path) -> None:
        admin = Minio(
            endpoint=ENDPOINT.partition("//")[2],
            access_key=KEY,
            secret_key=SECRET,
            secure=ENDPOINT[:5] == "https",
        )
        with temporary_bucket() as name:
            store = build_s3_store(f"s3://{name}/loop/", tmp_path)
            assert expiration_rules(store) == []
            eats = Rule(
                status=ENABLED, rule_filter=Filter(prefix=""), rule_id="tidy", expiration=Expiration(days=7)
            )
            admin.set_bucket_lifecycle(name, LifecycleConfig([eats]))
            settings = Settings(
                s3=build_s3_settings(),
                storage=StorageSettings(store=f"s3://{name}/loop/", cache_dir=tmp_path),
            )
            known = Context(settings, Location.MACHINE, "", (), build_context(tmp_path).adapters)
            found = {one.name: one for one in run_checks([list(storage.CHECKS)], known)}
            assert (found["store: write"].verdict, found["store: rules"].verdict) == (
                Verdict.OK,
                Verdict.FAIL,
            )
            assert found["store: rules"].message == (
                "Lifecycle rules of the bucket remove versions, even served ones: 'tidy' removes keys that begin with '' "
                "after 7 days."
            )
            assert consistency.storage_clock(known).verdict is Verdict.OK


class TestClocks:
    @pytest.mark.parametrize(
        ("seconds", "verdict"), [(0, Verdict.OK), (-3, Verdict.OK), (30, Verdict.WARN), (-900, Verdict.FAIL)]
    )
    def test_the_verdict_depends_on_the_offset(self, seconds: float, verdict: Verdict) -> None:
        at = datetime.fromtimestamp(1_795_500_000 + seconds, UTC)
        found = consistency.clock_offset(format_datetime(at, usegmt=True), "the storage", 1_795_500_000.0)
        assert found.verdict is verdict
        if verdict is Verdict.FAIL:
            assert found.message == "The clock of the storage is 900 s behind."

    @respx.mock
    def test_the_clock_of_label_studio(self, tmp_path: Path) -> None:
        route = respx.head("http://studio.example/health")
        route.respond(headers={"Date": format_datetime(datetime.now(UTC), usegmt=True)})
        assert consistency.label_studio_clock(build_context(tmp_path)).verdict is Verdict.OK
        route.respond()
        assert (
            "Label Studio sends no valid Date header."
            in consistency.label_studio_clock(build_context(tmp_path)).message
        )
        route.mock(side_effect=OSError)
        assert (
            "does not answer (no route to the host)"
            in consistency.label_studio_clock(build_context(tmp_path)).message
        )


class TestExamine:
    def test_a_bug_in_one_check_fails_that_check_alone(self, tmp_path: Path) -> None:
        def crash(_: Context) -> Finding:
            raise RuntimeError("http://user:secret@host")

        checks = [
            Check("bad", crash),
            Check("after", lambda _: ok("fine"), needs=("bad",)),
            Check("good", lambda _: ok("fine")),
        ]
        bad, after, good = run_checks([checks], build_context(tmp_path))
        assert bad.verdict is Verdict.FAIL
        assert bad.message == "The check itself failed with an unexpected error (RuntimeError)."
        assert after.message == "The check 'bad' failed."
        assert good == Finding(Verdict.OK, "fine", name="good")

    def test_a_check_that_hangs_is_abandoned(self, tmp_path: Path) -> None:
        import threading

        forever = threading.Event()

        def hang(_: Context) -> Finding:
            forever.wait()
            return ok("at last")

        found = run_check(Check("slow", hang, 0.05), build_context(tmp_path))
        forever.set()
        assert found.message == "No answer within 0.05 s."

    def test_every_check_is_documented(self, known: Context) -> None:
        names = [check.name for group in checks_of(known) for check in group]
        names += [
            check.name for group in checks_of(replace(known, location=Location.MACHINE)) for check in group
        ]
        assert len(names[: len(names) // 2]) >= 25
        page = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
        missing = {name for name in names if f"`{name.replace('project 5', 'project N')}`" not in page}
        assert missing == set()
