"""Moves the messages of the seeders' dead-letter queue back to their queue.

usage: redrive.py STACK
"""

import sys

import boto3


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    stack = boto3.client("cloudformation").describe_stacks(StackName=sys.argv[1])["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    queue, dead = outputs["SeedQueue"], outputs["SeedQueueDead"]
    sqs = boto3.client("sqs")
    count = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"])
    count, moved = int(count["Attributes"]["ApproximateNumberOfMessages"]), 0
    # Those that fail again meanwhile are left for the next call.
    while moved < count:
        names = ["MessageGroupId"]
        received = sqs.receive_message(
            QueueUrl=dead, MaxNumberOfMessages=10, WaitTimeSeconds=2, MessageSystemAttributeNames=names
        )
        messages = received.get("Messages", [])
        if not messages:
            break
        for message in messages:
            group = {name: value for name, value in message.get("Attributes", {}).items() if name in names}
            # In this order: a message that is moved twice does no harm.
            sqs.send_message(QueueUrl=queue, MessageBody=message["Body"], **group)
            sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
            moved += 1
    print(f"{moved} messages moved to {queue.rsplit('/', 1)[-1]}")


main()
