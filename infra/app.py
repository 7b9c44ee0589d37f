"""`cdk deploy -c name=parts -c bundle=s3://... -c instance-type=ml.g5.xlarge`: the stacks that the context asks for.

Settings are read and checked as a whole first; a faulty one ends this before anything is synthesised.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aws_cdk as cdk

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sightline_infra.endpoint import EndpointStack
from sightline_infra.pipeline import PipelineStack
from sightline_infra.settings import Settings, SettingsError, read, require_known, switch, warnings_of
from sightline_infra.storage import StorageStack

CHECK_S = 60


def add_stacks(app: cdk.App, given: Settings) -> list[cdk.Stack]:
    """The stacks of these settings."""
    stacks: list[cdk.Stack] = []
    if given.storage:
        stacks.append(StorageStack(app, "sightline-storage", given))
    if given.bundle:
        stacks.append(EndpointStack(app, f"sightline-endpoint-{given.name}", given))
    if given.manifests:
        stacks.append(PipelineStack(app, f"sightline-pipeline-{given.name}", given))
    return stacks


def require_there(bundle: str, environ: Mapping[str, str], check: str) -> None:
    """Nothing, if the bundle is on S3, asked with AWS's command line, which whoever deploys has.

    check: `true`: a bundle that nobody can look for is an error, too; `false`: nobody looks; empty: where credentials are

    Raises:
        SettingsError: it is not.
    """
    wanted = switch(check) if check else bool(environ.get("CDK_DEFAULT_ACCOUNT"))
    if not bundle or not wanted:
        return
    aws = shutil.which("aws", path=environ.get("PATH"))
    if aws is None:
        if check:
            raise SettingsError(["check: needs AWS's command line, and there is no `aws`. Install it, or leave check out."])
        return
    bucket, _, key = bundle.removeprefix("s3://").partition("/")
    words = [aws, "s3api", "head-object", "--bucket", bucket, "--key", key]
    over = subprocess.run(words, capture_output=True, text=True, env=dict(environ), timeout=CHECK_S, check=False)
    if over.returncode:
        said = " ".join(over.stderr.split()) or f"aws ended with {over.returncode}"
        raise SettingsError([f"bundle: {bundle} cannot be found ({said}). Check the address, or give -c check=false."])


def main() -> None:
    app = cdk.App(analytics_reporting=False)
    try:
        given_to_app = json.loads(os.environ.get("CDK_CONTEXT_JSON") or "{}")
        require_known(given_to_app)
        given = read(app.node.try_get_context)
        require_there(given.bundle, os.environ, str(app.node.try_get_context("check") or ""))
    except SettingsError as error:
        sys.exit("\n".join(f"error: {problem}" for problem in error.problems))
    for warning in warnings_of(given):
        sys.stderr.write(f"warning: {warning}\n")
    add_stacks(app, given)
    app.synth()


if __name__ == "__main__":
    main()
