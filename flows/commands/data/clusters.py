"""`ratchet data clusters`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.project.data.clusters import Cluster

SHOWN = 300
"""Characters of a text that are shown."""


def clusters(
    number: Annotated[int, typer.Option("--rows", "-n", min=1, help="Clusters to show, the largest first.")] = 10,
    members: Annotated[int, typer.Option(min=1, help="Copies to show of each cluster.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Show the largest clusters of duplicates: the record that was kept, the copies left out, and their similarity.

    Example: ratchet data clusters -n 3 --members 10
    """
    from flows.commands import _terminal
    from flows.commands._data_reports import DataClustersReport
    from flows.project.data import clusters

    total, copies, largest = clusters.largest(number, members)
    if not as_json:
        for cluster in largest:
            _show(cluster)
        _terminal.show(f"{len(largest)} of {total:,} clusters; {copies:,} records were left out as copies.")
    return DataClustersReport(total, copies, largest)


def _show(cluster: "Cluster") -> None:
    from flows.commands import _terminal
    from flows.commands._terminal import cell

    kept = f"kept in {cluster.split} · {cluster.id}" if cluster.id else "left out by a later rule"
    _terminal.show(f"── {cluster.size:,} {'copy' if cluster.size == 1 else 'copies'} of {cell(cluster.where)} · {kept}")
    if cluster.text:
        _terminal.show_data(cluster.text, SHOWN)
    for member in cluster.members:
        _terminal.show(f"- {cell(member.where)} · {member.reason} · {cell(member.similarity)}", hanging=2)
        _terminal.show_data(member.text, SHOWN)
    if cluster.size > len(cluster.members):
        _terminal.show(f"  {cluster.size - len(cluster.members):,} more")
