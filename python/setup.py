"""Puts the engine into the wheel: builds the workspace that this package stands in, as `make build` does, and packs
`floe-runner` and `floe` beside the Python code.

The whole workspace in its one profile, and nothing else: any other choice of packages compiles Polars again. So a warm
`CARGO_TARGET_DIR` compiles nothing anew. That is why this is not maturin, which builds the programs of one crate by
`cargo rustc`: the two programs are of two crates, and the features of the runner's dependencies differ when it is built by itself,
down to Polars.
"""

from __future__ import annotations

import atexit
import json
import mmap
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

WORKSPACE = pathlib.Path(__file__).resolve().parents[1]
BINARIES = ("floe-runner", "floe")


def cargo(*arguments: str, capture: bool = False) -> str:
    command = ["cargo", *arguments, "--manifest-path", str(WORKSPACE / "Cargo.toml")]
    try:
        # Progress goes to stderr, where pip shows it with -v.
        done = subprocess.run(
            command, cwd=WORKSPACE, check=True, stdout=subprocess.PIPE if capture else None, text=True
        )
    except FileNotFoundError:
        sys.exit("floe: cargo is not on PATH: the wheel carries a Rust engine, install Rust 1.95 or newer (rustup.rs)")
    except subprocess.CalledProcessError as error:
        sys.exit(f"floe: {' '.join(command)} failed with exit code {error.returncode}")
    return done.stdout or ""


class BuildWithBinaries(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            # Code in place finds the binaries of the workspace by FLOE_RUNNER or PATH.
            return
        if not (WORKSPACE / "Cargo.lock").is_file():
            sys.exit(
                "floe: the engine's source is not beside this package: build it in a checkout of Floe's repository"
            )
        cargo("build", "--release", "--workspace", "--locked", "--bins")
        metadata = json.loads(cargo("metadata", "--format-version", "1", "--no-deps", "--locked", capture=True))
        built = pathlib.Path(metadata["target_directory"]) / "release"
        packed = pathlib.Path(self.build_lib) / "floe" / "bin"
        packed.mkdir(parents=True, exist_ok=True)
        for name in BINARIES:
            shutil.copy2(built / name, packed / name)


def glibc_minor(program: pathlib.Path) -> int:
    """N of the glibc 2.N that a program needs, by the versions of the symbols that it links; 0 if it needs none."""
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return max((int(found[1]) for found in re.finditer(rb"\0GLIBC_2\.(\d+)", text)), default=0)


class PlatformWheel(bdist_wheel):
    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        # Programs of this platform, and code for every Python.
        platform = super().get_tag()[2]
        packed = [pathlib.Path(self.bdist_dir) / "floe" / "bin" / name for name in BINARIES]
        if platform.startswith("linux_") and not self.plat_name_supplied and all(path.is_file() for path in packed):
            # Beside glibc they link what every such system has (libgcc_s), so its version tells where they run.
            if needed := max(map(glibc_minor, packed)):
                platform = f"manylinux_2_{needed}_{platform.removeprefix('linux_')}"
        return "py3", "none", platform


class WithPrograms(Distribution):
    def has_ext_modules(self) -> bool:
        return True


# Nothing is left in the checkout, and nothing of a former build gets into the wheel.
scratch = tempfile.mkdtemp(prefix="floe-wheel-")
atexit.register(shutil.rmtree, scratch, ignore_errors=True)

setup(
    distclass=WithPrograms,
    cmdclass={"build_py": BuildWithBinaries, "bdist_wheel": PlatformWheel},
    options={"build": {"build_base": f"{scratch}/build"}, "egg_info": {"egg_base": scratch}},
)
