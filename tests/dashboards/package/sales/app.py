"""The application, for gunicorn and for Flask's development server."""

from pathlib import Path

import vizro.models as vm
from vizro import Vizro

from sales import data  # noqa: F401
from sales.pages import create_detail, create_files, create_overview

dashboard = vm.Dashboard(title="Orders", pages=[create_overview(), create_detail(), create_files()])
app = Vizro(assets_folder=Path(__file__).with_name("assets")).build(dashboard)

if __name__ == "__main__":
    app.run()
