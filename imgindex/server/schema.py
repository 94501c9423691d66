"""The shapes of requests and answers, and the OpenAPI document made of them and of the dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from imgindex._version import VERSION
from imgindex.results import (
    AddReport,
    Cluster,
    ClusteringDiff,
    ClusteringSummary,
    Duplicate,
    KScore,
    Match,
    Outlier,
    TagChange,
)
from imgindex.server.guard import MOST_BYTES, MOST_IMAGE_BYTES
from imgindex.server.problems import MEDIA_TYPE, STATUSES, TITLES, Problem
from imgindex.types import Failure, Image, PrecisionReport, Progress

# The most images that one request names or gets, the most thumbnails, and the most ids alone.
MOST_ROWS, MOST_THUMBNAILS, MOST_TAGGED = 1000, 240, 100_000
JSON, BINARY, PACK = "application/json", "application/octet-stream", "application/vnd.imgindex.thumbnails"

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Id = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
Rows = Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)]
Text = Annotated[str, msgspec.Meta(max_length=10_000)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
MapMethod = Literal["pca", "pacmap", "umap", "tsne"]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request may have: another name is refused."""


# Queries.


class NoQuery(Request, frozen=True):
    """Nothing."""


class Part(Request, frozen=True):
    """A part of a list: after how many entries it begins, and how many it has at most."""

    after: Number = 0
    limit: Rows = 100


class ViewPart(Request, frozen=True):
    """A part of a view."""

    offset: Number = 0
    limit: Rows = 100


class IdsPart(Request, frozen=True):
    """A part of the ids of a view."""

    offset: Number = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_TAGGED)] = MOST_TAGGED


class Export(Request, frozen=True):
    """The format of a file."""

    format: Literal["paths", "csv", "tsv", "json", "jsonl", "parquet"] = "paths"


class Images(Request, frozen=True):
    """Ids of images."""

    ids: Annotated[list[Id], msgspec.Meta(max_length=MOST_ROWS)]


class Thumbnails(Request, frozen=True):
    """Ids of the images of a pack."""

    ids: Annotated[list[Id], msgspec.Meta(max_length=MOST_THUMBNAILS)]


class Side(Request, frozen=True):
    """The longer side of a picture in pixels, at most."""

    side: Annotated[int, msgspec.Meta(ge=16, le=2048)] = 1024


class Similar(Request, frozen=True):
    """Which matches are wanted."""

    n: Rows = 10
    where: Text | None = None
    rerank: bool = False


class DuplicateQuery(Request, frozen=True):
    """Which duplicates are wanted. at: a list that was answered before."""

    exact: bool = False
    similar: bool = False
    keep: Literal["original", "largest", "sharpest", "oldest"] = "original"
    at: Annotated[str, msgspec.Meta(max_length=100)] | None = None


class Duplicates(DuplicateQuery, frozen=True):
    """Which duplicates are wanted, and which part of the groups."""

    after: Number = 0
    limit: Rows = 100


class Outliers(Request, frozen=True):
    """How many outliers are wanted."""

    n: Rows = 20


class Samples(Request, frozen=True):
    """How many images of each cluster are wanted."""

    n: Annotated[int, msgspec.Meta(ge=1, le=24)] = 6


class MapQuery(Request, frozen=True):
    """Which map is wanted, and which groups its marks have; clustering: null for the newest."""

    method: MapMethod = "pca"
    by: Literal["cluster", "folder", "tag"] = "cluster"
    clustering: Number | None = None


# Bodies.


class ViewBody(Request, frozen=True):
    """Which images a view has, and in which order; ids: only these."""

    ids: Annotated[list[Id], msgspec.Meta(max_length=MOST_TAGGED)] | None = None
    where: Text | None = None
    tag: Tag | None = None
    clustering: Number | None = None
    label: Number | None = None
    sort: Literal[
        "id", "path", "size", "modified", "added_at", "width", "height", "pixels",
        "-id", "-path", "-size", "-modified", "-added_at", "-width", "-height", "-pixels",
        "distance", "-distance", "margin",
    ] = "id"  # fmt: skip


class TagsBody(Request, frozen=True):
    """Tags to put on images and to take off."""

    ids: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MOST_TAGGED)]
    add: Annotated[list[Tag], msgspec.Meta(max_length=20)] = []
    remove: Annotated[list[Tag], msgspec.Meta(max_length=20)] = []


