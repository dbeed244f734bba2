"""Writes boto3.json: presigned GET URLs as boto3 makes them, which sign-artifact's must equal in place and signature.

    python3 -m venv venv && venv/bin/pip install boto3==1.44.5 && venv/bin/python make_boto3.py

Only the clock is replaced, so that the URLs are of known instants. The credentials are the examples of AWS' own documentation.
"""

import datetime
import json
import pathlib
import sys

import boto3
import botocore
import botocore.auth
import botocore.config

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
# The session token of the Signature Version 4 test suite.
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI"
    "/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT"
    "38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
# 24 May 2013 is the day of AWS' documented example.
INSTANTS = [1369353600, 951782399, 1704067199, 1709208000, 1790000000, 4102444799]
KEYS = [
    "test.txt",
    "runs/1/screen shot.png",
    "a+b c%20d/100%.txt",
    "unreserved-._~/A0",
    "query?like=this&and=that#not",
    "it's (a) *test*!.txt",
    "semi;colon:at@dollar$comma,",
    "brackets[1]{2}<3>|^`\"",
    "ünïcode/ключ/鍵/🔑.bin",
    "combining e\u0301 and nbsp\u00a0",
    "trailing space /x",
    "very/" + "deep/" * 40 + "key",
]


def cases():
    """The inputs: each kind of store, each odd key, each bound."""
    aws = {"region": "us-east-1", "bucket": "examplebucket", "path_style": False, "expires": 86400, "token": None, "instant": INSTANTS[0]}
    for key in KEYS:
        yield {**aws, "endpoint": "https://s3.us-east-1.amazonaws.com", "key": key}
        yield {**aws, "endpoint": "http://minio.example:9000", "path_style": True, "key": key}
        yield {**aws, "endpoint": "https://s3.eu-central-1.amazonaws.com", "region": "eu-central-1", "token": TOKEN, "key": key}
    for expires in [1, 60, 3600, 604800]:
        yield {**aws, "endpoint": "https://s3.us-east-1.amazonaws.com", "expires": expires, "key": "test.txt"}
        yield {**aws, "endpoint": "http://127.0.0.1:9000", "path_style": True, "expires": expires, "token": TOKEN, "key": "test.txt"}
    for instant in INSTANTS[1:]:
        yield {**aws, "endpoint": "https://s3.us-east-1.amazonaws.com", "instant": instant, "key": "test.txt"}
    for region in ["us-west-2", "ap-southeast-2", "sa-east-1", "auto"]:
        host = "s3.example.com" if region == "auto" else f"s3.{region}.amazonaws.com"
        yield {**aws, "endpoint": f"https://{host}", "region": region, "key": "a b.txt"}
        yield {**aws, "endpoint": f"https://{host}", "region": region, "path_style": True, "key": "a b.txt"}
    for endpoint in ["https://s3.example.com:443", "http://s3.example.com:80", "https://s3.example.com:8443", "http://[::1]:9000"]:
        yield {**aws, "endpoint": endpoint, "path_style": True, "key": "test.txt"}
    yield {**aws, "endpoint": "https://storage.example.com/s3", "path_style": True, "key": "test.txt"}
    yield {**aws, "endpoint": "https://s3.us-east-1.amazonaws.com", "path_style": True, "bucket": "my.dotted.bucket", "key": "test.txt"}


def presign(case):
    """The URL that boto3 makes of a case."""
    instant = datetime.datetime.fromtimestamp(case["instant"], datetime.timezone.utc).replace(tzinfo=None)
    botocore.auth.get_current_datetime = lambda *_, **__: instant
    style = "path" if case["path_style"] else "virtual"
    client = boto3.client(
        "s3",
        region_name=case["region"],
        endpoint_url=case["endpoint"],
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        aws_session_token=case["token"],
        config=botocore.config.Config(signature_version="s3v4", s3={"addressing_style": style}),
    )
    parameters = {"Bucket": case["bucket"], "Key": case["key"]}
    return client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=case["expires"])


def main():
    """Writes the file beside this script."""
    vectors = [{**case, "key_id": KEY_ID, "secret": SECRET, "url": presign(case)} for case in cases()]
    made_by = f"boto3 {boto3.__version__}, botocore {botocore.__version__}, make_boto3.py"
    lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors)
    text = f'{{"made_by": {json.dumps(made_by)}, "vectors": [\n{lines}\n]}}\n'
    pathlib.Path(sys.argv[0]).with_name("boto3.json").write_text(text, encoding="utf-8")
    print(len(vectors), "vectors")


main()
