"""Recognise pictures on a cluster with Ray Data, from paths or encoded images to Parquet rows."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emodet.errors import EmodetError
from emodet.inference.batch import Batch
from emodet.inference.opening import open_images
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import flat_row, parquet_schema
from emodet.inference.sources import Source, printable, row_source
from emodet.installation import needed


class _Worker:
    """Ray actor with a recognizer, which maps tables of pictures to tables of rows."""

    def __init__(self, column: str, name_column: str | None, options: dict[str, Any]) -> None:
        self._column, self._name_column = column, name_column
        self._batch = Batch(Recognizer(**options), None, quiet=True)

    def __call__(self, table: Any) -> Any:
        import pyarrow

        values = table.column(self._column).to_pylist()
        names = table.column(self._name_column).to_pylist() if self._name_column else [None] * len(values)
        pictures = self._batch.pictures(open_images(map(_source, values, names)))
        rows: list[dict[str, Any]] = []
        for done in pictures:
            if done.counts.error is not None:
                rows.append({"source": done.counts.name, "error": done.counts.error})
            elif isinstance(done.rows, list):
                rows.extend(map(flat_row, done.rows))
        schema = parquet_schema(self._batch.recognizer.model.info.class_names)
        return pyarrow.Table.from_pylist(rows, schema=schema.append(pyarrow.field("error", pyarrow.string())))


def recognise_bulk(
    source: str | os.PathLike[str] | Sequence[str],
    output: str | os.PathLike[str],
    *,
    column: str = "path",
    name_column: str | None = None,
    workers: int = 2,
    gpus_per_worker: float = 0,
    batch_size: int = 32,
    **recognizer: Any,
) -> None:
    """Recognise pictures with Ray Data and write Parquet files. Uses the cluster of an earlier ``ray.init``, if any.

    If a worker dies, another one repeats its batches.

    Args:
        source: A Parquet file, a folder or address of Parquet files, or a sequence of paths that every node can read.
        output: Folder or address for the flat rows of `emodet.inference.rows`, with one more column ``error``. A
            picture that cannot be read is a row with ``source`` and ``error`` only; one without a face has no row.
        column: Column of paths (text) or encoded images (binary).
        name_column: Column with the names of the pictures; required for encoded images.
        workers: Number of actors; each uses one core.
        gpus_per_worker: GPUs per actor, for ``providers=("cuda",)``; with a fraction, actors share a GPU.
        batch_size: Number of pictures per call.
        recognizer: Arguments of `emodet.Recognizer`; `threads` is 1 by default.

    Raises:
        EmodetError: Ray is not installed, or an argument is invalid.
    """
    data = needed("ray.data", "recognise_bulk", "cluster")
    if workers < 1 or batch_size < 1:
        raise EmodetError(f"workers={workers}, batch_size={batch_size}: expected 1 or more")
    options = {"threads": 1} | recognizer
    Recognizer(**options)  # raises for invalid options before Ray starts
    if isinstance(source, str | os.PathLike):
        columns = [column] if name_column is None else [column, name_column]
        pictures = data.read_parquet(os.fspath(source), columns=columns)
    else:
        pictures = data.from_items([{column: path} for path in source])
    rows = pictures.map_batches(
        _Worker,
        fn_constructor_args=(column, name_column, options),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=gpus_per_worker,
    )
    rows.write_parquet(os.fspath(output))


def _source(value: Any, name: Any) -> Source:
    if name is None and not isinstance(value, str):
        return Source("image", "image", b"", Path(), "an encoded image without a name: set name_column")
    named = "image" if name is None else printable(str(name))
    source = row_source(value, named, Path())
    return source if name is None else dataclasses.replace(source, name=named)
