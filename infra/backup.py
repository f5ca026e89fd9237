"""Copies the tables of requests and torrents of a stack, and restores them.

usage: backup.py create STACK NAME
       backup.py restore STACK NAME|TIME
`create` makes a backup of each table in DynamoDB. `restore` makes the tables equal to these backups, or to what they were
at a time such as 2026-11-27T10:00:00Z within the last 35 days (point-in-time recovery). Meanwhile the functions are
stopped. It does not restore the bucket: what is not there is packaged or fetched again.
"""

import datetime
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


def create(stack, name):
    dynamodb, names = boto3.client("dynamodb"), outputs(stack)
    for table in TABLES:
        details = dynamodb.create_backup(TableName=names[table], BackupName=name)["BackupDetails"]
        while details["BackupStatus"] == "CREATING":
            time.sleep(1)  # polling interval
            described = dynamodb.describe_backup(BackupArn=details["BackupArn"])
            details = described["BackupDescription"]["BackupDetails"]
        print(f"{details['BackupName']} of {names[table]} is {details['BackupStatus']}")


def parse_time(text):
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if found.tzinfo is None:
        sys.exit(f"{text} has no time zone: add Z for UTC")
    return found


def restore_to(table, copy, source):
    """Restores a backup of the table, or its state at a time, into a new table."""
    dynamodb, at = boto3.client("dynamodb"), parse_time(source)
    if at:
        dynamodb.restore_table_to_point_in_time(SourceTableName=table, TargetTableName=copy, RestoreDateTime=at)
    else:
        pages = dynamodb.get_paginator("list_backups").paginate(TableName=table, BackupType="USER")
        arns = [one["BackupArn"] for page in pages for one in page["BackupSummaries"] if one["BackupName"] == source]
        if len(arns) != 1:
            sys.exit(f"{table} has {len(arns)} backups with the name {source}; a time looks like 2026-11-27T10:00:00Z")
        dynamodb.restore_table_from_backup(TargetTableName=copy, BackupArn=arns[0])


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


class Stopped:
    """The functions of the stack do not run in this context. Messages stay in their queues."""

    def __init__(self, stack):
        self.functions = resources(stack, "AWS::Lambda::Function")
        self.mappings = resources(stack, "AWS::Lambda::EventSourceMapping")
        self.lambdas = boto3.client("lambda")

    def set_mappings(self, enabled):
        for mapping in self.mappings:
            self.lambdas.update_event_source_mapping(UUID=mapping, Enabled=enabled)
        wanted = "Enabled" if enabled else "Disabled"
        while any(self.lambdas.get_event_source_mapping(UUID=one)["State"] != wanted for one in self.mappings):
            time.sleep(1)  # polling interval

    def __enter__(self):
        # First, since a throttled function would have its messages moved to the dead-letter queue.
        self.set_mappings(False)
        for function in self.functions:
            self.lambdas.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)

    def __exit__(self, *_):
        for function in self.functions:
            self.lambdas.delete_function_concurrency(FunctionName=function)
        self.set_mappings(True)


def restore(stack, source):
    dynamodb, names = boto3.client("dynamodb"), outputs(stack)
    copies = {names[table]: f"{names[table]}-restored" for table in TABLES}
    try:
        for table, copy in copies.items():
            restore_to(table, copy, source)
        for copy in copies.values():
            # As for large tables, which take hours.
            dynamodb.get_waiter("table_exists").wait(TableName=copy, WaiterConfig={"Delay": 5, "MaxAttempts": 10_000})
        with Stopped(stack):
            for table, copy in copies.items():
                count, deleted = replace_items(table, copy)
                print(f"{table} has {count} items again; {deleted} others were deleted")
    finally:
        for copy in copies.values():
            try:
                dynamodb.delete_table(TableName=copy)
            except dynamodb.exceptions.ResourceNotFoundException:
                pass
            except dynamodb.exceptions.ResourceInUseException:
                print(f"{copy} is still being restored: delete it later", file=sys.stderr)


def main():
    commands = {"create": create, "restore": restore}
    if len(sys.argv) != 4 or sys.argv[1] not in commands:
        sys.exit(__doc__.strip())
    commands[sys.argv[1]](*sys.argv[2:])


main()
