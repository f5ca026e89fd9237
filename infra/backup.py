"""Copies the tables of requests and torrents of a stack, and restores them.

usage: backup.py create STACK NAME
       backup.py restore STACK NAME|TIME
`create` makes a backup of each table in DynamoDB. `restore` makes the tables equal to these backups, or to what they were
at a time such as 2026-11-27T10:00:00Z (point-in-time recovery: within the last 35 days, up to about five minutes ago).
Meanwhile no function starts. It does not restore the bucket: what is not there is packaged or fetched again.
"""

import contextlib
import datetime
import re
import sys
import time

import boto3

TABLES = ["RequestsTable", "TorrentsTable"]


def outputs(stack):
    found = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}


def resources(stack, kind):
    pages = boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
    found = [resource for page in pages for resource in page["StackResourceSummaries"]]
    return [resource["PhysicalResourceId"] for resource in found if resource["ResourceType"] == kind]


def backups(table, name):
    pages = boto3.client("dynamodb").get_paginator("list_backups").paginate(TableName=table, BackupType="USER")
    return [one["BackupArn"] for page in pages for one in page["BackupSummaries"] if one["BackupName"] == name]


def parse_time(text):
    """Returns the time, or None for the name of a backup. Names have a letter first."""
    if not text[0].isdigit():
        return None
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        sys.exit(f"{text} is no time: a time looks like 2026-11-27T10:00:00Z")
    if found.tzinfo is None:
        sys.exit(f"{text} has no time zone: add Z for UTC")
    return found


def create(stack, name):
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_.-]{2,254}", name):
        sys.exit(f"{name} is no name for a backup: 3 to 255 of A-Z a-z 0-9 _ . -, a letter first")
    dynamodb, names = boto3.client("dynamodb"), outputs(stack)
    for table in TABLES:
        if backups(names[table], name):
            sys.exit(f"{names[table]} has a backup with the name {name}: choose another one")
    # Both before waiting: a request that changes between them may be in one table only.
    made = [dynamodb.create_backup(TableName=names[table], BackupName=name)["BackupDetails"] for table in TABLES]
    for table, details in zip(TABLES, made):
        while details["BackupStatus"] == "CREATING":
            time.sleep(1)  # polling interval
            described = dynamodb.describe_backup(BackupArn=details["BackupArn"])
            details = described["BackupDescription"]["BackupDetails"]
        print(f"{details['BackupName']} of {names[table]} is {details['BackupStatus']}")


def restore_to(table, copy, source):
    """Restores a backup of the table, or its state at a time, into a new table without indexes."""
    dynamodb, at = boto3.client("dynamodb"), parse_time(source)
    target = {"TargetTableName": copy, "GlobalSecondaryIndexOverride": []}
    if at:
        try:
            dynamodb.restore_table_to_point_in_time(SourceTableName=table, RestoreDateTime=at, **target)
        except dynamodb.exceptions.InvalidRestoreTimeException:
            found = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
            found = found["PointInTimeRecoveryDescription"]
            since, until = (found[f"{end}RestorableDateTime"].isoformat() for end in ("Earliest", "Latest"))
            sys.exit(f"{table} can be restored as it was from {since} to {until}")
    else:
        arns = backups(table, source)
        if len(arns) != 1:
            sys.exit(f"{table} has {len(arns)} backups with the name {source}")
        dynamodb.restore_table_from_backup(BackupArn=arns[0], **target)


def items(table):
    more = {}
    while True:
        page = table.scan(**more)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def replace_items(table, copy):
    """Makes the items of the table equal to those of the copy. Returns the number of items, and of those deleted."""
    resource = boto3.resource("dynamodb")
    table, copy = resource.Table(table), resource.Table(copy)
    key, kept, deleted = table.key_schema[0]["AttributeName"], set(), 0
    with table.batch_writer() as batch:
        for item in items(copy):
            kept.add(item[key])
            batch.put_item(Item=item)
        for item in items(table):
            if item[key] not in kept:
                batch.delete_item(Key={key: item[key]})
                deleted += 1
    return len(kept), deleted


def without_torrent(requests, torrents):
    """Returns the ready requests whose torrent is not live. This happens if the two backups were made at different
    instants."""
    resource = boto3.resource("dynamodb")
    live = {item["infohash"] for item in items(resource.Table(torrents)) if item["state"] != "retired"}
    rows = items(resource.Table(requests))
    return [row["id"] for row in rows if row["status"] == "ready" and row.get("infohash") not in live]


def enable(lambdas, mapping):
    """Enables an event source mapping, which AWS refuses while another change of it is in progress."""
    deadline = time.monotonic() + 120
    while True:
        try:
            lambdas.update_event_source_mapping(UUID=mapping, Enabled=True)
            return
        except lambdas.exceptions.ResourceInUseException:
            if time.monotonic() > deadline:
                print(f"the event source mapping {mapping} is still disabled: enable it by hand", file=sys.stderr)
                raise
            time.sleep(1)  # polling interval


@contextlib.contextmanager
def stopped(stack):
    """Starts no function of the stack in this context. Messages stay in their queues. Fetches that are running end by
    themselves; what they write to a row that was replaced is refused or repeated."""
    lambdas = boto3.client("lambda")
    with contextlib.ExitStack() as undo:
        mappings = resources(stack, "AWS::Lambda::EventSourceMapping")
        # First: a function that is refused would have its messages moved to the dead-letter queue.
        for mapping in mappings:
            if lambdas.get_event_source_mapping(UUID=mapping)["State"] != "Disabled":
                undo.callback(enable, lambdas, mapping)
                lambdas.update_event_source_mapping(UUID=mapping, Enabled=False)
        while any(lambdas.get_event_source_mapping(UUID=one)["State"] != "Disabled" for one in mappings):
            time.sleep(1)  # polling interval
        for function in resources(stack, "AWS::Lambda::Function"):
            reserved = lambdas.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions")
            if reserved is None:
                undo.callback(lambdas.delete_function_concurrency, FunctionName=function)
            else:
                put = lambdas.put_function_concurrency
                undo.callback(put, FunctionName=function, ReservedConcurrentExecutions=reserved)
            lambdas.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        yield


def restore(stack, source):
    dynamodb, names = boto3.client("dynamodb"), outputs(stack)
    copies, started = {names[table]: f"{names[table]}-restored-{int(time.time())}" for table in TABLES}, []
    try:
        for table, copy in copies.items():
            restore_to(table, copy, source)
            started.append(copy)
        for copy in started:
            # Large tables take hours.
            dynamodb.get_waiter("table_exists").wait(TableName=copy, WaiterConfig={"Delay": 5, "MaxAttempts": 10_000})
        lost = without_torrent(copies[names["RequestsTable"]], copies[names["TorrentsTable"]])
        with stopped(stack):
            for table, copy in copies.items():
                count, deleted = replace_items(table, copy)
                print(f"{table} has {count} items again, and {deleted} newer ones were deleted")
        for request in lost:
            print(f"the request {request} became ready while the backup was made, and has no torrent: create it again")
    finally:
        for copy in started:
            try:
                dynamodb.delete_table(TableName=copy)
            except dynamodb.exceptions.ResourceInUseException:
                print(f"{copy} is still being restored: delete it later", file=sys.stderr)


def main():
    commands = {"create": create, "restore": restore}
    if len(sys.argv) != 4 or sys.argv[1] not in commands or not sys.argv[3]:
        sys.exit(__doc__.strip())
    commands[sys.argv[1]](*sys.argv[2:])


main()
