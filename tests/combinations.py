"""The answer sets that are tested, computed from the questions in copier.yml."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from allpairspy import AllPairs
from copier._template import load_template_config  # the only reader that knows Copier's !include
from jinja2 import Environment

ROOT = Path(__file__).parent.parent
CONFIGURATION = load_template_config(ROOT / "copier.yml")
QUESTIONS: dict[str, dict[str, Any]] = {
    name: question for name, question in CONFIGURATION.items() if not name.startswith("_")
}
CORE = ("provider", "streaming", "multi_turn")


class Combination(dict[str, Any]):
    """The answers to the questions that offer a choice, named after the choices."""

    @property
    def name(self) -> str:
        """The choices joined by underscores, without defaults but for the core: a package name."""
        streaming = {True: "streaming", False: "one_shot"}[self["streaming"]]
        others = [
            {True: question, False: f"no_{question}"}.get(value, value)
            for question, value in self.items()
            if question not in CORE and value != QUESTIONS[question]["default"]
        ]
        name = "_".join([self["provider"], streaming, self["multi_turn"], *others])
        # A package name that is too long is made of the beginnings of its words.
        return name if len(name) <= 40 else "_".join(word[:2] for word in name.split("_"))

    @property
    def label(self) -> str:
        """The name as the command and the test reports show it, with dashes."""
        return self.name.replace("_", "-")


def choices(question: str) -> list[Any]:
    """Return the answers that a question offers; none if its answer is free.

    Args:
        question: The question's name.
    """
    if QUESTIONS[question]["type"] == "bool":
        return [True, False]
    offered = QUESTIONS[question].get("choices", [])
    return list(offered.values() if isinstance(offered, dict) else offered)


def is_asked(question: str, answers: dict[str, Any]) -> bool:
    """Return whether a question is asked after these answers to the ones before it.

    Args:
        question: The question's name.
        answers: The answers to earlier questions.
    """
    condition = str(QUESTIONS[question].get("when", "true"))
    return bool(yaml.safe_load(Environment().from_string(condition).render(answers)))


def combined(answers: Iterable[Sequence[Any]]) -> list[Combination]:
    """Return sets of answers as Copier would record them: without what it would not ask.

    Args:
        answers: An answer to each question of `CHOICES`, whether it is asked or not.
    """
    found = []
    for row in answers:
        combination = Combination()
        for question, answer in zip(CHOICES, row, strict=True):
            if is_asked(question, combination):
                combination[question] = answer
        if combination not in found:
            found.append(combination)
    return found


CHOICES = {question: choices(question) for question in QUESTIONS if choices(question)}
# Each provider in each mode with each policy, and the default answer to all else.
IN_THE_CORE = list(
    product(
        *(
            offered if question in CORE else [QUESTIONS[question]["default"]]
            for question, offered in CHOICES.items()
        )
    )
)
COMBINATIONS = combined(IN_THE_CORE)
# The other answers, each of them at least once with each answer to any other question.
PAIRS = combined(AllPairs(list(CHOICES.values()), previously_tested=IN_THE_CORE))
PROVIDERS = choices("provider")
# Providers that extend another's files: pages and browsers see no difference between the two.
RELATIVES = {
    provider
    for provider in PROVIDERS
    if "{% extends" in (ROOT / "providers" / provider / "provider.py.jinja").read_text("utf-8")
}
# In a browser: each provider in each mode with each policy, a relative with each policy and both modes in turn.
IN_THE_BROWSER = [
    one
    for number, one in enumerate(COMBINATIONS)
    if one["provider"] not in RELATIVES or one["streaming"] is (number % 2 == 0)
]
# Files: the demo in both modes with each policy, each provider with each policy and both modes in turn.
WITH_FILES = [
    Combination(one | {"file_upload": True})
    for number, one in enumerate(COMBINATIONS)
    if one["provider"] == "demo" or one["streaming"] is (number % 2 == 0)
]
# Looking things up in the data: the demo in both modes with each policy, each provider in both modes.
WITH_DATA = [
    Combination(one | {"data": True})
    for one in COMBINATIONS
    if one["provider"] == "demo" or one["multi_turn"] == "full"
]
# Thumbs under answers: the demo in both modes, with and without what it looks up, with a user's name.
WITH_FEEDBACK = [
    Combination(one | {"data": data, "feedback": True, "auth": auth})
    for one in COMBINATIONS
    if one["provider"] == "demo" and one["multi_turn"] == "full"
    for data, auth in ((False, "none"), (True, "none"), (False, "password"))
]
# The chat over every page: the demo in both modes with each policy, and with its data.
WITH_PANEL = [
    Combination(one | {"placement": "popup"})
    for one in [*COMBINATIONS, *WITH_DATA]
    if one["provider"] == "demo" and (one["multi_turn"] == "full" or not one["data"])
]
# All that are rendered, by their names.
SECONDARY = [*PAIRS, *WITH_FILES, *WITH_DATA, *WITH_FEEDBACK, *WITH_PANEL]
EVERY = {one.name: one for one in [*COMBINATIONS, *SECONDARY]}
