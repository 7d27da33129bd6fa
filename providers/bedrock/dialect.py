"""How Amazon Bedrock answers and fails for Claude, for the tests."""

import json

from dialects import Fault, Faults, Reply, refused

from providers.anthropic import dialect as anthropic

ACCOUNT = "123456789012"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/chat/ann"
SESSION = "IQoJb3JpZ2luX2VjEJr"


def aws(sentence: str, status: int, message: str, name: str = "message") -> Faults:
    """Return a fault that AWS itself tells of: it has no type, and the request is called otherwise.

    Args:
        sentence: The sentence that it must become.
        status: The status.
        message: What AWS says.
        name: What AWS calls the message.
    """
    reply = Reply((json.dumps({name: message}),), status, identified=False)
    return {f"{status}, AWS: {message}": Fault(sentence, lambda api: reply)}


REFUSES = (
    aws("NOT_PERMITTED", 403, f"User: {ROLE} is not authorized to perform: an action")
    | aws("REFUSED_KEY", 403, "Authentication failed: make sure your API Key is valid.", "Message")
    | aws("REFUSED_KEY", 403, "The security token included in the request is invalid.")
    | aws(
        "REFUSED_KEY",
        403,
        "The request signature we calculated does not match the signature you provided. "
        f"The Canonical String should have been x-amz-security-token:{SESSION}",
    )
    | aws("EXPIRED_LOGIN", 403, "The security token included in the request is expired")
    | aws("EXPIRED_LOGIN", 403, "Bearer Token has expired", "Message")
    | aws("WRONG_REGION", 403, "Credential should be scoped to a valid region.")
    | aws("NO_ACCESS", 403, "You don't have access to the model with the specified model ID.")
    | aws("NO_ACCESS", 403, f"Model access is denied due to {ROLE} not being subscribed.")
    | aws("NO_ACCESS", 404, f"Model use case details have not been submitted for {ACCOUNT}.")
    | aws("UNKNOWN_MODEL", 400, "The provided model identifier is invalid.")
    | aws("UNKNOWN_MODEL", 400, "Invocation with on-demand throughput isn't supported.")
    | aws("UNKNOWN_MODEL", 404, "This model version has reached the end of its life.")
    | aws("RATE_LIMIT", 429, "Too many requests, please wait before trying again.")
    | aws("DAILY_QUOTA", 429, "Too many tokens per day, please wait before trying again.")
    | aws("BAD_REQUEST", 400, "Malformed input request, please reformat your input.")
    | aws("OVERLOADED", 503, "Bedrock is unable to process your request.")
    | aws("SERVER_ERROR", 500, "The system encountered an unexpected error.")
    | refused("NOT_PERMITTED", 403, "permission_error", f"{ROLE} may not perform an action")
    | refused("DAILY_QUOTA", 429, "rate_limit_error", "Too many tokens per day")
)


class Dialect(anthropic.Dialect):
    """The Messages API, as Amazon Bedrock has it."""

    packages = {"anthropic", "botocore"}
    untold = (ACCOUNT, "assumed-role", SESSION)
    missing = {"NO_REGION": "AWS_REGION", "NO_LOGIN": "AWS_BEARER_TOKEN_BEDROCK"}
    refuses = anthropic.Dialect.refuses | REFUSES

    @staticmethod
    def settings(address: str, key: str) -> dict[str, str]:
        return {
            "AWS_REGION": "us-east-1",
            "AWS_BEARER_TOKEN_BEDROCK": key,
            "ANTHROPIC_BEDROCK_MANTLE_BASE_URL": address,
            # Nothing else is looked for where there is no key: neither yours nor the machine's.
            "AWS_CONFIG_FILE": "none",
            "AWS_SHARED_CREDENTIALS_FILE": "none",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
