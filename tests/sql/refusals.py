"""Writes wrong.yaml from wrong.sql: what is said of each wrong query, to be read before it is kept.

    python -m tests.sql.refusals
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

import yaml

from tests.sql import tables
from tests.sql.engine import Engine

HERE = pathlib.Path(__file__).parent


class Text(str):
    """Text that is written as it is shown."""


yaml.add_representer(Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))


def main() -> int:
    engine, found, bad = Engine(), [], 0
    try:
        with tempfile.TemporaryDirectory() as directory:
            uris = tables.write(pathlib.Path(directory))
            for query in filter(None, (HERE / "wrong.sql").read_text().splitlines()):
                try:
                    engine.run(query, uris)
                    bad += 1
                    print(f"not refused: {query}")
                except RuntimeError as error:
                    found.append({"sql": query, "says": Text(str(error).removeprefix("sql: "))})
    finally:
        engine.close()
    (HERE / "wrong.yaml").write_text(
        "# Wrong queries over the tables of tables.py, and what is said of them. Written by refusals.py from wrong.sql.\n"
        + yaml.dump(found, sort_keys=False, allow_unicode=True, width=200)
    )
    return bad


if __name__ == "__main__":
    sys.exit(main())
