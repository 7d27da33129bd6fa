"""Each model that the template names is known, and its end is noticed in time."""

import re
from datetime import date
from pathlib import Path

import models
import pytest
from combinations import COMBINATIONS, PROVIDERS, QUESTIONS, ROOT
from conftest import files_of, render
from pytest_copie.plugin import Copie

# A family, then a version: `gpt-test`, as the tests call a model that is none, is not meant.
NAME = re.compile(
    r"\b(?:anthropic\.)?(?:claude|gpt|o|gemini|gemma|llama|qwen|mistral|deepseek)"
    r"(?:-[a-z]+)*-?\d(?:[\w.:-]*\w)?"
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('default="claude-haiku-5-5",', ["claude-haiku-5-5"]),
        ("| gpt-6-luna |", ["gpt-6-luna"]),
        ("anthropic.claude-haiku-5-5", ["anthropic.claude-haiku-5-5"]),
        ("llama3.2 or qwen3:8b", ["llama3.2", "qwen3:8b"]),
        ("claude-test, gpt-other, openai_model, utf-8", []),
    ],
)
def test_names_are_recognised(text: str, named: list[str]) -> None:
    assert NAME.findall(text) == named


def test_every_named_model_is_in_the_table(renders: dict[str, Path]) -> None:
    sources = [ROOT / "copier.yml", ROOT / "README.md"]
    for folder in (ROOT / "providers", ROOT / "bench" / "documentation", *renders.values()):
        sources += files_of(folder)
    named = {
        name: path for path in sources for name in NAME.findall(path.read_text(encoding="utf-8"))
    }
    assert named.keys() == models.models().keys(), named


def test_every_default_is_served_by_its_provider() -> None:
    questions = {
        provider: f"{provider}_model" for provider in ("anthropic", "openai", "bedrock", "gemini")
    }
    defaults = {
        QUESTIONS[questions.get(provider, "compatible_model")]["default"]: provider
        for provider in PROVIDERS
        if provider not in ("demo", "azure_openai")  # a deployment has the name that it was given
    }
    assert {name: model["provider"] for name, model in models.models().items()} == defaults


# As projects recorded them that were rendered when these were the defaults.
@pytest.mark.parametrize(
    "old_default",
    [{"anthropic_model": "claude-haiku-4-5-20251001"}, {"openai_model": "gpt-4.1-nano"}],
    ids=lambda answer: next(iter(answer)),
)
def test_no_parameter_for_a_model_that_refuses_it(
    template: Path, copie: Copie, old_default: dict[str, str]
) -> None:
    provider = next(iter(old_default)).removesuffix("_model")
    one = next(one for one in COMBINATIONS if one["provider"] == provider)
    rendered = [
        (render(copie, template, one, **answers) / "src" / one.name / "chat.py").read_text("utf-8")
        for answers in ({}, old_default)
    ]
    assert ["effort: " in text and "default=None," in text for text in rendered] == [False, True]


@pytest.mark.parametrize(
    ("today", "found"),
    [
        (date(2027, 4, 1), []),
        (date(2027, 4, 2), ["old-1 ends on 2027-06-01: choose another default."]),
        (
            date(2027, 7, 4),
            [
                "old-1 ends on 2027-06-01: choose another default.",
                "old-1 was looked up on 2027-01-01: read https://example.com again.",
            ],
        ),
    ],
)
def test_dates(today: date, found: list[str]) -> None:
    old = {"source": "https://example.com", "read": date(2027, 1, 1), "end": date(2027, 6, 1)}
    assert models.problems({"old-1": old}, today) == found
