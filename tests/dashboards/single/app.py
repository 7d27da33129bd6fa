"""Orders of a shop in one file: a dashboard with two pages that belong together, and a map."""

import pandas as pd
import vizro.actions as va
import vizro.models as vm
import vizro.plotly.express as px
from vizro import Vizro
from vizro.figures import kpi_card
from vizro.tables import dash_ag_grid

orders = pd.read_csv("orders.csv")

overview = vm.Page(
    title="Overview",
    layout=vm.Flex(),
    components=[
        vm.Figure(
            id="total",
            figure=kpi_card(orders, value_column="units", title="Units", agg_func="sum"),
        ),
        vm.Button(text="Export", actions=va.export_data(targets=["table"])),
        vm.Graph(
            id="countries",
            figure=px.bar(orders, x="country", y="units", custom_data=["country"]),
            actions=va.set_controls(controls="country", value="country"),
        ),
        vm.Table(
            id="table",
            figure=dash_ag_grid(orders),
            actions=va.set_controls(controls="product", value="product"),
        ),
    ],
    controls=[
        vm.Filter(id="country", column="country", targets=["table"]),
        vm.Filter(column="year", selector=vm.Slider(title="Year"), targets=["countries"]),
        vm.Filter(column="product", selector=vm.RadioItems(title="Sold"), targets=["countries"]),
        vm.Parameter(
            targets=["countries.y"],
            selector=vm.RadioItems(title="Show", options=["units", "revenue"]),
        ),
    ],
)
detail = vm.Page(
    title="Detail",
    components=[
        vm.Graph(id="detail", figure=px.line(orders, x="year", y="units", color="product")),
    ],
    controls=[vm.Filter(id="product", column="product", selector=vm.RadioItems())],
)
world = vm.Page(
    title="World",
    components=[
        vm.Graph(
            id="world",
            figure=px.choropleth(orders, locations="code", color="units", hover_name="country"),
        ),
    ],
)

dashboard = vm.Dashboard(title="Orders", pages=[overview, detail, world])
Vizro().build(dashboard).run()
