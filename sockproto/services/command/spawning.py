"""What is spawned for a request: a rule and a client's wishes as one :class:`Spawn`."""

from __future__ import annotations

import os

from sockproto.auth.principal import Principal
from sockproto.services.command.accounts import Account, account_of
from sockproto.services.command.conditions import Conditions
from sockproto.services.command.environment import (
    asking_environment,
    base_environment,
    home_folder,
    shared_environment,
)
from sockproto.services.command.processes import Spawn
from sockproto.services.command.rule import CommandRule
from sockproto.wire.commands import CommandRequest

__all__ = ["Spawning"]


class Spawning:
    """Makes of rules and requests what is to be spawned.

    Users and groups are looked up once for each rule: that may take time, where a directory service
    is asked.

    :param grace: the seconds between TERM and KILL when a command is ended.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._found: dict[CommandRule, tuple[Account | None, Conditions]] = {}

    def spawn(
        self,
        rule: CommandRule,
        argv: tuple[bytes, ...],
        asked: CommandRequest,
        principal: Principal,
    ) -> Spawn:
        """What to spawn.

        :param rule: the rule that allows it.
        :param argv: what the rule made of the words.
        :param asked: what the client sent.
        :param principal: who it is.
        :raises ValueError: there is no such user or group any longer.
        """
        account, conditions = self._conditions(rule)
        folder = rule.cwd or home_folder(account=account)
        if asked.cwd is not None:
            folder = os.path.join(folder, os.fsdecode(asked.cwd))
        sent = {os.fsdecode(name): os.fsdecode(value) for name, value in asked.env.items()}
        if asked.terminal is not None:
            sent["TERM"] = asked.terminal.term
        return Spawn(
            argv=tuple(map(os.fsdecode, argv)),
            env={
                **base_environment(account=account),
                **sent,
                **rule.env,
                **(
                    asking_environment(principal, rule.label, asked.argv)
                    if rule.fresh is None
                    else shared_environment(rule.label)
                ),
            },
            cwd=folder,
            stdin=asked.stdin,
            grace=self._grace,
            conditions=conditions,
            new_privileges=rule.new_privileges,
            terminal=asked.terminal,
        )

    def _conditions(self, rule: CommandRule) -> tuple[Account | None, Conditions]:
        found = self._found.get(rule)
        if found is None:
            account = account_of(rule)
            switches = account is not None and not account.is_ours
            found = self._found[rule] = (
                account,
                Conditions(
                    uid=account.uid if account is not None and switches else None,
                    gid=account.gid if account is not None and switches else None,
                    groups=account.groups if account is not None and switches else None,
                    umask=None if rule.umask is None else int(rule.umask, 8),
                    nice=rule.nice,
                    limits=rule.limits.table,
                ),
            )
        return found
