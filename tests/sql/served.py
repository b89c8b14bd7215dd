"""Answers the queries of sqllogic/ over its pipe: a warm Floe and the tables of the SQL tests, a line of JSON each way.

The first line says which ways of running there are. Then each `{"way": …, "sql": …}` gets `{"types": …, "rows": …}`, values
and types written as the files have them, or `{"error": …}`. It ends with its input.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile

from tests.sql import slt, tables
from tests.sql.engine import WAYS, Engine


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


def answered(engine: Engine, uris: dict[str, str], way: str, sql: str) -> dict:
    mode, execution = WAYS[way]
    try:
        frame, _ = engine.run(sql, uris, mode=mode, execution=execution)
    except RuntimeError as error:
        return {"error": str(error).removeprefix("sql: ")}
    return {"types": slt.letters(frame.schema), "rows": slt.values(frame.rows())}


def main() -> None:
    engine = Engine()
    try:
        with tempfile.TemporaryDirectory() as directory:
            uris = tables.write(pathlib.Path(directory))
            say({"ways": list(WAYS)})
            for line in sys.stdin:
                question = json.loads(line)
                say(answered(engine, uris, question["way"], question["sql"]))
    finally:
        engine.close()


if __name__ == "__main__":
    main()
