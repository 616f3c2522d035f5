"""One or more datasets to webdataset shards, which training reads in sequence: L-pps & synt."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from edgefusion.models.data.journal import Record
from edgefusion.models.data.reading import MISSING_IMAGE
from edgefusion.models.data.sample import Dataset, Sample
from edgefusion.models.data.stage import Result, Stage, split


def pack(stage: Stage, datasets: Sequence[Dataset], *, shard_samples: int = 1000) -> Result:
    """The stage's body: ``shard-000000.tar`` and so on. Keys are numbers; images are unchanged."""

    def work(first: int, samples: Sequence[Sample]) -> list[Record]:
        from webdataset import TarWriter

        sink, records = io.BytesIO(), []
        shard = f"shard-{first // shard_samples:06d}.tar"
        with TarWriter(sink, encoder=False, mtime=0) as writer:
            for index, sample in enumerate(samples, first):
                try:
                    content = sample.read()
                except FileNotFoundError:
                    content = b""
                if not content:
                    records.append({"key": sample.key, "reason": MISSING_IMAGE})
                    continue
                member = {sample.suffix[1:]: content, "txt": sample.caption.encode()}
                writer.write({"__key__": f"{index:08d}", **member})
                records.append({"shard": shard, "key": f"{index:08d}", "source_key": sample.key})
        stage.write(shard, sink.getvalue())
        return records

    def chain() -> Iterator[Sample]:
        for dataset in datasets:
            yield from dataset

    rows, dropped = split(stage.mapped("pack", chain(), work, chunk=shard_samples))
    return Result(rows, dropped, listing="samples.jsonl")
