"""Moves the messages of the seeders' dead-letter queue back to their queue.

usage: redrive.py STACK
"""

import sys

import boto3


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    cloudformation, sqs = boto3.client("cloudformation"), boto3.client("sqs")
    resource = cloudformation.describe_stack_resource(StackName=sys.argv[1], LogicalResourceId="SeedQueueDead")
    url = resource["StackResourceDetail"]["PhysicalResourceId"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "ApproximateNumberOfMessages"])
    attributes = attributes["Attributes"]
    sqs.start_message_move_task(SourceArn=attributes["QueueArn"])
    print(f"about {attributes['ApproximateNumberOfMessages']} messages are being moved")


main()
