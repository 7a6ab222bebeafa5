"""What every group of settings has in common: it is read from the environment, frozen, and holds finite numbers."""

from __future__ import annotations

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, SettingsConfigDict


class Group(BaseSettings):
    """Some settings that belong together; each field names its environment variables."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True, allow_inf_nan=False
    )


def named(*names: str) -> AliasChoices:
    """The environment variables that set a field, the first one preferred."""
    return AliasChoices(*names)


def variables(group: type[Group], name: str) -> tuple[str, ...]:
    """The environment variables that set a field, the first one preferred."""
    alias = group.model_fields[name].validation_alias
    return (
        tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else (str(alias),)
    )
