"""The result of a run as a table, and compared with an earlier run."""

from statistics import fmean, median

from pydantic import BaseModel
from questions import Answer, Question

HEAD = ["question", "passed", "seconds", "tokens in", "tokens out", "cost", "remarks"]


class Row(BaseModel):
    """The answers to one question."""

    ask: str
    before: list[str]
    answers: list[Answer]
    passed: int  # answers that are as expected
    seconds: float  # of an answer, the median
    tokens: list[float]  # that the model reads and writes for an answer, on average
    cost: float | None  # of an answer, on average; None without a price

    def is_worse(self, old: "Row") -> bool:
        """Return whether a smaller share of the answers is as expected."""
        return self.passed * len(old.answers) < old.passed * len(self.answers)

    def changes(self, old: "Row") -> list[str]:
        """Return what has changed since an earlier run, without what may be chance."""
        found = []
        for word, new, other in (("worse", self, old), ("better", old, self)):
            if new.is_worse(other):
                found.append(f"{word}: {old.passed} of {len(old.answers)} before")
        if abs(self.seconds - old.seconds) > max(0.5, old.seconds / 4):
            word = "slower" if self.seconds > old.seconds else "faster"
            found.append(f"{word}: {old.seconds:.1f} s before")
        new, was, shown = sum(self.tokens), sum(old.tokens), f"{sum(old.tokens):,.0f} tokens"
        if self.cost is not None and old.cost is not None:
            new, was, shown = self.cost, old.cost, f"{old.cost:.5f}"
        if abs(new - was) > was / 10:
            word = "more expensive" if new > was else "cheaper"
            found.append(f"{word}: {shown} before")
        return found


def row(question: Question, answers: list[Answer], price: list[float] | None) -> Row:
    """Return the row of a question; the price is for a million tokens, read and written."""
    each = [(one.input_tokens, one.output_tokens) for one in answers]
    tokens = [fmean(some) for some in zip(*each, strict=True)]
    cost = [n * per / 1_000_000 for n, per in zip(tokens, price or [], strict=False)]
    return Row(
        ask=question.ask,
        before=question.before,
        answers=answers,
        passed=sum(not one.failures for one in answers),
        seconds=median(one.seconds for one in answers),
        tokens=tokens,
        cost=sum(cost) if price else None,
    )


class Run(BaseModel):
    """The answers to all questions."""

    model: str
    rows: list[Row]

    def pairs(self, earlier: "Run | None") -> list[tuple[Row, Row | None]]:
        """Return each row with the earlier one for the same question, if there is one."""
        old = {(one.ask, *one.before): one for one in earlier.rows} if earlier else {}
        return [(one, old.get((one.ask, *one.before))) for one in self.rows]

    def markdown(self, earlier: "Run | None") -> str:
        """Return the table, with columns that are aligned on a terminal too."""
        lines = [HEAD, ["---"] * len(HEAD)]
        for row, old in self.pairs(earlier):
            remarks = row.changes(old) if old else ["new"] if earlier else []
            remarks += dict.fromkeys(text for one in row.answers for text in one.failures)
            lines.append(
                [
                    row.ask if len(row.ask) <= 50 else f"{row.ask[:49]}…",
                    f"{row.passed} of {len(row.answers)}",
                    f"{row.seconds:.1f}",
                    *(f"{one:,.0f}" if one else "" for one in row.tokens),
                    "" if row.cost is None else f"{row.cost:.5f}",
                    "; ".join(remarks),
                ]
            )
        cells = [[" ".join(one.split()).replace("|", r"\|") for one in line] for line in lines]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        padded = [" | ".join(map(str.ljust, line, widths)) for line in cells]
        passed, count = sum(row.passed for row in self.rows), len(self.rows[0].answers)
        costs = [row.cost * count for row in self.rows if row.cost is not None]
        total = f"; all cost {sum(costs):.5f}" if costs else ""
        summary = f"{self.model}: {passed} of {len(self.rows) * count} answers as expected{total}."
        return "\n".join([summary, "", *(f"| {line} |" for line in padded), ""])
