"""The application: what each endpoint of the HTTP API answers, the page, and the guard around both."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from imgindex import results
from imgindex._version import VERSION
from imgindex.errors import PathNotFound, UnreadableImage, UsageError
from imgindex.export import documents
from imgindex.gallery.kept_maps import map_state
from imgindex.gallery.map import Map
from imgindex.index import ImageIndex
from imgindex.server import map_groups, maps, problems, schema, views
from imgindex.server.answers import Answers
from imgindex.server.assets import ASSETS, PAGE
from imgindex.server.duplicate_review import outline
from imgindex.server.events import Events
from imgindex.server.guard import App, Guard
from imgindex.server.jobs import Job, Jobs
from imgindex.server.messages import (
    Call,
    Reply,
    check_match,
    entity_tags,
    next_link,
    part_reply,
    read_body,
    read_query,
    refused,
    to_json,
)
from imgindex.server.pictures import Pictures, Shown
from imgindex.server.problems import RequestRefused
from imgindex.server.snapshot import Snapshot
from imgindex.storage.paths import absolute
from imgindex.types import Image

PREFIX = "/api/v1"


def build_app(
    index: str, *, token: str, allowed_hosts: Sequence[str] = (), read_only: bool = False
) -> tuple[App, Callable[[], None]]:
    """Return the application of an index, and a function that closes the index; token: what requests have to send.

    Raises IndexNotFound, IndexDamaged or FormatTooNew.
    """
    api = Api(index, read_only=read_only)
    routes = [
        Route(PREFIX + endpoint.path, _endpoint(api, endpoint), methods=[endpoint.method])
        for endpoint in schema.ENDPOINTS
    ]
    routes += [Route(path, _asset(name), methods=["GET"]) for path, name in {"/": PAGE, **_asset_paths()}.items()]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        api.events_hub.close()

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
    )
    # Otherwise a request for //elsewhere/ would be redirected to //elsewhere, which is another host.
    app.router.redirect_slashes = False
    return Guard(app, token=token, allowed_hosts=allowed_hosts), api.close


class Api:
    """What the endpoints do; each method answers one of them."""

    def __init__(self, path: str, *, read_only: bool) -> None:
        self.read_only = read_only
        self.snapshot = Snapshot(path)
        self._views = views.Views()
        self._pictures = Pictures(self.snapshot.path)
        self.events_hub = Events(self._commit)
        self._jobs = Jobs(lambda: ImageIndex.open(path), lambda job: self.events_hub.publish("job", job))
        self._answers = Answers(self._jobs)
        # The newest commit whose images were looked at, and the digest of these.
        self._images_of = ("", "")
        self._maps = maps.Maps()

    def close(self) -> None:
        """End the jobs and processes, and close the index."""
        self._jobs.close()
        self._pictures.close()
        self.snapshot.close()

    async def _commit(self) -> str:
        return await self.snapshot.call(self.snapshot.tag)

    # The server and the index.

    async def server(self, call: Call) -> Reply:
        return Reply({"version": VERSION, "index": self.snapshot.path, "read_only": self.read_only})

    async def openapi(self, call: Call) -> Reply:
        return Reply(schema.openapi())

    async def status(self, call: Call) -> Reply:
        return await self._read(lambda index: index.status())

    async def failures(self, call: Call) -> Reply:
        found, tag = await self.snapshot.call_with_tag(lambda index: documents.failures(index.failures()))
        return part_reply(call, found, tag)

    async def tags(self, call: Call) -> Reply:
        return await self._read(lambda index: documents.tags(index.tags()))

    # Views and images.

    async def make_view(self, call: Call) -> Reply:
        body: schema.ViewBody = call.body
        ids = await self.snapshot.call(
            lambda index: views.select(
                index,
                among=body.ids,
                where=body.where,
                tag=body.tag,
                clustering=body.clustering,
                label=body.label,
                sort=body.sort,
            ),
            is_slow=body.where is not None,
        )
        view = self._views.put(ids)
        headers = {"Location": f"{PREFIX}/views/{view.id}"}
        return Reply({"view": view.id, "total": len(view.ids)}, 201, headers)

    async def view(self, call: Call) -> Reply:
        view = self._views.get(call.path["view"])
        return Reply({"view": view.id, "total": len(view.ids)})

    async def rows(self, call: Call) -> Reply:
        view = self._views.get(call.path["view"])
        offset = call.query.offset
        ids = view.ids[offset : offset + call.query.limit].tolist()
        return await self._read(
            lambda index: {
                "offset": offset,
                "total": len(view.ids),
                "ids": ids,
                "images": documents.images(index.images(ids=ids)),
            }
        )

    async def ids(self, call: Call) -> Reply:
        view, offset = self._views.get(call.path["view"]), call.query.offset
        return Reply(view.ids[offset : offset + call.query.limit].tolist())

    async def export(self, call: Call) -> Response:
        view = self._views.get(call.path["view"])
        format = call.query.format
        data = await self.snapshot.call(lambda index: views.exported(index, view.ids.tolist(), format))
        return Response(data, media_type=schema.BINARY)

    async def images(self, call: Call) -> Reply:
        return await self._read(lambda index: documents.images(index.images(ids=call.query.ids)))

    async def image(self, call: Call) -> Reply:
        return await self._read(lambda index: documents.images([_image(index, call.path["id"])])[0])

    async def change_tags(self, call: Call) -> Reply:
        body: schema.TagsBody = call.body
        return await self._write(
            call, lambda index: asdict(index.change_tags(body.ids, add=body.add, remove=body.remove))
        )

    # Search.

    async def similar_to_image(self, call: Call) -> Reply:
        id, query = call.path["id"], call.query

        def answer(index: ImageIndex) -> dict[str, Any]:
            image = _image(index, id)
            vector = index.vectors([id])[0]
            # By its stored vector, although its file may be gone: it is its own nearest match.
            (found,) = index.answers(vector, n=query.n + 1, where=query.where, rerank=query.rerank)
            others = [match for match in found.matches if match.id != id][: query.n]
            ranked = [results.Match(rank, match.path, match.distance, match.id) for rank, match in enumerate(others, 1)]
            return documents.answer(results.Answer(image.path, ranked))

        return await self._read(answer, is_slow=query.where is not None)

    async def similar(self, call: Call) -> Reply:
        query = call.query

        def answer(index: ImageIndex) -> dict[str, Any]:
            (found,) = index.answers(call.body, n=query.n, where=query.where, rerank=query.rerank)
            if found.failure is not None:
                raise UnreadableImage(f"the image cannot be read: {found.failure.reason}", stage=found.failure.stage)
            return documents.answer(found)

        return await self._read(answer, is_slow=True)

    # Pictures.

    async def thumbnails(self, call: Call) -> Response:
        ids: list[int] = call.query.ids

        def find(index: ImageIndex) -> list[Shown | None]:
            known = {image.id: Shown(image.path, bytes.fromhex(image.sha256)) for image in index.images(ids=ids)}
            return [known.get(id) for id in ids]

        return StreamingResponse(self._pictures.pack(await self.snapshot.call(find)), media_type=schema.PACK)

    async def picture(self, call: Call) -> Response:
        image = await self.snapshot.call(lambda index: _image(index, call.path["id"]))
        return Response(await self._pictures.picture(image.path, call.query.side), media_type="image/webp")

    # Clusterings.

    async def clusterings(self, call: Call) -> Reply:
        return await self._read(lambda index: documents.clusterings(index.clusterings))

    async def clustering(self, call: Call) -> Reply:
        id = call.path["clustering"]
        return await self._read(lambda index: documents.clustering(index.clusterings[id]))

    async def samples(self, call: Call) -> Reply:
        return await self._read(lambda index: views.samples(index, call.path["clustering"], call.query.n))

    async def diff(self, call: Call) -> Reply:
        a, b = call.path["clustering"], call.path["other"]
        _, found = await self._answers.ask(
            "diff", (a, b, await self._commit()), lambda index, on_progress, stop: index.clusterings.diff(a, b)
        )
        return Reply(documents.diff(found))

    async def name_cluster(self, call: Call) -> Reply:
        label, name, clustering = call.path["label"], call.body.name, call.path["clustering"]
        return await self._write(
            call, lambda index: asdict(index.clusterings.rename_cluster(label, name, clustering=clustering))
        )

    async def edit_clustering(self, call: Call) -> Reply:
        id, body = call.path["clustering"], call.body

        def edit(index: ImageIndex) -> dict[str, Any]:
            of = index.clusterings
            match body:
                case schema.MergeBody():
                    found = of.merge(body.labels, clustering=id)
                case schema.SplitBody():
                    anchors = {
                        name: list(index.vectors([_image(index, one).id for one in ids]))
                        for name, ids in body.anchors.items()
                    }
                    found = of.split(body.label, body.k, anchors=anchors, seed=body.seed, clustering=id)
                case schema.MoveBody():
                    found = of.move(body.ids, body.label, clustering=id)
                case _:
                    found = of.undo(clustering=id)
            return documents.clustering(found)

        return await self._write(call, edit)

    # Curation.

    async def duplicates(self, call: Call) -> Reply:
        query: schema.Duplicates = call.query
        at, found = await self._duplicates(query)
        last = query.after + query.limit
        headers = {}
        if last < len(found.groups):
            more: dict[str, Any] = {"exact": query.exact, "similar": query.similar, "keep": query.keep}
            more |= {"after": last, "limit": query.limit, "at": at}
            headers["Link"] = next_link(call, more)
        return Reply(documents.duplicates(found, query.after, last), headers=headers)

    async def duplicate_outline(self, call: Call) -> Reply:
        at, found = await self._duplicates(call.query)
        return await self._read(lambda index: outline(index, at, found))

    async def _duplicates(self, query: schema.DuplicateQuery) -> tuple[str, results.Duplicates]:
        """Return the groups, those of an earlier answer where that is asked for."""
        if query.at is not None:
            return query.at, await self._answers.kept(query.at)
        return await self._answers.ask(
            "duplicates",
            (query.exact, query.similar, query.keep, await self._images()),
            lambda index, on_progress, stop: index.duplicates(
                exact=query.exact, similar=query.similar, keep=query.keep, on_progress=on_progress
            ),
        )

    async def outliers(self, call: Call) -> Reply:
        n = call.query.n
        _, found = await self._answers.ask(
            "outliers",
            (n, await self._images()),
            lambda index, on_progress, stop: index.outliers(n=n, on_progress=on_progress),
        )
        return Reply(documents.outliers(found))

    async def _images(self) -> str:
        """Return a digest of the present images, which stays when tags or clusterings change."""
        commit = await self._commit()
        if self._images_of[0] != commit:
            digest, commit = await self.snapshot.call_with_tag(lambda index: index._store.catalogue.images_digest())
            self._images_of = commit, digest
        return self._images_of[1]

    # Jobs.

    async def jobs(self, call: Call) -> Reply:
        return Reply([job.to_dict() for job in self._jobs.all()])

    async def job(self, call: Call) -> Reply:
        return Reply(self._jobs.get(call.path["job"]).to_dict())

    async def cancel_job(self, call: Call) -> Reply:
        return Reply(self._jobs.cancel(call.path["job"]).to_dict(), 202)

    async def begin_job(self, call: Call) -> Reply:
        await self.snapshot.call(lambda index: check_match(call, self.snapshot.tag(index)))
        begin: dict[type, Callable[[Any], Awaitable[Job]]] = {
            schema.AddBody: self._begin_add,
            schema.ClusterBody: self._begin_cluster,
            schema.MapBody: self._begin_map,
        }
        job: Job = await begin[type(call.body)](call.body)
        return Reply(job.to_dict(), 202, {"Location": f"{PREFIX}/jobs/{job.id}"})

    async def _begin_add(self, body: schema.AddBody) -> Job:
        roots = await self.snapshot.call(lambda index: index.status()["roots"])
        paths = [absolute(path) for path in body.paths] or roots
        for path in paths:
            if not any(_is_below(path, root) for root in roots):
                raise UsageError(
                    f"{path} is not in a folder that was added before",
                    hint="add it with `imgindex add`; a page can only bring known folders up to date",
                )
        if not paths:
            raise UsageError("no folder was added yet", hint="run `imgindex add FOLDER`")
        return self._jobs.submit(
            "add",
            lambda index, on_progress, stop: index.add(
                paths, retry_failed=body.retry_failed, on_progress=on_progress, stop=stop
            ),
            result=asdict,
        )

    async def _begin_cluster(self, body: schema.ClusterBody) -> Job:
        return self._jobs.submit(
            "cluster",
            lambda index, on_progress, stop: index.cluster(
                body.k,
                seed=body.seed,
                where=body.where,
                smooth=body.smooth,
                balanced=body.balanced,
                on_progress=on_progress,
            ),
            result=documents.clustering,
        )

    async def _begin_map(self, body: schema.MapBody) -> Job:
        return self._jobs.submit(
            "map",
            lambda index, on_progress, stop: self._maps.make(
                index, body.method, seed=body.seed, anew=body.anew, on_progress=on_progress
            ),
            result=lambda found: {"method": found.method, "seed": found.seed, "images": len(found.ids)},
        )

    # Maps.

    async def maps(self, call: Call) -> Reply:
        return await self._read(self._maps.states)

    async def map(self, call: Call) -> Response:
        """Return a map; one by pca is made now, others are made by jobs."""
        query: schema.MapQuery = call.query
        method, images = query.method, await self._images()
        found = await self.snapshot.call(lambda index: self._maps.find(index, method, images))
        if found is None:
            is_made = await self.snapshot.call(lambda index: map_state(index._store, method) is not None)
            if method != "pca" and not is_made:
                hint = 'make it with POST /api/v1/jobs, {"kind": "map"}'
                raise RequestRefused(404, "MapNotFound", f"a map by {method} was not made yet", hint=hint)
            _, found = await self._answers.ask(
                "map",
                (method, images),
                lambda index, on_progress, stop: self._maps.make(
                    index, method, seed=42, anew=False, on_progress=on_progress
                ),
            )
        placed: Map = found
        groups, tag = await self.snapshot.call_with_tag(
            lambda index: map_groups.of_images(index, placed, query.by, query.clustering)
        )
        return Response(maps.encoded(placed, groups), media_type=schema.BINARY, headers={"ETag": tag})

    async def events(self, call: Call) -> Response:
        return StreamingResponse(self.events_hub.stream(), media_type="text/event-stream")

    # What endpoints share.

    async def _read(self, read: Callable[[ImageIndex], Any], *, is_slow: bool = False) -> Reply:
        data, tag = await self.snapshot.call_with_tag(read, is_slow=is_slow)
        return Reply(data, headers={"ETag": tag})

    async def _write(self, call: Call, write: Callable[[ImageIndex], Any]) -> Reply:
        def checked(index: ImageIndex) -> Reply:
            check_match(call, self.snapshot.tag(index))
            data = write(index)
            return Reply(data, headers={"ETag": self.snapshot.tag(index)})

        return await self.snapshot.change(checked)


def _endpoint(api: Api, endpoint: schema.Endpoint) -> Callable[[HttpRequest], Awaitable[Response]]:
    handler: Callable[[Call], Awaitable[Reply | Response]] = getattr(api, endpoint.handler)

    async def answer(request: HttpRequest) -> Response:
        try:
            if endpoint.writes and api.read_only:
                hint = "start `imgindex serve` so that it may change the index"
                raise RequestRefused(403, "ReadOnly", "this server changes nothing", hint=hint)
            query, body = read_query(request, endpoint.query), await read_body(request, endpoint)
            call = Call(request.path_params, query, body, request)
            reply = await handler(call)
        except Exception as error:  # noqa: BLE001  every error is answered
            return refused(error)
        if isinstance(reply, Response):
            return reply
        headers = reply.headers or {}
        tag = headers.get("ETag")
        if request.method in ("GET", "HEAD") and tag is not None and tag in entity_tags(request, "if-none-match"):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(to_json(reply.data), reply.status, headers, schema.JSON)

    return answer


def _image(index: ImageIndex, id: int) -> Image:
    found = next(index.images(ids=[id]), None)
    if found is None:
        raise PathNotFound(f"the index has no image with the id {id}", hint="GET /api/v1/views/… has the ids")
    return found


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {404: "NotFound", 405: "MethodNotAllowed"}
    status = error.status_code if error.status_code in names else 400
    detail = f"there is nothing at {request.url.path}" if status == 404 else problems.TITLES[status]
    return refused(RequestRefused(status, names.get(status, "BadRequest"), detail, headers=error.headers))


async def _unexpected(request: HttpRequest, error: Exception) -> Response:
    return refused(error)


def _asset_paths() -> dict[str, str]:
    return {f"/assets/{name}": name for name in ASSETS if name != PAGE}


def _asset(name: str) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def answer(request: HttpRequest) -> Response:
        asset = ASSETS[name]
        headers = {"ETag": asset.tag}
        if asset.tag in entity_tags(request, "if-none-match"):
            return Response(status_code=304, headers=headers)
        return Response(asset.data, headers=headers, media_type=asset.media_type)

    return answer