class NameBody(Request, frozen=True):
    """The name of a cluster; null removes it."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None


class MergeBody(Request, frozen=True, tag="merge", tag_field="kind"):
    """Make one cluster of those with these labels."""

    labels: Annotated[list[Number], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]


class SplitBody(Request, frozen=True, tag="split", tag_field="kind"):
    """Make several clusters of one; k: null for 2, or for as many as there are anchors, ids of images by name."""

    label: Number
    k: Annotated[int, msgspec.Meta(ge=2, le=MOST_ROWS)] | None = None
    anchors: dict[str, Annotated[list[Id], msgspec.Meta(max_length=MOST_ROWS)]] = {}
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 42


class MoveBody(Request, frozen=True, tag="move", tag_field="kind"):
    """Move images to the cluster with a label."""

    ids: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MOST_TAGGED)]
    label: Number


class UndoBody(Request, frozen=True, tag="undo", tag_field="kind"):
    """Delete this clustering, which an edit made, and go back to the one before."""


class AddBody(Request, frozen=True, tag="add", tag_field="kind"):
    """Add what is new in folders that were added before; none for all of them."""

    paths: Annotated[list[Text], msgspec.Meta(max_length=1000)] = []
    retry_failed: bool = False


class ClusterBody(Request, frozen=True, tag="cluster", tag_field="kind"):
    """Cluster the images; k: null to choose it by the silhouette."""

    k: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 42
    where: Text | None = None
    smooth: bool = False
    balanced: bool = False


class MapBody(Request, frozen=True, tag="map", tag_field="kind"):
    """Make a map of all images, or place new ones on the map that there is; anew: lay it out again."""

    method: MapMethod = "pca"
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 42
    anew: bool = False


# Answers that are not dataclasses of results.


class ServerInfo(msgspec.Struct):
    """This run of the server."""

    version: str
    index: str
    read_only: bool


class Status(msgspec.Struct):
    """What the index holds, as `imgindex status --json`."""

    index: str
    images: int
    missing: int
    failures: int
    recipe: dict[str, Any]
    store: str
    segments: int
    bytes: dict[str, int]
    search: dict[str, Any] | None
    smoothed: dict[str, Any] | None
    precision: list[PrecisionReport]
    target_recall: float
    roots: list[str]
    runs: list[dict[str, Any]]


class TagCount(msgspec.Struct):
    """How many images have a tag."""

    tag: str
    images: int


class Answer(msgspec.Struct):
    """The matches of one query, nearest first."""

    query: str
    matches: list[Match]


DuplicateImage = msgspec.defstruct(
    "DuplicateImage",
    [*((field.name, get_type_hints(Duplicate)[field.name]) for field in fields(Duplicate)), ("disposable", bool)],
)


class DuplicateGroup(msgspec.Struct):
    """Images that duplicate each other: the path of the one to keep and the reason, and all of them."""

    group: int
    keep: str
    why: str
    images: list[DuplicateImage]  # type: ignore[valid-type]


class DuplicateGroups(msgspec.Struct):
    """Groups of duplicates among `images` images; an HTTP answer has a part of the groups."""

    images: int
    grades: list[str]
    groups: list[DuplicateGroup]
    failures: list[Failure]


class DuplicateOutline(msgspec.Struct):
    """How many groups of duplicates there are among `images` images, and the numbers of some groups, from 1.

    at: the id of the list, for `GET /duplicates?at=`. decided: each image has the tag keep or spare. exact: all images
    have the same bytes, and all but one can be deleted.
    """

    at: str
    images: int
    groups: int
    decided: list[int]
    exact: list[int]


class ClusteringDocument(msgspec.Struct):
    """How a clustering was made and its clusters; curve, knee and copies where k was chosen."""

    id: int | None
    k: int
    seed: int
    objective: float
    iterations: int
    converged: bool
    restarts: int
    restart_objectives: list[float]
    trained_on: int
    sizes: list[int]
    seconds: float
    made_at: str
    recipe: str
    recipe_digest: str
    versions: dict[str, str]
    options: dict[str, Any]
    not_kept: str
    since: int | None
    clusters: list[Cluster]
    gone: list[Cluster] | msgspec.UnsetType = msgspec.UNSET
    curve: list[KScore] | msgspec.UnsetType = msgspec.UNSET
    knee: int | msgspec.UnsetType | None = msgspec.UNSET
    copies: float | msgspec.UnsetType = msgspec.UNSET


class ViewAnswer(msgspec.Struct):
    """A view that was made: its id, and how many images it has."""

    view: str
    total: int


class ViewRows(msgspec.Struct):
    """A part of a view: the ids of all its places, and the images that the index still has."""

    offset: int
    total: int
    ids: list[int]
    images: list[Image]


class MapState(msgspec.Struct):
    """A method of maps, and whether its map is made.

    made_at: when it was laid out. placed: images that came, or changed, since then; they stand among their nearest.
    removed: images of the layout that are gone or changed.
    """

    method: MapMethod
    is_made: bool
    made_at: str | None
    placed: int
    removed: int


class JobDocument(msgspec.Struct):
    """A job; result: an AddReport, a ClusteringDocument, or the method of a map."""

    id: int
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: Progress | None
    result: dict[str, Any] | None
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method at one path below /api/v1.

    handler: the name of the method of `Api` that answers it. answer: the type of its JSON, or a media type. body: the
    type of a body in JSON, or a media type. writes: it changes the index, needs If-Match, and is refused with
    --read-only.
    """

    method: str
    path: str
    handler: str
    summary: str
    answer: Any
    query: type[Request] = NoQuery
    body: Any = None
    status: int = 200
    writes: bool = False
    is_paged: bool = False


