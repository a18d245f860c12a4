# Deploys a release with Terraform: its template, and its zip by way of a bucket. Needs both files in this folder.
# Not run yet: `make package` checks its formatting, and that the template has the line that is replaced below.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "bucket" {
  description = "Name of an S3 bucket of the same region, for the zip"
  type        = string
}

locals {
  release = "sqs-auto-redrive-arm64"
}

resource "aws_s3_object" "code" {
  bucket = var.bucket
  # A new zip gets a new key, so that CloudFormation notices the change.
  key    = "sqs-auto-redrive/${filesha256("${path.module}/${local.release}.zip")}.zip"
  source = "${path.module}/${local.release}.zip"
}

# The function gets the name of the stack.
resource "aws_cloudformation_stack" "redrive" {
  name = "sqs-auto-redrive"
  template_body = replace(
    file("${path.module}/${local.release}.yaml"),
    "Code: ${local.release}.zip",
    "Code: {S3Bucket: ${aws_s3_object.code.bucket}, S3Key: ${aws_s3_object.code.key}}",
  )
  capabilities = ["CAPABILITY_IAM"]
  parameters = {
    EnrollTagValue = "enabled"
    DryRun         = "true"
  }
}

output "function_name" {
  value = aws_cloudformation_stack.redrive.outputs["FunctionName"]
}
