from __future__ import annotations

from kilonova.metadata import ec2
from tests.support.described import KEY, guest


def test_ids_and_listing() -> None:
    tree = ec2.meta_data(guest(), "2009-04-04", "novalocal")
    assert tree["instance-id"] == "i-0000002a"
    assert tree["ami-id"].startswith("ami-")
    assert "public-keys/" in ec2.render(tree).splitlines()
    assert ec2.render(ec2.find(tree, ["public-keys"])) == "0=mine"
    assert ec2.render(ec2.find(tree, ["public-keys", "0"])) == "openssh-key"
    assert ec2.find(tree, ["public-keys", "0", "openssh-key"]) == KEY
    assert ec2.find(tree, ["placement", "availability-zone"]) == "nova"
    assert ec2.find(tree, ["block-device-mapping", "root"]) == "/dev/vda"
    assert ec2.find(tree, ["nothing"]) is None


def test_the_first_version_knows_less() -> None:
    assert "instance-type" not in ec2.meta_data(guest(), "1.0", "")
    assert ec2.meta_data(guest(), "1.0", "")["hostname"] == "web-1"
