"""A component for files, and an action that reads one."""

import base64
from typing import Literal

import vizro.models as vm
from dash import dcc, html
from vizro.models.types import capture


class Upload(vm.VizroBaseModel):
    """A field that files are dropped into."""

    type: Literal["upload"] = "upload"
    title: str

    def build(self) -> html.Div:
        """Return the field."""
        field = dcc.Upload(self.title, id=f"{self.id}-field")
        return html.Div(field, id=self.id, className="upload")


@capture("action")
def count_lines(contents: str) -> str:
    """Return how many lines a file has."""
    text = base64.b64decode(contents.partition(",")[2])
    return f"{len(text.splitlines())} lines"


vm.Page.add_type("components", Upload)
