"""The Compute API describes itself, at each microversion."""

from __future__ import annotations

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kilonova.api.service import api
from kilonova.web.openapi import document


@pytest.mark.parametrize("version", [1, 26, 52, 74, 100, 104])
def test_the_document_is_valid_and_follows_the_version(version: int) -> None:
    made = document(api(), version, title="Compute API", server="http://localhost/v2.1")
    OpenAPIV31SpecValidator(made).validate()
    assert "/servers/{server_id}" in made["paths"]
    assert ("/servers/{server_id}/tags" in made["paths"]) == (version >= 26)
