"""An endpoint as a model: `sagemaker://NAME` gives the same `Detections` as the model here.

Real-time and serverless endpoints get the picture in the request, asynchronous ones through S3. Limits of requests are known
before sending: what is too large without loss is sent as WebP of high quality, and said once.
"""

import io
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import Image as Pillow

from sightline import wire
from sightline.cloud.account import Account, open_account
from sightline.cloud.failures import code_of, failure, is_missing, send
from sightline.cloud.naming import FACTS as FACTS_TAG
from sightline.errors import RequestError, RunError, SightlineError, nearest
from sightline.records import Detections, Image, Model
from sightline.s3.address import Address, parse

LOG = logging.getLogger(__name__)

SCHEME = "sagemaker://"

REAL_TIME_BYTES, SERVERLESS_BYTES, ASYNCHRONOUS_BYTES = 6 * 2**20, 4 * 2**20, 2**30
"""Of a request's body; the service refuses more with 413."""

AT_ONCE = 8
"""Pictures of one batch under way at the same time; the server's default batch."""

QUALITY = 95
"""Of WebP for pictures that are too large without loss."""

FACTS = "model.json"
"""On S3 for each model that we deployed, where its tag says: what `GET /model` answers, which nobody can ask for there."""

TRIES, PAUSE_S = 5, 2.0
"""Of a model that is not ready yet."""

POLL_S, ANSWER_S = 1.0, 900.0
"""Between two looks for an asynchronous answer, and for how long; the service's own default."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to know of an endpoint.

    serverless: then requests are smaller; inputs: s3:// folder for the pictures of an asynchronous one, empty for others
    variant:    which one is asked; empty: any, by their weights
    model:      what `model.json` of its model says; empty where there is none
    """

    serverless: bool
    inputs: str
    model: Mapping[str, Any]
    variant: str = ""

    @property
    def max_bytes(self) -> int:
        if self.inputs:
            return ASYNCHRONOUS_BYTES
        return SERVERLESS_BYTES if self.serverless else REAL_TIME_BYTES


def connect_endpoint(endpoint: str, *, class_names: Sequence[str] | None = None) -> Model:
    """`connect` with the account that the environment's credentials belong to.

    >>> model = connect_endpoint("sagemaker://parts")
    >>> model.predict([image])[0].boxes
    """
    return connect(open_account(os.environ), endpoint, class_names)


def connect(account: Account, endpoint: str, class_names: Sequence[str] | None = None) -> Model:
    """The model behind an endpoint's name, `sagemaker://NAME`, or `sagemaker://NAME/VARIANT`.

    class_names: for an endpoint that was not deployed by `sightline cloud deploy`, and so does not tell them

    Raises:
        SightlineError, RunError: it does not exist, is not in service, or its class names are not known.
    """
    name, _, variant = endpoint.removeprefix(SCHEME).strip("/").partition("/")
    facts = facts_of(account, name, variant)
    whole = f"{SCHEME}{name}{f'/{variant}' if variant else ''}"
    names = tuple(class_names or map(str, facts.model.get("class_names", ())))
    if not names:
        fix = "Give --class-names, or deploy it with `sightline cloud deploy`."
        raise SightlineError(whole, "does not tell the names of its classes", fix)
    thresholds = None if class_names else facts.model.get("thresholds")
    asker = Asker(account, name, facts)
    return Model(
        asker.predict,
        names,
        whole,
        dict(facts.model.get("facts", {})),
        facts.model.get("proposes") is True,
        None if thresholds is None else tuple(map(float, thresholds)),
    )


def facts_of(account: Account, name: str, variant: str = "") -> Facts:
    """What the endpoint, its configuration and its first model, or that of `variant`, tell.

    Raises:
        SightlineError, RunError: there is no such endpoint or variant, or it is not in service.
    """
    config = config_of(account, name)
    chosen = chosen_of(config, name, variant)
    output = (config.get("AsyncInferenceConfig") or {}).get("OutputConfig", {}).get("S3OutputPath", "")
    inputs = f"{output.rstrip('/').rpartition('/')[0]}/inputs/" if output else ""
    return Facts("ServerlessConfig" in chosen, inputs, model_facts(account, str(chosen.get("ModelName", ""))), variant)


def variant_config(account: Account, endpoint: str) -> Mapping[str, Any]:
    """How the first variant of an endpoint is made, or that of `NAME/VARIANT`.

    Raises:
        SightlineError, RunError: as of `facts_of`.
    """
    name, _, variant = endpoint.partition("/")
    return chosen_of(config_of(account, name), name, variant)


