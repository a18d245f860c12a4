"""The Python peers: `sequential`, as commonly written, and `pooled`, with 32 threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

sqs = boto3.client("sqs", config=Config(max_pool_connections=32))
pool = None


class Starts:
    """The number of redrives that may still be started."""

    def __init__(self, most):
        self.left = most
        self.lock = threading.Lock()

    def take(self):
        with self.lock:
            if self.left == 0:
                return False
            self.left -= 1
            return True


def redrive(queue, starts):
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages", "QueueArn"])[
        "Attributes"
    ]
    if int(attributes["ApproximateNumberOfMessages"]) == 0:
        return False
    arn = attributes["QueueArn"]
    tasks = sqs.list_message_move_tasks(SourceArn=arn, MaxResults=1).get("Results", [])
    if any(task.get("Status") == "RUNNING" for task in tasks):
        return False
    if not starts.take():
        return False
    sqs.start_message_move_task(SourceArn=arn)
    return True


def sequential(event, context):
    starts = Starts(event["maxStarts"])
    done = [redrive(queue, starts) for queue in event["queues"]]
    return {"scanned": len(done), "redriven": sum(done)}


def pooled(event, context):
    global pool
    pool = pool or ThreadPoolExecutor(32)
    starts = Starts(event["maxStarts"])
    done = list(pool.map(lambda queue: redrive(queue, starts), event["queues"]))
    return {"scanned": len(done), "redriven": sum(done)}
