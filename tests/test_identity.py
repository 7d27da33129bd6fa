"""An app without a key logs in by itself: nobody waits long for that, and nothing of it is told."""

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import faults
import processes
import pytest
from combinations import COMBINATIONS
from faults import PREFIX, healthy_answer
from pytest_httpserver import HTTPServer
from test_wire import App, constant
from werkzeug import Request, Response

LONGEST = 5  # seconds
TOKEN = "a-token-Zx81LmQ7"
SECRET = "a-secret-Zx81LmQ7"
TENANT = "11111111-2222-3333-4444-555555555555"
ACCOUNT = "123456789012"
PROJECT = "a-project-zx81lmq7"


@dataclass(frozen=True)
class Cloud:
    """How an app logs in at a cloud.

    Attributes:
        address: The variable for the address where the app asks who it is.
        variables: The others that make it ask there, and not use a key.
        refused: What it is told when it is nobody.
        known: What it is told otherwise.
        shown: What it shows to the provider then.
        file: What a file holds whose path stands in the place of the address, but for the address.
        path: Where it asks for answers, if not where it does with a key.
    """

    address: str
    variables: dict[str, str]
    refused: dict[str, str]
    known: dict[str, object]
    shown: str
    file: dict[str, object] | None = None
    path: str = ""


CLOUDS = {
    "azure_openai": Cloud(
        "IDENTITY_ENDPOINT",
        {
            "AZURE_OPENAI_API_KEY": "",
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
            "IDENTITY_HEADER": "test",
        },
        {"error": "invalid_request", "error_description": f"No identity in {TENANT}"},
        {"access_token": TOKEN, "expires_on": "4000000000", "token_type": "Bearer"},
        TOKEN,
    ),
    "bedrock": Cloud(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        # A blank variable counts as unset for AWS's own library, too.
        {"AWS_BEARER_TOKEN_BEDROCK": "", "AWS_PROFILE": "", "AWS_WEB_IDENTITY_TOKEN_FILE": " "},
        {"message": f"arn:aws:iam::{ACCOUNT}:role/chat is not there; ask {ACCOUNT}."},
        {
            "AccessKeyId": "an-id",
            "SecretAccessKey": SECRET,
            "Token": TOKEN,
            "Expiration": "2100-01-01T00:00:00Z",
        },
        "AWS4-HMAC-SHA256 Credential=an-id/",
    ),
    # Vertex AI.
    "gemini": Cloud(
        "GOOGLE_APPLICATION_CREDENTIALS",
        {
            "GOOGLE_API_KEY": "",
            "GOOGLE_GENAI_USE_ENTERPRISE": "true",
            "GOOGLE_GENAI_API_VERSION": "",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "GOOGLE_CLOUD_LOCATION": "europe-west4",
        },
        {"error": "invalid_grant", "error_description": f"No identity in {TENANT}"},
        {
            "access_token": TOKEN,
            "expires_in": 3600,
            "issued_token_type": "any",
            "token_type": "Bearer",
        },
        TOKEN,
        {
            "type": "external_account",
            "audience": TENANT,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "credential_source": {"file": "pyproject.toml"},
        },
        f"/v1beta1/projects/{PROJECT}/locations/europe-west4/publishers/google/models/"
        "gemini-3.5-flash-lite:streamGenerateContent?alt=sse",
    ),
}


@pytest.mark.parametrize("provider_name", CLOUDS)
def test_login_without_a_key(
    renders: dict[str, Path], httpserver: HTTPServer, tmp_path: Path, provider_name: str
) -> None:
    """Ask while the login is refused, while nothing is heard of it, and when it is known."""
    cloud = CLOUDS[provider_name]
    combination = next(one for one in COMBINATIONS if one.name == f"{provider_name}_streaming_full")
    project = tmp_path / "project"
    shutil.copytree(renders[combination.name], project)
    is_silent, is_known = threading.Event(), threading.Event()

    def identity(request: Request) -> Response:
        if not is_silent.is_set():
            return Response(json.dumps(cloud.refused), 400, mimetype="application/json")
        is_known.wait(3 * LONGEST)
        return Response(json.dumps(cloud.known), mimetype="application/json")

    httpserver.expect_request("/identity").respond_with_handler(identity)
    address = httpserver.url_for("/identity")
    if cloud.file:
        path = tmp_path / "credentials.json"
        path.write_text(json.dumps(cloud.file | {"token_url": address}))
        address = str(path)
    own = {cloud.address: address} | cloud.variables
    no_login = constant(project / "src" / combination.name / "notices.py", "NO_LOGIN")
    with (
        faults.answering(provider_name) as provider,
        processes.serving(project, combination.name, provider.environment() | own) as address,
    ):
        app = App(address, project, combination, stand_in=None)  # type: ignore[arg-type]
        assert app.ask([], "Am I known?").notice == no_login
        is_silent.set()
        begin = time.monotonic()
        with ThreadPoolExecutor(3) as users:
            answers = list(
                users.map(lambda question: app.ask([], question), ("Who?", "Where?", "Why?"))
            )
        assert LONGEST - 1 < time.monotonic() - begin < LONGEST + 2, "They wait for each other."
        assert [answer.notice for answer in answers] == [no_login] * 3
        assert not provider.calls
        is_known.set()
        for question in ("Who am I?", "And now?"):
            assert app.ask([], question).text == healthy_answer(question)
        refusal = next(one for one in faults.APIS[provider_name].refuses if one.startswith("403"))
        assert app.ask([], PREFIX + refusal).notice
        assert {cloud.shown in call.key for call in provider.calls} == {True}
        assert {call.path for call in provider.calls} == {
            cloud.path or faults.APIS[provider_name].path
        }
    log = processes.log(project)
    assert log.count("The chat could not answer") == 5
    assert not [secret for secret in (TENANT, TOKEN, SECRET, ACCOUNT, PROJECT) if secret in log]
