"""``[notifications]`` and ``[oslo_messaging_notifications]``: what is told to other systems."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "CRITICAL")


class Notifications(msgspec.Struct, frozen=True):
    """``[notifications]``."""

    notify_on_state_change: Annotated[
        str | None,
        Opt(
            "Send instance.update when vm_state changes, or vm_state or task_state.",
            choices=("vm_state", "vm_and_task_state"),
            formerly=(("DEFAULT", "notify_on_state_change"),),
        ),
    ] = None
    default_level: Annotated[
        str,
        Opt(
            "Priority of unversioned notifications that report no error.",
            choices=LEVELS,
            formerly=(("DEFAULT", "default_notification_level"),),
        ),
    ] = "INFO"
    notification_format: Annotated[
        str,
        Opt(
            "The form notifications are sent in.",
            choices=("unversioned", "versioned", "both"),
            formerly=(("DEFAULT", "notification_format"),),
        ),
    ] = "unversioned"
    versioned_notifications_topics: Annotated[
        tuple[str, ...], Opt("Topics of versioned notifications.")
    ] = ("versioned_notifications",)
    bdms_in_notifications: Annotated[
        bool, Opt("Put a server's volumes into its versioned notifications.")
    ] = False
    include_share_mapping: Annotated[
        bool, Opt("Put a server's shares into its versioned notifications.")
    ] = False


class OsloMessagingNotifications(msgspec.Struct, frozen=True):
    """``[oslo_messaging_notifications]``."""

    driver: Annotated[
        tuple[str, ...],
        Opt(
            "Where notifications go: messagingv2, messaging (without envelope), log, test (kept in "
            "the process) or noop. None, or noop alone: nothing is written or sent.",
            multi=True,
            formerly=(("DEFAULT", "notification_driver"),),
        ),
    ] = ()
    transport_url: Annotated[
        str | None,
        Opt(
            "The broker for notifications; [DEFAULT] transport_url when unset.",
            secret=True,
            formerly=(("DEFAULT", "notification_transport_url"),),
        ),
    ] = None
    topics: Annotated[
        tuple[str, ...],
        Opt(
            "Topics of unversioned notifications.",
            formerly=(("DEFAULT", "notification_topics"), ("rpc_notifier2", "topics")),
        ),
    ] = ("notifications",)
    retry: Annotated[
        int,
        Opt(
            "Accepted; what the broker does not take is tried until it does, or the outbox is full."
        ),
    ] = -1


class OsloMessagingRabbit(msgspec.Struct, frozen=True):
    """``[oslo_messaging_rabbit]``."""

    amqp_durable_queues: Annotated[
        bool,
        Opt(
            "Whether exchange and queues of notifications are durable; listeners must agree.",
            formerly=(("DEFAULT", "amqp_durable_queues"),),
        ),
    ] = False
