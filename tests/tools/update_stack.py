#!/usr/bin/env python3
"""Updates the stack of infra/emulated/run.py. Prints how the update ended: the status of the stack, or the error.

usage: update_stack.py FOLDER unchanged|changed|broken
FOLDER is that of run.py. With `changed`, all functions get new code, of another version. With `broken`, they do, too,
except for one function, whose code does not exist.
"""

import io
import pathlib
import sys
import time
import zipfile

import boto3
from botocore.exceptions import ClientError

STACK = "proxytorrent"


def new_code(version):
    """Stores the code of all functions under new keys, changed to report this version."""
    s3 = boto3.client("s3")
    for entry in s3.list_objects_v2(Bucket="code")["Contents"]:
        name = entry["Key"]
        if "/" in name:
            continue
        archive = zipfile.ZipFile(io.BytesIO(s3.get_object(Bucket="code", Key=name)["Body"].read()))
        script = archive.read("bootstrap").replace(b"exec ", f"APP_VERSION={version} exec ".encode())
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as file:
            info = zipfile.ZipInfo("bootstrap")
            info.external_attr = 0o755 << 16
            file.writestr(info, script)
        s3.put_object(Bucket="code", Key=f"{version}/{name}", Body=changed.getvalue())


def main():
    folder, how = sys.argv[1:]
    path = pathlib.Path(folder, "template.yaml")
    template = path.read_text()
    if how != "unchanged":
        new_code(how)
        template = template.replace("s3://code/", f"s3://code/{how}/")
    if how == "broken":
        template = template.replace("s3://code/broken/page.zip", "s3://code/broken/missing.zip")
    cloudformation = boto3.client("cloudformation")
    before = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
    kept = [{"ParameterKey": one["ParameterKey"], "UsePreviousValue": True} for one in before["Parameters"]]
    try:
        cloudformation.update_stack(
            StackName=STACK,
            TemplateBody=template,
            Parameters=kept,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
    except ClientError as error:
        print(error.response["Error"]["Message"])
        return
    while True:
        stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            break
        time.sleep(0.05)  # polling interval
    print(stack["StackStatus"])
    if how == "changed" and stack["StackStatus"] == "UPDATE_COMPLETE":
        path.write_text(template)


main()
