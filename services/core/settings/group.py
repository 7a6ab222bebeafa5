"""What every group of settings has in common: it is read from the environment, frozen, and holds clean texts and finite numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from services.core.settings.values import Inside, allowed_inside, is_checked, trim, value_problem


class Group(BaseSettings):
    """Some settings that belong together; each field names its environment variables.

    Each value is trimmed, and refused where what is inside cannot be meant: `Annotated[str, Inside.LINE]` allows blanks.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True, allow_inf_nan=False
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the sources know it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # there is no such file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # nor such a folder
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, where a variable of white space alone counts as unset."""
        if isinstance(env_settings, EnvSettingsSource):
            given = env_settings.env_vars
            env_settings.env_vars = {name: text for name, text in given.items() if text and trim(text)}
        return init_settings, env_settings

    @model_validator(mode="before")
    @classmethod
    def _are_trimmed(cls, given: Any) -> Any:
        """Before any other validator looks at them."""
        if not isinstance(given, Mapping):
            return given
        inside = {
            name: allowed_inside(field)
            for field_name, field in cls.model_fields.items()
            for name in (field_name, *variables(cls, field_name))
        }
        return {name: _trimmed(value, inside.get(name, Inside.LINES)) for name, value in given.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _holds_no_white_space(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if (
            isinstance(text, str)
            and is_checked(field)
            and (problem := value_problem(text, allowed_inside(field)))
        ):
            raise ValueError(problem)
        return value


def named(*names: str) -> AliasChoices:
    """The environment variables that set a field, the first one preferred."""
    return AliasChoices(*names)


def variables(group: type[Group], name: str) -> tuple[str, ...]:
    """The environment variables that set a field, the first one preferred."""
    alias = group.model_fields[name].validation_alias
    return (
        tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else (str(alias),)
    )


def _trimmed(value: Any, inside: Inside) -> Any:
    if isinstance(value, SecretStr):
        return SecretStr(trim(value.get_secret_value(), inside))
    return trim(value, inside) if isinstance(value, str) else value
