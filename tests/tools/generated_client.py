#!/usr/bin/env python3
"""Does the main job with the client that openapi-python-client has generated from the OpenAPI document.

usage: generated_client.py FOLDER SERVER TOKEN URL FILE
FOLDER is that of the client. Fetches URL, writes the torrent to FILE, and prints the magnet link. Then it prints the code of
a failed request, and that of a refused one.
"""

import pathlib
import sys

folder, server, token, url, file = sys.argv[1:]
sys.path.insert(0, folder)

from proxy_torrent_client import AuthenticatedClient
from proxy_torrent_client.api.requests import content, create, get, list_, magnet, torrent
from proxy_torrent_client.models import CreateRequestWithBody, CreateRequestWithBodyMethod, CreateRequestWithoutBody
from proxy_torrent_client.models import Created, FailureCode, FieldCode, Problem, RequestList, Status

client = AuthenticatedClient(base_url=server, token=token)


def ended(body):
    created = create.sync(client=client, body=body)
    assert isinstance(created, Created), created
    while True:
        row = get.sync(created.id, client=client, wait=10)
        if row.status in (Status.READY, Status.FAILED):
            return row


row = ended(CreateRequestWithoutBody(url=url, ttl=60))
assert row.status == Status.READY, row
bytes_of = content.sync_detailed(row.id, client=client).content
assert len(bytes_of) == row.content_size, row
pathlib.Path(file).write_bytes(torrent.sync_detailed(row.id, client=client).content)
print(magnet.sync(row.id, client=client).magnet_link)

failed = ended(CreateRequestWithBody(url=server + "/", method=CreateRequestWithBodyMethod.POST, body="text"))
# The document of the client is of an earlier version, which has neither this code nor that of the problem.
assert failed.error_code and not isinstance(failed.error_code, FailureCode), failed
print(failed.error_code)
refused = create.sync(client=client, body=CreateRequestWithoutBody(url="ftp://example.org/"))
assert isinstance(refused, Problem) and refused.errors[0].code == FieldCode.UNSUPPORTED_SCHEME, refused
print(refused.code)
listed = list_.sync(client=client, limit=1)
assert isinstance(listed, RequestList) and len(listed.items) == 1, listed
