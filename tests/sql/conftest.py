"""One warm engine for all SQL tests, and their tables."""

from __future__ import annotations

import pytest

from tests.sql import tables
from tests.sql.engine import Engine


@pytest.fixture(scope="session")
def engine():
    running = Engine()
    yield running
    running.close()


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> dict[str, str]:
    return tables.write(tmp_path_factory.mktemp("sql-tables"))
