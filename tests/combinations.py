"""Every answer set that the questions in copier.yml can reach, computed from them."""

from pathlib import Path
from typing import Any

import yaml
from copier._template import load_template_config  # the only reader that knows Copier's !include
from jinja2 import Environment

ROOT = Path(__file__).parent.parent
CONFIGURATION = load_template_config(ROOT / "copier.yml")
QUESTIONS: dict[str, dict[str, Any]] = {
    name: question for name, question in CONFIGURATION.items() if not name.startswith("_")
}


class Combination(dict[str, Any]):
    """The answers to the questions that offer a choice, named after the choices."""

    @property
    def name(self) -> str:
        """The choices joined by underscores, which makes a package name."""
        words = {True: "yes", False: "no"}
        streaming = {True: "streaming", False: "one_shot"}[self["streaming"]]
        others = [
            words.get(value, value)
            for question, value in self.items()
            if question not in ("provider", "streaming", "multi_turn")
        ]
        return "_".join([self["provider"], streaming, self["multi_turn"], *others])

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


def all_combinations() -> list[Combination]:
    """Return every reachable set of answers to the questions that offer a choice."""
    combinations = [Combination()]
    for question in QUESTIONS:
        if choices(question):
            combinations = [
                Combination(combination | {question: choice})
                for combination in combinations
                for choice in (choices(question) if is_asked(question, combination) else [None])
            ]
    return [
        Combination(
            {question: answer for question, answer in combination.items() if answer is not None}
        )
        for combination in combinations
    ]


COMBINATIONS = all_combinations()
PROVIDERS = choices("provider")
