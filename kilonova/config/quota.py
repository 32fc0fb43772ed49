"""``[quota]``: what a project or user may have when nothing else is said; -1 is no limit."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Quota(msgspec.Struct, frozen=True):
    """``[quota]``."""

    instances: Annotated[int, Opt("Servers of a project.", min=-1)] = 10
    cores: Annotated[int, Opt("Virtual CPUs of a project.", min=-1)] = 20
    ram: Annotated[int, Opt("Memory of a project in MiB.", min=-1)] = 51200
    metadata_items: Annotated[int, Opt("Metadata items of a server.", min=-1)] = 128
    injected_files: Annotated[int, Opt("Files given to a new server.", min=-1)] = 5
    injected_file_content_bytes: Annotated[int, Opt("Bytes of such a file.", min=-1)] = 10240
    injected_file_path_length: Annotated[int, Opt("Characters of its path.", min=-1)] = 255
    key_pairs: Annotated[int, Opt("Key pairs of a user.", min=-1)] = 100
    server_groups: Annotated[int, Opt("Server groups of a project.", min=-1)] = 10
    server_group_members: Annotated[int, Opt("Servers of a group.", min=-1)] = 10

    def limits(self) -> dict[str, int]:
        """Resource → default limit, by the names of the API."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        found["injected_file_path_bytes"] = found.pop("injected_file_path_length")
        return found
