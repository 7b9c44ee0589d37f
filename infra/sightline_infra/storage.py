"""What all else lies in: a bucket for data, models and results, and registries for the images."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_s3 as s3
from constructs import Construct

from sightline_infra import requests
from sightline_infra.settings import BUCKET_OF_STORAGE, Settings

REPOSITORIES = ("sightline-train", "sightline-serve")
"""Where `sightline cloud image push` puts the images."""

IMAGES_KEPT = 10
UNTAGGED_DAYS, OLD_VERSIONS_DAYS, PARTS_DAYS = 7, 30, 7


class StorageStack(cdk.Stack):
    """Bucket and registries. They stay when the stack goes: what is in them was made by people and machines for money."""

    def __init__(self, scope: Construct, construct_id: str, given: Settings, **options: Any) -> None:
        super().__init__(scope, construct_id, description="Bucket and image registries of sightline", **options)
        self.bucket = self.made_bucket(given)
        for name in REPOSITORIES:
            self.made_repository(name)
        for key, value in requests.as_map(requests.tags(given, "storage")).items():
            cdk.Tags.of(self).add(key, value)
        cdk.CfnOutput(self, "BucketName", value=self.bucket.bucket_name, description="For data, models and results")

    def made_bucket(self, given: Settings) -> s3.Bucket:
        """Encrypted, closed to the public, over TLS only, with versions, and tidied up; it tells EventBridge what comes."""
        key = cdk.aws_kms.Key.from_key_arn(self, "Key", key_arn(self, given.kms_key)) if given.kms_key else None
        bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=given.bucket or cdk.Fn.sub(BUCKET_OF_STORAGE),
            encryption=s3.BucketEncryption.KMS if key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=key,
            bucket_key_enabled=True if key else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
            lifecycle_rules=lifecycle(given),
        )
        plain = bucket.node.default_child
        plain.add_property_override("NotificationConfiguration", {"EventBridgeConfiguration": {"EventBridgeEnabled": True}})
        return bucket

    def made_repository(self, name: str) -> ecr.Repository:
        """Every image is scanned when it comes; the last ones are kept, and no layers without a name."""
        return ecr.Repository(
            self,
            "".join(part.title() for part in name.split("-")),
            repository_name=name,
            image_scan_on_push=True,
            encryption=ecr.RepositoryEncryption.AES_256,
            removal_policy=cdk.RemovalPolicy.RETAIN,
            lifecycle_rules=[
                ecr.LifecycleRule(
                    rule_priority=1, tag_status=ecr.TagStatus.UNTAGGED, max_image_age=cdk.Duration.days(UNTAGGED_DAYS)
                ),
                ecr.LifecycleRule(rule_priority=2, max_image_count=IMAGES_KEPT),
            ],
        )


def lifecycle(given: Settings) -> list[s3.LifecycleRule]:
    """What goes by itself: endpoints' captured data and answers, old versions, uploads that were cut off."""
    days = cdk.Duration.days(given.keep_days)
    temporary = [
        s3.LifecycleRule(id=f"{name}-{kind}", prefix=f"sightline/endpoints/{name}/{kind}/", expiration=days)
        for name in given.expire or (given.name,)
        for kind in ("captured", "inputs", "outputs", "failures")
    ]
    return [
        *temporary,
        s3.LifecycleRule(
            id="rest",
            abort_incomplete_multipart_upload_after=cdk.Duration.days(PARTS_DAYS),
            noncurrent_version_expiration=cdk.Duration.days(OLD_VERSIONS_DAYS),
        ),
    ]


def key_arn(stack: cdk.Stack, key: str) -> str:
    if key.startswith("arn:"):
        return key
    kind = key if key.startswith("alias/") else f"key/{key}"
    return stack.format_arn(service="kms", resource=kind.partition("/")[0], resource_name=kind.partition("/")[2])
