"""The steps of documents-to-dataset.sh: read, cut, make rows, divide, describe, push."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import rows as lines

from documents import asking, building, hub, profiling, selection, sources, work
from documents.asking import Asked, Endpoint, EndpointError
from documents.building import Negatives, Row
from documents.chunks import Sizes, counter
from documents.options import Options, parse
from documents.selection import Store
from documents.work import Result

#: Rows that the profile looks at, about.
_SAMPLE = 2000
_SIDES = ("train", "dev")


def main() -> None:
    """All steps; nothing at all is the only failure."""
    given = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception: the processes of files end too
    if problems := [
        f"{name} is there already" for name in ("train.jsonl", "dev.jsonl") if (given.output / name).exists()
    ]:
        raise lines.stop(
            f"{given.output}: {', '.join(problems)}: nothing is overwritten, name another folder"
        )
    sizes = Sizes(size=given.chunk_size, overlap=given.overlap, model=given.model)
    counter(sizes)  # a model without tokenizer.json is refused before any work
    try:
        if given.push:
            hub.check(given.push)
        with tempfile.TemporaryDirectory(dir=os.environ.get("LAUNCH_SCRATCH")) as scratch:
            _make(given, sizes, Path(scratch))
        if given.push:
            _push(given)
    except (hub.PushError, EndpointError) as error:
        sys.exit(str(error))


def _push(given: Options) -> None:
    names = ["train.jsonl", "dev.jsonl", "profile.json"]
    try:
        print(f"pushed to {hub.push(given.output, names, given.push, private=given.private)}")
    except hub.PushError as error:
        raise hub.PushError(f"{error}\nThe rows are made, only the push is missing: {given.output}") from None


def _make(given: Options, sizes: Sizes, scratch: Path) -> None:
    try:
        found = sources.find(path for path in given.data if path.name != asking.ANSWERS)
    except FileNotFoundError as error:
        raise lines.stop(str(error)) from None
    task = work.Task(
        folder=scratch,
        sizes=sizes,
        extractor=given.extractor,
        ocr=given.ocr,
        seconds=given.seconds,
        memory=round(given.memory * (1 << 30)),
    )
    count = 0

    def told(result: Result) -> None:
        nonlocal count
        count += 1
        said = result.problem or f"{result.chunks} chunks, {result.characters} characters"
        pages = f", {result.pages} pages" if result.pages else ""
        pages += f", {result.scanned} of them by OCR" if result.scanned else ""
        print(f"[{count}/{len(found)}] {result.name}: {said}{pages} ({result.seconds:g} s)", flush=True)
        for warning in result.warnings:
            print(f"    {warning}", flush=True)

    results = work.run(found, task, given.processes, told)
    store = Store.gather(scratch, results)
    _keep_texts(given.output, scratch, results)
    if not store.places:
        _report(given, sizes, results, store, {})
        sys.exit(f"nothing came out of {len(found)} files:\n{_problems(results)}")
    made = _rows(given, sizes, results, store)
    _report(given, sizes, results, store, made)
    _summary(results, store, made)
    if not made["train"]["rows"]:
        sys.exit("no row for training came out: report.json says what each file gave")


def _keep_texts(output: Path, scratch: Path, results: Sequence[Result]) -> None:
    """The text of every file, for people to look at: text/NAME.md."""
    folder = output / "text"
    for number, result in enumerate(results):
        if (text := scratch / f"{number}.md").is_file() and not result.problem:
            with (
                lines.written(folder / f"{sources.file_name(result.name)}.md", "wb") as out,
                text.open("rb") as content,
            ):
                shutil.copyfileobj(content, out)


def _rows(given: Options, sizes: Sizes, results: Sequence[Result], store: Store) -> dict[str, Any]:
    """Write the rows of both sides and the chunks they are made of.

    Returns:
        For each side its documents, rows and profile; and what gave no row.
    """
    held = selection.held_out(results, share=given.dev, seed=given.seed)
    sides = {
        "train": store.where(lambda document: document not in held),
        "dev": store.where(lambda document: document in held),
    }
    # Train sees nothing of dev; what dev is compared with may come from anywhere.
    wrong = {"train": sides["train"], "dev": sides["train"] + sides["dev"]}
    skipped: list[str] = []
    earlier = [path for path in given.data if path.name == asking.ANSWERS]
    asked = Asked.load(given.output / asking.ANSWERS, earlier) if given.rows == "questions" else None
    with lines.written(given.output / "chunks.jsonl") as out:
        for chunk in store.chunks():
            row = {"document": chunk.name, "headings": list(chunk.headings), "text": chunk.text}
            out.write(lines.as_line(row))
    made: dict[str, Any] = {}
    with ExitStack() as stack:
        streams: dict[str, IO[Any]] = {}
        for side in _SIDES:
            count = 0
            for row in _side(given, store, sides[side], wrong[side], skipped, asked):
                if side not in streams:
                    streams[side] = stack.enter_context(lines.written(given.output / f"{side}.jsonl"))
                streams[side].write(lines.as_line(row))
                count += 1
            made[side] = {"documents": len({store.places[each][0] for each in sides[side]}), "rows": count}
    for side in streams:
        every = max(1, made[side]["rows"] // _SAMPLE)
        content = (row for _, row in lines.read(given.output / f"{side}.jsonl"))
        made[side]["profile"] = profiling.profile(content, count=counter(sizes), unit=sizes.unit, every=every)
    made["without_a_row"] = len(skipped)
    if asked is not None:
        asking.say(asked)
        made["requests"], made["malformed"] = asked.requests, asked.malformed
    return made


def _side(
    given: Options,
    store: Store,
    numbers: Sequence[int],
    wrong: Sequence[int],
    skipped: list[str],
    asked: Asked | None,
) -> Iterator[Row]:
    """Rows of a side; ``wrong`` are the chunks that its wrong answers are drawn from."""
    negatives = Negatives(store, wrong, count=given.negatives, seed=given.seed)
    if given.rows == "text":
        yield from building.texts(store, numbers)
    elif given.rows == "headings":
        yield from building.pairs(store, numbers, None, negatives, skipped)
    elif asked is not None:
        endpoint = Endpoint(
            url=given.endpoint,
            model=given.endpoint_model,
            language=given.language,
            count=given.questions,
            together=given.requests,
        )
        for number, answers in asking.ask(store, numbers, endpoint, asked):
            if given.question_rows == "chat":
                yield from building.chats(answers)
            else:
                questions = {number: [question for question, _ in answers]}
                yield from building.pairs(store, [number], questions, negatives, skipped)


def _report(
    given: Options, sizes: Sizes, results: Sequence[Result], store: Store, made: dict[str, Any]
) -> None:
    """report.json of every file, profile.json of the rows."""
    content = {
        "schema": 1,
        "rows": given.rows,
        "chunk_size": sizes.size,
        "overlap": sizes.overlap,
        "unit": sizes.unit,
        "seed": given.seed,
        "files": [asdict(each) for each in results],
        "chunks": len(store.places),
        "repeated_chunks": store.repeated,
        **{key: value for key, value in made.items() if key not in _SIDES},
        **{side: {k: v for k, v in made[side].items() if k != "profile"} for side in _SIDES if side in made},
    }
    lines.write_json(given.output / "report.json", content)
    profiles = {side: made[side]["profile"] for side in _SIDES if "profile" in made.get(side, {})}
    if profiles:
        lines.write_json(given.output / "profile.json", {"schema": 1, **profiles})


def _problems(results: Sequence[Result]) -> str:
    failed = [f"  {each.name}: {each.problem}" for each in results if each.problem]
    return "\n".join(
        failed[: lines.SHOWN]
        + ([f"  … and {len(failed) - lines.SHOWN} more"] if len(failed) > lines.SHOWN else [])
    )


def _summary(results: Sequence[Result], store: Store, made: dict[str, Any]) -> None:
    good = [each for each in results if not each.problem]
    print(f"\n{len(good)} of {len(results)} files, {sum(each.pages for each in good)} pages", end="")
    print(f" ({sum(each.scanned for each in good)} by OCR), {len(store.places)} chunks", end="")
    print(f"; {store.repeated} repeated ones left out")
    for side in _SIDES:
        print(f"{side}: {made[side]['rows']} rows of {made[side]['documents']} documents")
        for field, found in made[side].get("profile", {}).get("lengths", {}).items():
            unit = made[side]["profile"]["unit"]
            print(
                f"  {field}: median {found['median']}, 95 % {found['high']}, longest {found['most']} {unit}"
            )
        if scripts := made[side].get("profile", {}).get("scripts"):
            print(
                "  scripts: " + ", ".join(f"{name} {share:.0%}" for name, share in list(scripts.items())[:4])
            )
    if not made["dev"]["rows"]:
        print("no dev: documents are divided whole, and that needs two of them")
    if made["without_a_row"]:
        print(
            f"{made['without_a_row']} chunks gave no row: no heading above them, "
            "or no other text that could be a wrong answer"
        )
    if failed := _problems(results):
        print(f"without a result:\n{failed}")


if __name__ == "__main__":
    main()
