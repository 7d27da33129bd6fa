"""Orders of a shop, described in YAML."""

from pathlib import Path

import pandas as pd
import vizro.plotly.express as px  # noqa: F401
import yaml
from vizro import Vizro
from vizro.managers import data_manager
from vizro.models import Dashboard
from vizro.tables import dash_ag_grid  # noqa: F401

data_manager["orders"] = pd.read_csv("orders.csv")

dashboard = yaml.safe_load(Path("dashboard.yaml").read_text(encoding="utf-8"))
app = Vizro().build(Dashboard(**dashboard))

if __name__ == "__main__":
    app.run()
