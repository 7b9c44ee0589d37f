"""An HTTP API's requests to the endpoint behind it: the picture's bytes as they came, the answer as it is.

Runs as an AWS Lambda function of its own, so it knows boto3 and nothing of Sightline. `cloud template` puts this text into the
template; `infra/` has the same file.
"""

import base64
import json
import os
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

ANSWER_S = 28
"""The HTTP API gives up after 30 s."""

PASSED = {"content-type": "ContentType", "accept": "Accept", "x-amzn-sagemaker-custom-attributes": "CustomAttributes"}
"""Headers that the container gets."""

CONFIG = Config(connect_timeout=2, read_timeout=ANSWER_S, retries={"total_max_attempts": 1})
runtime: Any = boto3.client("sagemaker-runtime", config=CONFIG) if "AWS_LAMBDA_FUNCTION_NAME" in os.environ else None


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """The HTTP API's answer to one request (payload format 2.0)."""
    body = event.get("body") or ""
    content = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    asked = {field: headers[name] for name, field in PASSED.items() if name in headers}
    try:
        answer = runtime.invoke_endpoint(EndpointName=os.environ["ENDPOINT"], Body=content, **asked)
    except ClientError as error:
        return refusal(error)
    except ReadTimeoutError:
        return told(504, "the endpoint", f"has not answered within {ANSWER_S} s", "Ask it without the API.")
    text = base64.b64encode(answer["Body"].read()).decode()
    return {"statusCode": 200, "headers": {"content-type": answer["ContentType"]}, "body": text, "isBase64Encoded": True}


def refusal(error: Any) -> dict[str, Any]:
    """The container's own answer where there is one, else what the platform says."""
    response = error.response
    if "OriginalStatusCode" in response:
        kind = {"content-type": "application/json"}
        return {"statusCode": response["OriginalStatusCode"], "headers": kind, "body": response.get("OriginalMessage", "")}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 502)
    return told(status, "the endpoint", response["Error"].get("Message", "failed"), "Try again, or look into its log.")


def told(status: int, where: str, what: str, fix: str) -> dict[str, Any]:
    body = json.dumps({"error": {"where": where, "what": what, "fix": fix}})
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": body}
