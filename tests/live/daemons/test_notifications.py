"""What separate daemons tell over RabbitMQ; a conductor that is killed delays it."""

from __future__ import annotations

from pathlib import Path

import aio_pika
import pytest

from tests.conftest import new_database
from tests.support import notices
from tests.support.daemons import Tenant, deployment, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(480)]

NAMES = ("api", "cell0", "cell1", "placement")
TOPIC = "told_by_daemons"
LIFE = ["create.start", "create.end", "lock", "unlock", "delete.start", "shutdown.start"]
LIFE += ["shutdown.end", "delete.end"]


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
async def test_daemons_tell(
    request: pytest.FixtureRequest, rabbitmq: object, engine: str, tmp_path: Path
) -> None:
    server = request.getfixturevalue(engine)
    broker = request.getfixturevalue("rabbitmq").url
    topic = f"{TOPIC}_{engine}"
    more: dict[str, dict[str, object]] = {
        "oslo_messaging_notifications": {"driver": "messagingv2"},
        "notifications": {
            "notification_format": "versioned",
            "versioned_notifications_topics": topic,
        },
    }
    databases = {name: new_database(server) for name in NAMES}
    with deployment(tmp_path / "cloud", broker, databases, ("host-a",), more) as cloud:
        tenant = Tenant(cloud)
        until(30, lambda: tenant.hosts_up() == 1)
        status, server_id = tenant.create("one")
        assert status == 202, server_id
        until(60, lambda: tenant.active(server_id))
        conductor = cloud.processes["nova-conductor"]
        conductor.kill()
        path = f"/v2.1/servers/{server_id}/action"
        for action in ("lock", "unlock"):
            body: dict[str, object] = {action: {}}
            done = tenant.admin.ask("POST", "compute", path, body)
            assert done[0] == 202, done
        conductor.restart()
        conductor.wait_healthy()
        assert tenant.delete(server_id) == 204
        until(60, lambda: tenant.show(server_id) is None)
        found: list[notices.Told] = []
        async with await aio_pika.connect(broker.replace("rabbit://", "amqp://")) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(f"{topic}.info", passive=True)
            while "instance.delete.end" not in [one.event for one in found]:
                message = await queue.get(timeout=30, fail=False)
                if message is not None:
                    await message.ack()
                    found += notices.read([(f"{topic}.info", message.body)])
        once = {one.message_id: one for one in found if one.data.get("uuid") == server_id}
        events = [one.event.removeprefix("instance.") for one in once.values()]
        assert events == LIFE
        publishers = {one.event: one.publisher for one in once.values()}
        assert publishers["instance.lock"] == "nova-api:controller"
        assert publishers["instance.create.end"] == "nova-compute:host-a"
        assert any(one.event == "service.create" for one in found)