def config_of(account: Account, name: str) -> Mapping[str, Any]:
    """DescribeEndpointConfig of an endpoint that answers.

    Raises:
        SightlineError, RunError: there is no such endpoint, or it is not in service.
    """
    client, where = account.client("sagemaker"), f"{SCHEME}{name}"
    told = describe(account, name)
    if told is None:
        what = f"is no endpoint of account {account.id} in {account.region}"
        raise SightlineError(where, what, "Check the name and AWS_REGION.")
    if told["EndpointStatus"] not in ("InService", "Updating", "SystemUpdating", "RollingBack"):
        what = f"is {told['EndpointStatus']}: {told.get('FailureReason', 'not ready')}"
        raise RunError(where, what, "Wait, or deploy it again.")
    asked = {"EndpointConfigName": told["EndpointConfigName"]}
    answer: Mapping[str, Any] = send(client.describe_endpoint_config, where, "sagemaker:DescribeEndpointConfig", **asked)
    return answer


def chosen_of(config: Mapping[str, Any], name: str, variant: str) -> Mapping[str, Any]:
    """The variant of that name; the first one without a name.

    Raises:
        SightlineError: there is none of that name.
    """
    variants: dict[str, Mapping[str, Any]] = {str(one["VariantName"]): one for one in config["ProductionVariants"]}
    if variant and variant not in variants:
        raise SightlineError(f"{SCHEME}{name}", f"has no variant {variant!r}", nearest(variant, list(variants)))
    return variants[variant] if variant else next(iter(variants.values()))


def describe(account: Account, name: str) -> Mapping[str, Any] | None:
    """DescribeEndpoint's answer; None where there is no such endpoint."""
    try:
        answer: Mapping[str, Any] = account.client("sagemaker").describe_endpoint(EndpointName=name)
    except Exception as error:
        if is_missing(error):
            return None
        raise failure(error, name, "sagemaker:DescribeEndpoint") from error
    return answer


