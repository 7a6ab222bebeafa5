"""Settings of training and of serving."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.core.domain import Method, Parameters
from services.core.errors import BadRequest
from services.core.settings.group import Group, Inside
from services.core.settings.own_model import class_name


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the cores that this process may use, a container's quota included; on macOS, all cores."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(there, int(cpu_quota(cgroup) or there)))


def cpu_quota(cgroup: Path) -> float | None:
    """Return the cores that the control group allows (version 2, then 1); None if it sets no limit."""
    try:
        most, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            most, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return None
    return int(most) / int(period) if most.isdigit() and int(period) > 0 else None


def _is_trainable(method: Method) -> Method:
    """Refuse the method of versions that Fitloop makes by itself, from label names."""
    if method is Method.ZERO_SHOT:
        raise ValueError(
            "it is no method of training: FITLOOP_COLD_START turns suggestions from label names on and off"
        )
    return method


class TrainingSettings(Group):
    """How a model is trained, unless a project or a command overrides it."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_")

    method: Annotated[Method, AfterValidator(_is_trainable)] = Field(
        Method.AUTO, validation_alias=AliasChoices("METHOD", "FITLOOP_METHOD")
    )
    """`auto`, `linear-probe`, `finetune` or `lp-ft`; or `label-studio-ml`: the class that `FITLOOP_MODEL` names."""
    model: Annotated[str, AfterValidator(class_name)] | None = None
    """`package.module:Class`, a subclass of `LabelStudioMLBase` that trains and predicts where the method is `label-studio-ml`."""
    allowed_models: Annotated[tuple[str, ...], NoDecode] = ()
    """Classes that extra parameters and commands may name: patterns such as `sentiment.*`, separated by commas. Empty: none, so that only the
    settings choose a class."""
    base_model: Annotated[str, Inside.LINE] = Field(
        "bert-base-multilingual-cased", validation_alias="BASELINE_MODEL_NAME"
    )
    """The pre-trained encoder: a hub id, a folder, or s3://bucket/prefix/ (`fitloop models push` puts one there). A
    sentence encoder (all-MiniLM-L6-v2, a multilingual e5) needs far fewer labels than the default."""
    allowed_base_models: Annotated[tuple[str, ...], NoDecode] = ()
    """Base models that extra parameters, commands and `FITLOOP_PROJECTS` may name: patterns such as `intfloat/*,
    s3://models/*`, separated by commas; `BASELINE_MODEL_NAME` is always allowed. Empty: any."""
    model_name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,60}$", validation_alias="FINETUNED_MODEL_NAME"
    )
    """Stem of version names (`<name>-<n>`), and so of the backend's title; unset: the project's title."""
    learning_rate: float | None = Field(None, gt=0, validation_alias="LEARNING_RATE")
    """Step size of fine-tuning; unset: by rule."""
    num_train_epochs: float | None = Field(None, gt=0, validation_alias="NUM_TRAIN_EPOCHS")
    """Passes over the texts in fine-tuning; unset: by rule from how many there are."""
    weight_decay: float | None = Field(None, ge=0, validation_alias="WEIGHT_DECAY")
    """AdamW's weight decay; unset: 0.01."""
    budget_seconds: float = Field(60.0, gt=0, validation_alias="FITLOOP_TRAINING_BUDGET_SECONDS")
    """Seconds that `auto` may spend on the stronger method after the first version is published."""
    max_length: int = Field(256, ge=8, le=8192)
    """Tokens read of each text; the rest is truncated."""
    checkpoint_seconds: float = Field(60.0, gt=0)
    """Seconds between checkpoints of a fine-tune: the most that a killed process loses."""
    pool_seconds: float = Field(1.0, ge=0)
    """Seconds by which a run may delay a new version for features of unlabelled texts that have none, the newest first: the
    version has suggestions for all texts with features at once, and computes others when Label Studio asks for them."""
    run_seconds: float = Field(0.0, ge=0)
    """Seconds that one process may work on a run; set it below the pod's deadline, so that the run ends with a message.
    0: no limit."""
    require_gpu: bool = False
    """Whether a run that finds no CUDA device fails, because it requested one."""
    keep_log: bool = False
    """Whether a run stores its log's tail in log.txt itself, because no parent process captures it."""
    processes_per_pod: int = Field(1, ge=1)
    """Processes of a run in one pod, one for each of its GPUs (`python -P -m services.trainer.ranks`)."""
    pods: int = Field(1, ge=1)
    """Pods of a run, which is then an Indexed Job."""
    pod_index: int = Field(0, ge=0, validation_alias="JOB_COMPLETION_INDEX")
    """Index of this pod among the run's pods, from 0; set by Kubernetes."""
    rendezvous: str = ""
    """host:port of the run's pod 0, where its pods rendezvous."""

    @field_validator("allowed_base_models", "allowed_models", mode="before")
    @classmethod
    def _patterns(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    def check_allowed(self, base_model: str) -> None:
        """Raise BadRequest if `allowed_base_models` excludes this base model."""
        patterns = self.allowed_base_models
        if not patterns or base_model == self.base_model:
            return
        climbs = ".." in base_model.split("/")  # "*" matches "/" and ".." as well
        if climbs or not any(fnmatchcase(base_model, pattern) for pattern in patterns):
            raise BadRequest(
                f"Base model {base_model!r} is not allowed by FITLOOP_ALLOWED_BASE_MODELS ({', '.join(patterns)}). "
                f"Choose one that matches, or omit base_model to use {self.base_model!r}."
            )

    def check_allowed_model(self, model: str) -> None:
        """Raise BadRequest unless `allowed_models` includes this class: what names it is no setting."""
        if not any(fnmatchcase(model, pattern) for pattern in self.allowed_models):
            raise BadRequest(
                f"Model {model!r} is not allowed by FITLOOP_ALLOWED_MODELS "
                f"({', '.join(self.allowed_models) or 'which is empty'}): classes run as programs, so only settings choose one."
            )

    def parameters(self) -> Parameters:
        """Return the default parameters of a run."""
        return Parameters(
            method=self.method,
            base_model=self.base_model,
            model_name=self.model_name,
            learning_rate=self.learning_rate,
            num_train_epochs=self.num_train_epochs,
            weight_decay=self.weight_decay,
            budget_seconds=self.budget_seconds,
            max_length=self.max_length,
            model=self.model,
        )


class ServingSettings(Group):
    """How predictions are computed."""

    model_config = SettingsConfigDict(env_prefix="FITLOOP_")

    workers: int = Field(default_factory=available_cores, ge=1, validation_alias="WORKERS")
    """Parallel compute streams; unset: one per core that this process may use."""
    threads: int = Field(1, ge=1, validation_alias="THREADS")
    """Threads per stream. Single-threaded streams keep their speed next to a busy core."""
    queue_texts: int = Field(20_000, ge=1)
    """Texts that may be queued; beyond that, /predict answers 503 with Retry-After."""
    loaded_models: int = Field(0, ge=0)
    """Encoders kept in memory, each shared by all versions that use it; a version that is a whole model counts as one. The
    least recently used are evicted. 0: as many as `FITLOOP_MODEL_MEMORY_MB` allows."""
    memory_mb: float = Field(0.0, ge=0, validation_alias="FITLOOP_MODEL_MEMORY_MB")
    """Megabytes of encoders in memory; beyond that, the least recently used are evicted, and if all are in use the answer is
    503. 0: 60 % of the memory that this process may use."""
    device: Literal["cpu", "cuda"] = "cpu"
    """`cpu` computes in int8 where the version has that; `cuda` in bf16 (fp16 on GPUs without it), from the fp32 weights."""
    refresh_max_tasks: int = Field(10_000, ge=0)
    """Unlabelled tasks that get new predictions after a promotion, the most uncertain first; 0: none."""
    blind_share: float = Field(0.0, ge=0, le=0.5)
    """Share of texts for which annotators are shown no suggestion, to measure what suggestions do: the model's accuracy on
    texts without a suggestion, how many wrong suggestions are accepted, and how many seconds they save. 0.05 needs about 400 annotations
    for a first figure; 0: none, and nothing of it is measured. The same texts are chosen always and everywhere."""
    delete_old_predictions: bool = True
    """Whether predictions of unlabelled tasks are deleted in Label Studio once two newer versions were served, so that its
    database does not grow with every version. Predictions with names of others are never deleted."""
