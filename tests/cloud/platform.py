"""SageMaker's own side on loopback: invocations and batch transforms forwarded to a real server of `sightline serve`."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from sightline.cloud.account import Account

PASSED = ("Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes")
"""Headers that the platform hands to the container; it drops all others."""


def ask(server: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
    """(status, content type, body) of the container."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=30)
    try:
        connection.request("POST", "/invocations", body, headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"] or "", response.read()
    finally:
        connection.close()


@contextmanager
def runtime_before(server: str) -> Iterator[str]:
    """The address of a `sagemaker-runtime` whose endpoints all lead to one server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, kind, answer = ask(server, body, {name: self.headers[name] for name in PASSED if name in self.headers})
            if status != 200:
                told = {"OriginalStatusCode": status, "OriginalMessage": answer.decode(), "LogStreamArn": "arn:log"}
                status, kind, answer = 424, "application/json", json.dumps({"Message": "model", **told}).encode()
            self.send_response(status)
            if status == 424:
                self.send_header("x-amzn-ErrorType", "ModelError")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    bridge = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=bridge.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bridge.server_address[1]}"
    finally:
        bridge.shutdown()
        thread.join()
        bridge.server_close()


def transform(account: Account, name: str, server: str, kept: str = "") -> None:
    """Do what a batch transform does: KEY.out of every picture, a line in the data log for those that are refused.

    kept: folders of the prefix that the platform repeats below its output
    """
    s3, job = account.client("s3"), account.client("sagemaker").describe_transform_job(TransformJobName=name)
    bucket, _, key = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://").partition("/")
    prefix, *keys = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    of, _, folder = prefix["prefix"].removeprefix("s3://").partition("/")
    to = job["TransformOutput"]["S3OutputPath"].removeprefix(f"s3://{bucket}/")
    lines = []
    for relative in keys:
        body = s3.get_object(Bucket=of, Key=folder + relative)["Body"].read()
        status, _, answer = ask(
            server, body, {"Content-Type": job["TransformInput"]["ContentType"], "Accept": "application/json"}
        )
        if status == 200:
            s3.put_object(Bucket=bucket, Key=f"{to}{kept}{relative}.out", Body=answer)
        else:
            lines.append(f"2026-11-21T19:15:00.000:[sagemaker logs]: {of}/{folder}{relative}: Bad HTTP status {status}")
    if lines:
        group, stream = "/aws/sagemaker/TransformJobs", f"{name}/i-1/data-log"
        logs = account.client("logs")
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [{"timestamp": int(time.time() * 1000) + number, "message": line} for number, line in enumerate(lines)]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