ENDPOINTS: Sequence[Endpoint] = (
    Endpoint("GET", "/server", "server", "This run of the server", ServerInfo),
    Endpoint("GET", "/openapi.json", "openapi", "This document", dict[str, Any]),
    Endpoint("GET", "/status", "status", "What the index holds", Status),
    Endpoint("GET", "/failures", "failures", "Images that could not be read", list[Failure], Part, is_paged=True),
    Endpoint("GET", "/tags", "tags", "How many images have each tag", list[TagCount]),
    Endpoint("POST", "/views", "make_view", "Make a list of images that stays", ViewAnswer, body=ViewBody, status=201),
    Endpoint("GET", "/views/{view}", "view", "How many images a view has", ViewAnswer),
    Endpoint("GET", "/views/{view}/rows", "rows", "Some images of a view", ViewRows, ViewPart),
    Endpoint("GET", "/views/{view}/ids", "ids", "The ids of some images of a view", list[int], IdsPart),
    Endpoint("GET", "/views/{view}/export", "export", "The images of a view as a file", BINARY, Export),
    Endpoint("GET", "/images", "images", "The images with these ids", list[Image], Images),
    Endpoint("PUT", "/images/tags", "change_tags", "Change tags", TagChange, body=TagsBody, writes=True),
    Endpoint("GET", "/images/{id:int}", "image", "One image", Image),
    Endpoint("GET", "/images/{id:int}/similar", "similar_to_image", "The images nearest to one", Answer, Similar),
    Endpoint("GET", "/images/{id:int}/picture", "picture", "A large picture of an image", "image/webp", Side),
    Endpoint("POST", "/similar", "similar", "The images nearest to one that is sent", Answer, Similar, body=BINARY),
    Endpoint("GET", "/thumbnails", "thumbnails", "Thumbnails of several images", PACK, Thumbnails),
    Endpoint("GET", "/clusterings", "clusterings", "The clusterings that are kept", list[ClusteringSummary]),
    Endpoint("GET", "/clusterings/{clustering:int}", "clustering", "One clustering", ClusteringDocument),
    Endpoint(
        "GET",
        "/clusterings/{clustering:int}/samples",
        "samples",
        "The ids nearest to each centroid, by label",
        list[list[int]],
        Samples,
    ),
    Endpoint(
        "GET", "/clusterings/{clustering:int}/diff/{other:int}", "diff", "Two clusterings compared", ClusteringDiff
    ),
    Endpoint(
        "PUT",
        "/clusterings/{clustering:int}/clusters/{label:int}/name",
        "name_cluster",
        "Name a cluster",
        Cluster,
        body=NameBody,
        writes=True,
    ),
    Endpoint(
        "POST",
        "/clusterings/{clustering:int}/edits",
        "edit_clustering",
        "Edit a clustering: the answer is the new one, or the one before",
        ClusteringDocument,
        body=MergeBody | SplitBody | MoveBody | UndoBody,
        writes=True,
    ),
    Endpoint("GET", "/duplicates", "duplicates", "Groups of duplicates", DuplicateGroups, Duplicates, is_paged=True),
    Endpoint(
        "GET",
        "/duplicates/outline",
        "duplicate_outline",
        "Which groups of duplicates are decided",
        DuplicateOutline,
        DuplicateQuery,
    ),
    Endpoint("GET", "/outliers", "outliers", "The images least like any other", list[Outlier], Outliers),
    Endpoint("GET", "/map", "map", "Where images are on a map, and their groups", BINARY, MapQuery),
    Endpoint("GET", "/maps", "maps", "The methods of maps, and which maps are made", list[MapState]),
    Endpoint("GET", "/jobs", "jobs", "All jobs", list[JobDocument]),
    Endpoint(
        "POST",
        "/jobs",
        "begin_job",
        "Begin a job",
        JobDocument,
        body=AddBody | ClusterBody | MapBody,
        status=202,
        writes=True,
    ),
    Endpoint("GET", "/jobs/{job:int}", "job", "One job", JobDocument),
    Endpoint("DELETE", "/jobs/{job:int}", "cancel_job", "Cancel a job", JobDocument, status=202),
    Endpoint("GET", "/events", "events", "Jobs and commits as they happen", "text/event-stream"),
)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all endpoints."""
    types = [one for endpoint in ENDPOINTS for one in (endpoint.answer, endpoint.body) if _is_type(one)]
    queries = {endpoint.query for endpoint in ENDPOINTS}
    schemas, components = msgspec.json.schema_components(
        [*types, AddReport, Problem, *queries], ref_template="#/components/schemas/{name}"
    )
    schema_of = {id(one): schema for one, schema in zip(types, schemas, strict=False)}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        path = "/api/v1" + endpoint.path.replace(":int}", "}")
        operation = _operation(endpoint, schema_of, components)
        paths.setdefault(path, {})[endpoint.method.lower()] = operation
    for query in queries:
        components.pop(query.__name__)
    return {
        "openapi": "3.1.0",
        "info": {"title": "imgindex", "version": VERSION, "description": "The HTTP API of `imgindex serve`."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _is_type(one: Any) -> bool:
    return one is not None and not isinstance(one, str)


def _operation(endpoint: Endpoint, schema_of: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters = [_path_parameter(part) for part in endpoint.path.split("/") if part.startswith("{")]
    query = components[endpoint.query.__name__]
    for name, schema in query.get("properties", {}).items():
        parameter: dict[str, Any] = {"name": name, "in": "query", "schema": schema}
        parameter["required"] = name in query.get("required", ())
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        parameters.append(parameter)
    if endpoint.writes:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "schema": {"type": "string", "pattern": r'^(\*|"[!#-~]*")$'},
                "description": "The ETag of the answer that this change is based on, or *.",
            }
        )
    answer = endpoint.answer
    content = {answer: {"schema": {}}} if isinstance(answer, str) else {JSON: {"schema": schema_of[id(answer)]}}
    responses: dict[str, Any] = {str(endpoint.status): {"description": "Done", "content": content}}
    if endpoint.is_paged:
        link = {"description": 'The next part, with rel="next".', "schema": {"type": "string"}}
        responses[str(endpoint.status)]["headers"] = {"Link": link}
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted(_refusals(endpoint)):
        responses[str(status)] = {"description": TITLES[status], "content": problem}
    operation: dict[str, Any] = {
        "operationId": endpoint.handler,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": responses,
    }
    if endpoint.body is not None:
        operation["requestBody"] = _request_body(endpoint.body, schema_of)
    return operation


def _request_body(body: Any, schema_of: dict[int, Any]) -> dict[str, Any]:
    if isinstance(body, str):
        description = f"The bytes of an image file, at most {MOST_IMAGE_BYTES >> 20} MiB."
        return {"required": True, "description": description, "content": {body: {"schema": {}}}}
    description = f"At most {MOST_BYTES >> 20} MiB."
    return {"required": True, "description": description, "content": {JSON: {"schema": schema_of[id(body)]}}}


def _path_parameter(part: str) -> dict[str, Any]:
    name, _, kind = part.strip("{}").partition(":")
    schema: dict[str, Any] = {"type": "integer", "minimum": 0} if kind else {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _refusals(endpoint: Endpoint) -> set[int]:
    """The statuses of errors that an endpoint may have."""
    found = {400, 401, 403, 408, 413, 421, 503, *STATUSES.values()}
    if endpoint.body is not None:
        found |= {415}
    if endpoint.writes:
        found |= {412, 428, 507}
    return found
