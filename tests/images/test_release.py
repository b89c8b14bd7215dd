"""The release: what is built, pushed, signed and attested, in which order, and what is refused before anything is pushed. Programs that
need a registry are replaced by ones that write down how they were called."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest
import yaml

REPO = pathlib.Path(__file__).parents[2]
VERSION = next(
    line.split('"')[1] for line in (REPO / "Cargo.toml").read_text().split("[workspace.package]")[1].splitlines() if line.startswith("version")
)

# Digests are made of what is pushed, so that a test can tell them.
NOTE = 'echo "$(basename "$0") $*" >>"$CALLS"\n'
DIGEST = 'digest() { echo "sha256:$(echo -n "$1" | sha256sum | cut -d" " -f1)"; }\n'
BUILDAH = (
    NOTE
    + DIGEST
    + """
file= last=
while [ $# -gt 0 ]; do [ "$1" != --digestfile ] || file="$2"; last="$1"; shift; done
[ -z "$file" ] || digest "${last#docker://}" >"$file"
"""
)
DOCKER = (
    NOTE
    + DIGEST
    + """
case "$1 $2 ${3:-}" in
"image inspect "*) image="${@: -1}"; echo "${image%:*}@$(digest "$image")" ;;
"buildx imagetools inspect") digest "${@: -1}" ;;
esac
"""
)
BUILD = NOTE + 'echo "$PLATFORM $IMAGE_PREFIX $TAG $FLOE_BINARIES" >>"$CALLS"\n' + (
    'place="$FLOE_CACHE/images"\n[ "$PLATFORM" = linux/amd64 ] || place="$place/${PLATFORM#linux/}"\n'
    'mkdir -p "$place/$1"; echo "{\\"of\\": \\"$1 $PLATFORM\\"}" >"$place/$1/sbom.json"\n'
)  # fmt: skip


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def release(tmp_path):
    repo = tmp_path / "repo"
    (repo / "images").mkdir(parents=True)
    for name in ("release", "provenance"):
        shutil.copy(REPO / "images" / name, repo / "images" / name)
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(REPO / name, repo / name)
    shutil.copytree(REPO / "charts" / "floe", repo / "charts" / "floe")
    place = tmp_path / "bin"
    place.mkdir()

    def program(path: pathlib.Path, body: str) -> None:
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)

    program(repo / "images" / "build", BUILD)
    for arch in ("amd64", "arm64"):
        (tmp_path / arch).mkdir()
        for what in ("operator", "runner"):
            program(tmp_path / arch / f"floe-{what}", f"# {what} of {arch}")
    helm = NOTE + (
        '[ "$1" = push ] && echo "Digest: ' + digest("chart") + '" >&2\n'
        '[ "$1" != package ] || tar -czf "${@: -1}/floe-$4.tgz" -C "$2" .\n'
    )  # fmt: skip

    def run(*without: str, programs: dict[str, str] | None = None, **environment: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        for name, body in {"buildah": BUILDAH, "helm": helm, "cosign": NOTE, **(programs or {})}.items():
            if name not in without:
                program(place / name, body)
        calls = tmp_path / "calls"
        calls.write_text("")
        environment = {
            "PATH": f"{place}:{os.environ['PATH']}", "HOME": str(tmp_path), "CALLS": str(calls), "DIST": str(tmp_path / "dist"),
            "FLOE_CACHE": str(tmp_path / "cache"), "FLOE_ENGINE": "buildah", "REGISTRY": "registry.test/team",
            "PLATFORMS": "linux/amd64,linux/arm64", "BINARIES_amd64": str(tmp_path / "amd64"), "BINARIES_arm64": str(tmp_path / "arm64"),
            "COSIGN_KEY": "release.key", **environment,
        }  # fmt: skip
        environment = {name: value for name, value in environment.items() if value}
        done = subprocess.run([repo / "images" / "release"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        return done, calls.read_text().splitlines()

    return run


PUSHED = {
    "buildah": lambda image: digest(image),
    "docker": lambda image: digest(image),
}


@pytest.mark.parametrize("engine", PUSHED)
def test_both_platforms_and_the_chart_are_pushed_signed_and_attested(release, tmp_path, engine):
    done, calls = release(programs={"docker": DOCKER}, FLOE_ENGINE=engine)
    assert done.returncode == 0, done.stderr
    told = PUSHED[engine]
    expected = []
    for what in ("operator", "runner"):
        image = f"registry.test/team/floe-{what}"
        expected += [f"{image}@{told(f'{image}:{VERSION}-{arch}')}" for arch in ("amd64", "arm64")]
        expected.append(f"{image}@{told(f'{image}:{VERSION}')}")
    expected.append("registry.test/team/charts/floe@" + digest("chart"))
    assert (tmp_path / "dist" / "digests.txt").read_text().splitlines() == expected
    # Every image, and each of the two that name several, is signed; those with contents of their own have an SBOM and provenance.
    assert [call for call in calls if call.startswith("cosign sign")] == [f"cosign sign --yes --key release.key {name}" for name in expected]
    attested = [call.split() for call in calls if call.startswith("cosign attest")]
    kinds = {(call[-1], call[call.index("--type") + 1]) for call in attested}
    leaves = [name for i, name in enumerate(expected[:-1]) if i % 3 != 2]
    assert kinds == {(name, kind) for name in leaves for kind in ("cyclonedx", "slsaprovenance1")} | {(expected[-1], "slsaprovenance1")}
    builds = [calls[i + 1] for i, call in enumerate(calls) if call.startswith("build ")]
    assert builds[1] == f"linux/arm64 registry.test/team/ {VERSION}-arm64 {tmp_path}/arm64"


def test_the_chart_names_the_images_by_digest(release, tmp_path):
    done, _ = release()
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "dist" / f"floe-{VERSION}.tgz") as packed:
        values = yaml.safe_load(packed.extractfile("./values.yaml"))
    for what, image in (("operator", values["image"]), ("runner", values["runner"]["image"])):
        name = f"registry.test/team/floe-{what}"
        assert (image["repository"], image["tag"], image["digest"]) == (name, VERSION, digest(f"{name}:{VERSION}")), what
        assert image["pullPolicy"] == "IfNotPresent"


def test_provenance_tells_sources_binary_and_builder(release, tmp_path):
    workflow = {
        "GITHUB_SERVER_URL": "https://forge.test", "GITHUB_REPOSITORY": "team/floe", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_WORKFLOW_REF": "team/floe/.github/workflows/release.yml@refs/tags/v1", "ACTIONS_ID_TOKEN_REQUEST_URL": "https://token.test",
        "COSIGN_KEY": "",
    }  # fmt: skip
    done, calls = release(**workflow)
    assert done.returncode == 0, done.stderr
    assert not [call for call in calls if "--key" in call], "by the workflow's identity"
    told = json.loads((tmp_path / "dist" / "floe-operator-arm64.provenance.json").read_text())
    assert told["buildDefinition"]["externalParameters"] == {
        "name": "registry.test/team/floe-operator", "platform": "linux/arm64", "version": VERSION,
    }  # fmt: skip
    assert told["runDetails"]["builder"]["id"] == "https://forge.test/team/floe/.github/workflows/release.yml@refs/tags/v1"
    products = {product["name"]: product["digest"]["sha256"] for product in told["runDetails"]["byproducts"]}
    assert products["floe-operator"] == hashlib.sha256((tmp_path / "arm64" / "floe-operator").read_bytes()).hexdigest()
    lock = [one for one in told["buildDefinition"]["resolvedDependencies"] if one.get("name") == "Cargo.lock"]
    assert lock[0]["digest"]["sha256"] == hashlib.sha256((REPO / "Cargo.lock").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"REGISTRY": ""}, "set REGISTRY"),
        ({"REGISTRY": "Registry.test/Team"}, "lower-case"),
        ({"COSIGN_KEY": ""}, "neither COSIGN_KEY nor an OIDC token"),
        ({"BINARIES_arm64": ""}, "set BINARIES_arm64"),
        ({"BINARIES_amd64": "/nowhere"}, "there is no /nowhere/floe-operator"),
    ],
)
def test_nothing_is_pushed_by_half(release, environment, message):
    done, calls = release(**environment)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert not [call for call in calls if "push" in call or call.startswith(("build ", "cosign"))]


def test_a_registry_of_ones_own_needs_no_signature(release, tmp_path):
    done, calls = release(SIGN="no", COSIGN_KEY="", PLATFORMS="linux/amd64")
    assert done.returncode == 0, done.stderr
    assert not [call for call in calls if call.startswith("cosign")]
    assert len((tmp_path / "dist" / "digests.txt").read_text().splitlines()) == 5


def test_a_registry_that_tells_no_digest_is_noticed(release):
    done, _ = release(programs={"helm": NOTE + '[ "$1" != package ] || touch "${@: -1}/floe-$4.tgz"'})
    assert done.returncode == 1 and "no digest of registry.test/team/charts/floe" in done.stderr


def test_the_workflow_runs_this_command_with_the_rights_it_needs():
    text = (REPO / ".github" / "workflows" / "release.yml").read_text()
    workflow = yaml.safe_load(text)
    # `on` is a boolean in YAML 1.1.
    assert workflow[True]["push"]["tags"] == ["v*"]
    assert workflow["permissions"] == {"contents": "read"}
    job = workflow["jobs"]["release"]
    assert job["permissions"] == {"contents": "write", "packages": "write", "id-token": "write"}
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert [run for run in runs if "images/release" in run]
    script = (REPO / "images" / "release").read_text()
    names = {name for step in job["steps"] for name in step.get("env", {}) if name.startswith(("REGISTRY", "TAG", "PLATFORMS", "BINARIES"))}
    assert names == {"REGISTRY", "TAG", "PLATFORMS", "BINARIES_amd64", "BINARIES_arm64"} and all(name in script for name in names)
