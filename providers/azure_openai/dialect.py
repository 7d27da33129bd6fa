"""How Azure OpenAI answers and fails, for the tests."""

from dialects import PART, Json, finished, refused

from providers.openai import dialect as openai

# Azure's own codes and words.
REFUSES = (
    refused("REFUSED_KEY", 401, "", "Access denied due to invalid subscription key.", "401")
    | refused(
        "NOT_PERMITTED",
        401,
        "",
        "The principal lacks the required data action to perform the operation.",
        "PermissionDenied",
    )
    | refused("NOT_PERMITTED", 403, "", "The operation is not allowed.", "403")
    | refused(
        "PRIVATE_NETWORK",
        403,
        "",
        "Public access is disabled. Please configure private endpoint.",
        "403",
    )
    | refused(
        "PRIVATE_NETWORK",
        403,
        "",
        "Access denied due to Virtual Network/Firewall rules.",
        "AccessDenied",
    )
    | refused(
        "UNKNOWN_MODEL",
        404,
        "",
        "The API deployment for this resource does not exist.",
        "DeploymentNotFound",
    )
    | refused(
        "UNKNOWN_MODEL",
        400,
        "",
        "The requested operation is unsupported.",
        "OperationNotSupported",
    )
    | refused("WRONG_URL", 404, "", "Resource not found", "404")
    | refused("RATE_LIMIT", 429, "", "Requests have exceeded the rate limit.", "RateLimitReached")
    | refused("RATE_LIMIT", 429, "too_many_requests", "Too Many Requests", "too_many_requests")
    | refused(
        "FILTERED_QUESTION",
        400,
        "",
        "The response was filtered due to the prompt triggering the content management policy.",
        "content_filter",
    )
)
FILTERED = finished("FILTERED_ANSWER", "content_filter", PART) | finished(
    "FILTERED_ANSWER", "content_filter", ""
)


class Dialect(openai.Dialect):
    """The Responses API, as Azure OpenAI has it."""

    path = "/openai/v1/responses"
    packages = {"openai", "azure-identity"}
    missing = {"NO_ENDPOINT": "AZURE_OPENAI_ENDPOINT", "NO_LOGIN": "AZURE_OPENAI_API_KEY"}
    refuses = openai.Dialect.refuses | REFUSES
    ends_early = openai.Dialect.ends_early | FILTERED

    @staticmethod
    def settings(address: str, key: str) -> dict[str, str]:
        return {
            "AZURE_OPENAI_ENDPOINT": address and f"{address}/any/page?of=the-portal",
            "AZURE_OPENAI_API_KEY": key,
            # Nothing else is looked for where there is no key: neither yours nor the machine's.
            "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
        }

    @staticmethod
    def request(system_prompt: str, turns: list[Json]) -> Json:
        return openai.Dialect.request(system_prompt, turns) | {"reasoning": None}
