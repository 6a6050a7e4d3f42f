"""Runs inside a lab and answers requests of the tests outside: a JSON object on a line in, one out.

``{"run": [argv], "env": {...}, "cwd": "..."}`` → ``{"rc": 0, "stdout": "...", "stderr": "..."}``;
``{"api": "describe_volumes", "service": "ec2", "arguments": {...}, "region": "..."}`` → what boto3 returns.
"""

import json
import os
import subprocess
import sys
from typing import Any

import boto3
from botocore.exceptions import ClientError

# The tests' own calls may do all. The calls of what they run are limited by docs/iam-policy.json.
ROOT = "AKIA00000000ROOTUSER"


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request."""
    if "run" in request:
        done = subprocess.run(
            request["run"],
            env={**os.environ, **request.get("env", {})},
            cwd=request.get("cwd"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return {
            "rc": done.returncode,
            "stdout": done.stdout.decode(errors="replace"),
            "stderr": done.stderr.decode(errors="replace"),
        }
    client: Any = boto3.client(
        request.get("service", "ec2"),
        region_name=request.get("region"),
        aws_access_key_id=ROOT,
        aws_secret_access_key="any",
    )
    try:
        return {"answer": getattr(client, request["api"])(**request.get("arguments", {}))}
    except ClientError as error:
        return {"error": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)), default=str), flush=True)
