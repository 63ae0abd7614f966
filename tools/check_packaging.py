"""Build the sdist and the wheel, and use them as a stranger would.

The wheel and an editable install go into one fresh environment each; Twisted's own programs have to
find the plugins there, and to be as they were once the project is uninstalled.  The editable one is
made from the unpacked sdist, which shows that the sdist is complete.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(sys.prefix) / "pip-cache"
PLUGIN = "twisted/plugins/sockproto_plugin.py"
IN_SDIST = (
    ".ci/run",
    "CHANGES.rst",
    "CONTRIBUTING.rst",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.rst",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    PLUGIN,
)
FOLDERS_IN_SDIST = ("bench", "docs", "examples", "sockproto", "tests", "tools")

ASK_FOR_PLUGINS = """
from twisted.application.service import IServiceMaker
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins
print([plugin.tapname for plugin in getPlugins(IServiceMaker)].count("sockproto"),
      [plugin.prefix for plugin in getPlugins(IStreamServerEndpointStringParser)].count("hmac"))
"""


class Wrong(Exception):
    """The packaging is not as it should be; the message says how."""


def run(
    arguments: Sequence[str | Path],
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    silent: bool = True,
) -> str:
    """Run a program that has to succeed.

    :param silent: it also has to keep silent on stderr.
    :returns: its standard output.
    :raises Wrong: it did not.
    """
    done = subprocess.run(
        arguments,
        check=False,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode or (silent and done.stderr.strip()):
        words = " ".join(map(str, arguments))
        raise Wrong(f"{words}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def projectFiles() -> set[str]:
    """List the files of the checkout that belong to the project, relative to it.

    Where there is no git repository (an unpacked sdist), all are taken that it might contain.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        names = set(run(listing, ROOT).split("\0")) - {""}
        return {name for name in names if (ROOT / name).exists()}
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    left_out = {".venv", "build", "dist", "__pycache__", "sockproto.egg-info", "_trial_temp_run"}
    return {name for name in found if not left_out & set(PurePosixPath(name).parts)}


def expectSame(what: str, found: Iterable[str], expected: Iterable[str]) -> None:
    """Compare two lists of files.

    :raises Wrong: they differ; the message names the differences.
    """
    found, expected = set(found), set(expected)
    if found != expected:
        missing, extra = sorted(expected - found), sorted(found - expected)
        raise Wrong(f"{what}: missing {missing}, not expected {extra}")


def build(work: Path, files: set[str]) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel, of a copy of the project.

    :returns: the paths of the sdist and of the wheel.
    """
    copy = work / "copy"
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    arguments: list[str | Path] = [sys.executable, "-m", "build", "--outdir", work / "dist", copy]
    run(arguments, work, {"PIP_CACHE_DIR": str(CACHE)}, silent=False)
    (sdist,) = (work / "dist").glob("*.tar.gz")
    (wheel,) = (work / "dist").glob("*.whl")
    return sdist, wheel


def checkContents(sdist: Path, wheel: Path, files: set[str], version: str) -> None:
    """See that both hold what they should and nothing else.

    :raises Wrong: they do not.
    """
    package = {name for name in files if name.startswith("sockproto/")}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    info = f"sockproto-{version}.dist-info/"
    expectSame("wheel", {n for n in names if not n.startswith(info)}, package | {PLUGIN})
    with tarfile.open(sdist) as tarball:
        members = {member.name for member in tarball.getmembers() if member.isfile()}
    top = f"sockproto-{version}/"
    inside = {name.removeprefix(top) for name in members}
    generated = {name for name in inside if name == "PKG-INFO" or ".egg-info/" in name}
    meant = {name for name in files if name.split("/")[0] in FOLDERS_IN_SDIST} | set(IN_SDIST)
    expectSame("sdist", inside - generated, meant)


def checkInstall(work: Path, name: str, what: list[str | Path], version: str) -> str:
    """Install into a fresh environment, use it, uninstall, and use Twisted.

    :param name: what to call the environment.
    :param what: the arguments of pip that say what to install.
    :returns: a line for people.
    :raises Wrong: something is not as it should be.
    """
    environment, elsewhere = work / name, work / f"{name}-elsewhere"
    elsewhere.mkdir()
    run([sys.executable, "-m", "venv", environment], work)
    programs = environment / "bin"

    def pip(*arguments: str | Path) -> None:
        # It may warn of the machine's configuration, or of its own age.
        command = [programs / "python", "-m", "pip", "--cache-dir", CACHE, *arguments]
        run(command, elsewhere, {"PIP_ROOT_USER_ACTION": "ignore"}, silent=False)

    pip("install", *what)
    pip("check")

    for program in ("twistd", "twist"):
        if "sockproto" not in run([programs / program, "--help"], elsewhere):
            raise Wrong(f"{name}: {program} --help does not list sockproto")
        run([programs / program, "sockproto", "--help"], elsewhere)
    found = run([programs / "python", "-c", ASK_FOR_PLUGINS], elsewhere).split()
    if found != ["1", "1"]:
        raise Wrong(f"{name}: service makers and hmac: prefixes found: {found}")
    said = run([programs / "sockproto", "--version"], elsewhere)
    if version not in said.split():
        raise Wrong(f"{name}: sockproto --version says {said!r}, not {version}")
    if os.geteuid() == 0:
        checkReadOnly(programs, name, elsewhere)

    pip("uninstall", "--yes", "sockproto")
    run([programs / "python", "-c", "import twisted, twisted.plugins"], elsewhere)
    for program in ("twistd", "twist"):
        listed = run([programs / program, "--help"], elsewhere)
        if "sockproto" in listed or "web" not in listed:
            raise Wrong(f"{name}: after the uninstall {program} --help says\n{listed}")
    return f"{name}: plugins found, used, uninstalled; Twisted as before"


def checkReadOnly(programs: Path, name: str, elsewhere: Path) -> None:
    """See that an ordinary user of root's installation is not bothered with the plugin cache.

    Root has asked for the plugins once, which wrote the cache.

    :raises Wrong: there is output on stderr, or the cache is complained of.
    """
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if shutil.which("setpriv") is None:
        return
    try:
        run([*nobody, programs / "python", "-c", ""], elsewhere)
    except Wrong:
        return  # the interpreter itself is in a folder that is root's alone
    listed = run([*nobody, programs / "twistd", "--help"], elsewhere, {"HOME": "/nonexistent"})
    if "sockproto" not in listed or "plugin cache" in listed:
        raise Wrong(f"{name}: an ordinary user's twistd --help says\n{listed}")


def check(work: Path) -> list[str]:
    """Check all of it.

    :param work: an empty folder.
    :returns: lines for people.
    :raises Wrong: something is not as it should be.
    """
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    version = configuration["metadata"]["version"]
    files = projectFiles()
    sdist, wheel = build(work, files)
    checkContents(sdist, wheel, files, version)
    shutil.unpack_archive(sdist, work / "unpacked")
    unpacked = work / "unpacked" / f"sockproto-{version}"
    with ThreadPoolExecutor(2) as pool:
        installs = [
            pool.submit(checkInstall, work, "wheel", [wheel], version),
            pool.submit(checkInstall, work, "editable", ["--editable", unpacked], version),
        ]
        lines = [f"{path.name}: {path.stat().st_size:,} bytes" for path in (sdist, wheel)]
        return [*lines, *(install.result() for install in installs)]


def main() -> int:
    """Check in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        try:
            print(*check(work), sep="\n")
        except Wrong as error:
            print(f"packaging: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
