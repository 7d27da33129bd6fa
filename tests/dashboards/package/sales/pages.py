"""The pages, which refer to the data by its name."""

import vizro.actions as va
import vizro.models as vm
import vizro.plotly.express as px
from vizro.tables import dash_ag_grid

from sales.components import Upload, count_lines


def create_overview() -> vm.Page:
    """Return the page of all orders, with controls at their container too."""
    return vm.Page(
        title="Overview",
        components=[
            vm.Container(
                title="All orders",
                layout=vm.Flex(),
                components=[
                    vm.Graph(
                        id="countries",
                        figure=px.bar("orders", x="country", y="units"),
                        actions=va.set_controls(controls="country", value="x"),
                    ),
                    vm.Table(
                        id="table",
                        figure=dash_ag_grid("orders"),
                        actions=va.set_controls(controls="product", value="product"),
                    ),
                ],
                controls=[vm.Filter(id="country", column="country", targets=["table"])],
            ),
            vm.Button(text="Export", actions=va.export_data(targets=["table"])),
        ],
        controls=[
            vm.Filter(column="year", selector=vm.Slider(title="Year"), targets=["countries"]),
            vm.Filter(
                column="product", selector=vm.RadioItems(title="Sold"), targets=["countries"]
            ),
            vm.Parameter(
                targets=["countries.y"],
                selector=vm.RadioItems(title="Show", options=["units", "revenue"]),
            ),
        ],
    )


def create_detail() -> vm.Page:
    """Return the page of one product, with a parameter of the data."""
    return vm.Page(
        title="Detail",
        components=[
            vm.Graph(id="detail", figure=px.line("orders", x="year", y="units", color="product")),
        ],
        controls=[
            vm.Filter(id="product", column="product", selector=vm.RadioItems()),
            vm.Parameter(
                targets=["detail.data_frame.rows"],
                selector=vm.RadioItems(title="Rows", options=[36, 18]),
            ),
        ],
    )


def create_files() -> vm.Page:
    """Return the page with the component and the action of ours."""
    count = vm.Action(function=count_lines("upload-field.contents"), outputs="said")
    return vm.Page(
        title="Files",
        components=[
            Upload(id="upload", title="Drop a file"),
            vm.Button(text="Count", actions=count),
            vm.Text(id="said", text="Nothing yet."),
        ],
    )
