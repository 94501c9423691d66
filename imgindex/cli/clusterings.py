"""imgindex clusterings: the clusterings that the index keeps; and its subcommands, which work on one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from imgindex.cli import folder_options, gallery_options, label_options, options
from imgindex.cli.help import put_options_last
from imgindex.cli.output import choose_format, emit, remark, suggest
from imgindex.export import documents
from imgindex.export.tables import Table

COLUMNS = ["id", "made_at", "k", "seed", "images", "seconds", "edited_from", "names"]
# The length of a time in ISO 8601 without its seconds.
MINUTES = 16

Id = Annotated[int, typer.Argument(metavar="ID", help="A clustering; `imgindex clusterings` lists them.")]


def command(
    context: typer.Context,
    index: options.Index = None,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """List, show, continue, edit or delete clusterings.

    Without a subcommand, the clusterings that the index keeps are listed, the oldest first.

    Examples:
      imgindex clusterings
      imgindex clusterings --json
    """
    if context.invoked_subcommand is not None:
        put_options_last(context)
        return 0
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        found = documents.clusterings(opened.clusterings)
    rows = [{**one, "names": ", ".join(name for name in one["names"] if name)} for one in found]
    columns = COLUMNS
    if chosen == "table":
        rows = [{**row, "made_at": row["made_at"][:MINUTES].replace("T", " ")} for row in rows]
        rows = [{**row, "seconds": f"{row['seconds']:,.1f}"} for row in rows]
        rows = [{**row, "edited_from": row["edited_from"] or ""} for row in rows]
        rare = {name for name in ("names", "edited_from") if not any(row[name] for row in rows)}
        columns = [name for name in COLUMNS if name not in rare]
    emit(Table(found, rows, columns), chosen, out, optional=["seconds", "seed"])
    if not found:
        remark("the index keeps no clustering", quiet=quiet)
        suggest("make one", "cluster -k auto", index=index, quiet=quiet or chosen != "table")
    return 0


def show(
    id: Id,
    out: label_options.LabelsOut = None,
    like: label_options.Like = None,
    id_kind: label_options.IdKind = None,
    extras: label_options.With = None,
    link_to: folder_options.LinkTo = None,
    copy_to: folder_options.CopyTo = None,
    dry_run: folder_options.DryRun = False,
    map: label_options.Maps = None,
    images: label_options.Images = None,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    html: gallery_options.Html = None,
    sheet: gallery_options.Sheet = None,
    preview: gallery_options.Preview = False,
    preview_as: gallery_options.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """Print a clustering again, byte for byte as it was made.

    --json also prints how it was made: seed, versions, iterations, the objective of each start. --out writes its labels
    again.

    Examples:
      imgindex clusterings show 1 --out submission.csv
      imgindex clusterings show 1 --html clusters.html
    """
    from imgindex.index import ImageIndex

    labels = label_options.LabelOptions(
        out=out, format=format, json=json, like=like, id=id_kind, extras=extras, quiet=quiet
    )
    folder_options.check_dry_run(dry_run, link_to, copy_to)
    maps = label_options.map_methods(map, html)
    listed = label_options.page_images(images, html)
    gallery = gallery_options.GalleryOptions(
        html=html, sheet=sheet, preview=preview, preview_as=preview_as, table=labels.format == "table", quiet=quiet
    )
    with ImageIndex.open(options.find_index(index)) as opened:
        found = opened.clusterings[id]
        labels.print_clustering(opened, found)
        code = label_options.show_clusters(
            opened,
            found,
            gallery,
            maps=maps,
            images=listed,
            link_to=link_to,
            copy_to=copy_to,
            dry_run=dry_run,
            quiet=quiet,
        )
    return code


def assign(
    id: Id,
    out: label_options.LabelsOut = None,
    like: label_options.Like = None,
    id_kind: label_options.IdKind = None,
    extras: label_options.With = None,
    link_to: folder_options.LinkTo = None,
    copy_to: folder_options.CopyTo = None,
    dry_run: folder_options.DryRun = False,
    map: label_options.Maps = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatName = None,
    json: options.Json = False,
    html: gallery_options.Html = None,
    sheet: gallery_options.Sheet = None,
    preview: gallery_options.Preview = False,
    preview_as: gallery_options.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """Put new images into the clusters of a clustering.

    The images that the clustering already has stay in their clusters. The table lists the new ones.

    Examples:
      imgindex clusterings assign 1
      imgindex clusterings assign 1 --out assigned.csv
    """
    from imgindex.index import ImageIndex

    labels = label_options.LabelOptions(
        out=out, format=format, json=json, like=like, id=id_kind, extras=extras, quiet=quiet
    )
    folder_options.check_dry_run(dry_run, link_to, copy_to)
    maps = label_options.map_methods(map, html)
    gallery = gallery_options.GalleryOptions(
        html=html, sheet=sheet, preview=preview, preview_as=preview_as, table=labels.format == "table", quiet=quiet
    )
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        assignment = opened.clusterings.assign(id)
        # The sample that the clustering was made with lacks the new images.
        without_sample = replace(assignment.clustering.label_format, like=None, extras=())
        found = replace(assignment.clustering, label_format=without_sample)
        labels.print_assignment(opened, replace(assignment, clustering=found))
        code = label_options.show_clusters(
            opened,
            found,
            gallery,
            maps=maps,
            link_to=link_to,
            copy_to=copy_to,
            dry_run=dry_run,
            quiet=quiet,
        )
    return code


def delete(
    ids: Annotated[list[int], typer.Argument(metavar="ID", help="Clusterings; `imgindex clusterings` lists them.")],
    index: options.Index = None,
    wait: options.Wait = False,
    quiet: options.Quiet = False,
) -> int:
    """Delete clusterings.

    The names of their clusters are kept for later clusterings.

    Examples:
      imgindex clusterings delete 1
      imgindex clusterings delete 1 2
    """
    from imgindex.index import ImageIndex

    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        for id in ids:
            opened.clusterings.delete(id)
            remark(f"clustering {id} is deleted", quiet=quiet)
    return 0
