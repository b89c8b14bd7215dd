"""Credentials that a query carries in its `storage_options`: found and taken out, so that nobody reads them in an object of a
cluster."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

from floe import _msgpack
from floe._plan import HEADER_BYTES
from floe._request import Request
from floe._upload import SECRETS
from floe.exceptions import PlanError

_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)
#: Secrets by their names in a plan, for each kind of store: as Polars' `storage_options` name them.
_SECRET = {
    "Aws": {
        "AccessKeyId": "aws_access_key_id",
        "SecretAccessKey": "aws_secret_access_key",
        "Token": "aws_session_token",
        "Encryption.CustomerEncryptionKey": "aws_sse_customer_key_base64",
    },
    "Azure": {
        "AccessKey": "azure_storage_account_key",
        "ClientSecret": "azure_storage_client_secret",
        "FabricSessionToken": "azure_fabric_session_token",
        "SasKey": "azure_storage_sas_key",
        "Token": "azure_storage_token",
    },
    "Gcp": {"ServiceAccountKey": "google_service_account_key"},
    "Http": {"authorization": "hf_token"},
}
#: Options that are meaningful only together with a secret, or instead of one.
_BESIDE = {
    "Aws": {"SkipSignature": "aws_skip_signature"},
    "Azure": {
        "AuthorityHost": "azure_storage_authority_host",
        "AuthorityId": "azure_storage_tenant_id",
        "ClientId": "azure_storage_client_id",
        "SkipSignature": "azure_skip_signature",
    },
    "Gcp": {"SkipSignature": "google_skip_signature"},
    "Http": {},
}
_TABLE_BESIDE = ("client_id", "tenant_id", "authority_id", "skip_signature")


def from_environment() -> dict[str, str]:
    """Credentials for object stores that this process has in its environment, by the names of Polars' options."""
    names = {name: name.lower() for name in _VARIABLES}
    found = {option: os.environ[name] for name, option in names.items() if os.environ.get(name)}
    if path := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        with open(path) as file:
            found["google_service_account_key"] = file.read()
    if not found:
        raise ValueError(
            f"credentials: the environment has none: {', '.join(_VARIABLES)} or GOOGLE_APPLICATION_CREDENTIALS"
        )
    return found


@dataclasses.dataclass(frozen=True)
class Carried:
    """What one scan or sink says about who asks."""

    #: Such as `the plan reads s3://lake/x.parquet`.
    where: str
    #: The kind of store.
    store: str
    secrets: Mapping[str, str]
    beside: Mapping[str, str]
    #: The user's own credential provider, which is Python code.
    provider: bool = False


def is_secret(option: str) -> bool:
    """Whether an option of `storage_options` holds a secret, by its name.

    >>> is_secret("aws_secret_access_key"), is_secret("sas_token"), is_secret("azure_federated_token_file"), is_secret("region")
    (True, True, False, False)
    """
    name = option.lower()
    return any(part in name for part in SECRETS) and not name.endswith(("_file", "_uri", "application_credentials"))


def apart(request: Request) -> tuple[Request, list[Carried]]:
    """The same query without secrets and without pickled credential providers, and what it carried."""
    plan, carried = _of_plan(request.plan) if request.plan else (request.plan, [])
    sql = request.sql
    if sql is not None and sql.get("tables"):
        tables = {name: _of_table(name, table, carried) for name, table in sql["tables"].items()}
        sql = {**sql, "tables": tables}
    return dataclasses.replace(request, plan=plan, sql=sql), carried


def refuse(carried: Iterable[Carried]) -> None:
    """An error for secrets that somebody wrote into the query. A token of HuggingFace is none of these: Polars finds it."""
    for one in carried:
        if one.secrets and one.store != "Http":
            raise PlanError(
                f"{one.where} with {', '.join(one.secrets)} in its storage_options, and everyone who may read the query's object "
                'could read them: leave them out and name a Secret by storage=, or have them put into one by credentials="plan"'
            )


