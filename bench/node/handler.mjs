// The Node peer: Promise.all over batches of 50, as commonly written.
import {
  SQSClient,
  GetQueueAttributesCommand,
  ListMessageMoveTasksCommand,
  StartMessageMoveTaskCommand,
} from "@aws-sdk/client-sqs";

const sqs = new SQSClient({});

async function redrive(QueueUrl, starts) {
  const { Attributes: attributes } = await sqs.send(
    new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["ApproximateNumberOfMessages", "QueueArn"] }),
  );
  if (Number(attributes.ApproximateNumberOfMessages) === 0) return;
  const SourceArn = attributes.QueueArn;
  const { Results = [] } = await sqs.send(new ListMessageMoveTasksCommand({ SourceArn, MaxResults: 1 }));
  if (Results.some((task) => task.Status === "RUNNING")) return;
  if (starts.left === 0) return;
  starts.left -= 1;
  await sqs.send(new StartMessageMoveTaskCommand({ SourceArn }));
}

export async function handler({ queues, maxStarts }) {
  const starts = { left: maxStarts };
  for (let i = 0; i < queues.length; i += 50) {
    await Promise.all(queues.slice(i, i + 50).map((queue) => redrive(queue, starts)));
  }
  return { scanned: queues.length, redriven: maxStarts - starts.left };
}