def told_of(told: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """DescribeEndpoint's answer as text and for JSON: its state, and what each variant has."""
    variants = {
        str(one["VariantName"]): {"weight": one.get("CurrentWeight"), "machines": one.get("CurrentInstanceCount")}
        for one in told.get("ProductionVariants", ())
    }
    state, reason = str(told["EndpointStatus"]), " ".join(str(told.get("FailureReason") or "").split())
    lines = [f"{SCHEME}{told['EndpointName']}: {state}", *([f"  {reason}"] if reason else [])]
    for name, one in variants.items():
        lines.append(f"  {name}: weight {one['weight']}, {one['machines'] or 'no'} machines")
    value = {"endpoint": told["EndpointName"], "status": state, "reason": reason, "variants": variants}
    return "\n".join(lines), value


def model_facts(account: Account, name: str) -> Mapping[str, Any]:
    """What lies where the model's tag says; empty where nothing does, or it may not be read."""
    client = account.client("sagemaker")
    try:
        tagged = client.list_tags(ResourceArn=client.describe_model(ModelName=name)["ModelArn"])["Tags"]
        place = parse(next((str(tag["Value"]) for tag in tagged if tag["Key"] == FACTS_TAG), ""))
        body = account.client("s3").get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
        facts = json.loads(body)
    except Exception as error:  # a model of somebody else's, without rights to its bucket, ...
        LOG.debug("no %s of the model %s: %s", FACTS, name, error)
        return {}
    return facts if isinstance(facts, dict) else {}


@dataclass(slots=True, eq=False)
class Asker:
    """Sends pictures to one endpoint. lossy: how many went with loss, which is said at the first."""

    account: Account
    name: str
    facts: Facts
    lossy: int = 0
    sleep: Callable[[float], None] = field(default=time.sleep)

    @property
    def where(self) -> str:
        return f"{SCHEME}{self.name}"

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """As any `Predict`: one `Detections` per picture, in order."""
        if len(images) < 2:
            return [self.predict_one(image) for image in images]
        with ThreadPoolExecutor(min(AT_ONCE, len(images)), thread_name_prefix="endpoint") as pool:
            return list(pool.map(self.predict_one, images))

    def predict_one(self, image: Image) -> Detections:
        """What the endpoint finds in one picture.

        Raises:
            RequestError: it refused the picture, or the picture is too large in every form.
            RunError: it cannot be reached, or the model behind it failed.
        """
        content_type, body = self.body(image)
        answer = self.answer_later(content_type, body) if self.facts.inputs else self.answer(content_type, body)
        detections, _ = wire.from_json_text(answer, self.where)
        if detections.size != image.shape[:2]:
            what = f"answered for a picture of {detections.size}, when sent one of {image.shape[1]} x {image.shape[0]} px"
            raise RequestError(self.where, what, "Check the model behind the endpoint: it may resize pictures.")
        return detections

    def body(self, image: Image) -> tuple[str, bytes]:
        """(content type, bytes) within the endpoint's limit: without loss where that is small enough."""
        most = self.facts.max_bytes
        content_type, body = wire.lossless(image, most)
        if len(body) <= most:
            return content_type, body
        if max(image.shape) <= wire.WEBP_MAX_SIDE:
            file = io.BytesIO()
            Pillow.fromarray(image).save(file, "WEBP", quality=QUALITY, method=2)
            content_type, body = "image/webp", file.getvalue()
        shape = f"{image.shape[1]} x {image.shape[0]} px"
        if len(body) > most:
            fix = "Scale it down, or deploy with --async."
            raise RequestError(self.where, f"takes {most:,} bytes, and a picture of {shape} has {len(body):,}", fix, status=413)
        self.lossy += 1
        if self.lossy == 1:
            text = "%s takes %s bytes: pictures that are larger without loss (one of %s) are sent as WebP of quality %d"
            LOG.warning(text, self.where, f"{most:,}", shape, QUALITY)
        return content_type, body

    def answer(self, content_type: str, body: bytes) -> bytes:
        """The answer to one request; a model that is not ready is asked again."""
        client = self.account.client("sagemaker-runtime")
        asked = {"EndpointName": self.name, "ContentType": content_type, "Accept": wire.JSON, "CustomAttributes": "threshold=0"}
        if self.facts.variant:
            asked["TargetVariant"] = self.facts.variant
        for attempt in range(TRIES):
            try:
                content: bytes = client.invoke_endpoint(Body=body, **asked)["Body"].read()
            except Exception as error:
                if code_of(error) == "ModelNotReadyException" and attempt + 1 < TRIES:
                    self.sleep(PAUSE_S * 2**attempt)
                    continue
                raise self.refusal(error) from error
            return content
        raise AssertionError("unreachable: the last try answers or raises")

    def refusal(self, error: Exception) -> SightlineError:
        """The server's own error where SageMaker passes it on."""
        response: Mapping[str, Any] = getattr(error, "response", None) or {}
        if code_of(error) != "ModelError":
            return failure(error, self.where, "sagemaker:InvokeEndpoint")
        status, message = int(response.get("OriginalStatusCode", 500)), str(response.get("OriginalMessage", ""))
        try:
            told = json.loads(message)["error"]
            where, what, fix = str(told["where"]), str(told["what"]), str(told["fix"])
        except (ValueError, KeyError, TypeError, RecursionError):
            what = f"the model answered {status}: {message[:200]!r}"
            where, fix = self.where, f"See the endpoint's log: {response.get('LogStreamArn', 'in CloudWatch')}"
        if status < 500:
            return RequestError(where, what, fix, status=status)
        return RunError(where, what, fix)

    def answer_later(self, content_type: str, body: bytes) -> bytes:
        """The answer of an asynchronous endpoint, which lies on S3 when it is there."""
        s3 = self.account.client("s3")
        picture = parse(f"{self.facts.inputs}{uuid.uuid4().hex}")
        send(s3.put_object, str(picture), "s3:PutObject", Bucket=picture.bucket, Key=picture.key, Body=body)
        asked = {"EndpointName": self.name, "ContentType": content_type, "Accept": wire.JSON, "CustomAttributes": "threshold=0"}
        client = self.account.client("sagemaker-runtime")
        place = send(
            client.invoke_endpoint_async, self.where, "sagemaker:InvokeEndpointAsync", InputLocation=str(picture), **asked
        )
        output, failed = parse(place["OutputLocation"]), place.get("FailureLocation")
        for _ in range(int(ANSWER_S / POLL_S)):
            content = self.object(output)
            if content is not None:
                return content
            if failed and (told := self.object(parse(failed))) is not None:
                raise RunError(
                    self.where, f"the model failed: {told[:300].decode('utf-8', 'replace')!r}", "See the endpoint's log."
                )
            self.sleep(POLL_S)
        raise RunError(self.where, f"has not answered within {ANSWER_S:.0f} s", f"Look at {output} later.")

    def object(self, address: Address) -> bytes | None:
        """An object's content; None where it is not there (yet)."""
        try:
            content: bytes = self.account.client("s3").get_object(Bucket=address.bucket, Key=address.key)["Body"].read()
        except Exception as error:
            if is_missing(error):
                return None
            raise failure(error, str(address), "s3:GetObject") from error
        return content
