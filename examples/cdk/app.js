// Deploys a release with the AWS CDK: its template, and the zip that the CDK uploads. Needs both files in this folder.
const { join } = require("node:path");
const { App, Stack } = require("aws-cdk-lib");
const { Asset } = require("aws-cdk-lib/aws-s3-assets");
const { CfnInclude } = require("aws-cdk-lib/cloudformation-include");

const release = join(__dirname, "sqs-auto-redrive-arm64");

// The function gets the name of the stack.
const stack = new Stack(new App(), "sqs-auto-redrive");
const code = new Asset(stack, "Code", { path: `${release}.zip` });
const redrive = new CfnInclude(stack, "Redrive", {
  templateFile: `${release}.yaml`,
  // Tag a DLQ with `Tags.of(dlq).add("auto-redrive", "enabled")`, and its source queues with "auto-redrive-source".
  parameters: {
    EnrollTagValue: "enabled",
    DryRun: "true",
  },
});
redrive.getResource("RedriveFunction").code = { s3Bucket: code.s3BucketName, s3Key: code.s3ObjectKey };
