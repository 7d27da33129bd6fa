"""The questions that are asked, and how the stand-in answers each."""

import json
from dataclasses import dataclass
from pathlib import Path

SECTION = (Path(__file__).parent / "section.md").read_text(encoding="utf-8")
END = "That is all."
PLAIN = (
    "A moving average replaces each value by the mean of the last few, so that short swings fade "
    "and the trend shows. The longer the window, the smoother the line, and the later it reacts "
    "to a change. Over seven days of sales, for instance, it hides the weekend and keeps the "
    f"season. The first values have no past to average: they stay empty. {END}"
)


@dataclass(frozen=True)
class Exchange:
    """A question, and its answer, which ends in `END`.

    Attributes:
        question: The question.
        answer: The answer.
        characters: How many come at once.
        pace: How many times a second some come.
        thinking: Milliseconds before the first.
    """

    question: str
    answer: str
    characters: int
    pace: int
    thinking: int


LONG = Exchange("What is a moving average?", PLAIN, 8, 25, 250)
SHORT = Exchange("And in one sentence?", f"It is the mean of the last few. {END}", 8, 25, 250)
SECTIONS = Exchange("Tell me more.", f"{SECTION}{END}", 400, 100, 20)
# 20,000 characters of mixed Markdown in 4 seconds.
ENDLESS = Exchange(
    "Tell me all.",
    f"{SECTION * (20_000 // len(SECTION) + 1)}"[:19_986] + f"\n\n{END}",
    50,
    100,
    250,
)


def write_fixtures(path: Path) -> None:
    """Write the answers as aimock reads them.

    Args:
        path: The file to write.
    """
    fixtures = [
        {
            "match": {"userMessage": one.question},
            "response": {"content": one.answer},
            "chunkSize": one.characters,
            "streamingProfile": {"ttft": one.thinking, "tps": one.pace},
        }
        for one in (LONG, SHORT, SECTIONS, ENDLESS)
    ]
    path.write_text(json.dumps({"fixtures": fixtures}), encoding="utf-8")
