"""``twistd sockproto``: its options, and the service that they make."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from sockproto.errors import ConfigurationError, KeyringError
from sockproto.keyring_file import default_path

__all__ = ["Options", "makeProgram", "makeService"]


class Options(usage.Options):
    """The command line behind ``twistd sockproto``."""

    synopsis = "[--config FILE] [--keyring FILE] [--listen SERVICE=ENDPOINT]..."
    longdesc = """\
An agent that runs commands for those who hold a key.

With no option it listens on the default endpoints, on this machine only, and whoever holds the key
"owner" of your keyring, which it makes if it is missing, may run anything as you:

  twistd -n sockproto
  sockproto run -- uname -a                      (in another terminal)

Elsewhere, say in a configuration file who may run what:

  twistd -n sockproto --config /etc/sockproto/server.toml --keyring /etc/sockproto/keyring.toml
  twistd -n sockproto --listen agent=unix:/run/user/1000/agent.sock

SIGHUP reads the configuration and the keyring again, SIGTERM lets what runs finish for a while.
The exit status is 1 where the server cannot be started."""

    optParameters = [
        ["config", None, None, "the configuration, a TOML file"],
        [
            "keyring",
            None,
            None,
            "the keyring (SOCKPROTO_KEYRING; else sockproto/keyring.toml in "
            "the user's configuration folder)",
        ],
    ]
    compData = usage.Completions(
        optActions={
            "config": usage.CompleteFiles("*.toml"),
            "keyring": usage.CompleteFiles("*.toml"),
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, listener: str) -> None:
        """listen: SERVICE=ENDPOINT, such as agent=tcp:7100:interface=127.0.0.1; may be repeated"""
        self["listen"].append(listener)

    def opt_version(self) -> None:
        """version: print the version and leave"""
        from importlib.metadata import version

        print(f"sockproto {version('sockproto')}")
        sys.exit(0)


def makeService(options: Options, reactor: Any = None) -> IService:
    """The service that the options describe, as a program of its own.

    What cannot be read ends the program with status 1 and a line each on stderr, before anything
    listens.  A program that wants no such end calls :func:`makeProgram`.
    """
    try:
        return makeProgram(options, reactor)
    except (ConfigurationError, KeyringError) as error:
        for line in str(error).splitlines():
            print(f"sockproto: {line}", file=sys.stderr)
        raise SystemExit(1) from None


def makeProgram(options: Options, reactor: Any = None) -> IService:
    """The service that the options describe.

    :raises ConfigurationError: with a line for each thing that is wrong.
    :raises KeyringError: the keyring cannot be used.
    """
    if reactor is None:
        from twisted.internet import reactor
    from sockproto.logs import jsonFileObserver
    from sockproto.server.config import load_configuration
    from sockproto.server.keys import ServerKeys
    from sockproto.server.privileges import acting_as
    from sockproto.server.program import Program, logObserver

    # twistd changes to another folder before it serves; what was named is meant as seen from here.
    here = Path.cwd()
    config = None if options["config"] is None else here / options["config"]
    listen = list(options["listen"])
    above: Any = {} if options.parent is None else options.parent
    owner = _owner(above)
    with acting_as(owner):
        configuration = load_configuration(config, listen, here)
        keys = ServerKeys(here / _keyring(options, owner), configuration.authenticates)
        keys.open(create=config is None)
    observer = None
    if configuration.log.json:
        try:
            observer = logObserver(reactor, above)
        except OSError as error:
            raise ConfigurationError(
                f"--logfile {above['logfile'] or 'twistd.log'}: {error.strerror}"
            ) from None
        if "fileLogObserverFactory" in above:
            # That of twist, whose log has a form of its own.
            above["fileLogObserverFactory"] = jsonFileObserver
    server = Program(
        reactor,
        configuration,
        keys,
        None if config is None else lambda: load_configuration(config, listen, here),
        owner,
        observer,
    )
    server.setName("sockproto")
    return server


def _owner(above: Any) -> tuple[int, int] | None:
    """Whom ``twistd --uid`` makes of root: a user and a group."""
    from sockproto.server.privileges import group_of

    uid, gid = above.get("uid"), above.get("gid")
    if os.geteuid() != 0 or (uid is None and gid is None):
        return None
    uid = 0 if uid is None else uid
    return uid, group_of(uid) if gid is None else gid


def _keyring(options: Options, owner: tuple[int, int] | None) -> Path:
    named = options["keyring"] or os.environ.get("SOCKPROTO_KEYRING")
    if named:
        return Path(named)
    if owner is None:
        return Path(default_path(os.environ))
    from sockproto.server.privileges import home_of

    return Path(default_path({"HOME": home_of(owner[0])}))