def together(carried: Iterable[Carried]) -> dict[str, str]:
    """The secrets of all scans and sinks, as one Secret has them: one identity for each kind of store."""
    of_store: dict[str, Carried] = {}
    for one in carried:
        if not one.secrets and not one.beside:
            continue
        first = of_store.setdefault(one.store, one)
        if {**first.secrets, **first.beside} != {**one.secrets, **one.beside}:
            raise PlanError(
                f"{first.where} with other credentials than {one.where.removeprefix('the plan ')}, and a query on a cluster has one "
                "set of them for each kind of store: use the same, or copy one of the sources (floe.upload)"
            )
    found: dict[str, str] = {}
    for one in of_store.values():
        if not one.secrets:
            continue
        for name, value in {**one.secrets, **one.beside}.items():
            if found.setdefault(name, value) != value:
                raise PlanError(
                    f"{one.where} with another {name} than other sources: a query on a cluster has one of them"
                )
    return found


def _of_plan(plan: bytes) -> tuple[bytes, list[Carried]]:
    pieces, last = [], 0
    carried: list[Carried] = []
    where = "the plan reads a store"
    for key, begin, end in _msgpack.find(plan, HEADER_BYTES, ("Paths", "target", "base_path", "cloud_options")):
        if key != "cloud_options":
            if end - begin < 1_000_000 and (path := _first_path(plan, begin)):
                where = f"the plan {'reads' if key == 'Paths' else 'writes'} {path}"
            continue
        options = _msgpack.read(plan, begin)
        if not isinstance(options, dict) or "config" not in options:
            continue
        own = options.get("credential_provider") is not None and b"AutoInit" not in plan[begin:end]
        store, secrets, beside = _split(options)
        carried.append(Carried(where, store, secrets, beside, own))
        # Providers are pickles that may hold secrets, and no cluster calls them.
        options["credential_provider"] = None
        pieces += [plan[last:begin], _msgpack.write(options)]
        last = end
    return b"".join([*pieces, plan[last:]]), carried


def _split(options: dict[str, Any]) -> tuple[str, dict[str, str], dict[str, str]]:
    """Takes secrets out of the options of a store; what is beside them stays where there is no secret."""
    config = options["config"]
    if not isinstance(config, dict) or len(config) != 1:
        return "", {}, {}
    store, content = next(iter(config.items()))
    pairs = content.get("headers") if isinstance(content, dict) else content
    if store not in _SECRET or not isinstance(pairs, list):
        return store, {}, {}
    secrets: dict[str, str] = {}
    beside: dict[str, str] = {}
    kept = []
    for key, value in pairs:
        name = key if isinstance(key, str) else ".".join(map(str, next(iter(key.items()))))
        if store == "Http":
            name = name.lower()
        if option := _SECRET[store].get(name):
            secrets[option] = value.removeprefix("Bearer ") if store == "Http" else value
        elif name == "Client.ProxyUrl" and "@" in value:
            secrets["proxy_url"] = value
        else:
            if option := _BESIDE[store].get(name):
                beside[option] = value
            kept.append([key, value])
    pairs[:] = kept
    return store, secrets, beside


def _of_table(name: str, table: Mapping[str, Any], carried: list[Carried]) -> Mapping[str, Any]:
    """A table of a SQL query without the secrets in its options."""
    options = table.get("options") or {}
    given = options.get("storage_options")
    if not isinstance(given, Mapping):
        return table
    secrets = {key: value for key, value in given.items() if is_secret(key)}
    beside = {key: value for key, value in given.items() if any(part in key.lower() for part in _TABLE_BESIDE)}
    scheme = str(table.get("uri", "")).split("://")[0].lower()
    carried.append(Carried(f"table {name} is read", _STORES.get(scheme, scheme), secrets, beside))
    kept = {key: value for key, value in given.items() if key not in secrets}
    return {**table, "options": {**options, "storage_options": kept}}


_STORES = {"s3": "Aws", "s3a": "Aws", "gs": "Gcp", "gcs": "Gcp", "hf": "Http"} | dict.fromkeys(
    ("az", "azure", "adl", "abfs", "abfss"), "Azure"
)


def _first_path(plan: bytes, at: int) -> str | None:
    """The first of the paths that begin here: a list of them, or one, each by itself or wrapped."""
    try:
        found = _msgpack.read(plan, at)
    except RecursionError:
        return None
    while isinstance(found, (dict, list)) and found:
        found = found[0] if isinstance(found, list) else next(iter(found.values()))
    return found if isinstance(found, str) else None
