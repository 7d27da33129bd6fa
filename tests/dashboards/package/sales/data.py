"""The data, loaded anew for each number of rows, and kept for an hour."""

import pandas as pd
from flask_caching import Cache
from vizro.managers import data_manager


def load_orders(rows: int = 36) -> pd.DataFrame:
    """Return the first orders."""
    return pd.read_csv("orders.csv", nrows=rows)


data_manager.cache = Cache(config={"CACHE_TYPE": "SimpleCache", "CACHE_DEFAULT_TIMEOUT": 3600})
data_manager["orders"] = load_orders
